//! The products of low-rank updates in AVX2 and AVX-512; `gemm::low_rank` calls them.

#![allow(unsafe_code)] // intrinsics on references

use super::{head, head_mut};
use crate::kernels::gemm::low_rank::TILE_ROWS;
use crate::kernels::gemm::panel::LANES;
use std::arch::x86_64::*;

/// Multiplies a panel by rows of activations; see `portable::dot_rows`.
///
/// # Safety
/// The CPU has the features of [`InstructionSet::Avx2`](crate::kernels::InstructionSet::Avx2), and each row of `x` has
/// `weights.len()` values.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels::gemm) unsafe fn dot_rows_avx2(
    weights: &[[f32; LANES]],
    x: &[&[f32]],
    sums: &mut [[f32; LANES]; TILE_ROWS],
) {
    let (mut x, mut sums) = (x, sums.as_mut_slice());
    while !x.is_empty() {
        // SAFETY: guaranteed by the caller of this function.
        let rows = unsafe {
            match x.len() {
                6.. => tile_avx2::<6>(weights, head(x), head_mut(sums)),
                4.. => tile_avx2::<4>(weights, head(x), head_mut(sums)),
                2.. => tile_avx2::<2>(weights, head(x), head_mut(sums)),
                _ => tile_avx2::<1>(weights, head(x), head_mut(sums)),
            }
        };
        x = &x[rows..];
        sums = &mut sums[rows..];
    }
}

/// Multiplies `R` rows and returns `R`.
///
/// # Safety
/// Same as for [`dot_rows_avx2`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile_avx2<const R: usize>(
    weights: &[[f32; LANES]],
    x: &[&[f32]; R],
    out: &mut [[f32; LANES]; R],
) -> usize {
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    for (column, w) in weights.iter().enumerate() {
        // SAFETY: a reference to 64 bytes.
        let w = unsafe { [_mm256_loadu_ps(w.as_ptr()), _mm256_loadu_ps(w[8..].as_ptr())] };
        for r in 0..R {
            // SAFETY: each row has `weights.len()` values.
            let x = _mm256_set1_ps(unsafe { *x[r].get_unchecked(column) });
            sums[r] = [_mm256_fmadd_ps(w[0], x, sums[r][0]), _mm256_fmadd_ps(w[1], x, sums[r][1])];
        }
    }
    for r in 0..R {
        // SAFETY: a reference to 64 bytes.
        unsafe {
            _mm256_storeu_ps(out[r].as_mut_ptr(), sums[r][0]);
            _mm256_storeu_ps(out[r][8..].as_mut_ptr(), sums[r][1]);
        }
    }
    R
}

/// Multiplies a panel by rows of activations; see `portable::dot_rows`.
///
/// # Safety
/// The CPU has the features of [`InstructionSet::Avx512`](crate::kernels::InstructionSet::Avx512), and each row of `x` has
/// `weights.len()` values.
#[target_feature(enable = "avx512f")]
pub(in crate::kernels::gemm) unsafe fn dot_rows_avx512(
    weights: &[[f32; LANES]],
    x: &[&[f32]],
    sums: &mut [[f32; LANES]; TILE_ROWS],
) {
    let (mut x, mut sums) = (x, sums.as_mut_slice());
    while !x.is_empty() {
        // SAFETY: guaranteed by the caller of this function.
        let rows = unsafe {
            match x.len() {
                12.. => tile_avx512::<12>(weights, head(x), head_mut(sums)),
                8.. => tile_avx512::<8>(weights, head(x), head_mut(sums)),
                4.. => tile_avx512::<4>(weights, head(x), head_mut(sums)),
                2.. => tile_avx512::<2>(weights, head(x), head_mut(sums)),
                _ => tile_avx512::<1>(weights, head(x), head_mut(sums)),
            }
        };
        x = &x[rows..];
        sums = &mut sums[rows..];
    }
}

/// Multiplies `R` rows and returns `R`.
///
/// # Safety
/// Same as for [`dot_rows_avx512`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn tile_avx512<const R: usize>(
    weights: &[[f32; LANES]],
    x: &[&[f32]; R],
    out: &mut [[f32; LANES]; R],
) -> usize {
    let mut sums = [_mm512_setzero_ps(); R];
    for (column, w) in weights.iter().enumerate() {
        // SAFETY: a reference to 64 bytes.
        let w = unsafe { _mm512_loadu_ps(w.as_ptr()) };
        for r in 0..R {
            // SAFETY: each row has `weights.len()` values.
            let x = _mm512_set1_ps(unsafe { *x[r].get_unchecked(column) });
            sums[r] = _mm512_fmadd_ps(w, x, sums[r]);
        }
    }
    for r in 0..R {
        // SAFETY: a reference to 64 bytes.
        unsafe { _mm512_storeu_ps(out[r].as_mut_ptr(), sums[r]) };
    }
    R
}
