//! Llama 2 and 3, SmolLM2 and what else has their form (GGUF architecture `llama`): the plain decoder.
//!
//! Files of this architecture hold the rows of queries and keys in an order in which neighbours are rotated together;
//! Llama 3.1 and later stretch their slow frequencies by the factors of the tensor `rope_freqs.weight`.
//!
//! Source: the Llama reports (2023, 2024) and the tensor names of the GGUF specification.

use super::{
    GgufFile, ModelError,
    backend::RopeStyle,
    decoder::{Activation, Family},
    shape::Shape,
};

/// What makes a decoder a Llama.
pub(super) fn family(file: &GgufFile, shape: &Shape) -> Result<Family, ModelError> {
    if file.has("llama.expert_count") {
        return Err(
            file.unsupported("metadata llama.expert_count: mixtures of experts are not known".to_owned())
        );
    }
    Ok(Family {
        biases: file.has_tensor("blk.0.attn_q.bias"),
        head_norms: false,
        output_norms: false,
        activation: Activation::Silu,
        embedding_scale: None,
        score_divisor: shape.head_dim,
        rope: shape.rope(file, RopeStyle::Neighbors)?,
        local: None,
    })
}
