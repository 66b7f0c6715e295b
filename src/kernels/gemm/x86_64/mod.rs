//! The matrix products in x86-64 instructions, one file per instruction set; called by `gemm` only. All of them return
//! the bits of `portable` for quantized types.

pub(super) mod amx;
mod amx_tiles;
pub(super) mod avx2;
pub(super) mod avx2_unpack;
pub(super) mod avx512;
pub(super) mod avx512_unpack;
pub(super) mod low_rank;
mod prefetch;

pub(in crate::kernels) use amx_tiles::is_present as amx_is_present;

/// Returns the first `R` elements of a slice that has at least as many.
#[inline(always)]
fn head<const R: usize, T>(slice: &[T]) -> &[T; R] {
    slice.first_chunk().expect("a tile has as many rows as its caller counted")
}

/// Like [`head`], mutable.
#[inline(always)]
fn head_mut<const R: usize, T>(slice: &mut [T]) -> &mut [T; R] {
    slice.first_chunk_mut().expect("a tile has as many rows as its caller counted")
}
