//! The decoder that all families share: a stack of layers, each attention and then a gated MLP, each with a norm before
//! it and added to what came before.
//!
//! Owns the weights and the order of a step. What a family does in its own way stands in its [`Family`], written by the
//! file that has its name; the operations are those of a [`Backend`].

use candle_core::{DType, Device, Tensor};

use super::{
    Batch, GgufFile, KvCache, KvShape, Model, ModelError,
    backend::{Backend, Heads, Rope},
    shape::Shape,
};

/// In what a family differs from the others.
pub(super) struct Family {
    /// Queries, keys and values have biases.
    pub(super) biases: bool,
    /// Every head of the queries and keys is normed before it is rotated.
    pub(super) head_norms: bool,
    /// What attention and MLP give is normed once more before it is added.
    pub(super) output_norms: bool,
    /// What the gate of the MLP goes through.
    pub(super) activation: Activation,
    /// What the embeddings are multiplied with.
    pub(super) embedding_scale: Option<f32>,
    /// Scores are divided by the root of this; the elements of a head, mostly.
    pub(super) score_divisor: usize,
    /// How positions are told.
    pub(super) rope: Rope,
    /// Layers that see the last tokens only.
    pub(super) local: Option<Local>,
}

/// What the gate of an MLP goes through.
#[derive(Debug, Clone, Copy)]
pub(super) enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh form of GELU.
    Gelu,
}

/// Layers that see the last tokens only, between layers that see all.
pub(super) struct Local {
    /// How positions are told in them.
    pub(super) rope: Rope,
    /// The tokens that one sees, itself among them.
    pub(super) window: usize,
    /// Every so manieth layer sees all.
    pub(super) global_every: usize,
}

struct Layer<B: Backend> {
    attention_norm: B::Vector,
    attention: Attention<B>,
    /// Of what attention gives.
    attention_output_norm: Option<B::Vector>,
    mlp_norm: B::Vector,
    gate: B::Matrix,
    up: B::Matrix,
    down: B::Matrix,
    /// Of what the MLP gives.
    mlp_output_norm: Option<B::Vector>,
}

struct Attention<B: Backend> {
    query: B::Matrix,
    key: B::Matrix,
    value: B::Matrix,
    biases: Option<Biases<B>>,
    head_norms: Option<HeadNorms<B>>,
    output: B::Matrix,
    is_local: bool,
    heads: Heads,
}

struct Biases<B: Backend> {
    query: B::Vector,
    key: B::Vector,
    value: B::Vector,
}

struct HeadNorms<B: Backend> {
    query: B::Vector,
    key: B::Vector,
}

/// A loaded model.
pub(super) struct Decoder<B: Backend> {
    backend: B,
    embedding: B::Matrix,
    embedding_scale: Option<f32>,
    layers: Vec<Layer<B>>,
    activation: Activation,
    output_norm: B::Vector,
    /// `None` when the embedding serves as the output layer.
    output: Option<B::Matrix>,
    rope: B::Rope,
    /// Of the local layers.
    local_rope: Option<B::Rope>,
    shape: Shape,
}

impl<B: Backend> Decoder<B> {
    /// Reads the weights of a file of the given family.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape; it is named.
    pub(super) fn load(
        file: &GgufFile,
        backend: B,
        shape: Shape,
        family: &Family,
    ) -> Result<Self, ModelError> {
        let Shape { hidden_size, vocab_size, .. } = shape;
        let output = file
            .has_tensor("output.weight")
            .then(|| backend.matrix(file, "output.weight", vocab_size, hidden_size))
            .transpose()?;
        let layers = (0..shape.layers)
            .map(|index| Layer::load(&Weights { file, backend: &backend, index }, &shape, family))
            .collect::<Result<_, ModelError>>()?;
        Ok(Self {
            embedding: backend.matrix(file, "token_embd.weight", vocab_size, hidden_size)?,
            embedding_scale: family.embedding_scale,
            layers,
            activation: family.activation,
            output_norm: backend.vector(file, "output_norm.weight", hidden_size)?,
            output,
            rope: backend.rope(&family.rope)?,
            local_rope: family.local.as_ref().map(|local| backend.rope(&local.rope)).transpose()?,
            backend,
            shape,
        })
    }

