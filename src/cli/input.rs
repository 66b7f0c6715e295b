//! Inputs: files and stdin as what is sent to the server.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::args::{InputArgs, InputFormat};
use crate::{document, pb};

/// One thing to be digested.
#[derive(Debug)]
pub(super) struct Item {
    /// What it is called in results and messages: the path, or the path and the line.
    pub(super) name: String,
    /// The id that a JSONL record has.
    pub(super) id: Option<serde_json::Value>,
    /// What is sent.
    pub(super) input: pb::Input,
}

/// An input that was named on the command line.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: String,
    path: PathBuf,
    format: Layout,
}

/// How a source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// One page a file.
    Page(pb::PageFormat),
    /// One record a line.
    Records,
}

impl Source {
    /// The inputs of a command, each of which must be there.
    pub(super) fn all(args: &InputArgs) -> anyhow::Result<Vec<Self>> {
        args.files.iter().map(|path| Self::new(path, args.input_format)).collect()
    }

    fn new(path: &Path, format: InputFormat) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        if !is_stdin(path) {
            let metadata = path.metadata().with_context(|| format!("cannot read {name}"))?;
            if metadata.is_dir() {
                bail!("cannot read {name}: it is a directory; name the files in it");
            }
        }
        Ok(Self { name, path: path.to_owned(), format: layout(path, format) })
    }

    /// Whether every line is an input of its own.
    pub(super) fn has_records(&self) -> bool {
        self.format == Layout::Records
    }

    /// Reads a page whole.
    pub(super) fn page(&self) -> anyhow::Result<Item> {
        let format = match self.format {
            Layout::Page(format) => format,
            Layout::Records => pb::PageFormat::Unspecified,
        };
        let bytes = self.read().with_context(|| format!("cannot read {}", self.name))?;
        let limit = document::Limits::default().max_bytes;
        if bytes.len() > limit {
            bail!("{}: {}", self.name, too_large(limit));
        }
        let input =
            pb::Input { source: Some(pb::input::Source::PageBytes(bytes)), page_format: format.into() };
        Ok(Item { name: self.name.clone(), id: None, input })
    }

    /// Opens the lines of a JSONL input; each is an item or says what is wrong with it.
    pub(super) fn records(
        &self,
    ) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Item>> + Send + use<>> {
        let reader = self.open().with_context(|| format!("cannot read {}", self.name))?;
        let name = self.name.clone();
        let lines = BufReader::new(reader).lines().enumerate();
        Ok(lines.filter(|(_, line)| !matches!(line, Ok(line) if line.trim().is_empty())).map(
            move |(index, line)| {
                let name = format!("{name}, line {}", index + 1);
                let record = line.map_err(anyhow::Error::from).and_then(|line| parse(&line));
                let (id, input) = record.with_context(|| name.clone())?;
                Ok(Item { name, id, input })
            },
        ))
    }

    /// All bytes, but no more than one over the limit.
    fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = document::Limits::default().max_bytes as u64;
        self.open()?.take(limit + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(if is_stdin(&self.path) { Box::new(io::stdin()) } else { Box::new(File::open(&self.path)?) })
    }
}

