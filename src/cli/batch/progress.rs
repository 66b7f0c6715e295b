//! Progress of a batch on stderr: two bars on a terminal, a line now and then elsewhere, JSON lines for programs, or
//! nothing.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Done, Outcome, Tally, writer};
use crate::cli::{input::Sources, output::Counts};

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// Between two JSON lines with the sums.
const JSON_EVERY: Duration = Duration::from_secs(1);
/// The time left is told from what was done in this time.
const WINDOW: Duration = Duration::from_secs(300);
/// And only after as much of a run: before, it would be a guess.
const FIRST_GUESS: (Duration, usize) = (Duration::from_secs(5), 3);

/// How progress is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Style {
    Quiet,
    Json,
    People,
}

/// Progress of one batch; shared by all its threads.
pub(in crate::cli) struct Progress {
    style: Style,
    bars: Option<Bars>,
    state: Mutex<State>,
}

struct Bars {
    multi: MultiProgress,
    pages: ProgressBar,
    characters: ProgressBar,
}

#[derive(Debug)]
struct State {
    started: Instant,
    last_told: Instant,
    /// Of all inputs; unknown while one is not counted yet or is stdin.
    total_items: Option<u64>,
    total_bytes: Option<u64>,
    items: u64,
    failed: u64,
    /// Bytes of the inputs that are through, and how many characters they held.
    bytes: u64,
    characters: u64,
    /// Bytes of those of them that have characters: what failed has none.
    read_bytes: u64,
    /// What this run did itself.
    fresh_characters: u64,
    fresh_tokens: u64,
    /// When how many bytes were done by this run.
    recent: VecDeque<(Instant, u64)>,
    fresh_bytes: u64,
}

impl Progress {
    pub(in crate::cli) fn new(style: Style) -> Arc<Self> {
        let bars = (style == Style::People && io::stderr().is_terminal()).then(Bars::new);
        let now = Instant::now();
        let state = State {
            started: now,
            last_told: now,
            total_items: None,
            total_bytes: None,
            items: 0,
            failed: 0,
            bytes: 0,
            characters: 0,
            read_bytes: 0,
            fresh_characters: 0,
            fresh_tokens: 0,
            recent: VecDeque::from([(now, 0)]),
            fresh_bytes: 0,
        };
        Arc::new(Self { style, bars, state: Mutex::new(state) })
    }

    /// The run begins: the inputs are counted, on a thread of its own, as long JSONL files take a moment.
    pub(super) fn begin(self: &Arc<Self>, sources: &Arc<Sources>) {
        let total_bytes = sources.list.iter().map(|source| source.bytes).sum();
        {
            let mut state = self.state();
            (state.started, state.last_told) = (Instant::now(), Instant::now());
            state.recent = VecDeque::from([(state.started, 0)]);
            state.total_bytes = total_bytes;
            self.show(&state);
        }
        if sources.left_out > 0 {
            self.note(&format!(
                "{} files with other endings were left out; --include '*' takes all",
                sources.left_out
            ));
        }
        let (progress, sources) = (self.clone(), sources.clone());
        std::thread::spawn(move || {
            let total = sources.list.iter().map(|source| source.count()).sum();
            let mut state = progress.state();
            state.total_items = total;
            progress.show(&state);
        });
    }

    /// An item is through.
    pub(super) fn done(&self, done: &Done) {
        let counts = Counts::of(&done.outcome);
        let mut state = self.state();
        state.add(done, &counts);
        match (&self.bars, self.style) {
            (Some(bars), _) => bars.show(&state),
            (None, Style::Json) => {
                let (outcome, error) = match &done.outcome {
                    Outcome::Failed(failure) => ("failed", Some(&failure.message)),
                    Outcome::Digest(digest) if writer::failed_sections(digest) > 0 => ("partial", None),
                    Outcome::Digest(_) => ("done", None),
                };
                tell(&json!({
                    "event": "item", "input": done.entry.name, "outcome": outcome, "error": error,
                    "kept": !done.fresh, "characters": counts.characters, "sections": counts.sections,
                    "findings": counts.findings, "completion_tokens": counts.completion_tokens,
                }));
                if state.is_due(JSON_EVERY) {
                    tell(&state.json("progress"));
                }
            }
            (None, Style::People) if state.is_due(LINE_EVERY) => {
                anstream::eprintln!("yizhai: {}; {}", state.pages(), state.text());
            }
            (None, _) => {}
        }
        drop(state);
        self.tell_failure(done);
    }

