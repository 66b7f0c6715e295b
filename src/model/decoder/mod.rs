//! The decoder that all families share: a stack of layers, each with attention followed by a gated MLP, both with a
//! norm before them and a residual connection around them.
//!
//! Owns the weights and the order of a step. The differences between the families are described by a [`Family`],
//! created by the file named after it; the operations are those of a [`Backend`].

mod gemma3;
mod linear;
mod llama;
mod qwen2;
mod qwen3;
mod shape;

use candle_core::{DType, Device, Tensor};

use super::{
    AdapterFile, AdapterId, AdapterInfo, Batch, GgufFile, KvCache, KvShape, Model, ModelError, ModelOptions,
    backend::{Backend, Candle, Cpu, Heads, RopeParameters},
    options::BackendChoice,
};
use linear::{AdapterRows, Linear, project};
use shape::Shape;

/// The properties in which the families differ.
struct Family {
    /// Queries, keys and values have biases.
    has_biases: bool,
    /// Every head of the queries and keys is normalized before its rotation.
    has_head_norms: bool,
    /// The outputs of attention and MLP are normalized before they are added.
    has_output_norms: bool,
    /// The activation function of the MLP's gate.
    activation: GateActivation,
    /// Factor of the embeddings.
    embedding_scale: Option<f32>,
    /// Attention scores are divided by the square root of this; usually the head size.
    score_divisor: usize,
    /// The rotary position embedding.
    rope: RopeParameters,
    /// The layers with a sliding window, if there are any.
    local: Option<LocalLayers>,
}

/// The activation function of an MLP's gate.
#[derive(Debug, Clone, Copy)]
enum GateActivation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh approximation of GELU.
    Gelu,
}

/// Layers with a sliding window between layers with global attention.
struct LocalLayers {
    /// Their rotary position embedding.
    rope: RopeParameters,
    /// Number of tokens that a token attends to, including itself.
    window: usize,
    /// Every n-th layer uses global attention.
    global_every: usize,
}

struct DecoderLayer<B: Backend> {
    attention_norm: B::Vector,
    attention: AttentionWeights<B>,
    attention_output_norm: Option<B::Vector>,
    mlp_norm: B::Vector,
    gate: Linear<B>,
    up: Linear<B>,
    down: Linear<B>,
    mlp_output_norm: Option<B::Vector>,
}

struct AttentionWeights<B: Backend> {
    query: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
    biases: Option<Biases<B>>,
    head_norms: Option<HeadNorms<B>>,
    output: Linear<B>,
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

/// Loads the model of a GGUF file. The file's architecture selects the family, the options select the backend.
///
/// # Errors
/// If a tensor is missing or malformed, the architecture is not supported, or the device cannot be used.
pub fn load(file: &GgufFile, options: &ModelOptions) -> Result<Box<dyn Model>, ModelError> {
    let family = match file.architecture()? {
        "qwen2" => qwen2::family,
        "qwen3" => qwen3::family,
        "llama" => llama::family,
        "gemma3" => gemma3::family,
        other => {
            let detail = format!("unknown architecture `{other}`; supported: qwen2, qwen3, llama, gemma3");
            return Err(file.unsupported(detail));
        }
    };
    let shape = Shape::read(file)?;
    let family = family(file, &shape)?;
    let (device, reason) = options.device.resolve();
    tracing::info!(%device, reason, "selected the model's device");
    Ok(match options.backend_on(device) {
        BackendChoice::Kernels => Box::new(Decoder::load(file, Cpu::new(options), shape, &family)?),
        BackendChoice::Candle => Box::new(Decoder::load(file, Candle::new(options)?, shape, &family)?),
    })
}

/// A loaded model.
struct Decoder<B: Backend> {
    backend: B,
    embedding: B::Matrix,
    embedding_scale: Option<f32>,
    layers: Vec<DecoderLayer<B>>,
    activation: GateActivation,
    output_norm: B::Vector,
    /// `None` if the output layer is tied to the embedding.
    output: Option<Linear<B>>,
    rope: B::Rope,
    /// For the local layers.
    local_rope: Option<B::Rope>,
    shape: Shape,
    architecture: String,
    adapters: Vec<AdapterInfo>,
}

impl<B: Backend> Decoder<B> {
    /// Loads the weights of a file.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape; the error names it.
    fn load(file: &GgufFile, backend: B, shape: Shape, family: &Family) -> Result<Self, ModelError> {
        let Shape { hidden_size, vocab_size, .. } = shape;
        let output = file
            .has_tensor("output.weight")
            .then(|| Linear::load(&backend, file, "output.weight".to_owned(), (vocab_size, hidden_size)))
            .transpose()?;
        let layers = (0..shape.layers)
            .map(|index| DecoderLayer::load(&LayerReader { file, backend: &backend, index }, &shape, family))
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
            architecture: file.architecture()?.to_owned(),
            adapters: Vec::new(),
        })
    }

    /// Iterates over all matrices that adapters can update.
    fn linears(&self) -> impl Iterator<Item = &Linear<B>> {
        self.layers.iter().flat_map(DecoderLayer::linears).chain(&self.output)
    }

    fn kv_shape(&self) -> KvShape {
        let Shape { kv_heads, head_dim, .. } = self.shape;
        KvShape { layers: self.layers.len(), kv_heads, head_dim }
    }

    /// Returns the rotary position embedding of a local or global layer.
    fn rope(&self, is_local: bool) -> &B::Rope {
        self.local_rope.as_ref().filter(|_| is_local).unwrap_or(&self.rope)
    }
}

