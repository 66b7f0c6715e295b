//! An output directory: a file for every input, an index, a report. All of it is made out of the store, so it is
//! right whenever a run ends, and a run in another format computes nothing anew.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;

use super::{
    Done, Outcome, Sink, Tally,
    journal::{self, Journal},
    report,
    store::{self, Store},
    throughput::Throughput,
    writer,
};
use crate::cli::{
    args::DigestFormat,
    output::{
        self, Rendered,
        html::{self, Listed},
    },
};

/// The most items on one page of the index.
const INDEX_PAGE: usize = 2_000;

/// Writes results into a directory.
pub(in crate::cli) struct Directory {
    root: PathBuf,
    store: Arc<Store>,
    format: DigestFormat,
    journal: Journal,
    run_ms: u64,
    failures: report::Failures,
    /// One JSON line an item for the index, and where each begins, by the index of the item.
    listed: File,
    starts: BTreeMap<u64, u64>,
    listed_bytes: u64,
    sums: html::Sums,
}

impl Directory {
    pub(in crate::cli) fn new(
        root: PathBuf,
        store: Arc<Store>,
        format: DigestFormat,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            journal: Journal::open(store.journal())?,
            run_ms: journal::now_ms(),
            failures: report::Failures::new(&store)?,
            listed: store.temporary_file()?.into_file(),
            starts: BTreeMap::new(),
            listed_bytes: 0,
            sums: html::Sums::default(),
            root,
            store,
            format,
        })
    }

    fn path(&self, done: &Done) -> PathBuf {
        let mut name = done.entry.place.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(self.format.ending());
        done.entry.place.with_file_name(name)
    }

    /// Writes what people read, unless it stands there already.
    fn write(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        let path = self.root.join(path);
        let is_there = fs::metadata(&path).is_ok_and(|m| m.len() == text.len() as u64)
            && fs::read(&path).is_ok_and(|bytes| bytes == text.as_bytes());
        if is_there { Ok(()) } else { self.store.write(&path, text.as_bytes()) }
    }

    fn log(&mut self, done: &Done) -> anyhow::Result<()> {
        let (outcome, error) = match &done.outcome {
            Outcome::Digest(digest) if writer::failed_sections(digest) > 0 => ("partial", None),
            Outcome::Digest(_) => ("done", None),
            Outcome::Failed(failure) => ("failed", Some(failure.message.clone())),
        };
        let counts = output::Counts::of(&done.outcome);
        self.journal.append(&journal::Line {
            time_ms: journal::now_ms(),
            run_ms: self.run_ms,
            input: done.entry.name.clone(),
            key: done.entry.key.map(store::hex),
            outcome: outcome.to_owned(),
            error,
            characters: counts.characters,
            sections: counts.sections,
            findings: counts.findings,
            prompt_tokens: counts.prompt_tokens,
            completion_tokens: counts.completion_tokens,
        })
    }

    fn list(&mut self, done: &Done, path: &Path) -> anyhow::Result<()> {
        let listed = Listed::new(&done.entry.name, path, &done.outcome);
        self.sums.add(&listed);
        if self.format != DigestFormat::Html {
            return Ok(());
        }
        let mut line = serde_json::to_vec(&listed)?;
        line.push(b'\n');
        self.starts.insert(done.entry.index, self.listed_bytes);
        self.listed_bytes += line.len() as u64;
        self.listed.write_all(&line)?;
        Ok(())
    }

    /// The items of one page of the index, in the order of the inputs.
    fn page(&mut self, starts: &[u64]) -> anyhow::Result<Vec<Listed>> {
        let read = |start: &u64| -> anyhow::Result<Listed> {
            self.listed.seek(SeekFrom::Start(*start))?;
            let mut line = Vec::new();
            BufReader::new(&self.listed).read_until(b'\n', &mut line)?;
            Ok(serde_json::from_slice(&line)?)
        };
        starts.iter().map(read).collect()
    }

    fn write_index(&mut self, run: Option<&Throughput>) -> anyhow::Result<()> {
        let starts: Vec<u64> = std::mem::take(&mut self.starts).into_values().collect();
        let pages = starts.chunks(INDEX_PAGE).count().max(1);
        for page in 0..pages {
            let own = starts.chunks(INDEX_PAGE).nth(page).unwrap_or_default();
            let items = self.page(own)?;
            let text = html::index(&self.sums, run, &items, page, pages)?;
            self.write(Path::new(&html::index_name(page)), &text)?;
        }
        Ok(())
    }
}

impl Sink for Directory {
    fn take(&mut self, done: Done) -> anyhow::Result<()> {
        let path = self.path(&done);
        let index = "../".repeat(path.components().count().saturating_sub(1)) + &html::index_name(0);
        let rendered = Rendered {
            name: &done.entry.name,
            id: done.entry.id.as_ref(),
            several: false,
            index: Some(&index),
        };
        match &done.outcome {
            Outcome::Digest(digest) => {
                let text = rendered.whole(self.format, digest)?;
                // A file holds no colours.
                self.write(&path, &anstream::adapter::strip_str(&text).to_string())?;
            }
            // What stands there is the result of another text by now.
            Outcome::Failed(_) => match fs::remove_file(self.root.join(&path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            },
        }
        if done.fresh {
            self.log(&done)?;
        }
        self.failures.add(&done)?;
        self.list(&done, &path)
    }

    fn finish(&mut self, tally: &Tally) -> anyhow::Result<()> {
        let run = Throughput::read(&self.store.journal())?;
        if self.format == DigestFormat::Html {
            self.write_index(run.as_ref())?;
        }
        let failures = std::mem::replace(&mut self.failures, report::Failures::new(&self.store)?);
        failures.finish(&self.store, &self.root)?;
        let sums = serde_json::to_string_pretty(&report::sums(tally, run.as_ref()))?;
        self.write(Path::new("run.json"), &(sums + "\n"))
    }
}
