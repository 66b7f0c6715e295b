//! Models: a GGUF file becomes something that turns packed tokens into logits; a directory of safetensors becomes an
//! encoder-decoder ([`seq2seq`]).
//!
//! ```text
//! gguf (the file) ──▶ qwen2, qwen3, llama, gemma3 ──▶ decoder ──written over──▶ backend ─┬─ cpu: kernels, x86-64
//!                     (what a family is like)                                          └─ candle: CUDA, other CPUs
//! ```
//!
//! Owns the [`Model`] trait, the packed [`Batch`] of one step, and the KV cache's storage. Called by the
//! engine's worker thread. Never schedules, never samples, never sees text.

mod backend;
mod decoder;
mod gemma3;
pub mod gguf;
mod kv;
mod llama;
mod options;
mod qwen2;
mod qwen3;
pub mod seq2seq;
mod shape;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::Tensor;
use decoder::Decoder;

pub use gguf::GgufFile;
pub use kv::{CudaKv, KvCache, KvShape};
pub use options::{BackendChoice, CpuFeatures, DeviceChoice, KvType, ModelOptions};

/// Tokens of a block of the KV cache.
pub const KV_BLOCK_TOKENS: usize = crate::kernels::KV_BLOCK_TOKENS;

/// What can go wrong while a model is loaded or run. Every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file could not be opened or mapped.
    #[error("cannot read the model file {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is no GGUF, or is cut short, or lacks a tensor.
    #[error(
        "the model file {path} is corrupt or no GGUF ({detail}); pull it again with `yizhai models pull`, \
         or check it with `yizhai models verify`"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was wrong, naming the key or tensor.
        detail: String,
    },
    /// The directory of an encoder-decoder model cannot be used.
    #[error("the model directory {path} cannot be used: {detail}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What was wrong, naming the file and the setting or tensor.
        detail: String,
    },
    /// The file is sound but this build cannot run it.
    #[error("the model file {path} cannot be run here: {detail}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not supported.
        detail: String,
    },
    /// A device that this build or machine does not have.
    #[error("{name} cannot be used: {detail}")]
    Device {
        /// What was asked for.
        name: String,
        /// Why not.
        detail: String,
    },
    /// The KV cache cannot be made.
    #[error("the KV cache cannot be made: {0}")]
    Cache(#[from] crate::kernels::KernelError),
    /// A step failed.
    #[error("the model failed: {0}")]
    Compute(#[from] candle_core::Error),
}

impl ModelError {
    /// A step that was asked for something that cannot be.
    pub(crate) fn step(detail: impl Into<String>) -> Self {
        Self::Compute(candle_core::Error::msg(detail.into()))
    }
}

/// The first line of an error: candle appends backtraces to its messages.
fn one_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().trim().to_owned()
}

/// One sequence's part of a step: `len` tokens that follow the `start` tokens already cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its blocks of the KV cache: position `p` is kept in `blocks[p / KV_BLOCK_TOKENS]`.
    pub blocks: Arc<[u32]>,
    /// Position of its first token, which is the number of tokens cached before this step.
    pub start: usize,
    /// Number of its tokens in this step, at least 1.
    pub len: usize,
    /// The logits after how many of its last tokens are wanted, at most `len`.
    pub logits: usize,
}

/// The packed tokens of several sequences for one step.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Token ids, segment after segment: `(total_tokens)`.
    pub tokens: Vec<u32>,
    /// The segments, in the order of their tokens.
    pub segments: Vec<Segment>,
}

impl Batch {
    /// Appends the next tokens of one sequence; the logits after the last `logits` of them are wanted.
    pub fn push(&mut self, blocks: Arc<[u32]>, start: usize, tokens: &[u32], logits: usize) {
        self.tokens.extend_from_slice(tokens);
        self.segments.push(Segment { blocks, start, len: tokens.len(), logits });
    }

