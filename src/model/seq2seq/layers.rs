//! The layers of encoder-decoders on candle's operations, over rows of f32, one per token, of any number of sequences.
//!
//! Sequences are packed without padding: products cover all rows at once, attention goes sequence by sequence. So no
//! mask is needed, and a sequence has the same results alone and in a batch. Called by the stacks of this module.

use std::ops::Range;

use candle_core::{D, Device, Result, Tensor};
use candle_nn::{Activation, Module as _, ops};

/// A linear layer: `x Wᵀ + b`.
pub(super) struct Linear {
    /// `(out, in)`.
    pub(super) weight: Tensor,
    /// `(out)`.
    pub(super) bias: Option<Tensor>,
}

impl Linear {
    /// Maps `(rows, in)` to `(rows, out)`.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// A normalization layer.
pub(super) enum NormLayer {
    /// `(x - mean) / deviation * weight + bias`.
    Layer {
        /// `(width)`.
        weight: Tensor,
        /// `(width)`.
        bias: Tensor,
        /// Added to the variance.
        epsilon: f32,
    },
    /// `x / rms * weight`.
    Rms {
        /// `(width)`.
        weight: Tensor,
        /// Added to the variance.
        epsilon: f32,
    },
}

impl NormLayer {
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Layer { weight, bias, epsilon } => ops::layer_norm(x, weight, bias, *epsilon),
            Self::Rms { weight, epsilon } => ops::rms_norm(x, weight, *epsilon),
        }
    }
}

/// A feed-forward layer: `down(act(up(x)))`, or `down(act(gate(x)) * up(x))`.
pub(super) struct Mlp {
    pub(super) gate: Option<Linear>,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) activation: Activation,
}

impl Mlp {
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let up = self.up.apply(x)?;
        let inner = match &self.gate {
            Some(gate) => (self.activation.forward(&gate.apply(x)?)? * up)?,
            None => self.activation.forward(&up)?,
        };
        self.down.apply(&inner)
    }
}

/// Multi-head attention.
pub(super) struct MultiHeadAttention {
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) output: Linear,
    pub(super) heads: usize,
    /// Factor of the attention scores.
    pub(super) scale: f64,
}

impl MultiHeadAttention {
    /// Reshapes the rows of one sequence, `(n, heads * head_dim)`, to `(1, heads, n, head_dim)`.
    pub(super) fn by_head(&self, rows: &Tensor) -> Result<Tensor> {
        rows.reshape((rows.dim(0)?, self.heads, ()))?.transpose(0, 1)?.unsqueeze(0)?.contiguous()
    }

    /// Reshapes the rows of the next tokens of `n` beams, `(n, heads * head_dim)`, to `(n, heads, 1, head_dim)`.
    pub(super) fn by_beam(&self, rows: &Tensor) -> Result<Tensor> {
        rows.reshape((rows.dim(0)?, self.heads, 1, ()))
    }

    /// Computes attention of queries `(b, heads, n, head_dim)` to keys and values `(b, heads, m, head_dim)`, with
    /// `bias` `(heads, n, m)` added to the scores. The result is `(b * n, heads * head_dim)`.
    pub(super) fn attend(
        &self,
        queries: &Tensor,
        (keys, values): (&Tensor, &Tensor),
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let mut scores = (queries.matmul(&keys.t()?)? * self.scale)?;
        if let Some(bias) = bias {
            scores = scores.broadcast_add(bias)?;
        }
        let mixed = ops::softmax_last_dim(&scores)?.matmul(values)?;
        mixed.transpose(1, 2)?.flatten(2, D::Minus1)?.flatten(0, 1)
    }
}

/// A learned bias of attention scores that depends on the bucket of the distance between query and key (T5).
pub(super) struct RelativeBias {
    /// `(buckets, heads)`.
    pub(super) table: Tensor,
    pub(super) buckets: usize,
    /// All larger distances share the last bucket.
    pub(super) max_distance: usize,
    /// `true` in the encoder, where keys after the query have buckets of their own.
    pub(super) bidirectional: bool,
}

impl RelativeBias {
    /// Returns the bias between the queries at the given positions and the keys `0..keys`: `(heads, queries, keys)`.
    pub(super) fn between(&self, queries: Range<usize>, keys: usize) -> Result<Tensor> {
        let count = queries.len();
        let buckets: Vec<u32> =
            queries.flat_map(|query| (0..keys).map(move |key| self.bucket(query, key))).collect();
        let ids = Tensor::from_vec(buckets, count * keys, self.table.device())?;
        self.table.index_select(&ids, 0)?.reshape((count, keys, ()))?.permute((2, 0, 1))?.contiguous()
    }

    /// Returns the bucket of a distance: one per distance for small ones, then logarithmically wider ones.
    fn bucket(&self, query: usize, key: usize) -> u32 {
        let (buckets, first, distance) = match self.bidirectional {
            true => (self.buckets / 2, if key > query { self.buckets / 2 } else { 0 }, query.abs_diff(key)),
            false => (self.buckets, 0, query.saturating_sub(key)),
        };
        let exact = buckets / 2;
        let within = if distance < exact {
            distance
        } else {
            let (distance, nearest, farthest) = (distance as f32, exact as f32, self.max_distance as f32);
            let fraction = (distance / nearest).ln() / (farthest / nearest).ln();
            (exact + (fraction * (buckets - exact) as f32) as usize).min(buckets - 1)
        };
        (first + within) as u32
    }
}

/// Returns Marian's sinusoidal positions `(positions, width)`: sines in the first half of a row, cosines in the second.
pub(super) fn sinusoids(positions: usize, width: usize, device: &Device) -> Result<Tensor> {
    let half = width / 2;
    let angle =
        |position: usize, pair: usize| position as f64 / 10_000f64.powf(2.0 * pair as f64 / width as f64);
    let row = |position| {
        let sines = (0..half).map(move |pair| angle(position, pair).sin() as f32);
        sines.chain((0..half).map(move |pair| angle(position, pair).cos() as f32))
    };
    Tensor::from_vec((0..positions).flat_map(row).collect::<Vec<f32>>(), (positions, 2 * half), device)
}
