//! The report of a run: `failures.jsonl` and `run.json` in the output directory.

use std::{io::Write as _, path::Path};

use serde_json::json;

use super::{FinishedItem, ItemOutcome, ResultStore, RunTotals, Throughput};

/// The list of failures. It is written to a temporary file, and put in place at the end of the run.
pub(super) struct FailureList {
    file: tempfile::NamedTempFile,
    count: u64,
}

impl FailureList {
    const FILE_NAME: &str = "failures.jsonl";

    pub(super) fn new(store: &ResultStore) -> anyhow::Result<Self> {
        Ok(Self { file: store.temporary_file()?, count: 0 })
    }

    /// Adds an item if it failed, as a whole or in part.
    pub(super) fn add(&mut self, item: &FinishedItem) -> anyhow::Result<()> {
        let (code, message, sections) = match &item.outcome {
            ItemOutcome::Failed(failure) => (format!("{:?}", failure.code), failure.message.clone(), None),
            ItemOutcome::Digest(digest) => {
                let failed = digest.sections.iter().filter_map(|section| {
                    let error = section.error.as_ref()?;
                    let (article, section) = (section.article_index, section.section_index);
                    Some(
                        json!({ "article_index": article, "section_index": section, "error": error.message }),
                    )
                });
                let failed: Vec<_> = failed.collect();
                if failed.is_empty() {
                    return Ok(());
                }
                let message = format!("{} of {} sections failed", failed.len(), digest.sections.len());
                ("Partial".to_owned(), message, Some(failed))
            }
        };
        self.count += 1;
        let mut line = json!({ "input": item.header.name, "code": code, "error": message });
        if let Some(id) = &item.header.id {
            line["id"] = id.clone();
        }
        if let Some(sections) = sections {
            line["sections"] = sections.into();
        }
        writeln!(self.file, "{line}")?;
        Ok(())
    }

    /// Puts the list in place, or removes an old list if there are no failures.
    pub(super) fn finish(self, store: &ResultStore, directory: &Path) -> anyhow::Result<()> {
        let path = directory.join(Self::FILE_NAME);
        if self.count > 0 {
            return store.put_in_place(self.file, &path);
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Returns the content of `run.json`.
pub(super) fn run_report(totals: &RunTotals, run: Option<&Throughput>) -> serde_json::Value {
    json!({
        "inputs": totals,
        "last_active_run": run.map(|run| json!({
            "inputs": run.items,
            "seconds": run.elapsed_ms as f64 / 1000.0,
            "characters": run.characters,
            "prompt_tokens": run.prompt_tokens,
            "completion_tokens": run.completion_tokens,
            "characters_per_second": run.rate(run.characters),
            "completion_tokens_per_second": run.rate(run.completion_tokens),
            "inputs_per_hour": run.rate(run.items) * 3600.0,
        })),
    })
}
