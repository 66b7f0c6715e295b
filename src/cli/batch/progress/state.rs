//! The counts of a batch so far, and the estimates made from them.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::cli::{
    batch::{FinishedItem, ItemOutcome},
    output::{
        DigestCounts,
        units::{duration, grouped},
    },
};

/// The remaining time is estimated from the rate in this window.
const RATE_WINDOW: Duration = Duration::from_secs(300);
/// The remaining time is not estimated before this time has passed and more than this number of items is done.
const MIN_SAMPLE: (Duration, usize) = (Duration::from_secs(5), 3);

#[derive(Debug)]
pub(super) struct ProgressState {
    started: Instant,
    last_report: Instant,
    /// Number of items; `None` until they are counted, and if stdin is an input.
    pub(super) total_items: Option<u64>,
    /// Size of all inputs; `None` if stdin is one of them.
    pub(super) total_bytes: Option<u64>,
    items: u64,
    failed: u64,
    /// Size of the finished inputs.
    bytes: u64,
    /// Size of the finished inputs that did not fail, to which `characters` belong.
    bytes_with_characters: u64,
    characters: u64,
    /// The part of this run, without results from the store.
    new_bytes: u64,
    new_characters: u64,
    new_tokens: u64,
    /// `new_bytes` over time, within the rate window.
    recent: VecDeque<(Instant, u64)>,
}

impl ProgressState {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            last_report: now,
            total_items: None,
            total_bytes: None,
            items: 0,
            failed: 0,
            bytes: 0,
            bytes_with_characters: 0,
            characters: 0,
            new_bytes: 0,
            new_characters: 0,
            new_tokens: 0,
            recent: VecDeque::from([(now, 0)]),
        }
    }

    pub(super) fn items(&self) -> u64 {
        self.items
    }

    pub(super) fn characters(&self) -> u64 {
        self.characters
    }

    pub(super) fn add(&mut self, item: &FinishedItem, counts: &DigestCounts) {
        let bytes = item.header.bytes;
        self.items += 1;
        self.bytes += bytes;
        self.characters += counts.characters;
        match &item.outcome {
            ItemOutcome::Digest(_) => self.bytes_with_characters += bytes,
            ItemOutcome::Failed(_) => self.failed += 1,
        }
        if !item.is_new {
            return;
        }
        self.new_bytes += bytes;
        self.new_characters += counts.characters;
        self.new_tokens += counts.completion_tokens;
        let now = Instant::now();
        self.recent.push_back((now, self.new_bytes));
        while self.recent.len() > 2 && now - self.recent[0].0 > RATE_WINDOW {
            self.recent.pop_front();
        }
    }

    /// Returns `true` at most once per interval.
    pub(super) fn is_report_due(&mut self, interval: Duration) -> bool {
        let is_due = self.last_report.elapsed() >= interval;
        if is_due {
            self.last_report = Instant::now();
        }
        is_due
    }

    /// Estimates the remaining time from the recent rate. Returns `None` if there is too little to go by.
    fn seconds_left(&self) -> Option<f64> {
        let (since, bytes) = *self.recent.front()?;
        let (seconds, done) = (since.elapsed().as_secs_f64(), self.new_bytes - bytes);
        let left = self.total_bytes?.saturating_sub(self.bytes);
        let is_meaningful = self.started.elapsed() >= MIN_SAMPLE.0 && self.recent.len() > MIN_SAMPLE.1;
        (is_meaningful && done > 0).then(|| left as f64 * seconds / done as f64)
    }

    /// Estimates the characters of all inputs from their size.
    pub(super) fn expected_characters(&self) -> Option<u64> {
        let total = self.total_bytes?;
        if self.bytes >= total {
            return Some(self.characters);
        }
        let bytes = (self.bytes_with_characters > 0).then_some(self.bytes_with_characters as f64)?;
        let per_byte = self.characters as f64 / bytes;
        Some(self.characters + (per_byte * (total - self.bytes) as f64) as u64)
    }

    /// Returns the average of `amount` per second.
    fn rate(&self, amount: u64) -> f64 {
        amount as f64 / self.started.elapsed().as_secs_f64().max(1e-3)
    }

    pub(super) fn items_text(&self) -> String {
        let of = self.total_items.map(|total| format!(" of {}", grouped(total))).unwrap_or_default();
        let failed =
            if self.failed > 0 { format!(", {} failed", grouped(self.failed)) } else { String::new() };
        format!("{}{of} pages{failed}", grouped(self.items))
    }

    pub(super) fn characters_text(&self) -> String {
        let of = self.expected_characters().map(|total| format!(" of about {}", grouped(total)));
        let left = match self.seconds_left() {
            Some(seconds) => format!("about {} left", duration(seconds)),
            None => "estimating the time left".to_owned(),
        };
        format!(
            "{}{} characters, {:.0} characters/s, {:.1} tokens/s; {left}",
            grouped(self.characters),
            of.unwrap_or_default(),
            self.rate(self.new_characters),
            self.rate(self.new_tokens),
        )
    }

    pub(super) fn summary_text(&self) -> String {
        format!(
            "{} characters and {} tokens in {}, {:.1} tokens/s",
            grouped(self.new_characters),
            grouped(self.new_tokens),
            duration(self.started.elapsed().as_secs_f64()),
            self.rate(self.new_tokens),
        )
    }

    pub(super) fn json(&self, event: &str) -> serde_json::Value {
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
            "characters_per_second": self.rate(self.new_characters),
            "tokens_per_second": self.rate(self.new_tokens),
            "seconds_left": self.seconds_left(),
        })
    }
}
