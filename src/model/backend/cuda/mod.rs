//! Rotation, the KV cache and attention on a GPU: launches the kernels of `kernels/cuda/attention.cu` on candle's
//! stream.
//!
//! Called by [`super::Candle`]. Owns the cache's memory on the device; never copies data back to the host. Without the
//! feature `cuda`, [`Gpu`] is an uninhabited type; the tests then still cover the plan and the kernels.

#[cfg(any(feature = "cuda", test))]
mod plan;
#[cfg(test)]
mod tests;

#[cfg(not(feature = "cuda"))]
#[path = "absent.rs"]
mod gpu;
#[cfg(feature = "cuda")]
mod gpu;

pub use gpu::CudaKv;
pub(super) use gpu::{DevicePlan, Gpu};
