//! Products in AVX2 (x86-64 since 2013).
//!
//! `VPMADDUBSW` multiplies bytes and adds pairs of products into i16, of which [`UnpackAvx2::FIT`] can be summed without
//! overflow; `VPMADDWD` then multiplies by the sub-block's scale and widens to i32. The 16 rows of a panel are two
//! registers, which are processed one after the other for up to [`TILE`] rows of activations at a time.

#![allow(unsafe_code)] // intrinsics on references

use super::avx2_unpack::UnpackAvx2;
use super::prefetch::prefetch_ahead;
use super::{head, head_mut};
use crate::kernels::gemm::activations::{Activations2x32, Activations256, ActivationsF32};
use crate::kernels::gemm::panel::{
    Block32, Block256Min, Block256Q6, BlockFloat, BlockMinimum, FloatValue, LANES,
};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Rows of activations whose sums stay in registers.
const TILE: usize = 4;

/// Lanes of a register.
const HALF: usize = LANES / 2;

/// Loads the factors of 8 rows.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn factors(bits: &[u16; LANES], half: usize) -> __m256 {
    let bits: &[u16; HALF] = head(&bits[HALF * half..]);
    // SAFETY: a reference to 16 bytes.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(bits.as_ptr().cast()) })
}

/// Loads two signed values of each of 8 rows as pairs of i16.
#[inline]
#[target_feature(enable = "avx2")]
fn signed_pairs(bytes: &[i8; 32], half: usize) -> __m256i {
    let bytes: &[i8; 16] = head(&bytes[16 * half..]);
    // SAFETY: a reference to 16 bytes.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Loads two unsigned values of each of 8 rows as pairs of i16.
#[inline]
#[target_feature(enable = "avx2")]
fn unsigned_pairs(bytes: &[u8; 32], half: usize) -> __m256i {
    let bytes: &[u8; 16] = head(&bytes[16 * half..]);
    // SAFETY: a reference to 16 bytes.
    _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Returns the first value of each pair in both elements of the pair, and likewise the second.
#[inline]
#[target_feature(enable = "avx2")]
fn doubled(pairs: __m256i) -> [__m256i; 2] {
    [
        _mm256_blend_epi16::<0xaa>(pairs, _mm256_slli_epi32::<16>(pairs)),
        _mm256_blend_epi16::<0x55>(pairs, _mm256_srli_epi32::<16>(pairs)),
    ]
}

/// Broadcasts four quants of a row of activations.
#[inline]
#[target_feature(enable = "avx2")]
fn broadcast4(q: &[i8], at: usize) -> __m256i {
    let four: [i8; 4] = [q[at], q[at + 1], q[at + 2], q[at + 3]];
    _mm256_set1_epi32(i32::from_le_bytes(four.map(i8::cast_unsigned)))
}

/// Broadcasts two 16-bit sums.
#[inline]
#[target_feature(enable = "avx2")]
fn broadcast_pair(sums: &[i16], at: usize) -> __m256i {
    let [a, b] = [sums[at], sums[at + 1]];
    _mm256_set1_epi32(i32::from(a.cast_unsigned()) | i32::from(b) << 16)
}

/// Adds 8 floats to one half of the sums of a row.
#[inline]
#[target_feature(enable = "avx2")]
fn add_to(sums: &mut [f32; LANES], half: usize, value: __m256) {
    let sums: &mut [f32; HALF] = head_mut(&mut sums[HALF * half..]);
    // SAFETY: a reference to 8 floats.
    unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), _mm256_add_ps(_mm256_loadu_ps(sums.as_ptr()), value)) };
}

/// Adds the scaled dot products of 32 columns to `main`: `scales[0]` applies to the first 16 columns, `scales[1]` to the
/// others. `x[r]` starts at the columns of the unit.
///
/// # Safety
/// The CPU has the features of [`InstructionSet::Avx2`](crate::kernels::InstructionSet::Avx2).
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot<Q: UnpackAvx2, const R: usize>(
    q: &Q,
    half: usize,
    x: [&[i8; 32]; R],
    scales: [__m256i; 2],
    main: &mut [__m256i; R],
) {
    let zero = _mm256_setzero_si256();
    let mut sums = [[zero; 2]; R];
    for i in 0..4 {
        // SAFETY: this function has the features.
        let w = unsafe { q.pair(i, half) };
        for r in 0..R {
            for h in 0..2 {
                // SAFETY: as above.
                let products = unsafe { Q::multiply(w[h], broadcast4(x[r], 16 * h + 4 * i)) };
                sums[r][h] = _mm256_add_epi16(sums[r][h], products);
            }
        }
        if (i + 1) % Q::FIT == 0 {
            for r in 0..R {
                for h in 0..2 {
                    main[r] = _mm256_add_epi32(main[r], _mm256_madd_epi16(sums[r][h], scales[h]));
                    sums[r][h] = zero;
                }
            }
        }
    }
}

