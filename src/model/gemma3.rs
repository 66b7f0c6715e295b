//! Gemma 3, text (GGUF architecture `gemma3`): norms on both sides of attention and MLP and over every head of the
//! queries and keys, embeddings times the root of their size, GELU, and five layers that see a window between two that
//! see everything.
//!
//! Files of this architecture hold the norms' weights with the 1 that the model adds to them.
//!
//! Source: the Gemma 3 technical report (2025), and llama.cpp for what a GGUF file leaves unsaid: the pattern of the
//! layers, the frequencies of the local ones, and the scores of the 27B model.

use super::{
    GgufFile, ModelError,
    backend::{Rope, RopeStyle},
    decoder::{Activation, Family, Local},
    shape::Shape,
};

/// Every so manieth layer sees everything.
const GLOBAL_EVERY: usize = 6;
/// The base of the rotary frequencies in local layers.
const LOCAL_ROPE_BASE: f32 = 10_000.0;
/// The layers of the 27B model, whose scores are divided by another root.
const LAYERS_OF_27B: usize = 62;

/// What makes a decoder a Gemma 3.
pub(super) fn family(file: &GgufFile, shape: &Shape) -> Result<Family, ModelError> {
    let Shape { layers, hidden_size, heads, head_dim, .. } = *shape;
    let rope = shape.rope(file, RopeStyle::Halves)?;
    let local_rope = Rope { base: LOCAL_ROPE_BASE, divisors: Vec::new(), ..rope.clone() };
    let window = file.size("gemma3.attention.sliding_window")?;
    Ok(Family {
        biases: false,
        head_norms: true,
        output_norms: true,
        activation: Activation::Gelu,
        embedding_scale: Some((hidden_size as f32).sqrt()),
        score_divisor: if layers == LAYERS_OF_27B { hidden_size / heads } else { head_dim },
        rope,
        local: Some(Local { rope: local_rope, window, global_every: GLOBAL_EVERY }),
    })
}
