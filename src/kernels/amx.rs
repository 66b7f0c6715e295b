//! The products of quantized types on AMX tiles (Intel since Sapphire Rapids); called by `gemm` for batches of several
//! rows. What the tile unit cannot do is AVX-512's, which every CPU with AMX has.
//!
//! A tile sums over 64 columns and more, but a scale belongs to 16 or 32 of them. So the quants of a panel block are
//! multiplied by their scales **before** the product, once for all rows: a scaled quant has at most 13 bits, whose low
//! byte (unsigned) and high byte (signed) are two planes of int8 weights. `Σ scale · q · x = Σ low · x + 256 · Σ high · x`
//! is an integer sum, hence the bits are those of `portable`. The types of 32-value blocks have float scales on both
//! sides; there a tile sums over a block.

#![allow(unsafe_code)] // intrinsics on references

use super::amx_tiles::{Lines, LongTiles, Planes, ShortTiles, Sums, TILE};
use super::avx512::{broadcast_pair, factors, load_lanes, signed_pairs, store_lanes, unsigned_pairs};
use super::avx512_unpack::Unpack;
use super::panel::{LANES, LongMin, LongSix, Minima, Short, head};
use super::prefetch::prefetch_ahead;
use super::quantize::{LongBlock, ShortBlocks};
use std::arch::x86_64::*;

/// Blocks of activations that a product may read, and not use, after its last row.
pub(super) const PADDING: usize = 2 * TILE;

/// `Q4_K`, `Q5_K`; see `portable::long_min`.
///
/// # Safety
/// The CPU has the features of `avx512::compiled` and `amx_tiles::is_present`; [`PADDING`] blocks follow the last row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn long_min<Q: Unpack>(
    panel: &[LongMin<Q>],
    x: &[LongBlock],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    let unpack = |block: &LongMin<Q>, planes: &mut Planes| {
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
    let finish = |block: &LongMin<Q>, c: &[Sums; 2], x: &[LongBlock], sums: &mut [[f32; LANES]]| {
        let (d, m) = (factors(&block.d), factors(&block.m));
        let mins = [
            unsigned_pairs(&block.mins[0]),
            unsigned_pairs(&block.mins[1]),
            unsigned_pairs(&block.mins[2]),
            unsigned_pairs(&block.mins[3]),
        ];
        for (r, (sum, x)) in sums.iter_mut().zip(x).enumerate() {
            let mut least = _mm512_setzero_si512();
            for pair in 0..4 {
                least = _mm512_dpwssd_epi32(least, mins[pair], broadcast_pair(&x.sums32, 2 * pair));
            }
            let w = _mm512_sub_ps(
                _mm512_mul_ps(d, _mm512_cvtepi32_ps(join(c, r))),
                _mm512_mul_ps(m, _mm512_cvtepi32_ps(least)),
            );
            store_lanes(sum, _mm512_add_ps(load_lanes(sum), _mm512_mul_ps(w, _mm512_set1_ps(x.d))));
        }
    };
    // SAFETY: as this function.
    unsafe { long(panel, x, m, row, sums, unpack, finish) };
}

/// `Q6_K`; see `portable::long_six`.
///
/// # Safety
/// As for [`long_min`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn long_six(
    panel: &[LongSix],
    x: &[LongBlock],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    let unpack = |block: &LongSix, planes: &mut Planes| {
        for (j, unit) in block.q.iter().enumerate() {
            prefetch_ahead(block, j, 8);
            let scales = signed_pairs(&block.scales[j]);
            // SAFETY: this function has the features.
            let w = unsafe { unit.registers() };
            let planes = &mut planes.0[j / 2];
            for half in 0..2 {
                let scale = both(scales, half);
                // (q − 32) · scale, the 32 taken out after the product.
                let middle = _mm512_slli_epi16::<5>(scale);
                for g in 4 * half..4 * half + 4 {
                    let scaled = halves(w[g]).map(|q| _mm512_sub_epi16(_mm512_mullo_epi16(q, scale), middle));
                    store_planes(planes, j % 2 * 8 + g, scaled);
                }
            }
        }
    };
    let finish = |block: &LongSix, c: &[Sums; 2], x: &[LongBlock], sums: &mut [[f32; LANES]]| {
        let d = factors(&block.d);
        for (r, (sum, x)) in sums.iter_mut().zip(x).enumerate() {
            let w = _mm512_mul_ps(d, _mm512_cvtepi32_ps(join(c, r)));
            store_lanes(sum, _mm512_add_ps(load_lanes(sum), _mm512_mul_ps(w, _mm512_set1_ps(x.d))));
        }
    };
    // SAFETY: as this function.
    unsafe { long(panel, x, m, row, sums, unpack, finish) };
}

