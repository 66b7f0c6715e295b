//! Llama 2 and 3, SmolLM2 and models of the same architecture (GGUF architecture `llama`): the plain decoder.
//!
//! Files of this architecture store the rows of queries and keys such that adjacent elements are rotated together.
//! Llama 3.1 and later scale their low frequencies by the factors of the tensor `rope_freqs.weight`.
//!
//! Source: the Llama reports (2023, 2024) and the tensor names of the GGUF specification.

use super::{Family, GateActivation, Shape};
use crate::model::{GgufFile, ModelError, backend::RopeStyle};

/// Describes the Llama family.
pub(super) fn family(file: &GgufFile, shape: &Shape) -> Result<Family, ModelError> {
    if file.has("llama.expert_count") {
        let detail = "metadata llama.expert_count: mixtures of experts are not supported";
        return Err(file.unsupported(detail.to_owned()));
    }
    Ok(Family {
        has_biases: file.has_tensor("blk.0.attn_q.bias"),
        has_head_norms: false,
        has_output_norms: false,
        activation: GateActivation::Silu,
        embedding_scale: None,
        score_divisor: shape.head_dim,
        rope: shape.rope(file, RopeStyle::Neighbors)?,
        local: None,
    })
}