/// Evaluates `$body` with `$rows` as a constant from 1 to 4.
macro_rules! with_rows {
    ($count:expr, $rows:ident => $body:expr) => {
        match $count {
            1 => with_rows!(@ 1, $rows, $body),
            2 => with_rows!(@ 2, $rows, $body),
            3 => with_rows!(@ 3, $rows, $body),
            _ => with_rows!(@ 4, $rows, $body),
        }
    };
    (@ $n:literal, $rows:ident, $body:expr) => {{
        const $rows: usize = $n;
        $body
    }};
}

/// Returns the quants of one unit of each row.
#[inline(always)]
fn columns<const R: usize, X>(x: &[X; R], unit: usize, q: impl Fn(&X) -> &[i8]) -> [&[i8; 32]; R] {
    std::array::from_fn(|r| head(&q(&x[r])[32 * unit..]))
}

/// Multiplies a panel of `Q4_K` or `Q5_K`; see `portable::block256_min`.
///
/// # Safety
/// The CPU has the features of [`InstructionSet::Avx2`](crate::kernels::InstructionSet::Avx2).
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels::gemm) unsafe fn block256_min<Q: UnpackAvx2>(
    panel: &[Block256Min<Q>],
    x: &[Activations256],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (b, block) in panel.iter().enumerate() {
        prefetch_ahead(block, 0, 1);
        let x = &x[b * m + row..][..sums.len()];
        for (x, sums) in x.chunks(TILE).zip(sums.chunks_mut(TILE)) {
            for half in 0..2 {
                // SAFETY: this function has the features.
                with_rows!(sums.len(), R => unsafe { block256_min_tile::<Q, R>(block, half, head(x), head_mut(sums)) });
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block256_min_tile<Q: UnpackAvx2, const R: usize>(
    block: &Block256Min<Q>,
    half: usize,
    x: &[Activations256; R],
    sums: &mut [[f32; LANES]; R],
) {
    let zero = _mm256_setzero_si256();
    let (mut main, mut minimum) = ([zero; R], [zero; R]);
    for pair in 0..4 {
        let scales = doubled(signed_pairs(&block.scales[pair], half));
        let mins = unsigned_pairs(&block.mins[pair], half);
        for h in 0..2 {
            let j = 2 * pair + h;
            // SAFETY: this function has the features.
            unsafe { dot(&block.q[j], half, columns(x, j, |x| &x.q), [scales[h]; 2], &mut main) };
        }
        for r in 0..R {
            let products = _mm256_madd_epi16(mins, broadcast_pair(&x[r].sums32, 2 * pair));
            minimum[r] = _mm256_add_epi32(minimum[r], products);
        }
    }
    let (d, m) = (factors(&block.d, half), factors(&block.m, half));
    for r in 0..R {
        let w = _mm256_sub_ps(
            _mm256_mul_ps(d, _mm256_cvtepi32_ps(main[r])),
            _mm256_mul_ps(m, _mm256_cvtepi32_ps(minimum[r])),
        );
        add_to(&mut sums[r], half, _mm256_mul_ps(w, _mm256_set1_ps(x[r].d)));
    }
}

/// Multiplies a panel of `Q6_K`; see `portable::block256_q6`.
///
/// # Safety
/// The CPU has the features of [`InstructionSet::Avx2`](crate::kernels::InstructionSet::Avx2).
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels::gemm) unsafe fn block256_q6(
    panel: &[Block256Q6],
    x: &[Activations256],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (b, block) in panel.iter().enumerate() {
        prefetch_ahead(block, 0, 1);
        let x = &x[b * m + row..][..sums.len()];
        for (x, sums) in x.chunks(TILE).zip(sums.chunks_mut(TILE)) {
            for half in 0..2 {
                // SAFETY: this function has the features.
                with_rows!(sums.len(), R => unsafe { block256_q6_tile::<R>(block, half, head(x), head_mut(sums)) });
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block256_q6_tile<const R: usize>(
    block: &Block256Q6,
    half: usize,
    x: &[Activations256; R],
    sums: &mut [[f32; LANES]; R],
) {
    let zero = _mm256_setzero_si256();
    let (mut main, mut zero_point) = ([zero; R], [zero; R]);
    for j in 0..8 {
        let scales = signed_pairs(&block.scales[j], half);
        // SAFETY: this function has the features.
        unsafe { dot(&block.q[j], half, columns(x, j, |x| &x.q), doubled(scales), &mut main) };
        for r in 0..R {
            let products = _mm256_madd_epi16(scales, broadcast_pair(&x[r].sums16, 2 * j));
            zero_point[r] = _mm256_add_epi32(zero_point[r], products);
        }
    }
    let d = factors(&block.d, half);
    for r in 0..R {
        // Σ scale · (q − 32) · x, with the factor 32 = 2^5 moved out of the sum.
        let centered = _mm256_sub_epi32(main[r], _mm256_slli_epi32::<5>(zero_point[r]));
        let w = _mm256_mul_ps(d, _mm256_cvtepi32_ps(centered));
        add_to(&mut sums[r], half, _mm256_mul_ps(w, _mm256_set1_ps(x[r].d)));
    }
}

/// Multiplies a panel of a type with 32-value blocks; see `portable::block32`.
///
/// # Safety
/// The CPU has the features of [`InstructionSet::Avx2`](crate::kernels::InstructionSet::Avx2).
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels::gemm) unsafe fn block32<Q: UnpackAvx2, M: BlockMinimum>(
    panel: &[Block32<Q, M>],
    x: &[Activations2x32],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (b, block) in panel.iter().enumerate() {
        prefetch_ahead(block, 0, 1);
        let x = &x[b * m + row..][..sums.len()];
        for (x, sums) in x.chunks(TILE).zip(sums.chunks_mut(TILE)) {
            for half in 0..2 {
                // SAFETY: this function has the features.
                with_rows!(sums.len(), R => unsafe { block32_tile::<Q, M, R>(block, half, head(x), head_mut(sums)) });
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block32_tile<Q: UnpackAvx2, M: BlockMinimum, const R: usize>(
    block: &Block32<Q, M>,
    half: usize,
    x: &[Activations2x32; R],
    sums: &mut [[f32; LANES]; R],
) {
    let offset = if Q::SIGNED { 0 } else { Block32::<Q, M>::OFFSET };
    for h in 0..2 {
        let mut main: [__m256i; R] = std::array::from_fn(|r| _mm256_set1_epi32(-offset * x[r].sums[h]));
        let one = _mm256_set1_epi16(1);
        // SAFETY: this function has the features.
        unsafe { dot(&block.q[h], half, columns(x, h, |x| &x.q), [one; 2], &mut main) };
        let (d, minimum) = (factors(&block.d[h], half), factors(&block.m.get(h), half));
        for r in 0..R {
            let mut w = _mm256_mul_ps(d, _mm256_cvtepi32_ps(main[r]));
            if M::PRESENT {
                w = _mm256_add_ps(w, _mm256_mul_ps(minimum, _mm256_set1_ps(x[r].sums[h] as f32)));
            }
            add_to(&mut sums[r], half, _mm256_mul_ps(w, _mm256_set1_ps(x[r].d[h])));
        }
    }
}

/// Multiplies a panel of float weights; the columns are summed in ascending order, with fused multiply-add.
///
/// # Safety
/// The CPU has the features of [`InstructionSet::Avx2`](crate::kernels::InstructionSet::Avx2).
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels::gemm) unsafe fn float<T: WidenAvx2>(
    panel: &[BlockFloat<T>],
    x: &[ActivationsF32],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (tile, sums) in sums.chunks_mut(TILE).enumerate() {
        with_rows!(sums.len(), R => {
            let sums: &mut [[f32; LANES]; R] = head_mut(sums);
            let mut total = [[_mm256_setzero_ps(); 2]; R];
            for (b, block) in panel.iter().enumerate() {
                let x: &[ActivationsF32; R] = head(&x[b * m + row + tile * TILE..]);
                for c in 0..16 {
                    // SAFETY: this function has the features.
                    let w = unsafe { [T::widen(&block.0[c], 0), T::widen(&block.0[c], 1)] };
                    for r in 0..R {
                        let x = _mm256_set1_ps(x[r].0[c]);
                        total[r] = [_mm256_fmadd_ps(w[0], x, total[r][0]), _mm256_fmadd_ps(w[1], x, total[r][1])];
                    }
                }
            }
            for r in 0..R {
                add_to(&mut sums[r], 0, total[r][0]);
                add_to(&mut sums[r], 1, total[r][1]);
            }
        });
    }
}

/// Widening of 8 weights of a float type to f32.
pub(in crate::kernels::gemm) trait WidenAvx2: FloatValue {
    /// # Safety
    /// The CPU has AVX2 and F16C.
    unsafe fn widen(lanes: &[Self; LANES], half: usize) -> __m256;
}

impl WidenAvx2 for f32 {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn widen(lanes: &[Self; LANES], half: usize) -> __m256 {
        let lanes: &[f32; HALF] = head(&lanes[HALF * half..]);
        // SAFETY: a reference to 32 bytes.
        unsafe { _mm256_loadu_ps(lanes.as_ptr()) }
    }
}

impl WidenAvx2 for f16 {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn widen(lanes: &[Self; LANES], half: usize) -> __m256 {
        let lanes: &[f16; HALF] = head(&lanes[HALF * half..]);
        // SAFETY: a reference to 16 bytes.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(lanes.as_ptr().cast()) })
    }
}

impl WidenAvx2 for bf16 {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn widen(lanes: &[Self; LANES], half: usize) -> __m256 {
        let lanes: &[bf16; HALF] = head(&lanes[HALF * half..]);
        // SAFETY: a reference to 16 bytes.
        let bits = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(lanes.as_ptr().cast()) });
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
    }
}
