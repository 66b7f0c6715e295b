//! Turns the inputs of a command (files, directories, patterns and stdin) into items to send to the server.
//!
//! Called by the subcommands that take inputs. `expand` finds the files; `jsonl` reads those with a record per line.

mod expand;
mod jsonl;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::args::InputArgs;
use crate::{
    document::{self, InputFormat},
    pb,
};

/// One page or article to process.
#[derive(Debug)]
pub(super) struct Item {
    /// The name in results and messages: the path, or the path and the line number.
    pub(super) name: String,
    /// The id of a JSONL record.
    pub(super) id: Option<serde_json::Value>,
    /// The path of the result below an output directory, without the extension of the output format.
    pub(super) result_path: PathBuf,
    /// The size in the input, in bytes.
    pub(super) bytes: u64,
    /// The message to send.
    pub(super) input: pb::Input,
}

/// An item that cannot be read, and the reason.
#[derive(Debug)]
pub(super) struct UnreadableItem {
    pub(super) name: String,
    pub(super) result_path: PathBuf,
    pub(super) bytes: u64,
    pub(super) error: anyhow::Error,
}

/// An input that was named on the command line or found in a directory.
#[derive(Debug)]
pub(super) struct InputSource {
    pub(super) name: String,
    path: PathBuf,
    /// The path of the result below an output directory.
    result_path: PathBuf,
    layout: SourceLayout,
    /// The size in bytes; unknown for stdin.
    pub(super) bytes: Option<u64>,
}

/// The number of items in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourceLayout {
    /// One page in the whole file.
    Page(pb::PageFormat),
    /// One record per line.
    Records,
}

/// The inputs of a command.
#[derive(Debug)]
pub(super) struct InputSources {
    pub(super) list: Vec<InputSource>,
    /// The number of files in directories that were skipped because of their extensions.
    pub(super) left_out: usize,
    /// `true` if a single file was named by its path, so that its failure is the failure of the command.
    pub(super) single: bool,
}

impl InputSources {
    /// Finds the inputs of a command. Files in the directory `except` are not inputs.
    ///
    /// # Errors
    ///
    /// Returns an error if an input does not exist, or if a directory or pattern has no files.
    pub(super) fn new(args: &InputArgs, except: Option<&Path>) -> anyhow::Result<Self> {
        let expanded = expand::expand(args, except)?;
        let list: anyhow::Result<Vec<InputSource>> =
            expanded.files.into_iter().map(|file| InputSource::new(file, args.input_format)).collect();
        Ok(Self { list: list?, left_out: expanded.left_out, single: expanded.single })
    }

    /// Returns the source if the command has exactly one and it is a page.
    pub(super) fn only_page(&self) -> Option<&InputSource> {
        match &self.list[..] {
            [only] if self.single && !only.has_records() => Some(only),
            _ => None,
        }
    }

    /// Returns `true` if results must carry the names of their inputs.
    pub(super) fn are_several(&self) -> bool {
        !self.single || self.list.len() > 1
    }
}

impl InputSource {
    fn new(file: expand::InputFile, format: InputFormat) -> anyhow::Result<Self> {
        let expand::InputFile { path, result_path } = file;
        let name = path.display().to_string();
        let bytes = match is_stdin(&path) {
            true => None,
            false => Some(path.metadata().with_context(|| format!("cannot read {name}"))?.len()),
        };
        Ok(Self { layout: layout(&path, format), name, path, result_path, bytes })
    }

    /// Returns `true` if every line is an item of its own.
    pub(super) fn has_records(&self) -> bool {
        self.layout == SourceLayout::Records
    }

    /// Returns the number of items, reading a JSONL file to its end. The number is unknown for stdin.
    pub(super) fn count(&self) -> Option<u64> {
        match self.has_records() {
            false => Some(1),
            true if is_stdin(&self.path) => None,
            true => jsonl::count(self.open().ok()?).ok(),
        }
    }

