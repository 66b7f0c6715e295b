//! The engine: many prompts in, their tokens out, decoded together on one model.
//!
//! ```text
//!   submit ──▶ bounded queue ──▶ worker thread ── every step: ─────────────────────────┐
//!                                  │  take new prompts, drop cancelled and overdue ones │
//!                                  │  scheduler: which tokens of which sequences        │
//!                                  │  model.forward(packed tokens, KV cache)            │
//!                                  └─ sampler: one token a sequence ──▶ its receiver ◀──┘
//! ```
//!
//! One OS thread owns the model and the cache; everybody else holds an [`Engine`] and sends prompts.
//! Dropping a [`Generation`] cancels it at the next step. The engine sees token ids, never text.
//!
//! An encoder-decoder has a worker of its own behind the same handle: its prompts are sources, read once, and answers may
//! be looked for with several beams.

mod beam;
mod blocks;
#[cfg(any(feature = "cuda", test))]
mod cuda;
mod draft;
mod handle;
mod metrics;
mod sampler;
mod scheduler;
mod seq2seq;
mod thread;
mod worker;

use std::{sync::Arc, time::Instant};

pub use handle::{Engine, Generation, GenerationEvent, Health, StartError, SubmitError};
pub use metrics::EngineMetrics;
pub use scheduler::{Scheduler, SchedulerLimits, SequenceId, Work};

/// How the next token is chosen out of the logits.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Sampling {
    /// The most likely answer, as the model looks for it: the most likely token each time, or, where its files say so, a
    /// beam search.
    #[default]
    Greedy,
    /// A draw among the likely tokens, repeatable by its seed.
    Random {
        /// Divides the logits; above 0.
        temperature: f64,
        /// Keep the most likely tokens whose probabilities sum to this, in (0, 1].
        top_p: f64,
        /// Keep this many of the most likely tokens; `None` keeps all.
        top_k: Option<usize>,
        /// The seed of the draw.
        seed: u64,
    },
}

/// Who waits for a sequence: first come first served within a class, interactive before batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// Somebody is waiting for the answer.
    #[default]
    Interactive,
    /// One of many inputs of a batch.
    Batch,
}

/// A place in the order of work, handed out by [`Engine::turn`]: prompts of an earlier turn are begun before those of a
/// later one, whenever they come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(pub(crate) u64);

/// Which tokens may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenMask(Vec<bool>);

impl TokenMask {
    /// One entry a token id; ids beyond the end are not allowed.
    pub fn new(allowed: Vec<bool>) -> Self {
        Self(allowed)
    }

    /// Whether a token may be written.
    pub fn allows(&self, id: usize) -> bool {
        self.0.get(id).copied().unwrap_or(false)
    }
}

/// A prompt for the model.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// The token ids, at least one.
    pub tokens: Vec<u32>,
    /// The most tokens to write, at least 1.
    pub max_new_tokens: usize,
    /// Tokens that end the answer; they are not handed out.
    pub stop_tokens: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Which tokens may be written; `None` allows all.
    pub allowed: Option<Arc<TokenMask>>,
    /// Who waits.
    pub priority: Priority,
    /// When its work began, beside that of others of the same priority.
    pub turn: Turn,
    /// When the answer is worth nothing any more.
    pub deadline: Option<Instant>,
}

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model wrote a stop token.
    Stop,
    /// The limit of new tokens was reached.
    Length,
    /// The deadline passed.
    Deadline,
}

/// How much the engine takes on at once.
#[derive(Debug, Clone, Copy)]
pub struct EngineConfig {
    /// The most sequences that are decoded together.
    pub max_sequences: usize,
    /// The most tokens that one step reads, over all sequences.
    pub max_step_tokens: usize,
    /// While a step reads fewer tokens than this, guesses of what comes next are read along; 0 means never.
    pub max_draft_rows: usize,
    /// The most tokens that the KV cache holds, over all sequences; `None` means 16,384 in the machine's memory, and on a
    /// device with memory of its own as many as that has room for and `max_sequences` can fill.
    pub kv_tokens: Option<usize>,
    /// The longest sequence, prompt and answer, in tokens.
    pub max_model_len: usize,
    /// The most prompts that wait.
    pub queue_len: usize,
}

impl EngineConfig {
    /// What is taken on when nothing else is asked for.
    pub const DEFAULT: Self = Self {
        max_sequences: 32,
        max_step_tokens: 512,
        max_draft_rows: 8,
        kv_tokens: None,
        max_model_len: 8_192,
        queue_len: 1_024,
    };
}

/// Tokens of the KV cache where nobody says and nobody counts.
const DEFAULT_KV_TOKENS: usize = 16_384;

impl EngineConfig {
    /// The tokens that the KV cache holds on a device that has room for `room`, if it counts.
    fn kv_tokens_in(&self, room: Option<usize>) -> usize {
        let of_use = self.max_sequences.saturating_mul(self.max_model_len);
        self.kv_tokens.unwrap_or(room.map_or(DEFAULT_KV_TOKENS, |room| room.min(of_use)))
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self::DEFAULT
    }
}
