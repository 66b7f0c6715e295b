//! The progress of a single operation on stderr: a bar on a terminal, occasional lines elsewhere, nothing if quiet.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::catalog;

/// Interval between lines if stderr is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The progress of downloading or verifying a model.
pub(super) struct DownloadProgress {
    model_id: String,
    bar: Option<ProgressBar>,
    quiet: bool,
    done_bytes: u64,
    total_bytes: u64,
    last_line: Instant,
}

impl DownloadProgress {
    pub(super) fn new(model_id: &str, quiet: bool) -> Self {
        let model_id = model_id.to_owned();
        Self { model_id, bar: None, quiet, done_bytes: 0, total_bytes: 0, last_line: Instant::now() }
    }

    fn line(&self, text: &str) {
        let id = &self.model_id;
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.suspend(|| anstream::eprintln!("yizhai: {id}: {text}")),
            None => anstream::eprintln!("yizhai: {id}: {text}"),
        }
    }

    fn percent(&self) -> u64 {
        (100 * self.done_bytes).checked_div(self.total_bytes).unwrap_or(0)
    }
}

impl catalog::PullProgress for DownloadProgress {
    fn started(&mut self, total_bytes: u64, source: &str, already_bytes: u64) {
        (self.done_bytes, self.total_bytes) = (already_bytes, total_bytes);
        if self.quiet {
            return;
        }
        if io::stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| ProgressBar::new(total_bytes));
            bar.set_style(bytes_style());
            bar.set_length(total_bytes);
            bar.set_position(already_bytes);
            bar.set_prefix(self.model_id.clone());
            bar.set_message(source.to_owned());
            bar.reset_eta();
        } else {
            self.line(&format!("reading from {source}, starting at byte {already_bytes} of {total_bytes}"));
        }
    }

    fn advanced(&mut self, bytes: u64) {
        self.done_bytes += bytes;
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            self.line(&format!("{}% ({} of {} bytes)", self.percent(), self.done_bytes, self.total_bytes));
        }
    }

    fn note(&mut self, message: &str) {
        self.line(message);
    }

    fn finished(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.line(&format!("complete, {} bytes, SHA-256 verified", self.total_bytes));
    }
}

impl Drop for DownloadProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// The progress of the digest of one page, in sections.
pub(super) struct SectionProgress {
    bar: Option<ProgressBar>,
    quiet: bool,
    done: u64,
    total: u64,
    tokens: i64,
    started: Instant,
    last_line: Instant,
}

impl SectionProgress {
    pub(super) fn new(quiet: bool) -> Self {
        let bar = (!quiet && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(0).with_style(sections_style());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let now = Instant::now();
        Self { bar, quiet, done: 0, total: 0, tokens: 0, started: now, last_line: now }
    }

    /// Sets the number of sections of the page.
    pub(super) fn set_total(&mut self, sections: usize) {
        self.total = sections as u64;
        if let Some(bar) = &self.bar {
            bar.set_length(self.total);
        }
    }

    /// Reports a finished section and the tokens generated for it.
    pub(super) fn section_done(&mut self, completion_tokens: i64) {
        self.done += 1;
        self.tokens += completion_tokens;
        let rate = self.tokens as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
            bar.set_message(format!("{rate:.1} tokens/s"));
        } else if !self.quiet && self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            anstream::eprintln!("yizhai: {} of {} sections, {rate:.1} tokens/s", self.done, self.total);
        }
    }

    /// Hides the bar while `write` writes to the terminal.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Prints a line, unless quiet.
    pub(super) fn line(&self, text: &str) {
        if !self.quiet {
            self.suspend(|| anstream::eprintln!("yizhai: {text}"));
        }
    }

    /// Prints an error.
    pub(super) fn error(&self, text: &str) {
        self.suspend(|| anstream::eprintln!("yizhai: {text}"));
    }
}

impl Drop for SectionProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bytes_style() -> ProgressStyle {
    style("{prefix} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left ({msg})")
        .progress_chars("=> ")
}

fn sections_style() -> ProgressStyle {
    style("{spinner} [{elapsed_precise}] {pos}/{len} sections [{wide_bar}] {msg}, {eta} left")
        .progress_chars("=> ")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
