//! The kernels in AVX-512 with VNNI (Intel since Ice Lake, AMD since Zen 4): the products called by `gemm`, the inner
//! loops of attention called by `attention`. Knows shapes only; what is multiplied when is decided by the callers.
//!
//! A register holds 4 columns × 16 rows of weights, `VPDPBUSD` multiplies them with 4 activations that it broadcasts
//! from memory, and adds each row's four products into that row's lane: no horizontal sum anywhere. A panel block is
//! unpacked once into L1 and multiplied with up to 8 rows of activations at a time, whose sums stay in registers.

#![allow(unsafe_code)] // intrinsics on references

use super::avx512_unpack::Unpack;
use super::cpu::Loops;
use super::panel::{Factors, Float, FloatValue, LANES, LongMin, LongSix, Minima, Short, head, head_mut};
use super::prefetch::prefetch_ahead;
use super::quantize::{FloatColumns, LongBlock, ShortBlocks};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Runs `work` compiled for these features; see `CpuFeatures::compiled`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn compiled<W: Loops>(work: W) {
    work.run();
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_lanes(lanes: &[f32; LANES]) -> __m512 {
    // SAFETY: a reference to 16 floats.
    unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_lanes(to: &mut [f32; LANES], lanes: __m512) {
    // SAFETY: a reference to 16 floats.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), lanes) }
}

#[inline]
#[target_feature(enable = "avx512f,f16c")]
pub(super) fn factors(bits: &Factors) -> __m512 {
    // SAFETY: a reference to 32 bytes.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(bits.as_ptr().cast()) })
}

/// 32 bytes as 16 pairs of i16: the low half of each lane belongs to the even sub-block, the high half to the odd one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn signed_pairs(bytes: &[i8; 32]) -> __m512i {
    // SAFETY: a reference to 32 bytes.
    _mm512_cvtepi8_epi16(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn unsigned_pairs(bytes: &[u8; 32]) -> __m512i {
    // SAFETY: a reference to 32 bytes.
    _mm512_cvtepu8_epi16(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
}

/// Four quants of a row of activations in every lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast4(q: &[i8], at: usize) -> __m512i {
    let four: [i8; 4] = [q[at], q[at + 1], q[at + 2], q[at + 3]];
    _mm512_set1_epi32(i32::from_le_bytes(four.map(i8::cast_unsigned)))
}

/// Two 16-bit sums in every lane.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn broadcast_pair(sums: &[i16], at: usize) -> __m512i {
    let pair: &[i16; 2] = head(&sums[at..]);
    // SAFETY: a reference to 4 bytes.
    _mm512_set1_epi32(unsafe { pair.as_ptr().cast::<i32>().read_unaligned() })
}

/// `quantize::quantize` of 256 values, and the sums of each 16 quants.
///
/// # Safety
/// The CPU has the features of [`compiled`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn quantize(x: &[f32; 256], q: &mut [i8; 256], sums: &mut [i16; 16]) -> f32 {
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
        let quants = _mm512_cvtps_epi32(_mm512_mul_ps(load_lanes(x), inverse)); // to nearest even
        // SAFETY: a reference to 16 bytes.
        unsafe { _mm_storeu_si128(q.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(quants)) };
    }
    // Sums of 4 in the lanes of four registers; then, as in a transposition, sums of 16: lane 4 i + j has those of
    // the i-th quarter of the j-th register.
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

/// Runs `$body` with `$rows` as a constant from 1 to 8.
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

/// `Q4_K`, `Q5_K`; see `portable::long_min`.
///
/// # Safety
/// The CPU has the features of [`compiled`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn long_min<Q: Unpack>(
    panel: &[LongMin<Q>],
    x: &[LongBlock],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (b, block) in panel.iter().enumerate() {
        let x = &x[b * m + row..][..sums.len()];
        for (tile, (x, sums)) in x.chunks(TILE).zip(sums.chunks_mut(TILE)).enumerate() {
            // SAFETY: this function has the features.
            with_rows!(sums.len(), R => unsafe { long_min_tile::<Q, R>(block, tile == 0, head(x), head_mut(sums)) });
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn long_min_tile<Q: Unpack, const R: usize>(
    block: &LongMin<Q>,
    first: bool,
    x: &[LongBlock; R],
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
        let mut least = zero;
        for pair in 0..4 {
            least = _mm512_dpwssd_epi32(least, mins[pair], broadcast_pair(&x[r].sums32, 2 * pair));
        }
        let w = _mm512_sub_ps(
            _mm512_mul_ps(d, _mm512_cvtepi32_ps(main[r])),
            _mm512_mul_ps(m, _mm512_cvtepi32_ps(least)),
        );
        let sum = _mm512_add_ps(load_lanes(&sums[r]), _mm512_mul_ps(w, _mm512_set1_ps(x[r].d)));
        store_lanes(&mut sums[r], sum);
    }
}

/// `Q6_K`; see `portable::long_six`.
///
/// # Safety
/// The CPU has the features of [`compiled`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn long_six(
    panel: &[LongSix],
    x: &[LongBlock],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (b, block) in panel.iter().enumerate() {
        let x = &x[b * m + row..][..sums.len()];
        for (tile, (x, sums)) in x.chunks(TILE).zip(sums.chunks_mut(TILE)).enumerate() {
            // SAFETY: this function has the features.
            with_rows!(sums.len(), R => unsafe { long_six_tile::<R>(block, tile == 0, head(x), head_mut(sums)) });
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn long_six_tile<const R: usize>(
    block: &LongSix,
    first: bool,
    x: &[LongBlock; R],
    sums: &mut [[f32; LANES]; R],
) {
    let zero = _mm512_setzero_si512();
    let mut main = [zero; R];
    let mut middle = [zero; R];
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
            middle[r] = _mm512_dpwssd_epi32(middle[r], scales, broadcast_pair(&x[r].sums16, 2 * j));
        }
    }
    let d = factors(&block.d);
    for r in 0..R {
        // Σ scale · (q − 32) · x, with 32 = 2^5 taken out of the sum.
        let centred = _mm512_sub_epi32(main[r], _mm512_slli_epi32::<5>(middle[r]));
        let w = _mm512_mul_ps(d, _mm512_cvtepi32_ps(centred));
        let sum = _mm512_add_ps(load_lanes(&sums[r]), _mm512_mul_ps(w, _mm512_set1_ps(x[r].d)));
        store_lanes(&mut sums[r], sum);
    }
}

/// The types of 32-value blocks; see `portable::short`.
///
/// # Safety
/// The CPU has the features of [`compiled`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn short<Q: Unpack, M: Minima>(
    panel: &[Short<Q, M>],
    x: &[ShortBlocks],
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
            let (d, least) = (factors(&block.d[h]), factors(&block.m.get(h)));
            for (x, sums) in x.chunks(TILE).zip(sums.chunks_mut(TILE)) {
                with_rows!(sums.len(), R => {
                    let (x, sums): (&[ShortBlocks; R], &mut [[f32; LANES]; R]) = (head(x), head_mut(sums));
                    let mut dot: [__m512i; R] =
                        std::array::from_fn(|r| _mm512_set1_epi32(-Short::<Q, M>::OFFSET * x[r].sums[h]));
                    for g in 0..8 {
                        for r in 0..R {
                            dot[r] = _mm512_dpbusd_epi32(dot[r], w[g], broadcast4(&x[r].q, 32 * h + 4 * g));
                        }
                    }
                    for r in 0..R {
                        let mut w = _mm512_mul_ps(d, _mm512_cvtepi32_ps(dot[r]));
                        if M::PRESENT {
                            w = _mm512_add_ps(w, _mm512_mul_ps(least, _mm512_set1_ps(x[r].sums[h] as f32)));
                        }
                        let sum = _mm512_add_ps(load_lanes(&sums[r]), _mm512_mul_ps(w, _mm512_set1_ps(x[r].d[h])));
                        store_lanes(&mut sums[r], sum);
                    }
                });
            }
        }
    }
}

/// Float weights; a sum runs over the columns in order, with fused multiply-add.
///
/// # Safety
/// The CPU has the features of [`compiled`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn float<T: Widen>(
    panel: &[Float<T>],
    x: &[FloatColumns],
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
                let x: &[FloatColumns; R] = head(&x[b * m + row + tile * TILE..]);
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

/// 16 weights of a float type in a register.
pub(super) trait Widen: FloatValue {
    /// # Safety
    /// The CPU has AVX-512 F and F16C.
    unsafe fn widen(lanes: &[Self; LANES]) -> __m512;
}

impl Widen for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,f16c")]
    unsafe fn widen(lanes: &[Self; LANES]) -> __m512 {
        load_lanes(lanes)
    }
}

impl Widen for f16 {
    #[inline]
    #[target_feature(enable = "avx512f,f16c")]
    unsafe fn widen(lanes: &[Self; LANES]) -> __m512 {
        // SAFETY: a reference to 32 bytes.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) })
    }
}

impl Widen for bf16 {
    #[inline]
    #[target_feature(enable = "avx512f,f16c")]
    unsafe fn widen(lanes: &[Self; LANES]) -> __m512 {
        // SAFETY: a reference to 32 bytes.
        let bits = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) });
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
    }
}
