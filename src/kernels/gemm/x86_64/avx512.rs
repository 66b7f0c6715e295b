//! Products in AVX-512 with VNNI (Intel since Ice Lake, AMD since Zen 4).
//!
//! A register holds 4 columns × 16 rows of weights. `VPDPBUSD` multiplies them by 4 activations broadcast from memory and
//! adds the four products of each row to that row's lane, so no horizontal sums are needed. A block is unpacked once and
//! multiplied by up to 8 rows of activations at a time, whose sums stay in registers.

#![allow(unsafe_code)] // intrinsics on references

use super::avx512_unpack::UnpackAvx512;
use super::prefetch::prefetch_ahead;
use super::{head, head_mut};
use crate::kernels::gemm::activations::{Activations2x32, Activations256, ActivationsF32};
use crate::kernels::gemm::panel::{
    Block32, Block256Min, Block256Q6, BlockFloat, BlockMinimum, Factors, FloatValue, LANES,
};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Loads the sums of a row.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_lanes(lanes: &[f32; LANES]) -> __m512 {
    // SAFETY: a reference to 16 floats.
    unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
}

/// Stores the sums of a row.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_lanes(to: &mut [f32; LANES], lanes: __m512) {
    // SAFETY: a reference to 16 floats.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), lanes) }
}

/// Loads the factors of 16 rows.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
pub(super) fn factors(bits: &Factors) -> __m512 {
    // SAFETY: a reference to 32 bytes.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(bits.as_ptr().cast()) })
}

/// Loads 32 signed bytes as 16 pairs of i16: the low half of a lane belongs to the even sub-block, the high half to the odd.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn signed_pairs(bytes: &[i8; 32]) -> __m512i {
    // SAFETY: a reference to 32 bytes.
    _mm512_cvtepi8_epi16(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
}

/// Loads 32 unsigned bytes like [`signed_pairs`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn unsigned_pairs(bytes: &[u8; 32]) -> __m512i {
    // SAFETY: a reference to 32 bytes.
    _mm512_cvtepu8_epi16(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
}

/// Broadcasts four quants of a row of activations.
#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast4(q: &[i8], at: usize) -> __m512i {
    let four: [i8; 4] = [q[at], q[at + 1], q[at + 2], q[at + 3]];
    _mm512_set1_epi32(i32::from_le_bytes(four.map(i8::cast_unsigned)))
}

/// Broadcasts two 16-bit sums.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn broadcast_pair(sums: &[i16], at: usize) -> __m512i {
    let pair: &[i16; 2] = head(&sums[at..]);
    // SAFETY: a reference to 4 bytes.
    _mm512_set1_epi32(unsafe { pair.as_ptr().cast::<i32>().read_unaligned() })
}

/// Quantizes 256 values like `activations::quantize`, and sums every 16 quants.
///
/// # Safety
/// The CPU has the features of [`InstructionSet::Avx512`](crate::kernels::InstructionSet::Avx512).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(in crate::kernels::gemm) unsafe fn quantize(
    x: &[f32; 256],
    q: &mut [i8; 256],
    sums: &mut [i16; 16],
) -> f32 {
    let x = x.as_chunks::<LANES>().0;
    let magnitude = _mm512_set1_epi32(0x7fff_ffff);
    let mut bits = _mm512_setzero_si512();
    for x in x {
        bits = _mm512_max_epu32(bits, _mm512_and_si512(_mm512_castps_si512(load_lanes(x)), magnitude));
    }
    let largest = f32::from_bits(_mm512_reduce_max_epu32(bits));
    if !largest.is_finite() {
        (*q, *sums) = ([0; 256], [0; 16]);
        return f32::NAN;
    }
    let inverse = _mm512_set1_ps(if largest > 1e-30 { 127.0 / largest } else { 0.0 });
    for (x, q) in x.iter().zip(q.as_chunks_mut::<LANES>().0) {
        let quants = _mm512_cvtps_epi32(_mm512_mul_ps(load_lanes(x), inverse)); // rounds to nearest even
        // SAFETY: a reference to 16 bytes.
        unsafe { _mm_storeu_si128(q.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(quants)) };
    }
    // First sums of 4 in the lanes of four registers; then, as in a transposition, sums of 16: lane 4 i + j has the sum
    // of the i-th quarter of the j-th register.
    let [a, b, c, d] = [0, 64, 128, 192].map(|at| {
        let q: &[i8; 64] = head(&q[at..]);
        // SAFETY: a reference to 64 bytes.
        let q = unsafe { _mm512_loadu_si512(q.as_ptr().cast()) };
        _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), q)
    });
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let ordered = _mm512_cvtepi32_epi16(_mm512_permutexvar_epi32(order, all));
    // SAFETY: a reference to 32 bytes.
    unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), ordered) };
    largest / 127.0
}

