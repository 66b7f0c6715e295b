//! The sizes of a decoder, as the metadata of its file states them.
//!
//! Owns the checks that they make sense together; whether the tensors have them is found when these are read. Called by
//! the architectures.

use candle_core::Device;

use super::{
    GgufFile, ModelError,
    backend::{Rope, RopeStyle},
};

/// The elements of a head are a multiple of this, as the attention kernels want them.
const HEAD_STEP: usize = 16;

/// The sizes of a decoder. None is zero, and the product of any two can be computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Number of layers.
    pub(super) layers: usize,
    /// Features of a token between the layers.
    pub(super) hidden_size: usize,
    /// Features within the feed-forward part of a layer.
    pub(super) mlp_size: usize,
    /// Number of query heads; a multiple of the KV heads.
    pub(super) heads: usize,
    /// Number of key and value heads.
    pub(super) kv_heads: usize,
    /// Elements of a head.
    pub(super) head_dim: usize,
    /// Positions that the model was trained for.
    pub(super) context_length: usize,
    /// Number of token ids.
    pub(super) vocab_size: usize,
    /// What is added under the root of every norm.
    pub(super) epsilon: f32,
    /// The base of the rotary frequencies.
    pub(super) rope_base: f32,
}

impl Shape {
    /// Reads the sizes of a file.
    ///
    /// # Errors
    /// When one is missing, zero or absurd, or they do not fit together; the key is named.
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
                "metadata {} is {heads}, which does not divide an embedding of {hidden_size}",
                key("attention.head_count")
            )));
        }
        if size_or("attention.value_length", head_dim)? != head_dim {
            return Err(
                file.unsupported(format!("metadata {} is not the key's", key("attention.value_length")))
            );
        }
        if head_dim == 0 || !head_dim.is_multiple_of(HEAD_STEP) {
            return Err(
                file.unsupported(format!("it has heads of {head_dim} elements, no multiple of {HEAD_STEP}"))
            );
        }
        if size_or("rope.dimension_count", head_dim)? != head_dim {
            return Err(file
                .unsupported(format!("metadata {} is not the size of a head", key("rope.dimension_count"))));
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

    /// How positions are told: the base of the file, slowed down as its metadata or its tensor `rope_freqs.weight` say.
    ///
    /// # Errors
    /// When the file asks for a scaling that is not known, or has a wrong number of factors.
    pub(super) fn rope(&self, file: &GgufFile, style: RopeStyle) -> Result<Rope, ModelError> {
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
            return Err(file.corrupt(format!("tensor {FACTORS} has factors that are not above 0")));
        }
        Ok(Rope {
            style,
            head_dim: self.head_dim,
            base: self.rope_base,
            divisors,
            positions: self.context_length,
        })
    }

    /// Features of all query heads of a token.
    pub(super) fn query_size(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Features of all key heads of a token, and of all value heads.
    pub(super) fn kv_size(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
