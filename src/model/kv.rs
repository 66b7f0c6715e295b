//! The KV cache: the keys and values of every running sequence, in blocks, kept outside the layers.
//!
//! Which sequence owns which block is the engine's business. Made by [`super::Model::new_cache`] and owned
//! by the engine's worker; written and read by the backend that made it.

use candle_core::Tensor;

pub use super::backend::CudaKv;
pub use crate::kernels::KvShape;
use crate::kernels::KvStore;

/// Keys and values in blocks of [`super::KV_BLOCK_TOKENS`] tokens.
pub enum KvCache {
    /// Of the kernels.
    Cpu(KvStore),
    /// Of candle: keys and values of each layer, `(blocks * KV_BLOCK_TOKENS, kv_heads, head_dim)`.
    Candle(Vec<(Tensor, Tensor)>),
    /// On a GPU.
    Cuda(CudaKv),
    /// Of a model without attention, in tests.
    None,
}

impl KvCache {
    /// Bytes reserved.
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
