//! Products of quantized types on AMX tiles (Intel since Sapphire Rapids), for batches of several rows. Everything around
//! the tiles uses AVX-512, which every CPU with AMX has.
//!
//! A tile sums over at least 64 columns, but a scale applies to only 16 or 32 of them. Therefore the quants of a block are
//! multiplied by their scales **before** the product, once for all rows. A scaled quant has at most 13 bits; its low byte
//! (unsigned) and high byte (signed) become two planes of int8 weights. `Σ scale · q · x = Σ low · x + 256 · Σ high · x` is
//! an integer sum, so the bits equal those of `portable`. Types with 32-value blocks have float scales on both sides; for
//! them a tile sums over one block.

#![allow(unsafe_code)] // intrinsics on references

use super::amx_tiles::{BytePlanes, CacheAligned, TILE, TileSums, TileUnit32, TileUnit256};
use super::avx512::{broadcast_pair, factors, load_lanes, signed_pairs, store_lanes, unsigned_pairs};
use super::avx512_unpack::UnpackAvx512;
use super::head;
use super::prefetch::prefetch_ahead;
use crate::kernels::gemm::activations::{Activations2x32, Activations256};
use crate::kernels::gemm::panel::{Block32, Block256Min, Block256Q6, BlockMinimum, LANES};
use std::arch::x86_64::*;

/// Blocks of activations after the last row that a product may read without using them.
pub(in crate::kernels::gemm) const PADDING: usize = 2 * TILE;

/// Multiplies a panel of `Q4_K` or `Q5_K`; see `portable::block256_min`.
///
/// # Safety
/// The CPU has the features of [`InstructionSet::Amx`](crate::kernels::InstructionSet::Amx), and [`PADDING`] blocks follow
/// the last row of `x`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(in crate::kernels::gemm) unsafe fn block256_min<Q: UnpackAvx512>(
    panel: &[Block256Min<Q>],
    x: &[Activations256],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    let unpack = |block: &Block256Min<Q>, planes: &mut BytePlanes| {
        for (j, unit) in block.q.iter().enumerate() {
            prefetch_ahead(block, j, 8);
            let scale = both(signed_pairs(&block.scales[j / 2]), j % 2);
            // SAFETY: this function has the features.
            let w = unsafe { unit.registers() };
            let planes = &mut planes.0[j / 2];
            for g in 0..8 {
                let scaled = halves(w[g]).map(|q| _mm512_mullo_epi16(q, scale));
                store_planes(planes, j % 2 * 8 + g, scaled);
            }
        }
    };
    let finish =
        |block: &Block256Min<Q>, c: &[TileSums; 2], x: &[Activations256], sums: &mut [[f32; LANES]]| {
            let (d, m) = (factors(&block.d), factors(&block.m));
            let mins = [
                unsigned_pairs(&block.mins[0]),
                unsigned_pairs(&block.mins[1]),
                unsigned_pairs(&block.mins[2]),
                unsigned_pairs(&block.mins[3]),
            ];
            for (r, (sum, x)) in sums.iter_mut().zip(x).enumerate() {
                let mut minimum = _mm512_setzero_si512();
                for pair in 0..4 {
                    minimum = _mm512_dpwssd_epi32(minimum, mins[pair], broadcast_pair(&x.sums32, 2 * pair));
                }
                let w = _mm512_sub_ps(
                    _mm512_mul_ps(d, _mm512_cvtepi32_ps(join(c, r))),
                    _mm512_mul_ps(m, _mm512_cvtepi32_ps(minimum)),
                );
                store_lanes(sum, _mm512_add_ps(load_lanes(sum), _mm512_mul_ps(w, _mm512_set1_ps(x.d))));
            }
        };
    // SAFETY: guaranteed by the caller of this function.
    unsafe { block256(panel, x, m, row, sums, unpack, finish) };
}

