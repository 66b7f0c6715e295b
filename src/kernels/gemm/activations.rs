//! Conversion of activations to the forms that the packed weights are multiplied by: int8 in blocks of 256 (like ggml's
//! `Q8_K`) for types with 256-value blocks, int8 in blocks of 32 (like ggml's `Q8_0`) for those with 32, and f32 for float
//! weights. `gemm` converts them once per group of products.
//!
//! The scale of an int8 block is `max |x| / 127` and its quants are rounded to nearest even, so the error of a value is
//! at most half of the scale.

#![allow(unsafe_code)] // kernels require a CPU feature

use super::PADDING;
use crate::kernels::Kernels;
use crate::kernels::cpu::{CpuFeatures, InstructionSet, Loops};
use crate::kernels::math::round_ties_even;

/// A block of activations of one row.
pub(super) trait ActivationBlock: Copy + Send + Sync + 'static {
    /// Columns of a block.
    const COLUMNS: usize;

    /// Converts `x`, at most `COLUMNS` values; the rest of the block is zero.
    fn new(x: &[f32]) -> Self;

    /// Writes [`Self::new`] to `slot`, using the instruction set `cpu`; the bits are the same on all of them.
    #[inline(always)]
    fn write(cpu: CpuFeatures, x: &[f32], slot: &mut Self) {
        let _ = cpu;
        *slot = Self::new(x);
    }
}

/// 256 columns in int8 with one scale.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Activations256 {
    pub(super) q: [i8; 256],
    /// The sum of every 16 quants.
    pub(super) sums16: [i16; 16],
    /// The sum of every 32 quants.
    pub(super) sums32: [i16; 8],
    /// The scale: `x ≈ d · q`.
    pub(super) d: f32,
}

/// 64 columns in int8 with a scale for every 32.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Activations2x32 {
    pub(super) q: [i8; 64],
    /// The scales: `x ≈ d · q`.
    pub(super) d: [f32; 2],
    /// The sum of every 32 quants.
    pub(super) sums: [i32; 2],
}

/// 16 columns in f32.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct ActivationsF32(pub(super) [f32; 16]);

/// Quantizes `x` and returns the scale. A block of zeros has the scale 0. NaN and infinities result in a NaN scale, so that
/// they propagate to the output.
#[inline(always)]
fn quantize<const N: usize>(x: &[f32; N], q: &mut [i8; N]) -> f32 {
    // As integers, the bits of magnitudes are ordered like their values; infinity and NaN are largest.
    let mut bits = [0u32; 16];
    for x in x.as_chunks::<16>().0 {
        for lane in 0..16 {
            bits[lane] = bits[lane].max(x[lane].to_bits() & 0x7fff_ffff);
        }
    }
    let largest = f32::from_bits(bits.into_iter().fold(0, u32::max));
    if !largest.is_finite() {
        return f32::NAN;
    }
    // Below 1e-30 the inverse would overflow; such a block becomes zero.
    let inverse = if largest > 1e-30 { 127.0 / largest } else { 0.0 };
    for (q, x) in q.iter_mut().zip(x) {
        *q = round_ties_even(x * inverse) as i8;
    }
    largest / 127.0
}

#[inline(always)]
fn padded<const N: usize>(x: &[f32]) -> [f32; N] {
    let mut all = [0.0; N];
    all[..x.len()].copy_from_slice(x);
    all
}

impl ActivationBlock for Activations256 {
    const COLUMNS: usize = 256;

    #[inline(always)]
    fn new(x: &[f32]) -> Self {
        let mut block = Self { q: [0; 256], sums16: [0; 16], sums32: [0; 8], d: 0.0 };
        block.d = match x.try_into() {
            Ok(x) => quantize::<256>(x, &mut block.q),
            Err(_) => quantize::<256>(&padded(x), &mut block.q),
        };
        for (sum, q) in block.sums16.iter_mut().zip(block.q.as_chunks::<16>().0) {
            *sum = q.iter().map(|&q| i16::from(q)).sum();
        }
        block.sums32 = sums32(&block.sums16);
        block
    }