/// Reads the tensors of one layer from a file.
struct LayerReader<'a, B> {
    file: &'a GgufFile,
    backend: &'a B,
    index: usize,
}

impl<B: Backend> LayerReader<'_, B> {
    fn linear(&self, name: &str, out: usize, input: usize) -> Result<Linear<B>, ModelError> {
        Linear::load(self.backend, self.file, format!("blk.{}.{name}.weight", self.index), (out, input))
    }

    fn vector(&self, name: &str, len: usize) -> Result<B::Vector, ModelError> {
        self.backend.vector(self.file, &format!("blk.{}.{name}", self.index), len)
    }
}

impl<B: Backend> DecoderLayer<B> {
    fn linears(&self) -> [&Linear<B>; 7] {
        let AttentionWeights { query, key, value, output, .. } = &self.attention;
        [query, key, value, output, &self.gate, &self.up, &self.down]
    }

    fn linears_mut(&mut self) -> [&mut Linear<B>; 7] {
        let AttentionWeights { query, key, value, output, .. } = &mut self.attention;
        [query, key, value, output, &mut self.gate, &mut self.up, &mut self.down]
    }

    fn load(reader: &LayerReader<'_, B>, shape: &Shape, family: &Family) -> Result<Self, ModelError> {
        let Shape { hidden_size, mlp_size, .. } = *shape;
        let output_norm =
            |name: &str| family.has_output_norms.then(|| reader.vector(name, hidden_size)).transpose();
        Ok(Self {
            attention_norm: reader.vector("attn_norm.weight", hidden_size)?,
            attention: AttentionWeights::load(reader, shape, family)?,
            attention_output_norm: output_norm("post_attention_norm.weight")?,
            mlp_norm: reader.vector("ffn_norm.weight", hidden_size)?,
            gate: reader.linear("ffn_gate", mlp_size, hidden_size)?,
            up: reader.linear("ffn_up", mlp_size, hidden_size)?,
            down: reader.linear("ffn_down", hidden_size, mlp_size)?,
            mlp_output_norm: output_norm("post_ffw_norm.weight")?,
        })
    }
}

impl<B: Backend> AttentionWeights<B> {
    fn load(reader: &LayerReader<'_, B>, shape: &Shape, family: &Family) -> Result<Self, ModelError> {
        let Shape { hidden_size, heads, kv_heads, head_dim, .. } = *shape;
        let (query_size, kv_size) = (shape.query_size(), shape.kv_size());
        let local =
            family.local.as_ref().filter(|local| !(reader.index + 1).is_multiple_of(local.global_every));
        let biases = || {
            Ok::<_, ModelError>(Biases {
                query: reader.vector("attn_q.bias", query_size)?,
                key: reader.vector("attn_k.bias", kv_size)?,
                value: reader.vector("attn_v.bias", kv_size)?,
            })
        };
        let head_norms = || {
            Ok::<_, ModelError>(HeadNorms {
                query: reader.vector("attn_q_norm.weight", head_dim)?,
                key: reader.vector("attn_k_norm.weight", head_dim)?,
            })
        };
        Ok(Self {
            query: reader.linear("attn_q", query_size, hidden_size)?,
            key: reader.linear("attn_k", kv_size, hidden_size)?,
            value: reader.linear("attn_v", kv_size, hidden_size)?,
            biases: family.has_biases.then(biases).transpose()?,
            head_norms: family.has_head_norms.then(head_norms).transpose()?,
            output: reader.linear("attn_output", hidden_size, query_size)?,
            is_local: local.is_some(),
            heads: Heads {
                layer: reader.index,
                heads,
                kv_heads,
                head_dim,
                score_divisor: family.score_divisor,
                window: local.map(|local| local.window),
            },
        })
    }