/// Multiplies a panel of `Q6_K`; see `portable::block256_q6`.
///
/// # Safety
/// Same as for [`block256_min`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(in crate::kernels::gemm) unsafe fn block256_q6(
    panel: &[Block256Q6],
    x: &[Activations256],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    let unpack = |block: &Block256Q6, planes: &mut BytePlanes| {
        for (j, unit) in block.q.iter().enumerate() {
            prefetch_ahead(block, j, 8);
            let scales = signed_pairs(&block.scales[j]);
            // SAFETY: this function has the features.
            let w = unsafe { unit.registers() };
            let planes = &mut planes.0[j / 2];
            for half in 0..2 {
                let scale = both(scales, half);
                // (q − 32) · scale = q · scale − 32 · scale
                let zero_point = _mm512_slli_epi16::<5>(scale);
                for g in 4 * half..4 * half + 4 {
                    let scaled =
                        halves(w[g]).map(|q| _mm512_sub_epi16(_mm512_mullo_epi16(q, scale), zero_point));
                    store_planes(planes, j % 2 * 8 + g, scaled);
                }
            }
        }
    };
    let finish = |block: &Block256Q6, c: &[TileSums; 2], x: &[Activations256], sums: &mut [[f32; LANES]]| {
        let d = factors(&block.d);
        for (r, (sum, x)) in sums.iter_mut().zip(x).enumerate() {
            let w = _mm512_mul_ps(d, _mm512_cvtepi32_ps(join(c, r)));
            store_lanes(sum, _mm512_add_ps(load_lanes(sum), _mm512_mul_ps(w, _mm512_set1_ps(x.d))));
        }
    };
    // SAFETY: guaranteed by the caller of this function.
    unsafe { block256(panel, x, m, row, sums, unpack, finish) };
}

/// The loop over blocks and rows for types with 256-value blocks: `unpack` computes the planes of a block, the tiles
/// multiply them by up to 32 rows at a time, and `finish` converts the integer sums of 16 rows to floats.
///
/// The sums are finished one iteration late, while the tiles work on the next rows or on the next block: this hides the
/// latency of the tiles.
///
/// # Safety
/// Same as for [`block256_min`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn block256<P>(
    panel: &[P],
    x: &[Activations256],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
    unpack: impl Fn(&P, &mut BytePlanes),
    finish: impl Fn(&P, &[TileSums; 2], &[Activations256], &mut [[f32; LANES]]),
) {
    // SAFETY: the caller guarantees AMX. This thread holds no other tiles, because products do not nest.
    let tiles = unsafe { TileUnit256::configure() };
    let rows = sums.len();
    let mut planes = BytePlanes([[[[0; 64]; 16]; 2]; 4]);
    let mut buffers = [CacheAligned([[[0; LANES]; TILE]; 4]); 2];
    let [mut current, mut before] = buffers.each_mut();
    let mut finish_rows = |(b, first): (usize, usize), c: &CacheAligned<[TileSums; 4]>| {
        let x = &x[b * m + row + first..];
        let sums = &mut sums[first..];
        let pairs = c.0.as_chunks().0.iter();
        for ((c, sums), x) in pairs.zip(sums.chunks_mut(TILE)).zip(x.chunks(TILE)) {
            finish(&panel[b], c, x, sums);
        }
    };
    let mut unfinished = None;
    for (b, block) in panel.iter().enumerate() {
        unpack(block, &mut planes);
        for first in (0..rows).step_by(2 * TILE) {
            let x = &x[b * m + row + first..];
            if rows - first > TILE {
                tiles.pair(head(x), &planes, current);
            } else {
                tiles.single(head(x), &planes, current);
            }
            if let Some(rows_of_block) = unfinished.replace((b, first)) {
                finish_rows(rows_of_block, before);
            }
            std::mem::swap(&mut current, &mut before);
        }
    }
    if let Some(rows_of_block) = unfinished {
        finish_rows(rows_of_block, before);
    }
}

/// Returns the sums of a row: those of the low bytes plus 256 times those of the high bytes.
#[inline]
#[target_feature(enable = "avx512f")]
fn join([low, high]: &[TileSums; 2], row: usize) -> __m512i {
    _mm512_add_epi32(load_sums(&low[row]), _mm512_slli_epi32::<8>(load_sums(&high[row])))
}