/// Evaluates `$body` with `$rows` as a constant from 1 to 8.
macro_rules! with_rows {
    ($count:expr, $rows:ident => $body:expr) => {
        match $count {
            1 => with_rows!(@ 1, $rows, $body),
            2 => with_rows!(@ 2, $rows, $body),
            3 => with_rows!(@ 3, $rows, $body),
            4 => with_rows!(@ 4, $rows, $body),
            5 => with_rows!(@ 5, $rows, $body),
            6 => with_rows!(@ 6, $rows, $body),
            7 => with_rows!(@ 7, $rows, $body),
            _ => with_rows!(@ 8, $rows, $body),
        }
    };
    (@ $n:literal, $rows:ident, $body:expr) => {{
        const $rows: usize = $n;
        $body
    }};
}

/// Rows of activations whose sums stay in registers.
const TILE: usize = 8;

/// Multiplies a panel of `Q4_K` or `Q5_K`; see `portable::block256_min`.
///
/// # Safety
/// The CPU has the features of [`InstructionSet::Avx512`](crate::kernels::InstructionSet::Avx512).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(in crate::kernels::gemm) unsafe fn block256_min<Q: UnpackAvx512>(
    panel: &[Block256Min<Q>],
    x: &[Activations256],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (b, block) in panel.iter().enumerate() {
        let x = &x[b * m + row..][..sums.len()];
        for (tile, (x, sums)) in x.chunks(TILE).zip(sums.chunks_mut(TILE)).enumerate() {
            // SAFETY: this function has the features.
            with_rows!(sums.len(), R => unsafe { block256_min_tile::<Q, R>(block, tile == 0, head(x), head_mut(sums)) });
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn block256_min_tile<Q: UnpackAvx512, const R: usize>(
    block: &Block256Min<Q>,
    first: bool,
    x: &[Activations256; R],
    sums: &mut [[f32; LANES]; R],
) {
    let zero = _mm512_setzero_si512();
    let mut main = [zero; R];
    for pair in 0..4 {
        let scales = signed_pairs(&block.scales[pair]);
        for half in 0..2 {
            let j = 2 * pair + half;
            let scale =
                _mm512_srai_epi32::<16>(if half == 0 { _mm512_slli_epi32::<16>(scales) } else { scales });
            if first {
                prefetch_ahead(block, j, 8);
            }
            // SAFETY: this function has the features.
            let w = unsafe { block.q[j].registers() };
            let mut dot = [zero; R];
            for g in 0..8 {
                for r in 0..R {
                    dot[r] = _mm512_dpbusd_epi32(dot[r], w[g], broadcast4(&x[r].q, 32 * j + 4 * g));
                }
            }
            for r in 0..R {
                main[r] = _mm512_add_epi32(main[r], _mm512_mullo_epi32(dot[r], scale));
            }
        }
    }
    let (d, m) = (factors(&block.d), factors(&block.m));
    let mins: [__m512i; 4] = [
        unsigned_pairs(&block.mins[0]),
        unsigned_pairs(&block.mins[1]),
        unsigned_pairs(&block.mins[2]),
        unsigned_pairs(&block.mins[3]),
    ];
    for r in 0..R {
        let mut minimum = zero;
        for pair in 0..4 {
            minimum = _mm512_dpwssd_epi32(minimum, mins[pair], broadcast_pair(&x[r].sums32, 2 * pair));
        }
        let w = _mm512_sub_ps(
            _mm512_mul_ps(d, _mm512_cvtepi32_ps(main[r])),
            _mm512_mul_ps(m, _mm512_cvtepi32_ps(minimum)),
        );
        let sum = _mm512_add_ps(load_lanes(&sums[r]), _mm512_mul_ps(w, _mm512_set1_ps(x[r].d)));
        store_lanes(&mut sums[r], sum);
    }
}

/// Multiplies a panel of `Q6_K`; see `portable::block256_q6`.
///
/// # Safety
/// The CPU has the features of [`InstructionSet::Avx512`](crate::kernels::InstructionSet::Avx512).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(in crate::kernels::gemm) unsafe fn block256_q6(
    panel: &[Block256Q6],
    x: &[Activations256],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (b, block) in panel.iter().enumerate() {
        let x = &x[b * m + row..][..sums.len()];
        for (tile, (x, sums)) in x.chunks(TILE).zip(sums.chunks_mut(TILE)).enumerate() {
            // SAFETY: this function has the features.
            with_rows!(sums.len(), R => unsafe { block256_q6_tile::<R>(block, tile == 0, head(x), head_mut(sums)) });
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn block256_q6_tile<const R: usize>(
    block: &Block256Q6,
    first: bool,
    x: &[Activations256; R],
    sums: &mut [[f32; LANES]; R],
) {
    let zero = _mm512_setzero_si512();
    let mut main = [zero; R];
    let mut zero_point = [zero; R];
    for j in 0..8 {
        let scales = signed_pairs(&block.scales[j]);
        if first {
            prefetch_ahead(block, j, 8);
        }
        // SAFETY: this function has the features.
        let w = unsafe { block.q[j].registers() };
        for half in 0..2 {
            let scale =
                _mm512_srai_epi32::<16>(if half == 0 { _mm512_slli_epi32::<16>(scales) } else { scales });
            let mut dot = [zero; R];
            for g in 4 * half..4 * half + 4 {
                for r in 0..R {
                    dot[r] = _mm512_dpbusd_epi32(dot[r], w[g], broadcast4(&x[r].q, 32 * j + 4 * g));
                }
            }
            for r in 0..R {
                main[r] = _mm512_add_epi32(main[r], _mm512_mullo_epi32(dot[r], scale));
            }
        }
        for r in 0..R {
            zero_point[r] = _mm512_dpwssd_epi32(zero_point[r], scales, broadcast_pair(&x[r].sums16, 2 * j));
        }
    }
    let d = factors(&block.d);
    for r in 0..R {
        // Σ scale · (q − 32) · x, with the factor 32 = 2^5 moved out of the sum.
        let centered = _mm512_sub_epi32(main[r], _mm512_slli_epi32::<5>(zero_point[r]));
        let w = _mm512_mul_ps(d, _mm512_cvtepi32_ps(centered));
        let sum = _mm512_add_ps(load_lanes(&sums[r]), _mm512_mul_ps(w, _mm512_set1_ps(x[r].d)));
        store_lanes(&mut sums[r], sum);
    }
}

/// Multiplies a panel of a type with 32-value blocks; see `portable::block32`.
///
/// # Safety
/// The CPU has the features of [`InstructionSet::Avx512`](crate::kernels::InstructionSet::Avx512).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(in crate::kernels::gemm) unsafe fn block32<Q: UnpackAvx512, M: BlockMinimum>(
    panel: &[Block32<Q, M>],
    x: &[Activations2x32],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (b, block) in panel.iter().enumerate() {
        let x = &x[b * m + row..][..sums.len()];
        for h in 0..2 {
            prefetch_ahead(block, h, 2);
            // SAFETY: this function has the features.
            let w = unsafe { block.q[h].registers() };
            let (d, minimum) = (factors(&block.d[h]), factors(&block.m.get(h)));
            for (x, sums) in x.chunks(TILE).zip(sums.chunks_mut(TILE)) {
                with_rows!(sums.len(), R => {
                    let (x, sums): (&[Activations2x32; R], &mut [[f32; LANES]; R]) = (head(x), head_mut(sums));
                    let mut dot: [__m512i; R] =
                        std::array::from_fn(|r| _mm512_set1_epi32(-Block32::<Q, M>::OFFSET * x[r].sums[h]));
                    for g in 0..8 {
                        for r in 0..R {
                            dot[r] = _mm512_dpbusd_epi32(dot[r], w[g], broadcast4(&x[r].q, 32 * h + 4 * g));
                        }
                    }
                    for r in 0..R {
                        let mut w = _mm512_mul_ps(d, _mm512_cvtepi32_ps(dot[r]));
                        if M::PRESENT {
                            w = _mm512_add_ps(w, _mm512_mul_ps(minimum, _mm512_set1_ps(x[r].sums[h] as f32)));
                        }
                        let sum = _mm512_add_ps(load_lanes(&sums[r]), _mm512_mul_ps(w, _mm512_set1_ps(x[r].d[h])));
                        store_lanes(&mut sums[r], sum);
                    }
                });
            }
        }
    }
}

/// Multiplies a panel of float weights; the columns are summed in ascending order, with fused multiply-add.
///
/// # Safety
/// The CPU has the features of [`InstructionSet::Avx512`](crate::kernels::InstructionSet::Avx512).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(in crate::kernels::gemm) unsafe fn float<T: WidenAvx512>(
    panel: &[BlockFloat<T>],
    x: &[ActivationsF32],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (tile, sums) in sums.chunks_mut(TILE).enumerate() {
        with_rows!(sums.len(), R => {
            let sums: &mut [[f32; LANES]; R] = head_mut(sums);
            let mut total: [__m512; R] = std::array::from_fn(|r| load_lanes(&sums[r]));
            for (b, block) in panel.iter().enumerate() {
                if tile == 0 {
                    prefetch_ahead(block, 0, 1);
                }
                let x: &[ActivationsF32; R] = head(&x[b * m + row + tile * TILE..]);
                for c in 0..16 {
                    // SAFETY: this function has the features.
                    let w = unsafe { T::widen(&block.0[c]) };
                    for r in 0..R {
                        total[r] = _mm512_fmadd_ps(w, _mm512_set1_ps(x[r].0[c]), total[r]);
                    }
                }
            }
            for r in 0..R {
                store_lanes(&mut sums[r], total[r]);
            }
        });
    }
}

/// Widening of 16 weights of a float type to f32.
pub(in crate::kernels::gemm) trait WidenAvx512: FloatValue {
    /// # Safety
    /// The CPU has AVX-512 F and F16C.
    unsafe fn widen(lanes: &[Self; LANES]) -> __m512;
}

impl WidenAvx512 for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,f16c")]
    unsafe fn widen(lanes: &[Self; LANES]) -> __m512 {
        load_lanes(lanes)
    }
}

impl WidenAvx512 for f16 {
    #[inline]
    #[target_feature(enable = "avx512f,f16c")]
    unsafe fn widen(lanes: &[Self; LANES]) -> __m512 {
        // SAFETY: a reference to 32 bytes.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) })
    }
}

impl WidenAvx512 for bf16 {
    #[inline]
    #[target_feature(enable = "avx512f,f16c")]
    unsafe fn widen(lanes: &[Self; LANES]) -> __m512 {
        // SAFETY: a reference to 32 bytes.
        let bits = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) });
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
    }
}
