//! The inner loops of attention in AVX-512; `dispatch` calls them and has the portable implementations.

#![allow(unsafe_code)] // intrinsics on slices

use super::kv_store::KV_BLOCK_TOKENS;
use std::arch::x86_64::*;

/// Widens int8 keys `(dim, 16)` times the scale of their column, and values `(16, dim)` times the scale of their row.
///
/// # Safety
/// The CPU has AVX-512 F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn widen_int8(
    keys: &[[i8; KV_BLOCK_TOKENS]],
    k_scales: &[f32; KV_BLOCK_TOKENS],
    k: &mut [[f32; KV_BLOCK_TOKENS]],
    vals: &[i8],
    v_scales: &[f32],
    v: &mut [f32],
) {
    let dim = v.len() / KV_BLOCK_TOKENS;
    // SAFETY: a reference to 64 bytes.
    let scales = unsafe { _mm512_loadu_ps(k_scales.as_ptr()) };
    for (k, keys) in k.iter_mut().zip(keys) {
        widen_16(keys, scales, k);
    }
    for ((v, vals), scale) in v.chunks_exact_mut(dim).zip(vals.chunks_exact(dim)).zip(v_scales) {
        for (v, vals) in v.as_chunks_mut().0.iter_mut().zip(vals.as_chunks().0) {
            widen_16(vals, _mm512_set1_ps(*scale), v);
        }
    }
}

/// Widens 16 quants and multiplies them by their scales.
#[inline]
#[target_feature(enable = "avx512f")]
fn widen_16(from: &[i8; 16], scale: __m512, to: &mut [f32; 16]) {
    // SAFETY: references to 16 and 64 bytes.
    unsafe {
        let quants = _mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()));
        _mm512_storeu_ps(to.as_mut_ptr(), _mm512_mul_ps(_mm512_cvtepi32_ps(quants), scale));
    }
}

/// Computes `p = q · k`; `q` is `(p.len(), k.len())`. 12 rows at a time share the loads of `k`.
///
/// # Safety
/// The CPU has AVX-512 F; `q.len() == p.len() * k.len()`.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn scores(q: &[f32], k: &[[f32; KV_BLOCK_TOKENS]], p: &mut [[f32; KV_BLOCK_TOKENS]]) {
    let dim = k.len();
    let (mut q, mut p) = (q, p);
    while !p.is_empty() {
        let rows = match p.len() {
            12.. => scores_tile::<12>(q, k, p),
            6.. => scores_tile::<6>(q, k, p),
            3.. => scores_tile::<3>(q, k, p),
            _ => scores_tile::<1>(q, k, p),
        };
        q = &q[rows * dim..];
        p = &mut p[rows..];
    }
}

/// Computes the first `R` rows and returns `R`.
#[inline]
#[target_feature(enable = "avx512f")]
fn scores_tile<const R: usize>(
    q: &[f32],
    k: &[[f32; KV_BLOCK_TOKENS]],
    p: &mut [[f32; KV_BLOCK_TOKENS]],
) -> usize {
    let q: [&[f32]; R] = std::array::from_fn(|r| &q[r * k.len()..(r + 1) * k.len()]);
    let mut sums = [_mm512_setzero_ps(); R];
    for (i, k) in k.iter().enumerate() {
        // SAFETY: a reference to 64 bytes.
        let k = unsafe { _mm512_loadu_ps(k.as_ptr()) };
        for r in 0..R {
            // SAFETY: `i` is below `k.len()`, the length of each row.
            let q = unsafe { *q[r].get_unchecked(i) };
            sums[r] = _mm512_fmadd_ps(_mm512_set1_ps(q), k, sums[r]);
        }
    }
    for (p, sums) in p.iter_mut().zip(sums) {
        // SAFETY: a reference to 64 bytes.
        unsafe { _mm512_storeu_ps(p.as_mut_ptr(), sums) };
    }
    R
}

/// Computes `sums += p · v`; `v` is `(16, dim)`, `sums` is `(p.len(), dim)`, `dim` is a multiple of 16.
///
/// # Safety
/// The CPU has AVX-512 F; `v.len() == 16 * dim`, `sums.len() == p.len() * dim`.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn add_values(p: &[[f32; KV_BLOCK_TOKENS]], v: &[f32], sums: &mut [f32]) {
    let dim = v.len() / KV_BLOCK_TOKENS;
    let mut row = 0;
    while row < p.len() {
        let rows = match p.len() - row {
            6.. => 6,
            3.. => 3,
            _ => 1,
        };
        let (p, sums) = (&p[row..row + rows], &mut sums[row * dim..(row + rows) * dim]);
        let mut at = 0;
        while at < dim {
            let wide = dim - at >= 64;
            match (rows, wide) {
                (6, true) => add_values_tile::<6, 4>(p, v, sums, at),
                (6, false) => add_values_tile::<6, 1>(p, v, sums, at),
                (3, true) => add_values_tile::<3, 4>(p, v, sums, at),
                (3, false) => add_values_tile::<3, 1>(p, v, sums, at),
                (_, true) => add_values_tile::<1, 4>(p, v, sums, at),
                (_, false) => add_values_tile::<1, 1>(p, v, sums, at),
            }
            at += if wide { 64 } else { 16 };
        }
        row += rows;
    }
}

/// Computes `R` rows and `16 · C` columns, beginning at `at`.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_values_tile<const R: usize, const C: usize>(
    p: &[[f32; KV_BLOCK_TOKENS]],
    v: &[f32],
    sums: &mut [f32],
    at: usize,
) {
    let dim = v.len() / KV_BLOCK_TOKENS;
    assert!(p.len() == R && sums.len() == R * dim && at + 16 * C <= dim);
    // SAFETY: by the assertion, 16 floats at `at + 16 · c` are within a row of `dim`.
    let load = |row: &[f32], c: usize| unsafe { _mm512_loadu_ps(row.as_ptr().add(at + 16 * c)) };
    let mut total = [[_mm512_setzero_ps(); C]; R];
    for (total, row) in total.iter_mut().zip(sums.chunks_exact(dim)) {
        for c in 0..C {
            total[c] = load(row, c);
        }
    }
    for (token, row) in v.chunks_exact(dim).enumerate().take(KV_BLOCK_TOKENS) {
        for c in 0..C {
            let v = load(row, c);
            for r in 0..R {
                total[r][c] = _mm512_fmadd_ps(_mm512_set1_ps(p[r][token]), v, total[r][c]);
            }
        }
    }
    for (total, row) in total.iter().zip(sums.chunks_exact_mut(dim)) {
        for c in 0..C {
            // SAFETY: same as for `load`.
            unsafe { _mm512_storeu_ps(row.as_mut_ptr().add(at + 16 * c), total[c]) };
        }
    }
}
