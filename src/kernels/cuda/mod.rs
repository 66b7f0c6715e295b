//! Kernels for NVIDIA GPUs: `attention.cu` (rotary embedding, the paged KV cache, attention of many sequences in one launch)
//! and `choose.cu` (the choice of tokens). `model/backend/cuda` and `engine/cuda` launch them.
//!
//! With the feature `cuda`, `build.rs` compiles them to PTX, which the driver translates to machine code when a kernel is
//! first used. The tests run the same sources on the CPU, as C++ over `emulator.h`, and compare them with the CPU's kernels.

/// The PTX of `attention.cu`.
#[cfg(feature = "cuda")]
pub(crate) const ATTENTION: &str = include_str!(concat!(env!("OUT_DIR"), "/attention.ptx"));

/// The PTX of `choose.cu`.
#[cfg(feature = "cuda")]
pub(crate) const CHOOSE: &str = include_str!(concat!(env!("OUT_DIR"), "/choose.ptx"));

#[cfg(test)]
pub(crate) mod emulator;