    #[inline(always)]
    fn write(cpu: CpuFeatures, x: &[f32], slot: &mut Self) {
        match (cpu.instruction_set(), x.try_into()) {
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512 | InstructionSet::Amx, Ok(x)) => {
                // SAFETY: `cpu` is the proof that this machine has these features.
                slot.d = unsafe { super::x86_64::avx512::quantize(x, &mut slot.q, &mut slot.sums16) };
                slot.sums32 = sums32(&slot.sums16);
            }
            _ => *slot = Self::new(x),
        }
    }
}

#[inline(always)]
fn sums32(sums16: &[i16; 16]) -> [i16; 8] {
    std::array::from_fn(|j| sums16[2 * j] + sums16[2 * j + 1])
}

impl ActivationBlock for Activations2x32 {
    const COLUMNS: usize = 64;

    #[inline(always)]
    fn new(x: &[f32]) -> Self {
        let x: [f32; 64] = padded(x);
        let mut block = Self { q: [0; 64], d: [0.0; 2], sums: [0; 2] };
        for (half, (x, q)) in x.as_chunks::<32>().0.iter().zip(block.q.as_chunks_mut::<32>().0).enumerate() {
            block.d[half] = quantize::<32>(x, q);
            block.sums[half] = q.iter().map(|&q| i32::from(q)).sum();
        }
        block
    }
}

impl ActivationBlock for ActivationsF32 {
    const COLUMNS: usize = 16;

    #[inline(always)]
    fn new(x: &[f32]) -> Self {
        Self(padded(x))
    }
}

/// Converts `x`, `(m, columns)`, to the form `X`, laid out `[column block][row]`. `blocks` may stay longer than needed.
pub(super) fn fill<X: ActivationBlock>(kernels: &Kernels, x: &[f32], columns: usize, blocks: &mut Vec<X>) {
    let m = x.len() / columns;
    let len = m * columns.div_ceil(X::COLUMNS);
    if blocks.len() < len + PADDING {
        blocks.resize(len + PADDING, X::new(&[]));
    }
    // A few microseconds per task; one row is not worth a second thread.
    let task_blocks = (16_384 / X::COLUMNS).max(1);
    let cpu = kernels.cpu();
    kernels.pool().run_slices(&mut blocks[..len], task_blocks, &|start, blocks| {
        cpu.compiled(FillBlocks { cpu, x, columns, m, start, blocks });
    });
}

/// The loop of [`fill`] over some of the blocks, from number `start` on.
struct FillBlocks<'a, X> {
    cpu: CpuFeatures,
    x: &'a [f32],
    columns: usize,
    m: usize,
    start: usize,
    blocks: &'a mut [X],
}

impl<X: ActivationBlock> Loops for FillBlocks<'_, X> {
    #[inline(always)]
    fn run(self) {
        for (i, slot) in self.blocks.iter_mut().enumerate() {
            let (block, row) = ((self.start + i) / self.m, (self.start + i) % self.m);
            let x = &self.x[row * self.columns..(row + 1) * self.columns];
            let x = &x[block * X::COLUMNS..x.len().min((block + 1) * X::COLUMNS)];
            X::write(self.cpu, x, slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantizes_within_half_a_step_and_sums_the_quants_exactly() {
        let x: Vec<f32> = (0..256).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.37).collect();
        let block = Activations256::new(&x);
        for (x, q) in x.iter().zip(block.q) {
            assert!((x - block.d * f32::from(q)).abs() <= block.d * 0.5001);
        }
        assert_eq!(block.sums32[3], block.q[96..128].iter().map(|&q| i16::from(q)).sum::<i16>());
        let half_full = Activations2x32::new(&x[..32]);
        assert_eq!((half_full.d[1], half_full.sums[1], &half_full.q[32..]), (0.0, 0, &[0i8; 32][..]));
        for (x, q) in x.iter().zip(&half_full.q[..32]) {
            assert!((x - half_full.d[0] * f32::from(*q)).abs() <= half_full.d[0] * 0.5001);
        }
    }

    #[test]
    fn non_finite_values_result_in_a_nan_scale() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; 256];
            x[77] = bad;
            assert!(Activations256::new(&x).d.is_nan());
            assert!(Activations2x32::new(&x[64..128]).d[0].is_nan());
        }
        assert_eq!(Activations256::new(&[0.0; 256]).d, 0.0);
    }
}
