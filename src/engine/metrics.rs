//! The metrics of an engine.
//!
//! Created by [`super::Engine`], updated by the worker, registered by `server`. They belong to one engine: a new one
//! starts at zero, as scrapers expect after a restart.

use std::time::{Duration, Instant};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};

/// Histogram buckets for times from a millisecond to two minutes, in seconds.
const TIMES_S: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 120.0];
/// Histogram buckets for numbers of sequences.
const SEQUENCES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0];

/// The metrics of one engine. Cheap to clone; clones share their values.
#[derive(Debug, Clone)]
pub struct EngineMetrics {
    /// Running sequences.
    pub running: Gauge,
    /// Sequences waiting in the scheduler.
    pub waiting: Gauge,
    /// Reserved tokens of the KV cache.
    pub kv_tokens_reserved: Gauge,
    /// Capacity of the KV cache in tokens.
    pub kv_tokens_total: Gauge,
    /// Size of the KV cache in bytes.
    pub kv_bytes: Gauge,
    /// Prompt tokens processed by prefill.
    pub prompt_tokens: Counter,
    /// Prompt tokens taken from the prefix cache.
    pub cached_tokens: Counter,
    /// Generated tokens.
    pub completion_tokens: Counter,
    /// Sequences dropped because their receiver was closed or their deadline had passed.
    pub dropped: Counter,
    /// Seconds from the submission of a prompt to the start of its prefill.
    pub queue_time_s: Histogram,
    /// Seconds from the submission of a prompt to its first token.
    pub first_token_time_s: Histogram,
    /// Mean number of seconds between two tokens of a sequence.
    pub token_time_s: Histogram,
    /// Sequences per step.
    pub batch_size: Histogram,
    /// Seconds per step.
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

/// Measures the times of the tokens of one sequence.
#[derive(Debug, Default)]
pub(super) struct TokenClock {
    first: Option<Instant>,
    last: Option<Instant>,
    generated: u64,
}

impl TokenClock {
    /// Records a token of a sequence whose prompt was submitted at `submitted`.
    pub(super) fn record_token(&mut self, submitted: Instant, metrics: &EngineMetrics) {
        let now = Instant::now();
        if self.first.is_none() {
            self.first = Some(now);
            metrics.first_token_time_s.observe(now.duration_since(submitted).as_secs_f64());
        }
        self.last = Some(now);
        self.generated += 1;
        metrics.completion_tokens.inc();
    }

    /// Records the end of the sequence.
    pub(super) fn record_end(&self, metrics: &EngineMetrics) {
        if let (Some(first), Some(last), 2..) = (self.first, self.last, self.generated) {
            let elapsed: Duration = last.duration_since(first);
            metrics.token_time_s.observe(elapsed.as_secs_f64() / (self.generated - 1) as f64);
        }
    }
}
