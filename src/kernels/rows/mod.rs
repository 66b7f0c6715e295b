//! The row operations between the matrix products: norms, activations, biases and residuals (`elementwise`), and the
//! rotary position embedding (`rope`). Called by `model`.

mod elementwise;
mod rope;

pub use elementwise::{add_bias, add_rms_norm, gelu_mul, rms_norm, scale, silu_mul};
pub use rope::{RopeStyle, RopeTable};
