//! Layers that the architectures are made of, all over packed tokens `(total_tokens, features)`.

mod attention;
mod linear;
mod norm;
mod rotary;

pub(super) use attention::{AttentionShape, attend};
pub(super) use linear::{Embedding, Linear};
pub(super) use norm::RmsNorm;
pub(super) use rotary::Rotary;
