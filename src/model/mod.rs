//! Models: a GGUF file becomes something that turns packed tokens into logits.
//!
//! Owns the [`Model`] trait, the packed [`Batch`] of one step, and the loading of weights
//! ([`gguf`]). Called by the engine's worker thread. Never schedules, never samples, never sees text.

pub mod gguf;
mod kv;
mod layers;
mod qwen2;

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

pub use gguf::GgufFile;
pub use kv::{KvCache, KvShape, SlotId};

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
    /// The file is sound but this build cannot run it.
    #[error("the model file {path} cannot be run here: {detail}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not supported.
        detail: String,
    },
    /// A device that this build or machine does not have.
    #[error("device {device} cannot be used: {detail}")]
    Device {
        /// What was asked for.
        device: String,
        /// Why not.
        detail: String,
    },
    /// A step failed.
    #[error("the model failed: {0}")]
    Compute(#[from] candle_core::Error),
}

/// One sequence's part of a step: `len` tokens that follow the `start` tokens already cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where its keys and values are kept.
    pub slot: SlotId,
    /// Position of its first token, which is the number of tokens cached before this step.
    pub start: usize,
    /// Number of its tokens in this step, at least 1.
    pub len: usize,
    /// Whether the logits after its last token are wanted.
    pub wants_logits: bool,
}

/// The packed tokens of several sequences for one step.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Token ids, segment after segment: `(total_tokens)`.
    pub tokens: Vec<u32>,
    /// The segments, in the order of their tokens; each slot at most once.
    pub segments: Vec<Segment>,
}

impl Batch {
    /// Appends the next tokens of one sequence.
    pub fn push(&mut self, slot: SlotId, start: usize, tokens: &[u32], wants_logits: bool) {
        self.tokens.extend_from_slice(tokens);
        self.segments.push(Segment { slot, start, len: tokens.len(), wants_logits });
    }

    /// Number of segments whose logits are wanted.
    pub fn logit_rows(&self) -> usize {
        self.segments.iter().filter(|s| s.wants_logits).count()
    }
}

/// A decoder model that advances several sequences in one step.
pub trait Model: Send {
    /// The shape of the keys and values that it caches.
    fn kv_shape(&self) -> KvShape;

    /// Number of token ids that it knows.
    fn vocab_size(&self) -> usize;

    /// The longest sequence that it was trained for, in tokens.
    fn context_length(&self) -> usize;

    /// Runs one step: reads the batch, appends its keys and values to `cache`, and returns the logits
    /// after the last token of every segment that wants them, `(logit_rows, vocab_size)` as f32, in
    /// the order of the segments.
    ///
    /// # Errors
    /// When a slot is too small, a token id is out of range, or the device fails.
    fn forward(&mut self, batch: &Batch, cache: &mut KvCache) -> Result<Tensor, ModelError>;
}

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device if this build and machine have one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this index.
    Cuda(usize),
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// When a CUDA device is asked for and this build or machine has none.
    pub fn open(self) -> Result<Device, ModelError> {
        let cuda = |index: usize| {
            if cfg!(feature = "cuda") {
                Device::new_cuda(index).map_err(|e| e.to_string())
            } else {
                Err("this build has no CUDA; build it with `--features cuda`".to_owned())
            }
        };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => Ok(cuda(0).unwrap_or(Device::Cpu)),
            Self::Cuda(index) => {
                cuda(index).map_err(|detail| ModelError::Device { device: self.to_string(), detail })
            }
        }
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            other => other
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("`{s}` is no device; use auto, cpu, cuda or cuda:N")),
        }
    }
}

/// Loads the model of a GGUF file onto a device, choosing the code by its architecture.
///
/// # Errors
/// When a tensor is missing or malformed, or the architecture is not known.
pub fn load(file: &GgufFile, device: &Device) -> Result<Box<dyn Model>, ModelError> {
    match file.architecture()? {
        "qwen2" => Ok(Box::new(qwen2::Qwen2::load(file, device)?)),
        other => Err(file.unsupported(format!("its architecture `{other}` is not known; known: qwen2"))),
    }
}

/// Opens and loads the model at `path`: the file, and the model made of it.
///
/// # Errors
/// As [`GgufFile::open`] and [`load`].
pub fn load_path(path: &Path, device: &Device) -> Result<(GgufFile, Box<dyn Model>), ModelError> {
    let file = GgufFile::open(path)?;
    let model = load(&file, device)?;
    Ok((file, model))
}
