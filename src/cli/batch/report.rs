//! The report of a run: what failed and why, and the sums, as files of the output directory.

use std::{io::Write as _, path::Path};

use serde_json::json;

use super::{Done, Outcome, Tally, store::Store, throughput::Throughput, writer};

/// Lists what failed, as it comes; put in place at the end.
pub(super) struct Failures {
    file: tempfile::NamedTempFile,
    count: u64,
}

impl Failures {
    pub(super) const NAME: &str = "failures.jsonl";

    pub(super) fn new(store: &Store) -> anyhow::Result<Self> {
        Ok(Self { file: store.temporary_file()?, count: 0 })
    }

    /// Lists an item if anything of it failed.
    pub(super) fn add(&mut self, done: &Done) -> anyhow::Result<()> {
        let (code, message, sections) = match &done.outcome {
            Outcome::Failed(failure) => (format!("{:?}", failure.code), failure.message.clone(), None),
            Outcome::Digest(digest) if writer::failed_sections(digest) > 0 => {
                let failed = digest.sections.iter().filter_map(|section| {
                    let error = section.error.as_ref()?;
                    let (article, section) = (section.article_index, section.section_index);
                    Some(
                        json!({ "article_index": article, "section_index": section, "error": error.message }),
                    )
                });
                let failed: Vec<_> = failed.collect();
                let message = format!("{} of {} sections failed", failed.len(), digest.sections.len());
                ("Partial".to_owned(), message, Some(failed))
            }
            Outcome::Digest(_) => return Ok(()),
        };
        self.count += 1;
        let mut line = json!({ "input": done.entry.name, "code": code, "error": message });
        done.entry.id.iter().for_each(|id| line["id"] = id.clone());
        sections.into_iter().for_each(|sections| line["sections"] = sections.into());
        writeln!(self.file, "{line}")?;
        Ok(())
    }

    /// Puts the list in place; without failures there is none.
    pub(super) fn finish(self, store: &Store, directory: &Path) -> anyhow::Result<()> {
        let path = directory.join(Self::NAME);
        if self.count > 0 {
            return store.put_in_place(self.file, &path);
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The sums of a run.
pub(super) fn sums(tally: &Tally, run: Option<&Throughput>) -> serde_json::Value {
    json!({
        "inputs": tally,
        "last_working_run": run.map(|run| json!({
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