    fn tell_failure(&self, done: &Done) {
        let name = &done.entry.name;
        match &done.outcome {
            _ if self.style == Style::Json => {}
            // What cannot be read names itself.
            Outcome::Failed(failure)
                if failure.message.starts_with(name)
                    || failure.message.contains(&format!("cannot read {name}")) =>
            {
                self.error(&failure.message);
            }
            Outcome::Failed(failure) => self.error(&format!("{name}: {}", failure.message)),
            Outcome::Digest(digest) => {
                for section in &digest.sections {
                    if let Some(error) = &section.error {
                        let (article, section) = (section.article_index + 1, section.section_index + 1);
                        self.error(&format!(
                            "{name}: article {article}, section {section}: {}",
                            error.message
                        ));
                    }
                }
            }
        }
    }

    /// The run is over.
    pub(super) fn end(&self, tally: &Tally) {
        let state = self.state();
        if let Some(bars) = &self.bars {
            bars.pages.finish_and_clear();
            bars.characters.finish_and_clear();
        }
        match self.style {
            Style::Quiet => {}
            Style::Json => {
                let mut value = state.json("end");
                value["inputs"] = json!(tally);
                tell(&value);
            }
            Style::People => {
                let Tally { done, partial, failed, kept, left, broken_off, .. } = tally;
                let mut line = format!("{done} done, {partial} in part, {failed} failed");
                if *kept > 0 {
                    line += &format!(" ({kept} of them before this run)");
                }
                if *left > 0 || *broken_off {
                    line += &match *left {
                        0 => "; the run was broken off: the same command goes on with it".to_owned(),
                        left => format!("; {left} were never done and were left alone"),
                    };
                }
                anstream::eprintln!("yizhai: {line}; {}", state.sums());
            }
        }
    }

    /// Something worth knowing.
    pub(in crate::cli) fn note(&self, text: &str) {
        match self.style {
            Style::Quiet => {}
            Style::Json => tell(&json!({ "event": "note", "text": text })),
            Style::People => self.suspend(|| anstream::eprintln!("yizhai: {text}")),
        }
    }

    /// An error, quiet or not.
    pub(in crate::cli) fn error(&self, text: &str) {
        match self.style {
            Style::Json => tell(&json!({ "event": "error", "text": text })),
            Style::Quiet | Style::People => self.suspend(|| anstream::eprintln!("yizhai: {text}")),
        }
    }