    /// Returns an iterator that reads one item at a time.
    pub(super) fn items(&self) -> Box<dyn Iterator<Item = Result<Item, UnreadableItem>> + Send + '_> {
        let unreadable = |error| UnreadableItem {
            name: self.name.clone(),
            result_path: self.result_path.clone(),
            bytes: self.bytes.unwrap_or_default(),
            error,
        };
        if !self.has_records() {
            return Box::new(std::iter::once(self.page().map_err(unreadable)));
        }
        match self.open().with_context(|| format!("cannot read {}", self.name)) {
            Ok(reader) => Box::new(self.records(reader)),
            Err(error) => Box::new(std::iter::once(Err(unreadable(error)))),
        }
    }

    /// Reads the whole source as one page.
    pub(super) fn page(&self) -> anyhow::Result<Item> {
        let format = match self.layout {
            SourceLayout::Page(format) => format,
            SourceLayout::Records => pb::PageFormat::Unspecified,
        };
        let bytes = self.read().with_context(|| format!("cannot read {}", self.name))?;
        let limit = document::Limits::default().max_bytes;
        if bytes.len() > limit {
            bail!(
                "{}: the page has more than {limit} bytes, which is the limit: split it into pages",
                self.name
            );
        }
        Ok(Item {
            name: self.name.clone(),
            id: None,
            result_path: self.result_path.clone(),
            bytes: bytes.len() as u64,
            input: pb::Input {
                source: Some(pb::input::Source::PageBytes(bytes)),
                page_format: format.into(),
            },
        })
    }

    fn records<'a>(
        &'a self,
        reader: Box<dyn Read + Send>,
    ) -> impl Iterator<Item = Result<Item, UnreadableItem>> + Send + 'a {
        // Escapes can make the JSON of a page longer than the page.
        let max_line_bytes = document::Limits::default().max_bytes.saturating_mul(2);
        jsonl::RecordLines::new(reader, max_line_bytes).map(move |line| {
            let name = format!("{}, line {}", self.name, line.number);
            // At most a thousand results per directory, so that tools can still list them.
            let result_path = self
                .result_path
                .join(format!("{:04}", line.number / 1000))
                .join(format!("{:07}", line.number));
            match line.text.and_then(|text| jsonl::parse(&text)).with_context(|| name.clone()) {
                Ok((id, input)) => Ok(Item { name, id, result_path, bytes: line.bytes, input }),
                Err(error) => Err(UnreadableItem { name, result_path, bytes: line.bytes, error }),
            }
        })
    }

    /// Reads all bytes, but stops one byte over the limit.
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

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn extension(path: &Path) -> String {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase()
}

fn layout(path: &Path, format: InputFormat) -> SourceLayout {
    use pb::PageFormat;
    match format {
        InputFormat::Text => SourceLayout::Page(PageFormat::Text),
        InputFormat::Lines => SourceLayout::Page(PageFormat::Lines),
        InputFormat::Html => SourceLayout::Page(PageFormat::Html),
        InputFormat::Markdown => SourceLayout::Page(PageFormat::Markdown),
        InputFormat::JsonLines => SourceLayout::Records,
        InputFormat::Auto => match extension(path).as_str() {
            "jsonl" | "ndjson" => SourceLayout::Records,
            "html" | "htm" | "xhtml" => SourceLayout::Page(PageFormat::Html),
            "md" | "markdown" => SourceLayout::Page(PageFormat::Markdown),
            "txt" => SourceLayout::Page(PageFormat::Text),
            _ => SourceLayout::Page(PageFormat::Unspecified),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_file_the_line_and_the_field_of_an_invalid_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        std::fs::write(&path, "{\"text\": \"a\"}\n\n{\"text\": \"b\", \"url\": \"c\"}\n").unwrap();
        let args = InputArgs { files: vec![path], ..InputArgs::default() };
        let sources = InputSources::new(&args, None).unwrap();
        let items: Vec<_> = sources.list[0].items().collect();
        let [Ok(first), Err(second)] = items.as_slice() else { panic!("{items:?}") };
        assert_eq!((first.bytes, first.id.as_ref()), (14, None));
        let message = format!("{:#}", second.error);
        assert!(message.contains("r.jsonl, line 3: unknown field \"url\""), "{message}");
    }
}
