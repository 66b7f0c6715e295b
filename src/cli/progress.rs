//! Progress on stderr: bars on a terminal, a line now and then elsewhere, nothing when asked to be quiet.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::catalog;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What a person sees of a download or of the reading of a file.
pub(super) struct Download {
    id: String,
    bar: Option<ProgressBar>,
    quiet: bool,
    /// Where there is no terminal: the bytes there are, of how many, and when that was last told.
    done: u64,
    total: u64,
    last_line: Instant,
}

impl Download {
    pub(super) fn new(id: &str, quiet: bool) -> Self {
        Self { id: id.to_owned(), bar: None, quiet, done: 0, total: 0, last_line: Instant::now() }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.suspend(|| anstream::eprintln!("yizhai: {text}")),
            None => anstream::eprintln!("yizhai: {text}"),
        }
    }

    fn percent(&self) -> u64 {
        (100 * self.done).checked_div(self.total).unwrap_or(0)
    }
}

impl catalog::Progress for Download {
    fn started(&mut self, total_bytes: u64, source: &str, already_bytes: u64) {
        (self.done, self.total) = (already_bytes, total_bytes);
        if self.quiet {
            return;
        }
        if io::stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| ProgressBar::new(total_bytes));
            bar.set_style(bytes_style());
            bar.set_length(total_bytes);
            bar.set_position(already_bytes);
            bar.set_prefix(self.id.clone());
            bar.set_message(source.to_owned());
            bar.reset_eta();
        } else {
            self.line(&format!("{}: {source}, {} of {total_bytes} bytes are there", self.id, already_bytes));
        }
    }

    fn advanced(&mut self, bytes: u64) {
        self.done += bytes;
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            self.line(&format!("{}: {} % ({} of {} bytes)", self.id, self.percent(), self.done, self.total));
        }
    }

    fn note(&mut self, message: &str) {
        self.line(&format!("{}: {message}", self.id));
    }

    fn finished(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.line(&format!("{}: complete, {} bytes, SHA-256 is right", self.id, self.total));
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// What a person sees of a digest.
pub(super) struct Sections {
    bar: Option<ProgressBar>,
    quiet: bool,
    done: u64,
    total: u64,
    tokens: i64,
    started: Instant,
    last_line: Instant,
}

impl Sections {
    pub(super) fn new(quiet: bool) -> Self {
        let bar = (!quiet && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(0).with_style(sections_style());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let now = Instant::now();
        Self { bar, quiet, done: 0, total: 0, tokens: 0, started: now, last_line: now }
    }

    /// So many sections more are to be done.
    pub(super) fn expect(&mut self, sections: usize) {
        self.total += sections as u64;
        if let Some(bar) = &self.bar {
            bar.set_length(self.total);
        }
    }

    /// A section is done, for which the model wrote so many tokens.
    pub(super) fn section_done(&mut self, completion_tokens: i64) {
        self.done += 1;
        self.tokens += completion_tokens;
        let rate = self.tokens as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
            bar.set_message(format!("{rate:.1} tokens/s"));
        } else if !self.quiet && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            anstream::eprintln!("yizhai: {} of {} sections, {rate:.1} tokens/s", self.done, self.total);
        }
    }

    /// Runs what writes to the terminal without tearing the bar.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// A line on stderr, unless asked to be quiet.
    pub(super) fn line(&self, text: &str) {
        if !self.quiet {
            self.suspend(|| anstream::eprintln!("yizhai: {text}"));
        }
    }

    /// An error on stderr, quiet or not.
    pub(super) fn error(&self, text: &str) {
        self.suspend(|| anstream::eprintln!("yizhai: {text}"));
    }
}

impl Drop for Sections {
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
