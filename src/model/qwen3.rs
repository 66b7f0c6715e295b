//! Qwen3, dense (GGUF architecture `qwen3`): no biases, and a norm over every head of the queries and keys.
//!
//! Source: the Qwen3 technical report (2025) and the tensor names of the GGUF specification.

use super::{
    GgufFile, ModelError,
    backend::RopeStyle,
    decoder::{Activation, Family},
    shape::Shape,
};

/// What makes a decoder a Qwen3.
pub(super) fn family(file: &GgufFile, shape: &Shape) -> Result<Family, ModelError> {
    Ok(Family {
        biases: false,
        head_norms: true,
        output_norms: false,
        activation: Activation::Silu,
        embedding_scale: None,
        score_divisor: shape.head_dim,
        rope: shape.rope(file, RopeStyle::Halves)?,
        local: None,
    })
}
