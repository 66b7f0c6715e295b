//! Qwen2 and Qwen2.5 (GGUF architecture `qwen2`): grouped-query attention with biases, SwiGLU, RMSNorm.
//!
//! Source of the architecture: the Qwen2 technical report (2024) and the tensor names of the GGUF
//! specification.

use candle_core::{DType, Device, Tensor};

use super::{
    Batch, GgufFile, KvCache, KvShape, Model, ModelError,
    backend::{Backend, Heads},
};

struct Layer<B: Backend> {
    attention_norm: B::Vector,
    query: B::Matrix,
    key: B::Matrix,
    value: B::Matrix,
    query_bias: B::Vector,
    key_bias: B::Vector,
    value_bias: B::Vector,
    attention_output: B::Matrix,
    mlp_norm: B::Vector,
    gate: B::Matrix,
    up: B::Matrix,
    down: B::Matrix,
}

/// A loaded Qwen2 model.
pub(super) struct Qwen2<B: Backend> {
    backend: B,
    embedding: B::Matrix,
    layers: Vec<Layer<B>>,
    output_norm: B::Vector,
    /// `None` when the embedding serves as the output layer.
    output: Option<B::Matrix>,
    rope: B::Rope,
    epsilon: f32,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab_size: usize,
}

impl<B: Backend> Qwen2<B> {
    /// Reads the weights.
    pub(super) fn load(file: &GgufFile, backend: B) -> Result<Self, ModelError> {
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
        let kv_size = kv_heads * head_dim;
        let vocab_size = file.vocab_size()?;
        let output = file
            .has_tensor("output.weight")
            .then(|| backend.matrix(file, "output.weight", vocab_size, hidden_size))
            .transpose()?;
        let layers = (0..layer_count)
            .map(|index| {
                let matrix = |name: &str, out, input| {
                    backend.matrix(file, &format!("blk.{index}.{name}.weight"), out, input)
                };
                let vector = |name: &str, len| backend.vector(file, &format!("blk.{index}.{name}"), len);
                Ok(Layer {
                    attention_norm: vector("attn_norm.weight", hidden_size)?,
                    query: matrix("attn_q", hidden_size, hidden_size)?,
                    key: matrix("attn_k", kv_size, hidden_size)?,
                    value: matrix("attn_v", kv_size, hidden_size)?,
                    query_bias: vector("attn_q.bias", hidden_size)?,
                    key_bias: vector("attn_k.bias", kv_size)?,
                    value_bias: vector("attn_v.bias", kv_size)?,
                    attention_output: matrix("attn_output", hidden_size, hidden_size)?,
                    mlp_norm: vector("ffn_norm.weight", hidden_size)?,
                    gate: matrix("ffn_gate", mlp_size, hidden_size)?,
                    up: matrix("ffn_up", mlp_size, hidden_size)?,
                    down: matrix("ffn_down", hidden_size, mlp_size)?,
                })
            })
            .collect::<Result<_, ModelError>>()?;
        Ok(Self {
            embedding: backend.matrix(file, "token_embd.weight", vocab_size, hidden_size)?,
            layers,
            output_norm: backend.vector(file, "output_norm.weight", hidden_size)?,
            output,
            rope: backend.rope(head_dim, rope_base, context_length)?,
            backend,
            epsilon,
            heads,
            kv_heads,
            head_dim,
            vocab_size,
        })
    }
}

impl<B: Backend> Model for Qwen2<B> {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn max_positions(&self) -> usize {
        self.backend.positions(&self.rope)
    }

    fn new_cache(&self, blocks: usize) -> Result<KvCache, ModelError> {
        let shape = KvShape { layers: self.layers.len(), kv_heads: self.kv_heads, head_dim: self.head_dim };
        let key_biases: Vec<_> = self.layers.iter().map(|layer| Some(&layer.key_bias)).collect();
        self.backend.cache(shape, blocks, &key_biases, &self.rope)
    }

    fn forward(&mut self, batch: &Batch, cache: &mut KvCache) -> Result<Tensor, ModelError> {
        batch.check()?;
        let b = &self.backend;
        let positions = batch.positions();
        let wanted = batch.rows_with_logits();
        let nothing_wanted = || Ok(Tensor::zeros((0, self.vocab_size), DType::F32, &Device::Cpu)?);
        let mut x = b.look_up(&self.embedding, &batch.tokens)?; // (total_tokens, hidden_size)
        // What the layer before has still to add to `x`.
        let mut rest: Option<B::Rows> = None;
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = match rest.take() {
                Some(rest) => b.add_rms_norm(&mut x, &rest, &layer.attention_norm, self.epsilon)?,
                None => b.rms_norm(&x, &layer.attention_norm, self.epsilon)?,
            };
            let [mut queries, mut keys, mut values] =
                b.project(&normed, [&layer.query, &layer.key, &layer.value])?;
            b.add_bias(&mut queries, &layer.query_bias)?;
            b.add_bias(&mut keys, &layer.key_bias)?;
            b.add_bias(&mut values, &layer.value_bias)?;
            b.rotate(&mut queries, &self.rope, &positions)?;
            b.rotate(&mut keys, &self.rope, &positions)?;
            let heads =
                Heads { layer: index, heads: self.heads, kv_heads: self.kv_heads, head_dim: self.head_dim };
            let mut attended = b.attend(heads, batch, cache, [&queries, &keys, &values])?;
            if index + 1 == self.layers.len() && wanted.len() < batch.tokens.len() {
                // Every key and value is written; what follows is of use for the wanted rows only.
                if wanted.is_empty() {
                    return nothing_wanted();
                }
                (x, attended) = (b.select(&x, &wanted)?, b.select(&attended, &wanted)?);
            }
            let [attended] = b.project(&attended, [&layer.attention_output])?;
            let normed = b.add_rms_norm(&mut x, &attended, &layer.mlp_norm, self.epsilon)?;
            let [gate, up] = b.project(&normed, [&layer.gate, &layer.up])?;
            let [down] = b.project(&b.silu_mul(gate, &up)?, [&layer.down])?;
            rest = Some(down);
        }
        let Some(rest) = rest.filter(|_| !wanted.is_empty()) else { return nothing_wanted() };
        let last = b.add_rms_norm(&mut x, &rest, &self.output_norm, self.epsilon)?;
        let [logits] = b.project(&last, [self.output.as_ref().unwrap_or(&self.embedding)])?;
        b.to_tensor(logits, self.vocab_size)
    }
}
