//! Results on stdout or in one file, one after the other.

use std::{io::Write, sync::Arc};

use super::{Done, Outcome, Sink, Tally, progress::Progress};
use crate::cli::{
    args::DigestFormat,
    output::{Rendered, digest_json},
};

/// Writes results one after the other.
pub(in crate::cli) struct Stream {
    pub(in crate::cli) out: Box<dyn Write + Send>,
    pub(in crate::cli) format: DigestFormat,
    /// Nothing but one result a line is written.
    pub(in crate::cli) one_line_each: bool,
    /// With JSONL: a line an item, not a line a section.
    pub(in crate::cli) line_an_item: bool,
    /// Whether each result says whose it is.
    pub(in crate::cli) named: bool,
    /// Whether an array is written even for one result.
    pub(in crate::cli) several: bool,
    pub(in crate::cli) progress: Arc<Progress>,
    /// JSON: the first value, held until it is known whether there are more; and how many there were.
    pub(in crate::cli) array: Array,
}

/// A JSON array that is written as it comes.
#[derive(Debug, Default)]
pub(in crate::cli) struct Array {
    first: Option<serde_json::Value>,
    written: u64,
}

impl Array {
    fn push(&mut self, out: &mut dyn Write, value: serde_json::Value, several: bool) -> anyhow::Result<()> {
        if self.written == 0 && self.first.is_none() && !several {
            self.first = Some(value);
            return Ok(());
        }
        for value in self.first.take().into_iter().chain([value]) {
            write!(out, "{}{}", if self.written == 0 { "[\n" } else { ",\n" }, indented(&value)?)?;
            self.written += 1;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> anyhow::Result<()> {
        match (self.first.take(), self.written) {
            (Some(only), _) => writeln!(out, "{}", serde_json::to_string_pretty(&only)?)?,
            (None, 0) => writeln!(out, "[]")?,
            (None, _) => writeln!(out, "\n]")?,
        }
        Ok(())
    }
}

fn indented(value: &serde_json::Value) -> anyhow::Result<String> {
    // A line break within a string is escaped, so every line break is one between values.
    Ok(format!("  {}", serde_json::to_string_pretty(value)?.replace('\n', "\n  ")))
}

impl Stream {
    fn write(&mut self, done: &Done) -> anyhow::Result<()> {
        let entry = &done.entry;
        let rendered =
            Rendered { name: &entry.name, id: entry.id.as_ref(), several: self.named, index: None };
        let out = &mut self.out;
        match (&done.outcome, self.format) {
            (Outcome::Digest(digest), DigestFormat::Json) => {
                self.array.push(out, rendered.json(digest), self.several)?;
            }
            (Outcome::Digest(digest), DigestFormat::Jsonl) if self.line_an_item => {
                writeln!(out, "{}", rendered.json(digest))?;
            }
            (Outcome::Digest(digest), DigestFormat::Text) if self.one_line_each => {
                rendered.lines(out, digest)?;
            }
            (Outcome::Digest(digest), format) => {
                out.write_all(rendered.whole(format, digest)?.as_bytes())?;
            }
            (Outcome::Failed(failure), format) => {
                let value = || digest_json::failure(&entry.name, entry.id.as_ref(), &failure.message);
                match format {
                    DigestFormat::Json => self.array.push(out, value(), self.several)?,
                    DigestFormat::Jsonl => writeln!(out, "{}", value())?,
                    DigestFormat::Text | DigestFormat::Markdown | DigestFormat::Html => {}
                }
            }
        }
        out.flush()?;
        Ok(())
    }
}

impl Sink for Stream {
    fn take(&mut self, done: Done) -> anyhow::Result<()> {
        let progress = self.progress.clone();
        progress.suspend(|| self.write(&done))
    }

    fn finish(&mut self, _: &Tally) -> anyhow::Result<()> {
        if self.format == DigestFormat::Json {
            self.array.finish(&mut self.out)?;
        }
        self.out.flush()?;
        Ok(())
    }
}
