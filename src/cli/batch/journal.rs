//! The journal of an output directory: one JSON object per line for every processed item.
//!
//! It is read by people and by [`Throughput`](super::Throughput). Whether an item is done is decided by the store alone.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// A processed item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct JournalEntry {
    /// Time at which the result was stored, in milliseconds since 1970.
    pub(super) time_ms: u64,
    /// Start of the run, in milliseconds since 1970. Identifies the run.
    pub(super) run_ms: u64,
    pub(super) input: String,
    pub(super) key: Option<String>,
    /// `done`, `partial` or `failed`.
    pub(super) outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// Characters of the source, without white space.
    pub(super) characters: u64,
    pub(super) sections: u64,
    pub(super) findings: u64,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
}

pub(super) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens a journal for appending. Terminates the last line if a killed run left it incomplete.
    pub(super) fn open(path: PathBuf) -> anyhow::Result<Self> {
        let open = || -> io::Result<File> {
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            if file.seek(SeekFrom::End(0))? > 0 {
                file.seek(SeekFrom::End(-1))?;
                let mut last = [0];
                file.read_exact(&mut last)?;
                if last != *b"\n" {
                    file.write_all(b"\n")?;
                }
            }
            Ok(file)
        };
        let file = open().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, file })
    }

    pub(super) fn append(&mut self, entry: &JournalEntry) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(entry)?;
        text.push(b'\n');
        self.file.write_all(&text).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Reads the entries in order. Skips incomplete lines.
    pub(super) fn entries(path: &Path) -> io::Result<impl Iterator<Item = JournalEntry> + use<>> {
        let lines = BufReader::new(File::open(path)?).split(b'\n');
        Ok(lines.map_while(Result::ok).filter_map(|line| serde_json::from_slice(&line).ok()))
    }
}

/// Returns the current time in milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis().try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_only_the_incomplete_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let entry = |name: &str| JournalEntry {
            time_ms: 2,
            run_ms: 1,
            input: name.to_owned(),
            key: None,
            outcome: "done".to_owned(),
            error: None,
            characters: 3,
            sections: 1,
            findings: 0,
            prompt_tokens: 5,
            completion_tokens: 7,
        };
        Journal::open(path.clone()).unwrap().append(&entry("一")).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"time_ms\": 4, \"inp").unwrap();
        Journal::open(path.clone()).unwrap().append(&entry("二")).unwrap();
        assert_eq!(Journal::entries(&path).unwrap().collect::<Vec<_>>(), [entry("一"), entry("二")]);
    }
}