    /// What is cached for each token.
    fn kv_shape(&self) -> KvShape {
        let Shape { kv_heads, head_dim, .. } = self.shape;
        KvShape { layers: self.layers.len(), kv_heads, head_dim }
    }

    /// The layers' rotation: of the local ones their own.
    fn rope(&self, is_local: bool) -> &B::Rope {
        self.local_rope.as_ref().filter(|_| is_local).unwrap_or(&self.rope)
    }
}

/// The weights of one layer in a file.
struct Weights<'a, B> {
    file: &'a GgufFile,
    backend: &'a B,
    index: usize,
}

impl<B: Backend> Weights<'_, B> {
    fn matrix(&self, name: &str, out: usize, input: usize) -> Result<B::Matrix, ModelError> {
        self.backend.matrix(self.file, &format!("blk.{}.{name}.weight", self.index), out, input)
    }

    fn vector(&self, name: &str, len: usize) -> Result<B::Vector, ModelError> {
        self.backend.vector(self.file, &format!("blk.{}.{name}", self.index), len)
    }
}

impl<B: Backend> Layer<B> {
    fn load(weights: &Weights<'_, B>, shape: &Shape, family: &Family) -> Result<Self, ModelError> {
        let Shape { hidden_size, mlp_size, .. } = *shape;
        let output_norm =
            |name: &str| family.output_norms.then(|| weights.vector(name, hidden_size)).transpose();
        Ok(Self {
            attention_norm: weights.vector("attn_norm.weight", hidden_size)?,
            attention: Attention::load(weights, shape, family)?,
            attention_output_norm: output_norm("post_attention_norm.weight")?,
            mlp_norm: weights.vector("ffn_norm.weight", hidden_size)?,
            gate: weights.matrix("ffn_gate", mlp_size, hidden_size)?,
            up: weights.matrix("ffn_up", mlp_size, hidden_size)?,
            down: weights.matrix("ffn_down", hidden_size, mlp_size)?,
            mlp_output_norm: output_norm("post_ffw_norm.weight")?,
        })
    }
}

impl<B: Backend> Attention<B> {
    fn load(weights: &Weights<'_, B>, shape: &Shape, family: &Family) -> Result<Self, ModelError> {
        let Shape { hidden_size, heads, kv_heads, head_dim, .. } = *shape;
        let (query_size, kv_size) = (shape.query_size(), shape.kv_size());
        let local =
            family.local.as_ref().filter(|local| !(weights.index + 1).is_multiple_of(local.global_every));
        let biases = || {
            Ok::<_, ModelError>(Biases {
                query: weights.vector("attn_q.bias", query_size)?,
                key: weights.vector("attn_k.bias", kv_size)?,
                value: weights.vector("attn_v.bias", kv_size)?,
            })
        };
        let head_norms = || {
            Ok::<_, ModelError>(HeadNorms {
                query: weights.vector("attn_q_norm.weight", head_dim)?,
                key: weights.vector("attn_k_norm.weight", head_dim)?,
            })
        };
        Ok(Self {
            query: weights.matrix("attn_q", query_size, hidden_size)?,
            key: weights.matrix("attn_k", kv_size, hidden_size)?,
            value: weights.matrix("attn_v", kv_size, hidden_size)?,
            biases: family.biases.then(biases).transpose()?,
            head_norms: family.head_norms.then(head_norms).transpose()?,
            output: weights.matrix("attn_output", hidden_size, query_size)?,
            is_local: local.is_some(),
            heads: Heads {
                layer: weights.index,
                heads,
                kv_heads,
                head_dim,
                score_divisor: family.score_divisor,
                window: local.map(|local| local.window),
            },
        })
    }