    /// Number of tokens after which logits are wanted.
    pub fn logit_rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.logits).sum()
    }

    /// The position of every token in its sequence: `(total_tokens)`.
    fn positions(&self) -> Vec<u32> {
        self.segments.iter().flat_map(|s| s.start as u32..(s.start + s.len) as u32).collect()
    }

    /// The rows of the tokens after which logits are wanted: `(logit_rows)`.
    fn rows_with_logits(&self) -> Vec<u32> {
        let mut end = 0;
        let rows = self.segments.iter().flat_map(|segment| {
            end += segment.len;
            (end - segment.logits) as u32..end as u32
        });
        rows.collect()
    }

    /// Refuses a segment whose tokens its blocks do not hold, or that wants logits of tokens it has not.
    fn check(&self) -> Result<(), ModelError> {
        for Segment { blocks, start, len, logits } in &self.segments {
            if logits > len {
                return Err(ModelError::step(format!("{logits} rows of logits are wanted of {len} tokens")));
            }
            let room = blocks.len() * KV_BLOCK_TOKENS;
            if start + len > room {
                return Err(ModelError::step(format!(
                    "{} tokens are to be kept in blocks for {room}",
                    start + len
                )));
            }
        }
        Ok(())
    }
}

/// A decoder model that advances several sequences in one step.
pub trait Model: Send {
    /// Number of token ids that it knows.
    fn vocab_size(&self) -> usize;

    /// The longest sequence that it can run, in tokens.
    fn max_positions(&self) -> usize;

    /// KV tokens that the device has room for, beside the weights and what a step needs; `None` where it is the
    /// machine's memory, which is others' as well.
    ///
    /// # Errors
    /// When the device does not tell.
    fn kv_room(&self) -> Result<Option<usize>, ModelError> {
        Ok(None)
    }

    /// An empty KV cache of `blocks` blocks for it.
    ///
    /// # Errors
    /// When the device has no room for it.
    fn new_cache(&self, blocks: usize) -> Result<KvCache, ModelError>;

    /// Runs one step: reads the batch, writes its keys and values into `cache`, and returns the logits
    /// that its segments want, `(logit_rows, vocab_size)` as f32, in the order of the tokens, on the model's device.
    ///
    /// # Errors
    /// When blocks are missing, a token id is out of range, or the device fails.
    fn forward(&mut self, batch: &Batch, cache: &mut KvCache) -> Result<Tensor, ModelError>;
}

/// Loads the model of a GGUF file, choosing the code by its architecture and the backend by the options.
///
/// # Errors
/// When a tensor is missing or malformed, the architecture is not known, or the device is not there.
pub fn load(file: &GgufFile, options: &ModelOptions) -> Result<Box<dyn Model>, ModelError> {
    use backend::{Candle, Cpu};
    let family = match file.architecture()? {
        "qwen2" => qwen2::family,
        "qwen3" => qwen3::family,
        "llama" => llama::family,
        "gemma3" => gemma3::family,
        other => {
            let detail =
                format!("its architecture `{other}` is not known; known: qwen2, qwen3, llama, gemma3");
            return Err(file.unsupported(detail));
        }
    };
    let shape = shape::Shape::read(file)?;
    let family = family(file, &shape)?;
    let (device, why) = options.device.resolve();
    tracing::info!(%device, why, "the model's device is chosen");
    Ok(match options.backend_on(device) {
        BackendChoice::Kernels => Box::new(Decoder::load(file, Cpu::new(options), shape, &family)?),
        BackendChoice::Candle => Box::new(Decoder::load(file, Candle::new(options)?, shape, &family)?),
    })
}

/// Opens and loads the model at `path`: the file, and the model made of it.
///
/// # Errors
/// As [`GgufFile::open`] and [`load`].
pub fn load_path(path: &Path, options: &ModelOptions) -> Result<(GgufFile, Box<dyn Model>), ModelError> {
    let file = GgufFile::open(path)?;
    let model = load(&file, options)?;
    Ok((file, model))
}
