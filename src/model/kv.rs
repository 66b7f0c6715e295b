//! The KV cache: the keys and values of every running sequence, in blocks.
//!
//! Created by [`super::Model::new_cache`], owned by the engine's worker, read and written by the backend that created
//! it. The engine's block pool assigns the blocks to sequences.

use candle_core::Tensor;

pub use super::backend::CudaKv;
pub use crate::kernels::KvShape;
use crate::kernels::KvStore;

/// Keys and values in blocks of [`super::KV_BLOCK_TOKENS`] tokens.
pub enum KvCache {
    /// The cache of the CPU kernels.
    Cpu(KvStore),
    /// The cache of the candle backend: keys and values of each layer,
    /// `(blocks * KV_BLOCK_TOKENS, kv_heads, head_dim)`.
    Candle(Vec<(Tensor, Tensor)>),
    /// The cache on a GPU.
    Cuda(CudaKv),
    /// No cache, for models without attention in tests.
    None,
}

impl KvCache {
    /// Returns the reserved memory in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Cpu(store) => store.bytes(),
            Self::Candle(layers) => {
                let bytes = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
                layers.iter().map(|(keys, values)| bytes(keys) + bytes(values)).sum()
            }
            Self::Cuda(cache) => cache.bytes(),
            Self::None => 0,
        }
    }
}
