//! Rotation, the KV cache and attention on a GPU: launches of `kernels/cuda/attention.cu` on candle's device and stream.
//!
//! Called by [`super::Candle`]. Owns the cache's memory on the device. Never copies anything back to the host. In a build
//! without the feature `cuda` a [`Gpu`] is a thing that cannot be; the tests then still have the plan and the kernels.

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
