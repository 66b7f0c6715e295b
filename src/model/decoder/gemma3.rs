//! Gemma 3, text (GGUF architecture `gemma3`): norms before and after attention and MLP, normalized heads of queries
//! and keys, embeddings scaled by the square root of their size, GELU, and one global layer after every five with a
//! sliding window.
//!
//! Files of this architecture store the weights of the norms including the 1 that the model adds to them.
//!
//! Source: the Gemma 3 technical report (2025), and llama.cpp for what a GGUF file does not state: the pattern of the
//! layers, the RoPE base of the local ones, and the scores of the 27B model.

use super::{Family, GateActivation, LocalLayers, Shape};
use crate::model::{
    GgufFile, ModelError,
    backend::{RopeParameters, RopeStyle},
};

/// Every sixth layer uses global attention.
const GLOBAL_EVERY: usize = 6;
/// The RoPE base of local layers.
const LOCAL_ROPE_BASE: f32 = 10_000.0;
/// Number of layers of the 27B model, which scales its scores differently.
const LAYERS_OF_27B: usize = 62;

/// Describes the Gemma 3 family.
pub(super) fn family(file: &GgufFile, shape: &Shape) -> Result<Family, ModelError> {
    let Shape { layers, hidden_size, heads, head_dim, .. } = *shape;
    let rope = shape.rope(file, RopeStyle::Halves)?;
    let local_rope = RopeParameters { base: LOCAL_ROPE_BASE, divisors: Vec::new(), ..rope.clone() };
    let window = file.size("gemma3.attention.sliding_window")?;
    Ok(Family {
        has_biases: false,
        has_head_norms: true,
        has_output_norms: true,
        activation: GateActivation::Gelu,
        embedding_scale: Some((hidden_size as f32).sqrt()),
        score_divisor: if layers == LAYERS_OF_27B { hidden_size / heads } else { head_dim },
        rope,
        local: Some(LocalLayers { rope: local_rope, window, global_every: GLOBAL_EVERY }),
    })
}
