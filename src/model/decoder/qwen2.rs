//! Qwen2 and Qwen2.5 (GGUF architecture `qwen2`): queries, keys and values have biases.
//!
//! Source: the Qwen2 technical report (2024) and the tensor names of the GGUF specification.

use super::{Family, GateActivation, Shape};
use crate::model::{GgufFile, ModelError, backend::RopeStyle};

/// Describes the Qwen2 family.
pub(super) fn family(file: &GgufFile, shape: &Shape) -> Result<Family, ModelError> {
    Ok(Family {
        has_biases: true,
        has_head_norms: false,
        has_output_norms: false,
        activation: GateActivation::Silu,
        embedding_scale: None,
        score_divisor: shape.head_dim,
        rope: shape.rope(file, RopeStyle::Halves)?,
        local: None,
    })
}
