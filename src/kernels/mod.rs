//! CPU kernels of the models: quantized matrix products with low-rank updates (LoRA), attention over a KV store, and row
//! operations (RMSNorm, RoPE, SwiGLU, GeGLU). They select the instruction set **at run time**, so a plain `cargo build --release` is fast.
//!
//! `model` calls them with plain slices. They know neither candle nor the engine, have no global state, never read the
//! environment and never print. A [`Kernels`] value holds the instruction set ([`CpuFeatures`], a proof that this machine
//! has it) and the threads ([`Pool`]).
//!
//! ```text
//! GGUF data ─────gemm::panel────────▶ packed weights ──┐
//! x (m, k) f32 ──gemm::activations──▶ int8 ────────────┴─gemm─▶ portable │ avx2 │ avx512 │ amx ──▶ out (m, n) f32
//! k, v rows ─────attention::kv_store─▶ KvStore (f16 or int8) ──attention──▶ out (tokens, heads · head_dim)
//! ```
//!
//! Two guarantees, both tested bit for bit:
//! * **The result for a row depends only on that row**: not on the other rows of the batch, nor on the number of threads.
//!   Therefore a sequence gets the same greedy tokens alone and in a batch.
//! * **Quantized products are the same on every instruction set**: the sums are integers, and the few f32 operations that
//!   follow are performed in a fixed order without fused multiply-add. `portable` is the reference. The same holds for
//!   low-rank updates, whose order is fixed with fused multiply-add.
//!
//! All unsafe code of the crate is in this module, except for launches on a GPU and the memory map of a model file.

#![allow(clippy::needless_range_loop)] // the index of a lane is used for several arrays at once

mod attention;
mod cpu;
#[cfg(any(feature = "cuda", test))]
pub(crate) mod cuda;
mod error;
mod gemm;
mod math;
mod pool;
mod rows;
#[cfg(test)]
pub(crate) mod testing;
mod widen;

pub use attention::{
    AttentionBatch, AttentionSequence, KV_BLOCK_TOKENS, KvShape, KvStore, KvType, attention,
};
pub use cpu::{CpuFeatures, InstructionSet};
pub use error::KernelError;
pub use gemm::{GgufMatrix, LowRank, Product, QuantMatrix, QuantType, RowUpdate, matmul_group};
pub use pool::Pool;
pub use rows::{RopeStyle, RopeTable, add_bias, add_rms_norm, gelu_mul, rms_norm, scale, silu_mul};

/// The instruction set and the threads that kernels run on. Use one per process, because each has its own threads.
pub struct Kernels {
    cpu: CpuFeatures,
    pool: Pool,
    scratch: gemm::SharedGemmScratch,
}

impl Kernels {
    /// Creates a set of `threads` threads, including the calling one; 0 means one for each CPU available to the process.
    pub fn new(cpu: CpuFeatures, threads: usize) -> Self {
        Self { cpu, pool: Pool::new(threads), scratch: gemm::SharedGemmScratch::default() }
    }

    /// Returns the instruction set.
    pub fn cpu(&self) -> CpuFeatures {
        self.cpu
    }

    /// Returns the threads.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernels({}, {} threads)", self.cpu, self.pool.threads())
    }
}