    /// Runs what writes to the terminal without tearing the bars.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.multi.suspend(write),
            None => write(),
        }
    }

    fn show(&self, state: &State) {
        if let Some(bars) = &self.bars {
            bars.show(state);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(value: &serde_json::Value) {
    anstream::eprintln!("{value}");
}

impl State {
    fn add(&mut self, done: &Done, counts: &Counts) {
        self.items += 1;
        self.bytes += done.entry.bytes;
        self.characters += counts.characters;
        match &done.outcome {
            Outcome::Digest(_) => self.read_bytes += done.entry.bytes,
            Outcome::Failed(_) => self.failed += 1,
        }
        if !done.fresh {
            return;
        }
        self.fresh_characters += counts.characters;
        self.fresh_tokens += counts.completion_tokens;
        self.fresh_bytes += done.entry.bytes;
        let now = Instant::now();
        self.recent.push_back((now, self.fresh_bytes));
        while self.recent.len() > 2 && now - self.recent[0].0 > WINDOW {
            self.recent.pop_front();
        }
    }

    fn is_due(&mut self, every: Duration) -> bool {
        let due = self.last_told.elapsed() >= every;
        if due {
            self.last_told = Instant::now();
        }
        due
    }

    /// From the rate of the last minutes; `None` while that says nothing.
    fn seconds_left(&self) -> Option<f64> {
        let (since, bytes) = *self.recent.front()?;
        let (seconds, done) = (since.elapsed().as_secs_f64(), self.fresh_bytes - bytes);
        let left = self.total_bytes?.saturating_sub(self.bytes);
        let telling = self.started.elapsed() >= FIRST_GUESS.0 && self.recent.len() > FIRST_GUESS.1;
        (telling && done > 0).then(|| left as f64 * seconds / done as f64)
    }

    /// How many characters there will have been, if the rest is like what was read so far.
    fn expected_characters(&self) -> Option<u64> {
        let total = self.total_bytes?;
        if self.bytes >= total {
            return Some(self.characters);
        }
        let per_byte = self.characters as f64 / (self.read_bytes > 0).then_some(self.read_bytes as f64)?;
        Some(self.characters + (per_byte * (total - self.bytes) as f64) as u64)
    }

    fn rate(&self, amount: u64) -> f64 {
        amount as f64 / self.started.elapsed().as_secs_f64().max(1e-3)
    }

    fn pages(&self) -> String {
        let of = self.total_items.map(|total| format!(" of {}", grouped(total))).unwrap_or_default();
        let failed =
            if self.failed > 0 { format!(", {} failed", grouped(self.failed)) } else { String::new() };
        format!("{}{of} pages{failed}", grouped(self.items))
    }

    fn text(&self) -> String {
        let of = self.expected_characters().map(|total| format!(" of about {}", grouped(total)));
        let left = match self.seconds_left() {
            Some(seconds) => format!("about {} left", duration(seconds)),
            None => "time left not known yet".to_owned(),
        };
        format!(
            "{}{} characters, {:.0} a second, {:.1} tokens/s; {left}",
            grouped(self.characters),
            of.unwrap_or_default(),
            self.rate(self.fresh_characters),
            self.rate(self.fresh_tokens),
        )
    }

    fn sums(&self) -> String {
        format!(
            "{} characters and {} tokens in {}, {:.1} tokens/s",
            grouped(self.fresh_characters),
            grouped(self.fresh_tokens),
            duration(self.started.elapsed().as_secs_f64()),
            self.rate(self.fresh_tokens),
        )
    }

    fn json(&self, event: &str) -> serde_json::Value {
        json!({
            "event": event,
            "items": self.items,
            "failed": self.failed,
            "total_items": self.total_items,
            "bytes": self.bytes,
            "total_bytes": self.total_bytes,
            "characters": self.characters,
            "expected_characters": self.expected_characters(),
            "seconds": self.started.elapsed().as_secs_f64(),
            "characters_per_second": self.rate(self.fresh_characters),
            "tokens_per_second": self.rate(self.fresh_tokens),
            "seconds_left": self.seconds_left(),
        })
    }
}

impl Bars {
    fn new() -> Self {
        let multi = MultiProgress::new();
        let style = |template| {
            ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸─")
        };
        let pages =
            multi.add(ProgressBar::no_length().with_style(style("{elapsed_precise} [{wide_bar}] {msg}")));
        let characters = multi.add(ProgressBar::no_length().with_style(style("         [{wide_bar}] {msg}")));
        pages.enable_steady_tick(Duration::from_millis(500));
        Self { multi, pages, characters }
    }

    fn show(&self, state: &State) {
        if let Some(total) = state.total_items {
            self.pages.set_length(total);
        }
        self.pages.set_position(state.items);
        self.pages.set_message(state.pages());
        // A bar of no length is full.
        self.characters.set_length(state.expected_characters().unwrap_or(state.characters).max(1));
        self.characters.set_position(state.characters);
        self.characters.set_message(state.text());
    }
}

/// `1234567` as `1,234,567`.
pub(in crate::cli) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = {
        let first = digits.len() % 3;
        let (head, rest) = digits.split_at(first);
        let tail = rest.as_bytes().chunks(3).filter_map(|group| std::str::from_utf8(group).ok());
        (!head.is_empty()).then_some(head).into_iter().chain(tail).collect()
    };
    groups.join(",")
}

/// Seconds in the two largest units that say something.
pub(in crate::cli) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600.. => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([3.2, 75.0, 7384.0].map(duration), ["3 s", "1 min 15 s", "2 h 3 min"]);
    }
}
