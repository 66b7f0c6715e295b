//! JSONL inputs: one page or article a line, read line by line, so that a file of any size takes no more memory than
//! its longest line may.

use std::io::{self, BufRead, BufReader, Read};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::{document, pb};

/// The lines of a JSONL input.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    /// How many were read.
    count: u64,
    max_bytes: u64,
    broken: bool,
}

/// A line that is not blank.
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// Bytes in the file, its end included.
    pub(super) bytes: u64,
    /// Its text, or why it cannot be read.
    pub(super) text: anyhow::Result<String>,
}

impl<R: Read> Lines<R> {
    /// `max_bytes` bounds a line; longer ones are errors and their bytes are read past.
    pub(super) fn new(reader: R, max_bytes: usize) -> Self {
        Self { reader: BufReader::new(reader), count: 0, max_bytes: max_bytes as u64, broken: false }
    }

    fn read(&mut self) -> io::Result<Option<Line>> {
        loop {
            let mut line = Vec::new();
            let mut bytes = (&mut self.reader).take(self.max_bytes + 1).read_until(b'\n', &mut line)? as u64;
            if bytes == 0 {
                return Ok(None);
            }
            self.count += 1;
            let is_whole = line.ends_with(b"\n") || bytes <= self.max_bytes;
            if !is_whole {
                bytes += self.reader.skip_until(b'\n')? as u64;
                let limit = self.max_bytes;
                let text = Err(anyhow::anyhow!("the line has {bytes} bytes; the limit is {limit}"));
                return Ok(Some(Line { number: self.count, bytes, text }));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            // A page in another encoding than UTF-8 is no valid JSON, but it happens; what cannot be read is an error.
            let text = match String::from_utf8(line) {
                Ok(text) => Ok(text),
                Err(error) => document::decode_text(error.as_bytes()).map_err(anyhow::Error::from),
            };
            return Ok(Some(Line { number: self.count, bytes, text }));
        }
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        if self.broken {
            return None;
        }
        self.read().unwrap_or_else(|error| {
            // What cannot be read now cannot be read past either.
            self.broken = true;
            Some(Line { number: self.count + 1, bytes: 0, text: Err(error.into()) })
        })
    }
}

/// How many lines are not blank.
pub(super) fn count(reader: impl Read) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let (mut count, mut has_text) = (0, false);
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(count + u64::from(has_text));
        }
        for byte in chunk {
            if *byte == b'\n' {
                count += u64::from(std::mem::take(&mut has_text));
            } else {
                has_text |= !byte.is_ascii_whitespace();
            }
        }
        let length = chunk.len();
        reader.consume(length);
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

/// The record on a line: its id and what is sent.
pub(super) fn parse(line: &str) -> anyhow::Result<(Option<serde_json::Value>, pb::Input)> {
    use pb::input::Source as PbSource;
    let record: Record = serde_json::from_str(line.trim_start_matches('\u{feff}'))
        .context("is no JSON object of a known form")?;
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

    #[test]
    fn a_line_that_is_too_long_or_unreadable_is_told_and_the_others_are_read() {
        let long = [b'0'; 29 + 5];
        // The fourth line is GB18030.
        let parts: [&[u8]; 5] = [
            b"{\"text\": 1}\n\n",
            &long,
            b"\n",
            b"\xd0\xc2\xbb\xaa\xc9\xe7\xb1\xb1\xbe\xa9\xb5\xe7\xa3\xac\xbb\xf0\xbc\xfd\xb7\xa2\xc9\xe4\xc8\xeb\xb9\xec\xa1\xa3\n",
            b"\xff\xff\xff",
        ];
        let text = parts.concat();
        let lines: Vec<Line> = Lines::new(&text[..], 29).collect();
        let told: Vec<(u64, Option<&str>)> =
            lines.iter().map(|line| (line.number, line.text.as_deref().ok())).collect();
        let expected =
            [(1, Some("{\"text\": 1}\n")), (3, None), (4, Some("新华社北京电，火箭发射入轨。\n")), (5, None)];
        assert_eq!(told, expected);
        assert_eq!(count(&text[..]).unwrap(), lines.len() as u64);
        let bytes: u64 = lines.iter().map(|line| line.bytes).sum();
        assert_eq!(bytes, text.len() as u64 - 1, "all but the blank line");
    }
}