fn too_large(limit: usize) -> String {
    format!("the page has more than {limit} bytes, which is the limit: split it into pages")
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn layout(path: &Path, format: InputFormat) -> Layout {
    use pb::PageFormat;
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    match format {
        InputFormat::Text => Layout::Page(PageFormat::Text),
        InputFormat::Lines => Layout::Page(PageFormat::Lines),
        InputFormat::Html => Layout::Page(PageFormat::Html),
        InputFormat::Markdown => Layout::Page(PageFormat::Markdown),
        InputFormat::Jsonl => Layout::Records,
        InputFormat::Auto => match ending.as_str() {
            "jsonl" | "ndjson" => Layout::Records,
            "html" | "htm" | "xhtml" => Layout::Page(PageFormat::Html),
            "md" | "markdown" => Layout::Page(PageFormat::Markdown),
            "txt" => Layout::Page(PageFormat::Text),
            _ => Layout::Page(PageFormat::Unspecified),
        },
    }
}

/// A line of a JSONL input: a page, or an article in parts.
#[derive(Debug, Deserialize)]
struct Record {
    id: Option<serde_json::Value>,
    text: Option<String>,
    lines: Option<Vec<String>>,
    headline: Option<String>,
    subtitle: Option<String>,
    kicker: Option<String>,
    dateline: Option<String>,
    byline: Option<String>,
    sections: Option<Vec<RecordSection>>,
    paragraphs: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct RecordSection {
    heading: Option<String>,
    #[serde(default)]
    paragraphs: Vec<String>,
}

const ONE_OF: &str = "needs exactly one of \"text\", \"lines\", \"sections\" and \"paragraphs\"";

fn parse(line: &str) -> anyhow::Result<(Option<serde_json::Value>, pb::Input)> {
    use pb::input::Source as PbSource;
    let record: Record = serde_json::from_str(line).context("is no JSON object of a known form")?;
    let page = |text: String| pb::Input {
        source: Some(PbSource::PageText(text)),
        page_format: pb::PageFormat::Text.into(),
    };
    let element = |text: Option<String>| text.map(|text| pb::Text { text, spans: Vec::new() });
    let elements = |texts: Vec<String>| texts.into_iter().filter_map(|text| element(Some(text))).collect();
    let id = record.id;
    let input = match (record.text, record.lines, record.sections, record.paragraphs) {
        (Some(text), None, None, None) => page(text),
        (None, Some(lines), None, None) => page(lines.join("\n")),
        (None, None, sections, paragraphs) if sections.is_some() != paragraphs.is_some() => {
            let whole = paragraphs.map(|paragraphs| RecordSection { heading: None, paragraphs });
            let sections = sections.unwrap_or_default().into_iter().chain(whole);
            let sections = sections
                .map(|s| pb::Section { heading: element(s.heading), paragraphs: elements(s.paragraphs) })
                .collect();
            let article = pb::Article {
                headline: element(record.headline),
                subtitle: element(record.subtitle),
                kicker: element(record.kicker),
                dateline: element(record.dateline),
                byline: element(record.byline),
                sections,
                ..pb::Article::default()
            };
            pb::Input { source: Some(PbSource::Article(article)), page_format: 0 }
        }
        _ => bail!("{ONE_OF}"),
    };
    Ok((id, input))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(line: &str) -> pb::input::Source {
        parse(line).unwrap().1.source.unwrap()
    }

    #[test]
    fn a_record_is_a_page_or_an_article_in_parts() {
        assert_eq!(
            source(r#"{"id": 7, "text": "正文。"}"#),
            pb::input::Source::PageText("正文。".to_owned())
        );
        assert_eq!(source(r#"{"lines": ["题", "文"]}"#), pb::input::Source::PageText("题\n文".to_owned()));
        for line in [
            r#"{"headline": "题", "paragraphs": ["文。"]}"#,
            r#"{"headline": "题", "sections": [{"paragraphs": ["文。"]}]}"#,
        ] {
            let pb::input::Source::Article(article) = source(line) else { panic!("{line} is no article") };
            assert_eq!(article.headline.unwrap().text, "题");
            assert_eq!(article.sections[0].paragraphs[0].text, "文。");
        }
    }

    #[test]
    fn a_record_that_is_neither_or_both_is_refused() {
        for line in
            [r#"{"id": 1}"#, r#"{"text": "a", "paragraphs": ["b"]}"#, r#"{"sections": [], "paragraphs": []}"#]
        {
            assert_eq!(parse(line).unwrap_err().to_string(), ONE_OF, "{line}");
        }
        assert!(parse("[1]").is_err() && parse("text").is_err());
    }
}
