//! Root mean square normalisation.

use candle_core::{Device, Tensor};

use crate::model::{GgufFile, ModelError};

/// `y = x / rms(x) * w`.
pub(in crate::model) struct RmsNorm {
    weight: Tensor,
    epsilon: f32,
}

impl RmsNorm {
    /// Reads `{name}.weight`.
    pub(in crate::model) fn load(
        file: &GgufFile,
        name: &str,
        size: usize,
        epsilon: f32,
        device: &Device,
    ) -> Result<Self, ModelError> {
        Ok(Self { weight: file.tensor(&format!("{name}.weight"), &[size], device)?, epsilon })
    }

    /// `(total_tokens, size)` to the same shape.
    pub(in crate::model) fn forward(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(candle_nn::ops::rms_norm(x, &self.weight, self.epsilon)?)
    }
}
