//! Rotary position embedding, in the half-split form that Qwen2 uses.
//!
//! Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.

use candle_core::{DType, Device, Tensor};

use crate::model::{Batch, ModelError};

/// Cosines and sines of every position, `(context_length, head_dim / 2)` each.
pub(in crate::model) struct Rotary {
    cos: Tensor,
    sin: Tensor,
}

/// The rows of the tables that one step needs, `(total_tokens, head_dim / 2)` each.
pub(in crate::model) struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    /// Computes the tables: the angle of pair `i` at position `p` is `p / base^(2i / head_dim)`.
    pub(in crate::model) fn new(
        head_dim: usize,
        base: f32,
        context_length: usize,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let frequencies: Vec<f32> =
            (0..head_dim).step_by(2).map(|i| 1.0 / base.powf(i as f32 / head_dim as f32)).collect();
        let frequencies = Tensor::new(frequencies, device)?.reshape((1, head_dim / 2))?;
        let positions = Tensor::arange(0, context_length as u32, device)?
            .to_dtype(DType::F32)?
            .reshape((context_length, 1))?;
        let angles = positions.matmul(&frequencies)?;
        Ok(Self { cos: angles.cos()?, sin: angles.sin()? })
    }

    /// Picks the rows for the positions of a batch.
    pub(in crate::model) fn angles(&self, batch: &Batch) -> Result<Angles, ModelError> {
        let positions: Vec<u32> =
            batch.segments.iter().flat_map(|s| s.start as u32..(s.start + s.len) as u32).collect();
        let positions = Tensor::new(positions, self.cos.device())?;
        Ok(Angles { cos: self.cos.index_select(&positions, 0)?, sin: self.sin.index_select(&positions, 0)? })
    }
}

impl Angles {
    /// Turns `(heads, total_tokens, head_dim)`.
    pub(in crate::model) fn rotate(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        let x = x.unsqueeze(0)?.contiguous()?;
        Ok(candle_nn::rotary_emb::rope(&x, &self.cos, &self.sin)?.squeeze(0)?)
    }
}
