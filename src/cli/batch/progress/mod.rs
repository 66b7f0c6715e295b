//! The progress of a batch on stderr: bars on a terminal, occasional lines elsewhere, or JSON for programs.

mod bars;
mod state;

use std::{
    io::{self, IsTerminal},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::json;

use super::{FinishedItem, ItemOutcome, RunTotals};
use crate::cli::{input::InputSources, output::DigestCounts};
use bars::ProgressBars;
use state::ProgressState;

/// Interval between lines if stderr is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(30);
/// Interval between `progress` events in JSON.
const JSON_INTERVAL: Duration = Duration::from_secs(1);

/// The form in which progress is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum ProgressMode {
    /// Only errors.
    Quiet,
    /// One JSON object per line.
    Json,
    /// Bars or lines for people.
    Text,
}

/// The progress of one batch, shared by its threads.
pub(in crate::cli) struct BatchProgress {
    mode: ProgressMode,
    bars: Option<ProgressBars>,
    state: Mutex<ProgressState>,
}

impl BatchProgress {
    pub(in crate::cli) fn new(mode: ProgressMode) -> Arc<Self> {
        let bars = (mode == ProgressMode::Text && io::stderr().is_terminal()).then(ProgressBars::new);
        Arc::new(Self { mode, bars, state: Mutex::new(ProgressState::new()) })
    }

    /// Reports the start of the run.
    pub(super) fn begin(self: &Arc<Self>, sources: &Arc<InputSources>) {
        {
            let mut state = self.state();
            *state = ProgressState::new();
            state.total_bytes = sources.list.iter().map(|source| source.bytes).sum();
            self.show(&state);
        }
        if sources.left_out > 0 {
            let plural = if sources.left_out == 1 { "" } else { "s" };
            self.note(&format!(
                "skipped {} file{plural} with other extensions; use --include '*' to read all files",
                sources.left_out
            ));
        }
        // Counting the records of a long JSONL file takes a while, so it has its own thread.
        let (progress, sources) = (self.clone(), sources.clone());
        std::thread::spawn(move || {
            let total = sources.list.iter().map(|source| source.count()).sum();
            let mut state = progress.state();
            state.total_items = total;
            progress.show(&state);
        });
    }

    /// Reports a finished item.
    pub(super) fn item(&self, item: &FinishedItem, counts: &DigestCounts) {
        let mut state = self.state();
        state.add(item, counts);
        match (&self.bars, self.mode) {
            (Some(bars), _) => bars.show(&state),
            (None, ProgressMode::Json) => {
                print_json(&json!({
                    "event": "item",
                    "input": item.header.name,
                    "outcome": item.outcome.label(),
                    "error": item.outcome.error(),
                    "from_store": !item.is_new,
                    "characters": counts.characters,
                    "sections": counts.sections,
                    "findings": counts.findings,
                    "completion_tokens": counts.completion_tokens,
                }));
                if state.is_report_due(JSON_INTERVAL) {
                    print_json(&state.json("progress"));
                }
            }
            (None, ProgressMode::Text) if state.is_report_due(LINE_INTERVAL) => {
                anstream::eprintln!("yizhai: {}; {}", state.items_text(), state.characters_text());
            }
            (None, ProgressMode::Quiet | ProgressMode::Text) => {}
        }
        drop(state);
        if self.mode != ProgressMode::Json {
            self.print_failures(item);
        }
    }

    fn print_failures(&self, item: &FinishedItem) {
        let name = &item.header.name;
        match &item.outcome {
            // The error of an unreadable input already has its name.
            ItemOutcome::Failed(failure)
                if failure.message.starts_with(name)
                    || failure.message.contains(&format!("cannot read {name}")) =>
            {
                self.error(&failure.message);
            }
            ItemOutcome::Failed(failure) => self.error(&format!("{name}: {}", failure.message)),
            ItemOutcome::Digest(digest) => {
                for section in &digest.sections {
                    if let Some(error) = &section.error {
                        let (article, section) = (section.article_index + 1, section.section_index + 1);
                        let message = &error.message;
                        self.error(&format!("{name}: article {article}, section {section}: {message}"));
                    }
                }
            }
        }
    }

    /// Reports the end of the run.
    pub(super) fn end(&self, totals: &RunTotals) {
        let state = self.state();
        if let Some(bars) = &self.bars {
            bars.clear();
        }
        match self.mode {
            ProgressMode::Quiet => {}
            ProgressMode::Json => {
                let mut value = state.json("end");
                value["inputs"] = json!(totals);
                print_json(&value);
            }
            ProgressMode::Text => {
                let RunTotals { done, partial, failed, from_store, skipped, interrupted, .. } = totals;
                let mut line = format!("{done} done, {partial} partly done, {failed} failed");
                if *from_store > 0 {
                    line += &format!(" ({from_store} of them in earlier runs)");
                }
                if *skipped > 0 {
                    line += &format!("; {skipped} not processed yet were skipped");
                }
                if *interrupted {
                    line += "; interrupted, run the same command again to resume";
                }
                anstream::eprintln!("yizhai: {line}; {}", state.summary_text());
            }
        }
    }

    /// Reports a message, unless the mode is quiet.
    pub(in crate::cli) fn note(&self, text: &str) {
        match self.mode {
            ProgressMode::Quiet => {}
            ProgressMode::Json => print_json(&json!({ "event": "note", "text": text })),
            ProgressMode::Text => self.suspend(|| anstream::eprintln!("yizhai: {text}")),
        }
    }

    /// Reports an error.
    pub(in crate::cli) fn error(&self, text: &str) {
        match self.mode {
            ProgressMode::Json => print_json(&json!({ "event": "error", "text": text })),
            ProgressMode::Quiet | ProgressMode::Text => {
                self.suspend(|| anstream::eprintln!("yizhai: {text}"));
            }
        }
    }

    /// Hides the bars while `write` writes to the terminal.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    fn show(&self, state: &ProgressState) {
        if let Some(bars) = &self.bars {
            bars.show(state);
        }
    }

    fn state(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn print_json(value: &serde_json::Value) {
    anstream::eprintln!("{value}");
}
