//! Qwen2 and Qwen2.5 (GGUF architecture `qwen2`): grouped-query attention with biases, SwiGLU, RMSNorm.
//!
//! Source of the architecture: the Qwen2 technical report (2024) and the tensor names of the GGUF
//! specification.

use candle_core::{DType, Device, Tensor};

use super::{
    Batch, GgufFile, KvCache, KvShape, Model, ModelError,
    layers::{AttentionShape, Embedding, Linear, RmsNorm, Rotary, attend},
};

struct Layer {
    attention_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    mlp_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// A loaded Qwen2 model.
pub(super) struct Qwen2 {
    embedding: Embedding,
    layers: Vec<Layer>,
    output_norm: RmsNorm,
    output: Linear,
    rotary: Rotary,
    attention: AttentionShape,
    vocab_size: usize,
    context_length: usize,
    device: Device,
}

impl Qwen2 {
    /// Reads the weights.
    pub(super) fn load(file: &GgufFile, device: &Device) -> Result<Self, ModelError> {
        let hidden_size = file.usize("qwen2.embedding_length")?;
        let mlp_size = file.usize("qwen2.feed_forward_length")?;
        let layer_count = file.usize("qwen2.block_count")?;
        let heads = file.usize("qwen2.attention.head_count")?;
        let kv_heads = file.usize("qwen2.attention.head_count_kv")?;
        let context_length = file.usize("qwen2.context_length")?;
        let epsilon = file.f32("qwen2.attention.layer_norm_rms_epsilon")?;
        let rope_base = file.f32("qwen2.rope.freq_base").unwrap_or(10_000.0);
        if heads == 0
            || kv_heads == 0
            || !heads.is_multiple_of(kv_heads)
            || !hidden_size.is_multiple_of(heads)
        {
            return Err(file.corrupt(format!(
                "{heads} heads over {kv_heads} KV heads do not divide an embedding of {hidden_size}"
            )));
        }
        let head_dim = hidden_size / heads;
        let vocab_size = file.vocab_size()?;
        let embedding = Embedding::load(file, "token_embd", vocab_size, hidden_size, device)?;
        let output = if file.has_tensor("output.weight") {
            Linear::load(file, "output", hidden_size, vocab_size, device)?
        } else {
            embedding.tied_output()?
        };
        let layers = (0..layer_count)
            .map(|index| {
                let linear = |name: &str, from, to| {
                    Linear::load(file, &format!("blk.{index}.{name}"), from, to, device)
                };
                let norm = |name: &str| {
                    RmsNorm::load(file, &format!("blk.{index}.{name}"), hidden_size, epsilon, device)
                };
                Ok(Layer {
                    attention_norm: norm("attn_norm")?,
                    query: linear("attn_q", hidden_size, hidden_size)?,
                    key: linear("attn_k", hidden_size, kv_heads * head_dim)?,
                    value: linear("attn_v", hidden_size, kv_heads * head_dim)?,
                    attention_output: linear("attn_output", hidden_size, hidden_size)?,
                    mlp_norm: norm("ffn_norm")?,
                    gate: linear("ffn_gate", hidden_size, mlp_size)?,
                    up: linear("ffn_up", hidden_size, mlp_size)?,
                    down: linear("ffn_down", mlp_size, hidden_size)?,
                })
            })
            .collect::<Result<_, ModelError>>()?;
        Ok(Self {
            embedding,
            layers,
            output_norm: RmsNorm::load(file, "output_norm", hidden_size, epsilon, device)?,
            output,
            rotary: Rotary::new(head_dim, rope_base, context_length, device)?,
            attention: AttentionShape { heads, kv_heads, head_dim },
            vocab_size,
            context_length,
            device: device.clone(),
        })
    }

    /// `(total_tokens, heads * head_dim)` to `(heads, total_tokens, head_dim)`.
    fn split_heads(&self, x: &Tensor, heads: usize) -> Result<Tensor, ModelError> {
        Ok(x.reshape(((), heads, self.attention.head_dim))?.transpose(0, 1)?)
    }
}

impl Model for Qwen2 {
    fn kv_shape(&self) -> KvShape {
        KvShape {
            layers: self.layers.len(),
            kv_heads: self.attention.kv_heads,
            head_dim: self.attention.head_dim,
        }
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context_length(&self) -> usize {
        self.context_length
    }

    fn forward(&mut self, batch: &Batch, cache: &mut KvCache) -> Result<Tensor, ModelError> {
        let ids = Tensor::new(batch.tokens.as_slice(), &self.device)?;
        let angles = self.rotary.angles(batch)?;
        let AttentionShape { heads, kv_heads, .. } = self.attention;
        let mut x = self.embedding.forward(&ids)?; // (total_tokens, hidden_size)
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = layer.attention_norm.forward(&x)?;
            let queries = angles.rotate(&self.split_heads(&layer.query.forward(&normed)?, heads)?)?;
            let keys = angles.rotate(&self.split_heads(&layer.key.forward(&normed)?, kv_heads)?)?;
            let values = self.split_heads(&layer.value.forward(&normed)?, kv_heads)?;
            let attended = attend(self.attention, index, batch, cache, &queries, &keys, &values)?;
            x = (x + layer.attention_output.forward(&attended)?)?;
            let normed = layer.mlp_norm.forward(&x)?;
            let gated =
                (candle_nn::ops::silu(&layer.gate.forward(&normed)?)? * layer.up.forward(&normed)?)?;
            x = (x + layer.down.forward(&gated)?)?;
        }
        let mut end = 0;
        let mut rows = Vec::with_capacity(batch.segments.len());
        for segment in &batch.segments {
            end += segment.len;
            if segment.wants_logits {
                rows.push(end as u32 - 1);
            }
        }
        if rows.is_empty() {
            return Ok(Tensor::zeros((0, self.vocab_size), DType::F32, &self.device)?);
        }
        let last = x.index_select(&Tensor::new(rows, &self.device)?, 0)?;
        self.output.forward(&self.output_norm.forward(&last)?)
    }
}