/// The order of work of the types of 256-value blocks: `unpack` makes the planes of a panel block, the tiles multiply
/// them with up to 32 rows at a time, `finish` makes floats of 16 rows' integer sums.
///
/// The sums of some rows are finished only after the tiles have got the next rows, or the next block unpacked: the tiles
/// take their time, and the CPU does the one while they do the other.
///
/// # Safety
/// As for [`long_min`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn long<P>(
    panel: &[P],
    x: &[LongBlock],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
    unpack: impl Fn(&P, &mut Planes),
    finish: impl Fn(&P, &[Sums; 2], &[LongBlock], &mut [[f32; LANES]]),
) {
    // SAFETY: the caller has seen AMX, and this thread holds no other tiles: products do not nest.
    let tiles = unsafe { LongTiles::configure() };
    let rows = sums.len();
    let mut planes = Planes([[[[0; 64]; 16]; 2]; 4]);
    let mut buffers = [Lines([[[0; LANES]; TILE]; 4]); 2];
    let [mut current, mut before] = buffers.each_mut();
    let mut finish_rows = |(b, first): (usize, usize), c: &Lines<[Sums; 4]>| {
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
            if let Some(place) = unfinished.replace((b, first)) {
                finish_rows(place, before);
            }
            std::mem::swap(&mut current, &mut before);
        }
    }
    if let Some(place) = unfinished {
        finish_rows(place, before);
    }
}

/// The sums of a row: those of the low bytes and 256 times those of the high bytes.
#[inline]
#[target_feature(enable = "avx512f")]
fn join([low, high]: &[Sums; 2], row: usize) -> __m512i {
    _mm512_add_epi32(load_sums(&low[row]), _mm512_slli_epi32::<8>(load_sums(&high[row])))
}

/// The types of 32-value blocks; see `portable::short`.
///
/// # Safety
/// As for [`long_min`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn short<Q: Unpack, M: Minima>(
    panel: &[Short<Q, M>],
    x: &[ShortBlocks],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    // SAFETY: as in `long_min`.
    let tiles = unsafe { ShortTiles::configure() };
    let mut weights = Lines([[[0; 64]; 8]; 2]);
    let mut c = Lines([[[0; LANES]; TILE]; 2]);
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
        let least = [factors(&block.m.get(0)), factors(&block.m.get(1))];
        for (i, sums) in sums.chunks_mut(TILE).enumerate() {
            let x: &[ShortBlocks; TILE] = head(&x[b * m + row + i * TILE..]);
            tiles.single(x, &weights, &mut c);
            for (r, (sum, x)) in sums.iter_mut().zip(x).enumerate() {
                let mut total = load_lanes(sum);
                for h in 0..2 {
                    let offset = _mm512_set1_epi32(-Short::<Q, M>::OFFSET * x.sums[h]);
                    let dot = _mm512_add_epi32(load_sums(&c.0[h][r]), offset);
                    let mut w = _mm512_mul_ps(d[h], _mm512_cvtepi32_ps(dot));
                    if M::PRESENT {
                        w = _mm512_add_ps(w, _mm512_mul_ps(least[h], _mm512_set1_ps(x.sums[h] as f32)));
                    }
                    total = _mm512_add_ps(total, _mm512_mul_ps(w, _mm512_set1_ps(x.d[h])));
                }
                store_lanes(sum, total);
            }
        }
    }
}

/// The scale of one of a pair of sub-blocks in both halves of each lane.
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

/// The even and the odd bytes as 16-bit numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn halves(q: __m512i) -> [__m512i; 2] {
    [_mm512_and_si512(q, _mm512_set1_epi16(0xff)), _mm512_srli_epi16::<8>(q)]
}

/// Stores the low and the high bytes of 64 scaled quants, even ones and odd ones, as a group of each plane.
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

#[inline]
#[target_feature(enable = "avx512f")]
fn store_group(to: &mut [u8; 64], group: __m512i) {
    // SAFETY: a reference to 64 bytes.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), group) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_sums(lanes: &[i32; LANES]) -> __m512i {
    // SAFETY: a reference to 16 numbers.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}