    /// What every token of the step gathers from its sequence, `(total_tokens, query_size)`; `x` is normed.
    fn attend(
        &self,
        b: &B,
        (rope, epsilon): (&B::Rope, f32),
        x: &B::Rows,
        (batch, step): (&Batch, &B::Step),
        cache: &mut KvCache,
    ) -> Result<B::Rows, ModelError> {
        let [mut queries, mut keys, mut values] = b.project(x, [&self.query, &self.key, &self.value])?;
        if let Some(biases) = &self.biases {
            b.add_bias(&mut queries, &biases.query)?;
            b.add_bias(&mut keys, &biases.key)?;
            b.add_bias(&mut values, &biases.value)?;
        }
        if let Some(norms) = &self.head_norms {
            queries = b.rms_norm(&queries, &norms.query, epsilon)?;
            keys = b.rms_norm(&keys, &norms.key, epsilon)?;
        }
        b.rotate(&mut queries, rope, step)?;
        b.rotate(&mut keys, rope, step)?;
        b.attend(self.heads, batch, step, cache, [&queries, &keys, &values])
    }
}

impl<B: Backend> Model for Decoder<B> {
    fn vocab_size(&self) -> usize {
        self.shape.vocab_size
    }

    fn max_positions(&self) -> usize {
        self.backend.positions(&self.rope)
    }

    fn kv_room(&self) -> Result<Option<usize>, ModelError> {
        self.backend.kv_room(self.kv_shape())
    }

    fn new_cache(&self, blocks: usize) -> Result<KvCache, ModelError> {
        let biases = self.layers.iter().map(|layer| layer.attention.biases.as_ref());
        let key_biases: Vec<_> = biases.map(|biases| biases.map(|biases| &biases.key)).collect();
        self.backend.cache(self.kv_shape(), blocks, &key_biases, &self.rope)
    }

    fn forward(&mut self, batch: &Batch, cache: &mut KvCache) -> Result<Tensor, ModelError> {
        batch.check()?;
        let b = &self.backend;
        let Shape { epsilon, vocab_size, .. } = self.shape;
        let wanted = batch.rows_with_logits();
        let nothing_wanted = || Ok(Tensor::zeros((0, vocab_size), DType::F32, &Device::Cpu)?);
        let step = b.step(self.layers[0].attention.heads, batch)?;
        let mut x = b.look_up(&self.embedding, &batch.tokens)?; // (total_tokens, hidden_size)
        if let Some(scale) = self.embedding_scale {
            b.scale(&mut x, scale)?;
        }
        let renormed = |x: B::Rows, norm: &Option<B::Vector>| match norm {
            Some(norm) => b.rms_norm(&x, norm, epsilon),
            None => Ok(x),
        };
        // What the layer before has still to add to `x`.
        let mut rest: Option<B::Rows> = None;
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = match rest.take() {
                Some(rest) => b.add_rms_norm(&mut x, &rest, &layer.attention_norm, epsilon)?,
                None => b.rms_norm(&x, &layer.attention_norm, epsilon)?,
            };
            let attention = &layer.attention;
            let rope = self.rope(attention.is_local);
            let mut attended = attention.attend(b, (rope, epsilon), &normed, (batch, &step), cache)?;
            if index + 1 == self.layers.len() && wanted.len() < batch.tokens.len() {
                // Every key and value is written; what follows is of use for the wanted rows only.
                if wanted.is_empty() {
                    return nothing_wanted();
                }
                (x, attended) = (b.select(&x, &wanted)?, b.select(&attended, &wanted)?);
            }
            let [attended] = b.project(&attended, [&attention.output])?;
            let attended = renormed(attended, &layer.attention_output_norm)?;
            let normed = b.add_rms_norm(&mut x, &attended, &layer.mlp_norm, epsilon)?;
            let [gate, up] = b.project(&normed, [&layer.gate, &layer.up])?;
            let gated = match self.activation {
                Activation::Silu => b.silu_mul(gate, &up)?,
                Activation::Gelu => b.gelu_mul(gate, &up)?,
            };
            let [down] = b.project(&gated, [&layer.down])?;
            rest = Some(renormed(down, &layer.mlp_output_norm)?);
        }
        let Some(rest) = rest.filter(|_| !wanted.is_empty()) else { return nothing_wanted() };
        let last = b.add_rms_norm(&mut x, &rest, &self.output_norm, epsilon)?;
        let [logits] = b.project(&last, [self.output.as_ref().unwrap_or(&self.embedding)])?;
        b.to_tensor(logits, vocab_size)
    }
}
