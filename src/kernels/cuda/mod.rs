//! Kernels for NVIDIA GPUs, one file a subject: `attention.cu` (rotation, the paged KV cache, attention of many sequences in
//! one launch) and `choose.cu` (the choice of tokens).
//!
//! `build.rs` compiles them to PTX where the feature `cuda` is on; the driver makes machine code of it when a kernel is
//! first used. `model/backend/cuda` and `engine/cuda` launch them. The tests run the same sources on the CPU, as plain C++ over
//! `emulator.h`, and compare them with the kernels for the CPU.

/// `attention.cu` as PTX.
#[cfg(feature = "cuda")]
pub(crate) const ATTENTION: &str = include_str!(concat!(env!("OUT_DIR"), "/attention.ptx"));

/// `choose.cu` as PTX.
#[cfg(feature = "cuda")]
pub(crate) const CHOOSE: &str = include_str!(concat!(env!("OUT_DIR"), "/choose.ptx"));

#[cfg(test)]
pub(crate) mod emulator;
