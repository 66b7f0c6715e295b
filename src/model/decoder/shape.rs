//! The dimensions of a decoder, read from the metadata of its file.
//!
//! Checks that they are consistent with each other; their consistency with the tensors is checked when those are read.
//! Called by [`super::load`] and the families.

use candle_core::Device;

use crate::model::{
    GgufFile, ModelError,
    backend::{RopeParameters, RopeStyle},
};

/// The attention kernels require the head size to be a multiple of this.
const HEAD_STEP: usize = 16;

/// The dimensions of a decoder. None is zero, and the product of any two does not overflow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Number of layers.
    pub(super) layers: usize,
    /// Width of the activations between the layers.
    pub(super) hidden_size: usize,
    /// Width of the activations inside an MLP.
    pub(super) mlp_size: usize,
    /// Number of query heads; a multiple of the KV heads.
    pub(super) heads: usize,
    /// Number of key and value heads.
    pub(super) kv_heads: usize,
    /// Head size.
    pub(super) head_dim: usize,
    /// Number of positions that the model was trained for.
    pub(super) context_length: usize,
    /// Number of token ids.
    pub(super) vocab_size: usize,
    /// Epsilon of every norm.
    pub(super) epsilon: f32,
    /// The base of the RoPE frequencies.
    pub(super) rope_base: f32,
}

impl Shape {
    /// Reads the dimensions from a file.
    ///
    /// # Errors
    /// If one is missing, zero or implausible, or they are inconsistent; the error names the key.
    pub(super) fn read(file: &GgufFile) -> Result<Self, ModelError> {
        let architecture = file.architecture()?;
        let key = |name: &str| format!("{architecture}.{name}");
        let size = |name: &str| file.size(&key(name));
        let size_or = |name: &str, default| if file.has(&key(name)) { size(name) } else { Ok(default) };
        let hidden_size = size("embedding_length")?;
        let heads = size("attention.head_count")?;
        let kv_heads = size_or("attention.head_count_kv", heads)?;
        let head_dim = size_or("attention.key_length", hidden_size / heads)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(file.corrupt(format!(
                "metadata {} is {kv_heads}, which does not divide the {heads} heads",
                key("attention.head_count_kv")
            )));
        }
        if !file.has(&key("attention.key_length")) && !hidden_size.is_multiple_of(heads) {
            return Err(file.corrupt(format!(
                "metadata {} is {heads}, which does not divide the embedding length {hidden_size}",
                key("attention.head_count")
            )));
        }
        if size_or("attention.value_length", head_dim)? != head_dim {
            return Err(file.unsupported(format!(
                "metadata {} differs from the key length",
                key("attention.value_length")
            )));
        }
        if head_dim == 0 || !head_dim.is_multiple_of(HEAD_STEP) {
            return Err(file
                .unsupported(format!("it has heads of {head_dim} elements, not a multiple of {HEAD_STEP}")));
        }
        if size_or("rope.dimension_count", head_dim)? != head_dim {
            return Err(file.unsupported(format!(
                "metadata {} differs from the head size",
                key("rope.dimension_count")
            )));
        }
        let rope_base = key("rope.freq_base");
        let shape = Self {
            layers: size("block_count")?,
            hidden_size,
            mlp_size: size("feed_forward_length")?,
            heads,
            kv_heads,
            head_dim,
            context_length: size("context_length")?,
            vocab_size: file.vocab_size()?,
            epsilon: file.f32(&key("attention.layer_norm_rms_epsilon"))?,
            rope_base: if file.has(&rope_base) { file.f32(&rope_base)? } else { 10_000.0 },
        };
        Ok(shape)
    }

    /// Returns the rotary position embedding, scaled as the metadata or the tensor `rope_freqs.weight` specify.
    ///
    /// # Errors
    /// If the file specifies an unsupported scaling, or the wrong number of factors.
    pub(super) fn rope(&self, file: &GgufFile, style: RopeStyle) -> Result<RopeParameters, ModelError> {
        const FACTORS: &str = "rope_freqs.weight";
        let architecture = file.architecture()?;
        let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
        let pairs = self.head_dim / 2;
        let scaling = if file.has(&key("type")) { file.string(&key("type"))? } else { "none" };
        let divisors = match scaling {
            "none" if file.has_tensor(FACTORS) => file.tensor(FACTORS, &[pairs], &Device::Cpu)?.to_vec1()?,
            "none" => Vec::new(),
            "linear" => vec![file.f32(&key("factor"))?; pairs],
            other => return Err(file.unsupported(format!("metadata {} is `{other}`", key("type")))),
        };
        if divisors.iter().any(|divisor| !(divisor.is_finite() && *divisor > 0.0)) {
            return Err(file.corrupt(format!("tensor {FACTORS} has factors that are not positive")));
        }
        Ok(RopeParameters {
            style,
            head_dim: self.head_dim,
            base: self.rope_base,
            divisors,
            positions: self.context_length,
        })
    }

    /// Returns the width of all query heads together.
    pub(super) fn query_size(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Returns the width of all key heads together, which is that of all value heads.
    pub(super) fn kv_size(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
