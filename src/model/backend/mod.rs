//! What an architecture is written with: a handful of operations over packed rows.
//!
//! An architecture is written once, over [`Backend`]; [`Cpu`] runs it on the project's own kernels, and
//! [`Candle`] on candle's operations, on CPUs that the kernels do not know and, with the kernels of `cuda`, on GPUs.

mod candle;
mod cpu;
mod cuda;

use candle_core::Tensor;

pub(super) use candle::Candle;
pub(super) use cpu::Cpu;
pub use cuda::CudaKv;

pub(super) use crate::kernels::RopeStyle;

use super::{Batch, GgufFile, KvCache, KvShape, ModelError};

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    /// Index of the layer.
    pub(super) layer: usize,
    /// Number of query heads; a multiple of the KV heads.
    pub(super) heads: usize,
    /// Number of key and value heads.
    pub(super) kv_heads: usize,
    /// Size of a head.
    pub(super) head_dim: usize,
    /// Scores are divided by the root of this.
    pub(super) score_divisor: usize,
    /// How many tokens a token sees at most, itself and those before it; `None` for all.
    pub(super) window: Option<usize>,
}

/// A rotary embedding: at position `p`, pair `i` of a head is turned by `p / (base^(2i / head_dim) * divisors[i])`.
#[derive(Debug, Clone)]
pub(super) struct Rope {
    /// Which elements are a pair.
    pub(super) style: RopeStyle,
    /// Size of a head.
    pub(super) head_dim: usize,
    /// The base of the frequencies.
    pub(super) base: f32,
    /// What slows the pairs down, `(head_dim / 2)`; empty where nothing does.
    pub(super) divisors: Vec<f32>,
    /// Positions that the model was trained for.
    pub(super) positions: usize,
}

/// The operations. Activations are rows of f32, one a token: `(total_tokens, width)`.
pub(super) trait Backend: Send {
    /// Activations.
    type Rows;
    /// A quantized weight matrix, `(out_features, in_features)`.
    type Matrix: Send;
    /// A weight vector.
    type Vector: Send;
    /// The angles of a rotary embedding.
    type Rope: Send;
    /// What the operations want to know of a step beside its tokens, made once for all layers.
    type Step;

    /// Reads a matrix.
    fn matrix(
        &self,
        file: &GgufFile,
        name: &str,
        out: usize,
        input: usize,
    ) -> Result<Self::Matrix, ModelError>;

    /// Reads a vector.
    fn vector(&self, file: &GgufFile, name: &str, len: usize) -> Result<Self::Vector, ModelError>;

    /// Makes the angles, for no more positions than the options allow.
    fn rope(&self, rope: &Rope) -> Result<Self::Rope, ModelError>;

    /// Number of positions of a rope.
    fn positions(&self, rope: &Self::Rope) -> usize;

    /// KV tokens that the device has room for, beside the weights and what a step needs; `None` where nobody counts.
    fn kv_room(&self, shape: KvShape) -> Result<Option<usize>, ModelError>;

    /// An empty cache. `key_biases` are added to the keys of each layer before their rotation, if there are any.
    fn cache(
        &self,
        shape: KvShape,
        blocks: usize,
        key_biases: &[Option<&Self::Vector>],
        rope: &Self::Rope,
    ) -> Result<KvCache, ModelError>;

    /// Reads a batch for the layers, whose heads are alike.
    fn step(&self, heads: Heads, batch: &Batch) -> Result<Self::Step, ModelError>;

    /// The rows of an embedding: `(ids, in_features)`.
    fn look_up(&self, table: &Self::Matrix, ids: &[u32]) -> Result<Self::Rows, ModelError>;

    /// `x *= factor`.
    fn scale(&self, x: &mut Self::Rows, factor: f32) -> Result<(), ModelError>;

    /// `x / rms(x) * weight`. Where a row is several times as long as the weight, each part of it is normed by itself.
    fn rms_norm(&self, x: &Self::Rows, weight: &Self::Vector, epsilon: f32)
    -> Result<Self::Rows, ModelError>;

    /// `x += y`, then [`Self::rms_norm`] of the new `x`.
    fn add_rms_norm(
        &self,
        x: &mut Self::Rows,
        y: &Self::Rows,
        weight: &Self::Vector,
        epsilon: f32,
    ) -> Result<Self::Rows, ModelError>;

    /// `x Wᵀ` for several matrices at once.
    fn project<const N: usize>(
        &self,
        x: &Self::Rows,
        matrices: [&Self::Matrix; N],
    ) -> Result<[Self::Rows; N], ModelError>;

    /// Adds a vector to every row.
    fn add_bias(&self, x: &mut Self::Rows, bias: &Self::Vector) -> Result<(), ModelError>;

    /// Rotates the heads of every row by its position.
    fn rotate(&self, x: &mut Self::Rows, rope: &Self::Rope, step: &Self::Step) -> Result<(), ModelError>;

    /// Writes the keys and values into the cache and lets every token attend to its own sequence.
    fn attend(
        &self,
        heads: Heads,
        batch: &Batch,
        step: &Self::Step,
        cache: &mut KvCache,
        qkv: [&Self::Rows; 3],
    ) -> Result<Self::Rows, ModelError>;

    /// SwiGLU: `gate * sigmoid(gate) * up`.
    fn silu_mul(&self, gate: Self::Rows, up: &Self::Rows) -> Result<Self::Rows, ModelError>;

    /// GeGLU: `gelu(gate) * up`, GELU in its tanh form.
    fn gelu_mul(&self, gate: Self::Rows, up: &Self::Rows) -> Result<Self::Rows, ModelError>;

    /// Some of the rows.
    fn select(&self, x: &Self::Rows, rows: &[u32]) -> Result<Self::Rows, ModelError>;

    /// Rows as a tensor `(rows, width)`, to be handed out.
    fn to_tensor(&self, x: Self::Rows, width: usize) -> Result<Tensor, ModelError>;
}
