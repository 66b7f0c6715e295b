//! Qwen2 and Qwen2.5 (GGUF architecture `qwen2`): biases on queries, keys and values.
//!
//! Source: the Qwen2 technical report (2024) and the tensor names of the GGUF specification.

use super::{
    GgufFile, ModelError,
    backend::RopeStyle,
    decoder::{Activation, Family},
    shape::Shape,
};

/// What makes a decoder a Qwen2.
pub(super) fn family(file: &GgufFile, shape: &Shape) -> Result<Family, ModelError> {
    Ok(Family {
        biases: true,
        head_norms: false,
        output_norms: false,
        activation: Activation::Silu,
        embedding_scale: None,
        score_divisor: shape.head_dim,
        rope: shape.rope(file, RopeStyle::Halves)?,
        local: None,
    })
}
