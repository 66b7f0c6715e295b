//! The products of low-rank updates in AVX2 and AVX-512; `gemm::low_rank` calls them.

#![allow(unsafe_code)] // intrinsics on references

use crate::kernels::gemm::panel::LANES;
use std::arch::x86_64::*;

/// Multiplies rows by a panel of widened weights; see `low_rank::add_products`.
///
/// # Safety
/// The CPU has the features of [`InstructionSet::Avx2`](crate::kernels::InstructionSet::Avx2).
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels::gemm) unsafe fn add_products_avx2(
    weights: &[[f32; LANES]],
    rows: usize,
    x: &[f32],
    x_start: impl Fn(usize) -> usize,
    sums: &mut [[f32; LANES]],
    sums_index: impl Fn(usize) -> usize,
) {
    let mut row = 0;
    while row < rows {
        let starts = |i: usize| (x_start(row + i), sums_index(row + i));
        row += match rows - row {
            6.. => tile_avx2::<6>(weights, x, sums, starts),
            4.. => tile_avx2::<4>(weights, x, sums, starts),
            2.. => tile_avx2::<2>(weights, x, sums, starts),
            _ => tile_avx2::<1>(weights, x, sums, starts),
        };
    }
}

/// Multiplies `R` rows and returns `R`. `starts` returns the start of a row in `x` and its index in `sums`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn tile_avx2<const R: usize>(
    weights: &[[f32; LANES]],
    x: &[f32],
    sums: &mut [[f32; LANES]],
    starts: impl Fn(usize) -> (usize, usize),
) -> usize {
    let x: [&[f32]; R] = std::array::from_fn(|r| &x[starts(r).0..][..weights.len()]);
    let mut products = [[_mm256_setzero_ps(); 2]; R];
    for (column, w) in weights.iter().enumerate() {
        // SAFETY: a reference to 64 bytes.
        let w = unsafe { [_mm256_loadu_ps(w.as_ptr()), _mm256_loadu_ps(w[8..].as_ptr())] };
        for r in 0..R {
            // SAFETY: each row has `weights.len()` values.
            let x = _mm256_set1_ps(unsafe { *x[r].get_unchecked(column) });
            products[r] =
                [_mm256_fmadd_ps(w[0], x, products[r][0]), _mm256_fmadd_ps(w[1], x, products[r][1])];
        }
    }
    for r in 0..R {
        let sums = &mut sums[starts(r).1];
        // SAFETY: a reference to 64 bytes.
        unsafe {
            let (low, high) = (sums.as_mut_ptr(), sums[8..].as_mut_ptr());
            _mm256_storeu_ps(low, _mm256_add_ps(_mm256_loadu_ps(low), products[r][0]));
            _mm256_storeu_ps(high, _mm256_add_ps(_mm256_loadu_ps(high), products[r][1]));
        }
    }
    R
}

/// Multiplies rows by a panel of widened weights; see `low_rank::add_products`.
///
/// # Safety
/// The CPU has the features of [`InstructionSet::Avx512`](crate::kernels::InstructionSet::Avx512).
#[target_feature(enable = "avx512f")]
pub(in crate::kernels::gemm) unsafe fn add_products_avx512(
    weights: &[[f32; LANES]],
    rows: usize,
    x: &[f32],
    x_start: impl Fn(usize) -> usize,
    sums: &mut [[f32; LANES]],
    sums_index: impl Fn(usize) -> usize,
) {
    let mut row = 0;
    while row < rows {
        let starts = |i: usize| (x_start(row + i), sums_index(row + i));
        row += match rows - row {
            12.. => tile_avx512::<12>(weights, x, sums, starts),
            8.. => tile_avx512::<8>(weights, x, sums, starts),
            4.. => tile_avx512::<4>(weights, x, sums, starts),
            2.. => tile_avx512::<2>(weights, x, sums, starts),
            _ => tile_avx512::<1>(weights, x, sums, starts),
        };
    }
}

/// Multiplies `R` rows and returns `R`. `starts` returns the start of a row in `x` and its index in `sums`.
#[inline]
#[target_feature(enable = "avx512f")]
fn tile_avx512<const R: usize>(
    weights: &[[f32; LANES]],
    x: &[f32],
    sums: &mut [[f32; LANES]],
    starts: impl Fn(usize) -> (usize, usize),
) -> usize {
    let x: [&[f32]; R] = std::array::from_fn(|r| &x[starts(r).0..][..weights.len()]);
    let mut products = [_mm512_setzero_ps(); R];
    for (column, w) in weights.iter().enumerate() {
        // SAFETY: a reference to 64 bytes.
        let w = unsafe { _mm512_loadu_ps(w.as_ptr()) };
        for r in 0..R {
            // SAFETY: each row has `weights.len()` values.
            let x = _mm512_set1_ps(unsafe { *x[r].get_unchecked(column) });
            products[r] = _mm512_fmadd_ps(w, x, products[r]);
        }
    }
    for r in 0..R {
        let sums = &mut sums[starts(r).1];
        // SAFETY: a reference to 64 bytes.
        unsafe {
            let total = _mm512_add_ps(_mm512_loadu_ps(sums.as_ptr()), products[r]);
            _mm512_storeu_ps(sums.as_mut_ptr(), total);
        }
    }
    R
}
