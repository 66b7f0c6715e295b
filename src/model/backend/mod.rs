//! The operations over packed rows that the decoder is written with.
//!
//! The decoder is written once, over [`Backend`]. [`Cpu`] runs it on this project's kernels; [`Candle`] runs it on
//! candle's operations, on CPUs without such kernels and, with the kernels of `cuda`, on GPUs.

mod candle;
mod cpu;
mod cuda;

use candle_core::Tensor;

pub(super) use candle::Candle;
pub(super) use cpu::Cpu;
pub use cuda::CudaKv;

pub(super) use crate::kernels::RopeStyle;

use super::{Batch, GgufFile, KvCache, KvShape, ModelError, adapter::LowRankTensors};

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
    /// Attention scores are divided by the square root of this.
    pub(super) score_divisor: usize,
    /// Maximum number of tokens that a token attends to, including itself; `None` for all.
    pub(super) window: Option<usize>,
}

/// A rotary position embedding: at position `p`, pair `i` of a head is rotated by the angle
/// `p / (base^(2i / head_dim) * divisors[i])`.
#[derive(Debug, Clone)]
pub(super) struct RopeParameters {
    /// The elements that form a pair.
    pub(super) style: RopeStyle,
    /// Size of a head.
    pub(super) head_dim: usize,
    /// The base of the frequencies.
    pub(super) base: f32,
    /// Divisors of the frequencies, `(head_dim / 2)`; empty for none.
    pub(super) divisors: Vec<f32>,
    /// Number of positions that the model was trained for.
    pub(super) positions: usize,
}

/// An adapter's update of a matrix, for the rows of a product that use the adapter.
pub(super) struct AdapterUpdate<'a, B: Backend + ?Sized> {
    pub(super) low_rank: &'a B::LowRank,
    pub(super) rows: &'a B::RowSet,
}

/// The operations. Activations are rows of f32, one per token: `(total_tokens, width)`.
pub(super) trait Backend: Send {
    /// Activations.
    type Rows;
    /// A quantized weight matrix, `(out_features, in_features)`.
    type Matrix: Send;
    /// A weight vector.
    type Vector: Send;
    /// A rotary position embedding with its angles.
    type Rope: Send;
    /// A low-rank update of a matrix.
    type LowRank: Send;
    /// The rows of a product that an update applies to.
    type RowSet;
    /// Data of a step that all layers share, such as positions.
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

    /// Reads the update of a matrix of the shape `(out, in)`.
    fn low_rank(
        &self,
        tensors: &LowRankTensors<'_>,
        shape: (usize, usize),
    ) -> Result<Self::LowRank, ModelError>;

    /// Prepares a set of rows, ascending and without duplicates, of products with `total` rows.
    fn row_set(&self, rows: Vec<u32>, total: usize) -> Result<Self::RowSet, ModelError>;

    /// Computes the angles, for at most as many positions as the options allow.
    fn rope(&self, rope: &RopeParameters) -> Result<Self::Rope, ModelError>;

    /// Returns the number of positions of a rotary embedding.
    fn positions(&self, rope: &Self::Rope) -> usize;

    /// Returns the number of KV cache tokens that fit into the device's memory; `None` for main memory.
    fn available_kv_tokens(&self, shape: KvShape) -> Result<Option<usize>, ModelError>;

    /// Creates an empty cache. `key_biases` are the biases, per layer, that are added to the keys before their
    /// rotation.
    fn cache(
        &self,
        shape: KvShape,
        blocks: usize,
        key_biases: &[Option<&Self::Vector>],
        rope: &Self::Rope,
    ) -> Result<KvCache, ModelError>;

    /// Prepares the shared data of a step; the heads of all layers have the same shape.
    fn step(&self, heads: Heads, batch: &Batch) -> Result<Self::Step, ModelError>;

    /// Looks up rows of an embedding: `(ids, in_features)`.
    fn look_up(&self, table: &Self::Matrix, ids: &[u32]) -> Result<Self::Rows, ModelError>;

    /// Computes `x *= factor`.
    fn scale(&self, x: &mut Self::Rows, factor: f32) -> Result<(), ModelError>;

    /// Computes `x / rms(x) * weight`. If a row is a multiple of the weight's length, its parts are normalized
    /// separately.
    fn rms_norm(&self, x: &Self::Rows, weight: &Self::Vector, epsilon: f32)
    -> Result<Self::Rows, ModelError>;

    /// Computes `x += y`, then [`Self::rms_norm`] of the new `x`.
    fn add_rms_norm(
        &self,
        x: &mut Self::Rows,
        y: &Self::Rows,
        weight: &Self::Vector,
        epsilon: f32,
    ) -> Result<Self::Rows, ModelError>;

    /// Computes `x Wᵀ` for several matrices, each with the updates of adapters for some rows.
    fn project<const N: usize>(
        &self,
        x: &Self::Rows,
        matrices: [&Self::Matrix; N],
        updates: [&[AdapterUpdate<'_, Self>]; N],
    ) -> Result<[Self::Rows; N], ModelError>;

    /// Adds a vector to every row.
    fn add_bias(&self, x: &mut Self::Rows, bias: &Self::Vector) -> Result<(), ModelError>;

    /// Rotates the heads of every row according to its position.
    fn rotate(&self, x: &mut Self::Rows, rope: &Self::Rope, step: &Self::Step) -> Result<(), ModelError>;

    /// Writes keys and values to the cache and computes attention of every token to its own sequence.
    fn attend(
        &self,
        heads: Heads,
        batch: &Batch,
        step: &Self::Step,
        cache: &mut KvCache,
        qkv: [&Self::Rows; 3],
    ) -> Result<Self::Rows, ModelError>;

    /// Computes SwiGLU: `gate * sigmoid(gate) * up`.
    fn silu_mul(&self, gate: Self::Rows, up: &Self::Rows) -> Result<Self::Rows, ModelError>;

    /// Computes GeGLU: `gelu(gate) * up`, with the tanh approximation of GELU.
    fn gelu_mul(&self, gate: Self::Rows, up: &Self::Rows) -> Result<Self::Rows, ModelError>;

    /// Selects rows by index.
    fn select(&self, x: &Self::Rows, rows: &[u32]) -> Result<Self::Rows, ModelError>;

    /// Converts rows to a tensor `(rows, width)`.
    fn to_tensor(&self, x: Self::Rows, width: usize) -> Result<Tensor, ModelError>;
}
