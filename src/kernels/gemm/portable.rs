//! Products without intrinsics: the reference for the other instruction sets, and the fallback for CPUs without any of
//! them. For quantized types, every instruction set returns the same bits: the sums within a block are integers, and the
//! f32 operations are performed in the order of this file (multiply and add not fused, blocks in ascending order).

use super::activations::{Activations2x32, Activations256, ActivationsF32};
use super::panel::{Block32, Block256Min, Block256Q6, BlockFloat, BlockMinimum, FloatValue, LANES};
use super::quants::{QuantGroup, Quants, Quants6};
use half::f16;

/// Returns the integer dot products of `groups` with the quants `x`, for each of the 16 rows.
#[inline(always)]
fn dot(groups: &[QuantGroup], x: &[i8]) -> [i32; LANES] {
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

/// Multiplies a panel of `Q4_K` or `Q5_K`.
pub(super) fn block256_min<Q: Quants>(
    panel: &[Block256Min<Q>],
    x: &[Activations256],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (b, block) in panel.iter().enumerate() {
        let units: [[QuantGroup; 8]; 8] = std::array::from_fn(|j| block.q[j].unpack());
        for (sums, x) in sums.iter_mut().zip(&x[b * m + row..]) {
            let (mut main, mut minimum) = ([0i32; LANES], [0i32; LANES]);
            for j in 0..8 {
                let dot = dot(&units[j], &x.q[32 * j..32 * j + 32]);
                for lane in 0..LANES {
                    let at = 2 * lane + j % 2;
                    main[lane] += i32::from(block.scales[j / 2][at]) * dot[lane];
                    minimum[lane] += i32::from(block.mins[j / 2][at]) * i32::from(x.sums32[j]);
                }
            }
            for lane in 0..LANES {
                let w =
                    factor(block.d[lane]) * main[lane] as f32 - factor(block.m[lane]) * minimum[lane] as f32;
                sums[lane] += w * x.d;
            }
        }
    }
}

/// Multiplies a panel of `Q6_K`.
pub(super) fn block256_q6(
    panel: &[Block256Q6],
    x: &[Activations256],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (b, block) in panel.iter().enumerate() {
        let units: [[QuantGroup; 8]; 8] = std::array::from_fn(|j| block.q[j].unpack());
        for (sums, x) in sums.iter_mut().zip(&x[b * m + row..]) {
            let mut main = [0i32; LANES];
            for j in 0..16 {
                let dot = dot(&units[j / 2][j % 2 * 4..][..4], &x.q[16 * j..16 * j + 16]);
                for lane in 0..LANES {
                    let centered = dot[lane] - Quants6::ZERO_POINT * i32::from(x.sums16[j]);
                    main[lane] += i32::from(block.scales[j / 2][2 * lane + j % 2]) * centered;
                }
            }
            for lane in 0..LANES {
                sums[lane] += factor(block.d[lane]) * main[lane] as f32 * x.d;
            }
        }
    }
}

/// Multiplies a panel of a type with 32-value blocks.
pub(super) fn block32<Q: Quants, M: BlockMinimum>(
    panel: &[Block32<Q, M>],
    x: &[Activations2x32],
    m: usize,
    row: usize,
    sums: &mut [[f32; LANES]],
) {
    for (b, block) in panel.iter().enumerate() {
        for h in 0..2 {
            let unit = block.q[h].unpack();
            let (d, minimum) = (block.d[h].map(factor), block.m.get(h).map(factor));
            for (sums, x) in sums.iter_mut().zip(&x[b * m + row..]) {
                let dot = dot(&unit, &x.q[32 * h..32 * h + 32]);
                for lane in 0..LANES {
                    let mut w = d[lane] * (dot[lane] - Block32::<Q, M>::OFFSET * x.sums[h]) as f32;
                    if M::PRESENT {
                        w += minimum[lane] * x.sums[h] as f32;
                    }
                    sums[lane] += w * x.d[h];
                }
            }
        }
    }
}

/// Multiplies a panel of float weights; the columns are summed in ascending order.
pub(super) fn float<T: FloatValue>(
    panel: &[BlockFloat<T>],
    x: &[ActivationsF32],
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

/// Multiplies rows by a panel of widened weights, `(columns, 16)`; see `low_rank::add_products`.
pub(super) fn add_products(
    weights: &[[f32; LANES]],
    rows: usize,
    x: &[f32],
    x_start: impl Fn(usize) -> usize,
    sums: &mut [[f32; LANES]],
    sums_index: impl Fn(usize) -> usize,
) {
    for i in 0..rows {
        let mut products = [0.0f32; LANES];
        for (x, weights) in x[x_start(i)..].iter().zip(weights) {
            for lane in 0..LANES {
                products[lane] = weights[lane].mul_add(*x, products[lane]);
            }
        }
        sums[sums_index(i)].iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
    }
}
