//! The inner loops of attention in AVX2; `dispatch` calls them and has the portable implementations.

#![allow(unsafe_code)] // intrinsics on slices

use super::kv_store::KV_BLOCK_TOKENS;
use std::arch::x86_64::*;

/// Widens int8 keys `(dim, 16)` times the scale of their column, and values `(16, dim)` times the scale of their row.
///
/// # Safety
/// The CPU has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn widen_int8(
    keys: &[[i8; KV_BLOCK_TOKENS]],
    k_scales: &[f32; KV_BLOCK_TOKENS],
    k: &mut [[f32; KV_BLOCK_TOKENS]],
    vals: &[i8],
    v_scales: &[f32],
    v: &mut [f32],
) {
    let dim = v.len() / KV_BLOCK_TOKENS;
    // SAFETY: references to 64 bytes.
    let scales = unsafe { [_mm256_loadu_ps(k_scales.as_ptr()), _mm256_loadu_ps(k_scales[8..].as_ptr())] };
    for (k, keys) in k.iter_mut().zip(keys) {
        widen_16(keys, scales, k);
    }
    for ((v, vals), scale) in v.chunks_exact_mut(dim).zip(vals.chunks_exact(dim)).zip(v_scales) {
        for (v, vals) in v.as_chunks_mut().0.iter_mut().zip(vals.as_chunks().0) {
            widen_16(vals, [_mm256_set1_ps(*scale); 2], v);
        }
    }
}

/// Widens 16 quants and multiplies them by their scales.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen_16(from: &[i8; 16], scales: [__m256; 2], to: &mut [f32; 16]) {
    // SAFETY: references to 16 and 64 bytes.
    unsafe {
        let bytes = _mm_loadu_si128(from.as_ptr().cast());
        let low = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
        let high = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes)));
        _mm256_storeu_ps(to.as_mut_ptr(), _mm256_mul_ps(low, scales[0]));
        _mm256_storeu_ps(to[8..].as_mut_ptr(), _mm256_mul_ps(high, scales[1]));
    }
}

/// Computes `p = q · k`; `q` is `(p.len(), k.len())`. Six rows at a time share the loads of `k`.
///
/// # Safety
/// The CPU has AVX2, FMA and F16C; `q.len() == p.len() * k.len()`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn scores(q: &[f32], k: &[[f32; KV_BLOCK_TOKENS]], p: &mut [[f32; KV_BLOCK_TOKENS]]) {
    let dim = k.len();
    let (mut q, mut p) = (q, p);
    while !p.is_empty() {
        let rows = match p.len() {
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
#[target_feature(enable = "avx2,fma,f16c")]
fn scores_tile<const R: usize>(
    q: &[f32],
    k: &[[f32; KV_BLOCK_TOKENS]],
    p: &mut [[f32; KV_BLOCK_TOKENS]],
) -> usize {
    let q: [&[f32]; R] = std::array::from_fn(|r| &q[r * k.len()..(r + 1) * k.len()]);
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    for (i, k) in k.iter().enumerate() {
        // SAFETY: references to 64 bytes.
        let k = unsafe { [_mm256_loadu_ps(k.as_ptr()), _mm256_loadu_ps(k[8..].as_ptr())] };
        for r in 0..R {
            // SAFETY: `i` is below `k.len()`, the length of each row.
            let q = _mm256_set1_ps(unsafe { *q[r].get_unchecked(i) });
            sums[r] = [_mm256_fmadd_ps(q, k[0], sums[r][0]), _mm256_fmadd_ps(q, k[1], sums[r][1])];
        }
    }
    for (p, sums) in p.iter_mut().zip(sums) {
        // SAFETY: references to 64 bytes.
        unsafe {
            _mm256_storeu_ps(p.as_mut_ptr(), sums[0]);
            _mm256_storeu_ps(p[8..].as_mut_ptr(), sums[1]);
        }
    }
    R
}

/// Computes `sums += p · v`; `v` is `(16, dim)`, `sums` is `(p.len(), dim)`, `dim` is a multiple of 16.
///
/// # Safety
/// The CPU has AVX2, FMA and F16C; `v.len() == 16 * dim`, `sums.len() == p.len() * dim`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn add_values(p: &[[f32; KV_BLOCK_TOKENS]], v: &[f32], sums: &mut [f32]) {
    let dim = v.len() / KV_BLOCK_TOKENS;
    for (p, sums) in p.chunks(6).zip(sums.chunks_mut(6 * dim)) {
        for at in (0..dim).step_by(16) {
            if p.len() == 6 {
                add_values_tile::<6>(p, v, sums, at);
            } else {
                for (p, sums) in p.chunks(1).zip(sums.chunks_mut(dim)) {
                    add_values_tile::<1>(p, v, sums, at);
                }
            }
        }
    }
}

/// Computes `R` rows and 16 columns, beginning at `at`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_values_tile<const R: usize>(p: &[[f32; KV_BLOCK_TOKENS]], v: &[f32], sums: &mut [f32], at: usize) {
    let dim = v.len() / KV_BLOCK_TOKENS;
    assert!(p.len() == R && sums.len() == R * dim && at + 16 <= dim);
    // SAFETY: by the assertion, 16 floats at `at` are within a row of `dim`.
    let load = |row: &[f32], c: usize| unsafe { _mm256_loadu_ps(row.as_ptr().add(at + 8 * c)) };
    let mut total = [[_mm256_setzero_ps(); 2]; R];
    for (total, row) in total.iter_mut().zip(sums.chunks_exact(dim)) {
        *total = [load(row, 0), load(row, 1)];
    }
    for (token, row) in v.chunks_exact(dim).enumerate().take(KV_BLOCK_TOKENS) {
        let v = [load(row, 0), load(row, 1)];
        for r in 0..R {
            let p = _mm256_set1_ps(p[r][token]);
            total[r] = [_mm256_fmadd_ps(p, v[0], total[r][0]), _mm256_fmadd_ps(p, v[1], total[r][1])];
        }
    }
    for (total, row) in total.iter().zip(sums.chunks_exact_mut(dim)) {
        // SAFETY: same as for `load`.
        unsafe {
            _mm256_storeu_ps(row.as_mut_ptr().add(at), total[0]);
            _mm256_storeu_ps(row.as_mut_ptr().add(at + 8), total[1]);
        }
    }
}
