//! The inference engine: decodes many prompts together on one model and streams their tokens back.
//!
//! ```text
//!   submit ──▶ bounded queue ──▶ worker thread, in every step: ───────────────────────────┐
//!                                  │  accept new prompts, drop cancelled and expired ones  │
//!                                  │  scheduler: which tokens of which sequences           │
//!                                  │  model.forward(packed tokens, KV cache)               │
//!                                  └─ sampler: one token per sequence ──▶ its receiver ◀───┘
//! ```
//!
//! One OS thread owns the model and the KV cache; callers hold an [`Engine`] and submit prompts. Dropping a
//! [`Generation`] cancels its sequence at the next step. The engine handles token ids, never text.
//!
//! An encoder-decoder has its own worker behind the same handle: its prompts are sources that are encoded once, and it
//! may decode them with beam search.

mod beam;
mod block_pool;
#[cfg(any(feature = "cuda", test))]
mod cuda;
mod draft;
mod handle;
mod metrics;
mod sampler;
mod scheduler;
mod worker;

use std::{sync::Arc, time::Instant};

pub use handle::{Engine, Generation, GenerationEvent, Health, StartError, SubmitError};
pub use metrics::EngineMetrics;

use crate::model::AdapterId;

/// The method of choosing the next token from the logits.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Sampling {
    /// The most likely completion: the most likely token at each step, or a beam search if the model's files ask for
    /// one.
    #[default]
    Greedy,
    /// Random sampling, reproducible per seed.
    Random {
        /// Divides the logits; above 0.
        temperature: f64,
        /// Keep the most likely tokens whose probabilities sum to this, in (0, 1].
        top_p: f64,
        /// Keep this many of the most likely tokens; `None` keeps all.
        top_k: Option<usize>,
        /// The seed of the random number generator.
        seed: u64,
    },
}

/// The priority class of a sequence: interactive sequences run before batch ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// A client is waiting for the result.
    #[default]
    Interactive,
    /// Part of a batch.
    Batch,
}

/// A position in the queue, assigned by [`Engine::next_order`]: prompts with a lower order start before those with a
/// higher one, regardless of when they are submitted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueOrder(pub(crate) u64);

/// The set of tokens that may be generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenMask(Vec<bool>);

impl TokenMask {
    /// Creates a mask with one entry per token id; ids beyond the end are not allowed.
    pub fn new(allowed: Vec<bool>) -> Self {
        Self(allowed)
    }

    /// Returns `true` if the token may be generated.
    pub fn allows(&self, id: usize) -> bool {
        self.0.get(id).copied().unwrap_or(false)
    }
}

/// A prompt for the model.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Token ids, at least one.
    pub tokens: Vec<u32>,
    /// Maximum number of tokens to generate, at least 1.
    pub max_new_tokens: usize,
    /// Tokens that end the completion; they are not part of it.
    pub stop_tokens: Vec<u32>,
    /// The method of choosing tokens.
    pub sampling: Sampling,
    /// The tokens that may be generated; `None` allows all.
    pub allowed: Option<Arc<TokenMask>>,
    /// The adapter to use, one of the engine's adapters.
    pub adapter: Option<AdapterId>,
    /// The priority class.
    pub priority: Priority,
    /// The position in the queue of its priority class.
    pub order: QueueOrder,
    /// The time after which the completion is no longer needed.
    pub deadline: Option<Instant>,
}

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model generated a stop token.
    Stop,
    /// The sequence reached its maximum number of new tokens.
    Length,
    /// The deadline passed.
    Deadline,
}

/// The capacity of an engine.
#[derive(Debug, Clone, Copy)]
pub struct EngineConfig {
    /// Maximum number of sequences decoded together.
    pub max_sequences: usize,
    /// Maximum number of tokens per step, over all sequences.
    pub max_step_tokens: usize,
    /// Steps with fewer tokens than this are filled up with drafted tokens; 0 disables drafting.
    pub max_draft_rows: usize,
    /// Capacity of the KV cache in tokens, over all sequences. `None` means 16,384 in main memory; on a device with its
    /// own memory, as many as fit into it and `max_sequences` can use.
    pub kv_tokens: Option<usize>,
    /// Maximum length of a sequence, prompt and completion together, in tokens.
    pub max_model_len: usize,
    /// Maximum number of queued prompts.
    pub queue_len: usize,
}

impl EngineConfig {
    /// The default capacity.
    pub const DEFAULT: Self = Self {
        max_sequences: 32,
        max_step_tokens: 512,
        max_draft_rows: 8,
        kv_tokens: None,
        max_model_len: 8_192,
        queue_len: 1_024,
    };
}

/// Capacity of the KV cache in main memory, in tokens.
const DEFAULT_KV_TOKENS: usize = 16_384;

impl EngineConfig {
    /// Returns the capacity of the KV cache on a device with memory for `available` tokens, if it reports that.
    fn kv_tokens_for(&self, available: Option<usize>) -> usize {
        let usable = self.max_sequences.saturating_mul(self.max_model_len);
        self.kv_tokens.unwrap_or(available.map_or(DEFAULT_KV_TOKENS, |available| available.min(usable)))
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self::DEFAULT
    }
}
