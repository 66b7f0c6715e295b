//! CPU kernels of the models: quantized matrix products, attention over a KV store, and the small row operations
//! (RMSNorm, RoPE, SwiGLU, GeGLU). They choose their instructions **at run time**, so a plain `cargo build --release` is fast.
//!
//! `src/model` calls them through plain slices; they know neither candle nor the engine, hold no global state, never
//! read the environment and never print. One [`Kernels`] value holds the two choices that everything shares: the
//! instruction set ([`CpuFeatures`], a proof that this machine has it) and the threads ([`Pool`]).
//!
//! ```text
//! GGUF bytes ──blocks──▶ panels of 16 rows (panel) ──┐
//! x (m, k) f32 ──quantize──▶ int8 activations ───────┴─▶ gemm ─▶ portable │ avx2 │ avx512 │ amx ──▶ out (m, n) f32
//! k, v rows ──kv──▶ KvStore (f16 or int8, blocks of 16 tokens) ──attention──▶ out (tokens, heads · head_dim)
//! ```
//!
//! Two promises, both tested bit for bit:
//! * **A row's result depends on nothing but the row**: not on the other rows of the batch, not on the number of
//!   threads. Greedy tokens of a sequence alone and inside a batch therefore agree.
//! * **Quantized products are the same on every instruction set**: sums are integers, and the few f32 operations
//!   that follow them run in one fixed order without fused multiply-add. `portable` is the oracle.
//!
//! Unsafe code lives in this module, but for launches on a GPU and the memory map of a model file.

#![allow(clippy::needless_range_loop)] // a lane's index runs over several arrays at once

mod attention;
mod blocks;
mod cpu;
#[cfg(any(feature = "cuda", test))]
pub(crate) mod cuda;
mod elementwise;
mod error;
mod gemm;
mod kv;
mod math;
mod matrix;
mod panel;
mod pool;
mod portable;
mod quantize;
mod rope;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod amx_tiles;
#[cfg(target_arch = "x86_64")]
mod attention_avx2;
#[cfg(target_arch = "x86_64")]
mod attention_avx512;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_unpack;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_unpack;
#[cfg(target_arch = "x86_64")]
mod prefetch;

#[cfg(test)]
mod attention_tests;
#[cfg(test)]
mod gemm_tests;
#[cfg(test)]
pub(crate) mod testing;

pub use attention::{AttentionBatch, AttentionSequence, attention};
pub use blocks::QuantType;
pub use cpu::{CpuFeatures, InstructionSet};
pub use elementwise::{add_bias, add_rms_norm, gelu_mul, rms_norm, scale, silu_mul};
pub use error::KernelError;
pub use gemm::{Product, matmul_group};
pub use kv::{KV_BLOCK_TOKENS, KvShape, KvStore, KvType};
pub use matrix::QuantMatrix;
pub use pool::Pool;
pub use rope::{RopeStyle, RopeTable};

/// The instruction set and the threads that a model's kernels use. Cheap to share behind an `Arc`; one for a process
/// is the intended use, because each has threads of its own.
pub struct Kernels {
    cpu: CpuFeatures,
    pool: Pool,
    scratch: gemm::SharedScratch,
}

impl Kernels {
    /// `threads` counts the calling thread; 0 means one for each CPU that this process may use.
    pub fn new(cpu: CpuFeatures, threads: usize) -> Self {
        Self { cpu, pool: Pool::new(threads), scratch: gemm::SharedScratch::default() }
    }

    /// The instruction set in use.
    pub fn cpu(&self) -> CpuFeatures {
        self.cpu
    }

    /// The threads in use.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernels({}, {} threads)", self.cpu, self.pool.threads())
    }
}