    /// Computes attention up to the output projection for the normalized `x`: `(total_tokens, query_size)`.
    fn attend(
        &self,
        b: &B,
        (rope, epsilon): (&B::Rope, f32),
        (x, rows): (&B::Rows, &AdapterRows<B>),
        (batch, step): (&Batch, &B::Step),
        cache: &mut KvCache,
    ) -> Result<B::Rows, ModelError> {
        let [mut queries, mut keys, mut values] = project(b, x, [&self.query, &self.key, &self.value], rows)?;
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

    fn available_kv_tokens(&self) -> Result<Option<usize>, ModelError> {
        self.backend.available_kv_tokens(self.kv_shape())
    }

    fn add_adapter(&mut self, adapter: &AdapterFile) -> Result<AdapterId, ModelError> {
        adapter.check(&self.architecture, self.linears().map(Linear::description))?;
        let updates = self.linears().map(|linear| linear.load_update(&self.backend, adapter));
        let updates: Vec<_> = updates.collect::<Result<_, ModelError>>()?;
        let linears = self.layers.iter_mut().flat_map(DecoderLayer::linears_mut).chain(&mut self.output);
        for (linear, update) in linears.zip(updates) {
            linear.push_update(update);
        }
        let id = AdapterId::new(self.adapters.len());
        self.adapters.push(adapter.info().clone());
        Ok(id)
    }

    fn adapters(&self) -> &[AdapterInfo] {
        &self.adapters
    }

    fn new_cache(&self, blocks: usize) -> Result<KvCache, ModelError> {
        let biases = self.layers.iter().map(|layer| layer.attention.biases.as_ref());
        let key_biases: Vec<_> = biases.map(|biases| biases.map(|biases| &biases.key)).collect();
        self.backend.cache(self.kv_shape(), blocks, &key_biases, &self.rope)
    }

    fn forward(&mut self, batch: &Batch, cache: &mut KvCache) -> Result<Tensor, ModelError> {
        batch.check(self.adapters.len())?;
        let b = &self.backend;
        let Shape { epsilon, vocab_size, .. } = self.shape;
        let logit_rows = batch.rows_with_logits();
        let no_logits = || Ok(Tensor::zeros((0, vocab_size), DType::F32, &Device::Cpu)?);
        let step = b.step(self.layers[0].attention.heads, batch)?;
        let mut rows = AdapterRows::of_tokens(b, batch)?;
        let mut x = b.look_up(&self.embedding, &batch.tokens)?; // (total_tokens, hidden_size)
        if let Some(scale) = self.embedding_scale {
            b.scale(&mut x, scale)?;
        }
        let normalize = |x: B::Rows, norm: &Option<B::Vector>| match norm {
            Some(norm) => b.rms_norm(&x, norm, epsilon),
            None => Ok(x),
        };
        // The MLP output of the previous layer; adding it to `x` is fused with the next norm.
        let mut pending: Option<B::Rows> = None;
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = match pending.take() {
                Some(pending) => b.add_rms_norm(&mut x, &pending, &layer.attention_norm, epsilon)?,
                None => b.rms_norm(&x, &layer.attention_norm, epsilon)?,
            };
            let attention = &layer.attention;
            let rope = self.rope(attention.is_local);
            let mut attended =
                attention.attend(b, (rope, epsilon), (&normed, &rows), (batch, &step), cache)?;
            if index + 1 == self.layers.len() && logit_rows.len() < batch.tokens.len() {
                // All keys and values are stored; the rest of the step matters for rows with logits only.
                if logit_rows.is_empty() {
                    return no_logits();
                }
                (x, attended) = (b.select(&x, &logit_rows)?, b.select(&attended, &logit_rows)?);
                rows = AdapterRows::of_logits(b, batch)?;
            }
            let [attended] = project(b, &attended, [&attention.output], &rows)?;
            let attended = normalize(attended, &layer.attention_output_norm)?;
            let normed = b.add_rms_norm(&mut x, &attended, &layer.mlp_norm, epsilon)?;
            let [gate, up] = project(b, &normed, [&layer.gate, &layer.up], &rows)?;
            let gated = match self.activation {
                GateActivation::Silu => b.silu_mul(gate, &up)?,
                GateActivation::Gelu => b.gelu_mul(gate, &up)?,
            };
            let [down] = project(b, &gated, [&layer.down], &rows)?;
            pending = Some(normalize(down, &layer.mlp_output_norm)?);
        }
        let Some(pending) = pending.filter(|_| !logit_rows.is_empty()) else { return no_logits() };
        let last = b.add_rms_norm(&mut x, &pending, &self.output_norm, epsilon)?;
        let [logits] = match &self.output {
            Some(output) => project(b, &last, [output], &rows)?,
            None => b.project(&last, [&self.embedding], [&[]])?,
        };
        b.to_tensor(logits, vocab_size)
    }
}
