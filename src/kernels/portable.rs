//! The products without intrinsics: the oracle of the other instruction sets, and the form for CPUs that have none of
//! them. Called by `gemm` only. Every other form gives the same bits for quantized types: sums of a block are integers,
//! and the f32 operations stand here in the order that all forms keep (multiply and add apart, blocks in order).

use super::panel::{Float, FloatValue, Group, LANES, LongMin, LongSix, Minima, Quants, Short, Six};
use super::quantize::{FloatColumns, LongBlock, ShortBlocks};
use half::f16;

/// Integer dot products of `groups` with the quants `x`, for each of the 16 rows.
#[inline(always)]
fn dot(groups: &[Group], x: &[i8]) -> [i32; LANES] {
    let mut sums = [0i32; LANES];
    for (group, x) in groups.iter().zip(x.as_chunks::<4>().0) {
        for (sum, w) in sums.iter_mut().zip(group.as_chunks::<4>().0) {
            for c in 0..4 {
                *sum += i32::from(w[c]) * i32::from(x[c]);
            }
        }
    }
    sums
}

#[inline(always)]
fn factor(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

/// `Q4_K`, `Q5_K`.
pub(super) fn long_min<Q: Quants>(
    panel: &[LongMin<Q>],
    x: &[LongBlock],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (b, block) in panel.iter().enumerate() {
        let units: [[Group; 8]; 8] = std::array::from_fn(|j| block.q[j].unpack());
        for (sums, x) in sums.iter_mut().zip(&x[b * m + row..]) {
            let (mut main, mut least) = ([0i32; LANES], [0i32; LANES]);
            for j in 0..8 {
                let dot = dot(&units[j], &x.q[32 * j..32 * j + 32]);
                for lane in 0..LANES {
                    let at = 2 * lane + j % 2;
                    main[lane] += i32::from(block.scales[j / 2][at]) * dot[lane];
                    least[lane] += i32::from(block.mins[j / 2][at]) * i32::from(x.sums32[j]);
                }
            }
            for lane in 0..LANES {
                let w =
                    factor(block.d[lane]) * main[lane] as f32 - factor(block.m[lane]) * least[lane] as f32;
                sums[lane] += w * x.d;
            }
        }
    }
}

/// `Q6_K`.
pub(super) fn long_six(panel: &[LongSix], x: &[LongBlock], m: usize, row: usize, sums: &mut [[f32; LANES]]) {
    for (b, block) in panel.iter().enumerate() {
        let units: [[Group; 8]; 8] = std::array::from_fn(|j| block.q[j].unpack());
        for (sums, x) in sums.iter_mut().zip(&x[b * m + row..]) {
            let mut main = [0i32; LANES];
            for j in 0..16 {
                let dot = dot(&units[j / 2][j % 2 * 4..][..4], &x.q[16 * j..16 * j + 16]);
                for lane in 0..LANES {
                    let centred = dot[lane] - Six::MIDDLE * i32::from(x.sums16[j]);
                    main[lane] += i32::from(block.scales[j / 2][2 * lane + j % 2]) * centred;
                }
            }
            for lane in 0..LANES {
                sums[lane] += factor(block.d[lane]) * main[lane] as f32 * x.d;
            }
        }
    }
}

/// The types of 32-value blocks.
pub(super) fn short<Q: Quants, M: Minima>(
    panel: &[Short<Q, M>],
    x: &[ShortBlocks],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (b, block) in panel.iter().enumerate() {
        for h in 0..2 {
            let unit = block.q[h].unpack();
            let (d, least) = (block.d[h].map(factor), block.m.get(h).map(factor));
            for (sums, x) in sums.iter_mut().zip(&x[b * m + row..]) {
                let dot = dot(&unit, &x.q[32 * h..32 * h + 32]);
                for lane in 0..LANES {
                    let mut w = d[lane] * (dot[lane] - Short::<Q, M>::OFFSET * x.sums[h]) as f32;
                    if M::PRESENT {
                        w += least[lane] * x.sums[h] as f32;
                    }
                    sums[lane] += w * x.d[h];
                }
            }
        }
    }
}

/// Float weights: a sum runs over the columns in order.
pub(super) fn float<T: FloatValue>(
    panel: &[Float<T>],
    x: &[FloatColumns],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (b, block) in panel.iter().enumerate() {
        let block = block.0.map(|column| column.map(T::to_f32));
        for (sums, x) in sums.iter_mut().zip(&x[b * m + row..]) {
            for (column, x) in block.iter().zip(x.0) {
                for lane in 0..LANES {
                    sums[lane] += column[lane] * x;
                }
            }
        }
    }
}
