//! Quantized linear layers and the embedding look-up.

use std::sync::Arc;

use candle_core::{
    Device, Module, Tensor,
    quantized::{QMatMul, QTensor},
};

use crate::model::{GgufFile, ModelError};

/// `y = x Wᵀ + b` with a quantized weight `(out_features, in_features)`.
pub(in crate::model) struct Linear {
    weight: QMatMul,
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `{name}.weight` and, when the file has it, `{name}.bias`.
    pub(in crate::model) fn load(
        file: &GgufFile,
        name: &str,
        in_features: usize,
        out_features: usize,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let weight = file.qtensor(&format!("{name}.weight"), &[out_features, in_features], device)?;
        let bias = format!("{name}.bias");
        let bias = file.has_tensor(&bias).then(|| file.tensor(&bias, &[out_features], device)).transpose()?;
        Ok(Self { weight: QMatMul::from_qtensor(weight)?, bias })
    }

    /// `(total_tokens, in_features)` to `(total_tokens, out_features)`.
    pub(in crate::model) fn forward(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        let y = self.weight.forward(x)?;
        Ok(match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        })
    }
}

/// The token embedding, which also serves as the output layer of models that tie the two.
pub(in crate::model) struct Embedding {
    weight: Arc<QTensor>,
}

impl Embedding {
    /// Reads `{name}.weight`, `(vocab_size, hidden_size)`.
    pub(in crate::model) fn load(
        file: &GgufFile,
        name: &str,
        vocab_size: usize,
        hidden_size: usize,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let weight = file.qtensor(&format!("{name}.weight"), &[vocab_size, hidden_size], device)?;
        Ok(Self { weight: Arc::new(weight) })
    }

    /// Token ids `(total_tokens)` to `(total_tokens, hidden_size)`.
    pub(in crate::model) fn forward(&self, ids: &Tensor) -> Result<Tensor, ModelError> {
        Ok(self.weight.embedding(ids)?)
    }

    /// The same weights as an output layer.
    pub(in crate::model) fn tied_output(&self) -> Result<Linear, ModelError> {
        Ok(Linear { weight: QMatMul::from_arc(self.weight.clone())?, bias: None })
    }
}
