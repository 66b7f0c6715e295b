//! The journal of an output directory: one JSON line for every item that was tried, appended when its result is
//! stored. For people, and for the plot of a run; what is done is decided by the store alone.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// One item that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    /// When it was done, in milliseconds since 1970.
    pub(super) time_ms: u64,
    /// When its run began, likewise: tells runs apart.
    pub(super) run_ms: u64,
    pub(super) input: String,
    pub(super) key: Option<String>,
    /// "done", "partial" or "failed".
    pub(super) outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// Of the source, white space not counted.
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
    /// Opens a journal to go on with it. A line that a killed run left half-written is closed.
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

    pub(super) fn append(&mut self, line: &Line) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Every line that is whole, in order.
    pub(super) fn lines(path: &Path) -> io::Result<impl Iterator<Item = Line> + use<>> {
        let lines = BufReader::new(File::open(path)?).split(b'\n');
        Ok(lines.map_while(Result::ok).filter_map(|line| serde_json::from_slice(&line).ok()))
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis().try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_costs_itself_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let line = |name: &str| Line {
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
        Journal::open(path.clone()).unwrap().append(&line("一")).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"time_ms\": 4, \"inp").unwrap();
        Journal::open(path.clone()).unwrap().append(&line("二")).unwrap();
        assert_eq!(Journal::lines(&path).unwrap().collect::<Vec<_>>(), [line("一"), line("二")]);
    }
}
