//! Inputs: files, directories, globs and stdin as what is sent to the server.

mod expand;
mod record;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::args::{InputArgs, InputFormat};
use crate::{document, pb};

/// One thing to be digested.
#[derive(Debug)]
pub(super) struct Item {
    /// What it is called in results and messages: the path, or the path and the line.
    pub(super) name: String,
    /// The id that a JSONL record has.
    pub(super) id: Option<serde_json::Value>,
    /// Where its result belongs below an output directory, without the ending of the format.
    pub(super) place: PathBuf,
    /// Bytes of the input that it takes up.
    pub(super) bytes: u64,
    /// What is sent.
    pub(super) input: pb::Input,
}

/// An item that cannot be read: what it is called, where it stands, and why.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) name: String,
    pub(super) place: PathBuf,
    pub(super) bytes: u64,
    pub(super) error: anyhow::Error,
}

/// An input that was named on the command line or found in a directory.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: String,
    path: PathBuf,
    /// The path below what all inputs have in common.
    place: PathBuf,
    format: Layout,
    /// Bytes; unknown for stdin.
    pub(super) bytes: Option<u64>,
}

/// How a source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// One page a file.
    Page(pb::PageFormat),
    /// One record a line.
    Records,
}

/// The inputs of a command.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) list: Vec<Source>,
    /// Files that were found in directories and left out for their endings.
    pub(super) left_out: usize,
    /// Whether one was named as itself, so that its failure is the command's.
    pub(super) single: bool,
}

impl Sources {
    /// The inputs of a command, each of which must be there. What lies in `except` is none.
    pub(super) fn new(args: &InputArgs, except: Option<&Path>) -> anyhow::Result<Self> {
        let found = expand::all(args, except)?;
        let list: anyhow::Result<Vec<Source>> =
            found.files.into_iter().map(|file| Source::new(file, args.input_format)).collect();
        Ok(Self { list: list?, left_out: found.left_out, single: found.single })
    }

    /// The one page that the command is about, if it is about just one.
    pub(super) fn only_page(&self) -> Option<&Source> {
        match &self.list[..] {
            [only] if self.single && !only.has_records() => Some(only),
            _ => None,
        }
    }

    /// Whether results must be told apart.
    pub(super) fn are_several(&self) -> bool {
        !self.single || self.list.len() > 1
    }
}

impl Source {
    fn new(file: expand::Found, format: InputFormat) -> anyhow::Result<Self> {
        let expand::Found { path, place } = file;
        let name = path.display().to_string();
        let bytes = match is_stdin(&path) {
            true => None,
            false => Some(path.metadata().with_context(|| format!("cannot read {name}"))?.len()),
        };
        Ok(Self { format: layout(&path, format), name, path, place, bytes })
    }

    /// Whether every line is an input of its own.
    pub(super) fn has_records(&self) -> bool {
        self.format == Layout::Records
    }

    /// How many items it holds; reads a JSONL file through. Unknown for stdin.
    pub(super) fn count(&self) -> Option<u64> {
        match self.has_records() {
            false => Some(1),
            true if is_stdin(&self.path) => None,
            true => record::count(self.open().ok()?).ok(),
        }
    }

    /// Every item, read when its turn comes.
    pub(super) fn items(&self) -> Box<dyn Iterator<Item = Result<Item, Unreadable>> + Send + '_> {
        let unreadable = |error| Unreadable {
            name: self.name.clone(),
            place: self.place.clone(),
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
        Ok(Item {
            name: self.name.clone(),
            id: None,
            place: self.place.clone(),
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
    ) -> impl Iterator<Item = Result<Item, Unreadable>> + Send + 'a {
        // Escapes may make JSON longer than what it holds.
        let max_line_bytes = document::Limits::default().max_bytes.saturating_mul(2);
        record::Lines::new(reader, max_line_bytes).map(move |line| {
            let name = format!("{}, line {}", self.name, line.number);
            // A thousand to a folder: nobody likes a folder of a million files.
            let place =
                self.place.join(format!("{:04}", line.number / 1000)).join(format!("{:07}", line.number));
            match line.text.and_then(|text| record::parse(&text)).with_context(|| name.clone()) {
                Ok((id, input)) => Ok(Item { name, id, place, bytes: line.bytes, input }),
                Err(error) => Err(Unreadable { name, place, bytes: line.bytes, error }),
            }
        })
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

fn ending(path: &Path) -> String {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase()
}

fn layout(path: &Path, format: InputFormat) -> Layout {
    use pb::PageFormat;
    match format {
        InputFormat::Text => Layout::Page(PageFormat::Text),
        InputFormat::Lines => Layout::Page(PageFormat::Lines),
        InputFormat::Html => Layout::Page(PageFormat::Html),
        InputFormat::Markdown => Layout::Page(PageFormat::Markdown),
        InputFormat::Jsonl => Layout::Records,
        InputFormat::Auto => match ending(path).as_str() {
            "jsonl" | "ndjson" => Layout::Records,
            "html" | "htm" | "xhtml" => Layout::Page(PageFormat::Html),
            "md" | "markdown" => Layout::Page(PageFormat::Markdown),
            "txt" => Layout::Page(PageFormat::Text),
            _ => Layout::Page(PageFormat::Unspecified),
        },
    }
}
