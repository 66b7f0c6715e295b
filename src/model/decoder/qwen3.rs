//! Qwen3, dense (GGUF architecture `qwen3`): no biases, and every head of the queries and keys is normalized.
//!
//! Source: the Qwen3 technical report (2025) and the tensor names of the GGUF specification.

use super::{Family, GateActivation, Shape};
use crate::model::{GgufFile, ModelError, backend::RopeStyle};

/// Describes the Qwen3 family.
pub(super) fn family(file: &GgufFile, shape: &Shape) -> Result<Family, ModelError> {
    Ok(Family {
        has_biases: false,
        has_head_norms: true,
        has_output_norms: false,
        activation: GateActivation::Silu,
        embedding_scale: None,
        score_divisor: shape.head_dim,
        rope: shape.rope(file, RopeStyle::Halves)?,
        local: None,
    })
}
