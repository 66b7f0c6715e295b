//! What the engine counts of its own work, for whoever shows it.
//!
//! Made by [`super::Engine`], filled by the worker, registered by `server`. Counters of one engine: a new
//! engine begins at zero, which is what a scraper expects of a restart.

use std::time::{Duration, Instant};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};

/// Times from a millisecond to two minutes, in seconds.
const TIMES_S: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 120.0];
/// Numbers of sequences.
const SEQUENCES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0];

/// Counts of one engine; cheap to clone, all clones count together.
#[derive(Debug, Clone)]
pub struct EngineMetrics {
    /// Sequences that are being decoded.
    pub running: Gauge,
    /// Sequences that wait in the scheduler.
    pub waiting: Gauge,
    /// Tokens of the KV cache that are reserved.
    pub kv_tokens_reserved: Gauge,
    /// Tokens that the KV cache holds.
    pub kv_tokens_total: Gauge,
    /// Bytes that the KV cache takes.
    pub kv_bytes: Gauge,
    /// Tokens of prompts that were read.
    pub prompt_tokens: Counter,
    /// Tokens of prompts that a prompt before had in common, and that were not read again.
    pub cached_tokens: Counter,
    /// Tokens that were written.
    pub completion_tokens: Counter,
    /// Sequences that were given up: their reader had gone, or their deadline had passed.
    pub dropped: Counter,
    /// Seconds from the arrival of a prompt to the step that begins to read it.
    pub queue_time_s: Histogram,
    /// Seconds from the arrival of a prompt to its first token.
    pub first_token_time_s: Histogram,
    /// Seconds between the tokens of a sequence, the mean over each sequence.
    pub token_time_s: Histogram,
    /// Sequences in a step.
    pub batch_size: Histogram,
    /// Seconds that a step takes.
    pub step_time_s: Histogram,
}

impl Default for EngineMetrics {
    fn default() -> Self {
        Self {
            running: Gauge::default(),
            waiting: Gauge::default(),
            kv_tokens_reserved: Gauge::default(),
            kv_tokens_total: Gauge::default(),
            kv_bytes: Gauge::default(),
            prompt_tokens: Counter::default(),
            cached_tokens: Counter::default(),
            completion_tokens: Counter::default(),
            dropped: Counter::default(),
            queue_time_s: Histogram::new(TIMES_S),
            first_token_time_s: Histogram::new(TIMES_S),
            token_time_s: Histogram::new(TIMES_S),
            batch_size: Histogram::new(SEQUENCES),
            step_time_s: Histogram::new(TIMES_S),
        }
    }
}

/// When the tokens of one sequence came.
#[derive(Debug, Default)]
pub(super) struct TokenClock {
    first: Option<Instant>,
    last: Option<Instant>,
    written: u64,
}

impl TokenClock {
    /// Notes a token of a sequence whose prompt arrived at `submitted`.
    pub(super) fn token(&mut self, submitted: Instant, metrics: &EngineMetrics) {
        let now = Instant::now();
        if self.first.is_none() {
            self.first = Some(now);
            metrics.first_token_time_s.observe(now.duration_since(submitted).as_secs_f64());
        }
        self.last = Some(now);
        self.written += 1;
        metrics.completion_tokens.inc();
    }

    /// Notes the end of the sequence.
    pub(super) fn end(&self, metrics: &EngineMetrics) {
        if let (Some(first), Some(last), 2..) = (self.first, self.last, self.written) {
            let decoding: Duration = last.duration_since(first);
            metrics.token_time_s.observe(decoding.as_secs_f64() / (self.written - 1) as f64);
        }
    }
}
