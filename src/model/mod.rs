//! Models: turn packed tokens into logits.
//!
//! ```text
//! gguf (file) ──▶ decoder (one file per family) ──written over──▶ backend ─┬─ cpu: own kernels, x86-64
//!                                                                          └─ candle: CUDA, other CPUs
//! directory of safetensors ──▶ seq2seq (encoder-decoders, on candle)
//! ```
//!
//! Owns the [`Model`] trait, the packed [`Batch`] of one step, and the storage of the KV cache. Called by the engine's
//! worker thread; never schedules, samples or sees text.

mod adapter;
mod backend;
mod batch;
mod decoder;
mod error;
pub mod gguf;
mod kv;
mod options;
pub mod seq2seq;

use std::path::Path;

use candle_core::Tensor;

pub use adapter::{AdapterFile, AdapterId, AdapterInfo};
pub use batch::{Batch, Segment};
pub use decoder::load;
pub use error::ModelError;
pub use gguf::GgufFile;
pub use kv::{CudaKv, KvCache, KvShape};
pub use options::{BackendChoice, CpuFeatures, DeviceChoice, KvType, ModelOptions};

/// Number of tokens in a block of the KV cache.
pub const KV_BLOCK_TOKENS: usize = crate::kernels::KV_BLOCK_TOKENS;

/// A decoder model that advances several sequences in one step.
pub trait Model: Send {
    /// Returns the number of token ids.
    fn vocab_size(&self) -> usize;

    /// Returns the maximum length of a sequence, in tokens.
    fn max_positions(&self) -> usize;

    /// Returns the number of KV cache tokens that fit into the device's memory beside the weights and the activations
    /// of a step, or `None` if the cache is in main memory, which other programs share.
    ///
    /// # Errors
    /// If the device does not report its free memory.
    fn available_kv_tokens(&self) -> Result<Option<usize>, ModelError> {
        Ok(None)
    }

    /// Adds an adapter, which sequences can then use. The weights stay as they are.
    ///
    /// # Errors
    /// If the adapter was made for another architecture, or a tensor does not fit the model; the error names it.
    fn add_adapter(&mut self, adapter: &AdapterFile) -> Result<AdapterId, ModelError> {
        let detail = "the model does not support adapters".to_owned();
        Err(ModelError::Adapter { path: adapter.info().path.clone(), detail })
    }

    /// Returns the adapters in the order in which they were added.
    fn adapters(&self) -> &[AdapterInfo] {
        &[]
    }

    /// Creates an empty KV cache of `blocks` blocks.
    ///
    /// # Errors
    /// If the device has too little memory.
    fn new_cache(&self, blocks: usize) -> Result<KvCache, ModelError>;

    /// Runs one step: reads the batch, writes its keys and values to `cache`, and returns the requested logits,
    /// `(logit_rows, vocab_size)` as f32, in the order of the tokens, on the model's device.
    ///
    /// # Errors
    /// If blocks are missing, a token id or an adapter is unknown, or the device fails.
    fn forward(&mut self, batch: &Batch, cache: &mut KvCache) -> Result<Tensor, ModelError>;
}

/// Opens the file at `path` and loads its model.
///
/// # Errors
/// Those of [`GgufFile::open`] and [`load`].
pub fn load_path(path: &Path, options: &ModelOptions) -> Result<(GgufFile, Box<dyn Model>), ModelError> {
    let file = GgufFile::open(path)?;
    let model = load(&file, options)?;
    Ok((file, model))
}