/// Multiplies a panel of a type with 32-value blocks; see `portable::block32`.
///
/// # Safety
/// Same as for [`block256_min`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(in crate::kernels::gemm) unsafe fn block32<Q: UnpackAvx512, M: BlockMinimum>(
    panel: &[Block32<Q, M>],
    x: &[Activations2x32],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    // SAFETY: the caller guarantees AMX. This thread holds no other tiles, because products do not nest.
    let tiles = unsafe { TileUnit32::configure() };
    let mut weights = CacheAligned([[[0; 64]; 8]; 2]);
    let mut c = CacheAligned([[[0; LANES]; TILE]; 2]);
    for (b, block) in panel.iter().enumerate() {
        prefetch_ahead(block, 0, 1);
        for h in 0..2 {
            // SAFETY: this function has the features.
            let w = unsafe { block.q[h].registers() };
            for g in 0..8 {
                store_group(&mut weights.0[h][g], w[g]);
            }
        }
        let d = [factors(&block.d[0]), factors(&block.d[1])];
        let minimum = [factors(&block.m.get(0)), factors(&block.m.get(1))];
        for (i, sums) in sums.chunks_mut(TILE).enumerate() {
            let x: &[Activations2x32; TILE] = head(&x[b * m + row + i * TILE..]);
            tiles.single(x, &weights, &mut c);
            for (r, (sum, x)) in sums.iter_mut().zip(x).enumerate() {
                let mut total = load_lanes(sum);
                for h in 0..2 {
                    let offset = _mm512_set1_epi32(-Block32::<Q, M>::OFFSET * x.sums[h]);
                    let dot = _mm512_add_epi32(load_sums(&c.0[h][r]), offset);
                    let mut w = _mm512_mul_ps(d[h], _mm512_cvtepi32_ps(dot));
                    if M::PRESENT {
                        w = _mm512_add_ps(w, _mm512_mul_ps(minimum[h], _mm512_set1_ps(x.sums[h] as f32)));
                    }
                    total = _mm512_add_ps(total, _mm512_mul_ps(w, _mm512_set1_ps(x.d[h])));
                }
                store_lanes(sum, total);
            }
        }
    }
}

/// Returns the scale of one of a pair of sub-blocks in both halves of each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn both(scales: __m512i, which: usize) -> __m512i {
    let low = _mm512_set1_epi32(0xffff);
    if which == 0 {
        let low = _mm512_and_si512(scales, low);
        _mm512_or_si512(low, _mm512_slli_epi32::<16>(low))
    } else {
        _mm512_or_si512(_mm512_andnot_si512(low, scales), _mm512_srli_epi32::<16>(scales))
    }
}

/// Returns the even and the odd bytes as 16-bit numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn halves(q: __m512i) -> [__m512i; 2] {
    [_mm512_and_si512(q, _mm512_set1_epi16(0xff)), _mm512_srli_epi16::<8>(q)]
}

/// Stores the low and the high bytes of 64 scaled quants, given as even and odd ones, as a group of each plane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store_planes(planes: &mut [[[u8; 64]; 16]; 2], group: usize, [even, odd]: [__m512i; 2]) {
    /// `(a & c) | (b & !c)`
    const SELECT: i32 = 0xe4;
    let low = _mm512_set1_epi16(0xff);
    let [lows, highs] = planes;
    let (odd_low, even_high) = (_mm512_slli_epi16::<8>(odd), _mm512_srli_epi16::<8>(even));
    store_group(&mut lows[group], _mm512_ternarylogic_epi32::<SELECT>(even, odd_low, low));
    store_group(&mut highs[group], _mm512_ternarylogic_epi32::<SELECT>(even_high, odd, low));
}

/// Stores a group.
#[inline]
#[target_feature(enable = "avx512f")]
fn store_group(to: &mut [u8; 64], group: __m512i) {
    // SAFETY: a reference to 64 bytes.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), group) }
}

/// Loads the sums of a row.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_sums(lanes: &[i32; LANES]) -> __m512i {
    // SAFETY: a reference to 16 numbers.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}
