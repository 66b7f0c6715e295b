//! An output directory: one file per input, an index, and a report.
//!
//! The files are written from the results in the store. So they are complete whenever a run ends, and a run in another
//! format computes nothing.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;

use super::{
    FinishedItem, ItemOutcome, ResultSink, ResultStore, RunTotals, Throughput,
    journal::{self, Journal, JournalEntry},
    report::{self, FailureList},
    store,
};
use crate::{
    cli::{
        args::DigestFormat,
        output::{
            DigestWriter, ResultLabels,
            html::{self, IndexEntry, IndexTotals},
        },
    },
    pb,
};

/// Maximum entries on one page of the index.
const INDEX_PAGE_ENTRIES: usize = 2_000;

/// Writes results into a directory.
pub(in crate::cli) struct OutputDirectory {
    root: PathBuf,
    store: Arc<ResultStore>,
    format: DigestFormat,
    journal: Journal,
    /// Start of the run, in milliseconds since 1970.
    run_ms: u64,
    failures: FailureList,
    /// The entries of the index, one JSON object per line.
    index_entries: File,
    index_entries_bytes: u64,
    /// The offsets of the lines in `index_entries`, by the index of the item.
    entry_offsets: BTreeMap<u64, u64>,
    index_totals: IndexTotals,
}

impl OutputDirectory {
    pub(in crate::cli) fn new(
        root: PathBuf,
        store: Arc<ResultStore>,
        format: DigestFormat,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            journal: Journal::open(store.journal())?,
            run_ms: journal::now_ms(),
            failures: FailureList::new(&store)?,
            index_entries: store.temporary_file()?.into_file(),
            index_entries_bytes: 0,
            entry_offsets: BTreeMap::new(),
            index_totals: IndexTotals::default(),
            root,
            store,
            format,
        })
    }

    /// Returns the path of the file of an item, below the directory.
    fn path(&self, item: &FinishedItem) -> PathBuf {
        let mut name = item.header.path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(self.format.extension());
        item.header.path.with_file_name(name)
    }

    /// Writes a file below the directory, unless it already has this content.
    fn write_file(&self, path: &Path, content: &[u8]) -> anyhow::Result<()> {
        let path = self.root.join(path);
        let is_current = fs::metadata(&path).is_ok_and(|m| m.len() == content.len() as u64)
            && fs::read(&path).is_ok_and(|current| current == content);
        if is_current { Ok(()) } else { self.store.write(&path, content) }
    }

    fn write_digest(
        &self,
        path: &Path,
        item: &FinishedItem,
        digest: &pb::DigestResponse,
    ) -> anyhow::Result<()> {
        let depth = path.components().count().saturating_sub(1);
        let index = "../".repeat(depth) + &html::index_file_name(0);
        let labels = ResultLabels {
            name: &item.header.name,
            id: item.header.id.as_ref(),
            is_named: false,
            index: Some(&index),
        };
        let empty = pb::Document::default();
        let document = digest.document.as_ref().unwrap_or(&empty);
        let mut content = anstream::StripStream::new(Vec::new());
        DigestWriter::begin(&mut content, self.format.into(), labels, document)?
            .write_all(&mut content, digest)?;
        self.write_file(path, &content.into_inner())
    }

    fn append_to_journal(&mut self, item: &FinishedItem) -> anyhow::Result<()> {
        let counts = item.outcome.counts();
        self.journal.append(&JournalEntry {
            time_ms: journal::now_ms(),
            run_ms: self.run_ms,
            input: item.header.name.clone(),
            key: item.header.key.map(store::hex),
            outcome: item.outcome.label().to_owned(),
            error: item.outcome.error().map(str::to_owned),
            characters: counts.characters,
            sections: counts.sections,
            findings: counts.findings,
            prompt_tokens: counts.prompt_tokens,
            completion_tokens: counts.completion_tokens,
        })
    }

    fn add_to_index(&mut self, item: &FinishedItem, path: &Path) -> anyhow::Result<()> {
        let result = match &item.outcome {
            ItemOutcome::Digest(digest) => Ok(&**digest),
            ItemOutcome::Failed(failure) => Err(failure.message.as_str()),
        };
        let entry = IndexEntry::new(&item.header.name, path, result);
        self.index_totals.add(&entry);
        if self.format != DigestFormat::Html {
            return Ok(());
        }
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        self.entry_offsets.insert(item.header.index, self.index_entries_bytes);
        self.index_entries_bytes += line.len() as u64;
        self.index_entries.write_all(&line)?;
        Ok(())
    }

    fn read_index_entries(&mut self, offsets: &[u64]) -> anyhow::Result<Vec<IndexEntry>> {
        let read = |offset: &u64| -> anyhow::Result<IndexEntry> {
            self.index_entries.seek(SeekFrom::Start(*offset))?;
            let mut line = Vec::new();
            BufReader::new(&self.index_entries).read_until(b'\n', &mut line)?;
            Ok(serde_json::from_slice(&line)?)
        };
        offsets.iter().map(read).collect()
    }

    /// Writes the pages of the index, with the entries in the order of the inputs.
    fn write_index(&mut self, run: Option<&Throughput>) -> anyhow::Result<()> {
        let offsets: Vec<u64> = std::mem::take(&mut self.entry_offsets).into_values().collect();
        let pages = offsets.chunks(INDEX_PAGE_ENTRIES).count().max(1);
        for page in 0..pages {
            let offsets = offsets.chunks(INDEX_PAGE_ENTRIES).nth(page).unwrap_or_default();
            let entries = self.read_index_entries(offsets)?;
            let text = html::index_page(&self.index_totals, run, &entries, page, pages)?;
            self.write_file(Path::new(&html::index_file_name(page)), text.as_bytes())?;
        }
        Ok(())
    }
}

impl ResultSink for OutputDirectory {
    fn write(&mut self, item: FinishedItem) -> anyhow::Result<()> {
        let path = self.path(&item);
        match &item.outcome {
            ItemOutcome::Digest(digest) => self.write_digest(&path, &item, digest)?,
            // An existing file is the result of earlier content.
            ItemOutcome::Failed(_) => match fs::remove_file(self.root.join(&path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            },
        }
        if item.is_new {
            self.append_to_journal(&item)?;
        }
        self.failures.add(&item)?;
        self.add_to_index(&item, &path)
    }

    fn finish(&mut self, totals: &RunTotals) -> anyhow::Result<()> {
        let run = Throughput::read(&self.store.journal())?;
        if self.format == DigestFormat::Html {
            self.write_index(run.as_ref())?;
        }
        let failures = std::mem::replace(&mut self.failures, FailureList::new(&self.store)?);
        failures.finish(&self.store, &self.root)?;
        let report = serde_json::to_string_pretty(&report::run_report(totals, run.as_ref()))? + "\n";
        self.write_file(Path::new("run.json"), report.as_bytes())
    }
}
