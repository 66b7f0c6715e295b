//! Activations in the forms that the packed weights are multiplied with: int8 in blocks of 256 (as ggml's `Q8_K`) for
//! the types of 256-value blocks, int8 in blocks of 32 (as ggml's `Q8_0`) for those of 32, f32 for float weights.
//! `gemm` makes them once for each product, or once for several products of the same rows.
//!
//! A block's scale is `max |x| / 127`, its quants are rounded to nearest even: the error of a value is at most half of
//! the scale. Blocks are laid out `[column block][row]`.

#![allow(unsafe_code)] // kernels need a CPU feature

use super::cpu::{CpuFeatures, InstructionSet};
use super::math::round_ties_even;

/// A block of activations of one row.
pub(super) trait Activation: Copy + Send + Sync + 'static {
    /// Columns of a block.
    const COLUMNS: usize;

    /// The block of `x`, at most `COLUMNS` values; the rest is zero.
    fn new(x: &[f32]) -> Self;

    /// Puts [`Self::new`] into `slot`, by instructions of the set `cpu`, with the same bits.
    #[inline(always)]
    fn write(cpu: CpuFeatures, x: &[f32], slot: &mut Self) {
        let _ = cpu;
        *slot = Self::new(x);
    }
}

/// 256 columns in int8 with one scale.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct LongBlock {
    pub(super) q: [i8; 256],
    /// Sums of each 16 quants.
    pub(super) sums16: [i16; 16],
    /// Sums of each 32 quants.
    pub(super) sums32: [i16; 8],
    /// The scale: `x ≈ d · q`.
    pub(super) d: f32,
}

/// 64 columns in int8 with one scale for each 32.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct ShortBlocks {
    pub(super) q: [i8; 64],
    /// The scales: `x ≈ d · q`.
    pub(super) d: [f32; 2],
    /// Sums of each 32 quants.
    pub(super) sums: [i32; 2],
}

/// 16 columns as they are.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct FloatColumns(pub(super) [f32; 16]);

/// Quantizes `x` into as many quants and returns the scale. A block of zeros has the scale 0; NaN and infinities give
/// a NaN scale, so that they reach the output instead of vanishing.
#[inline(always)]
fn quantize<const N: usize>(x: &[f32; N], q: &mut [i8; N]) -> f32 {
    // As integers, the bits of magnitudes are ordered as their values are, with infinity and NaN on top.
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
    // Below 1e-30 the inverse would overflow; such a block is zero.
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

impl Activation for LongBlock {
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
                slot.d = unsafe { super::avx512::quantize(x, &mut slot.q, &mut slot.sums16) };
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

impl Activation for ShortBlocks {
    const COLUMNS: usize = 64;

    #[inline(always)]
    fn new(x: &[f32]) -> Self {
        let x: [f32; 64] = padded(x);
        let mut block = Self { q: [0; 64], d: [0.0; 2], sums: [0; 2] };
        for (h, (x, q)) in x.as_chunks::<32>().0.iter().zip(block.q.as_chunks_mut::<32>().0).enumerate() {
            block.d[h] = quantize::<32>(x, q);
            block.sums[h] = q.iter().map(|&q| i32::from(q)).sum();
        }
        block
    }
}

impl Activation for FloatColumns {
    const COLUMNS: usize = 16;

    #[inline(always)]
    fn new(x: &[f32]) -> Self {
        Self(padded(x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_at_most_half_a_step_and_sums_are_exact() {
        let x: Vec<f32> = (0..256).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.37).collect();
        let long = LongBlock::new(&x);
        for (x, q) in x.iter().zip(long.q) {
            assert!((x - long.d * f32::from(q)).abs() <= long.d * 0.5001);
        }
        assert_eq!(long.sums32[3], long.q[96..128].iter().map(|&q| i16::from(q)).sum::<i16>());
        let short = ShortBlocks::new(&x[..32]);
        assert_eq!((short.d[1], short.sums[1], &short.q[32..]), (0.0, 0, &[0i8; 32][..]));
        for (x, q) in x.iter().zip(&short.q[..32]) {
            assert!((x - short.d[0] * f32::from(*q)).abs() <= short.d[0] * 0.5001);
        }
    }

    #[test]
    fn what_is_not_finite_is_not_hidden() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; 256];
            x[77] = bad;
            assert!(LongBlock::new(&x).d.is_nan());
            assert!(ShortBlocks::new(&x[64..128]).d[0].is_nan());
        }
        assert_eq!(LongBlock::new(&[0.0; 256]).d, 0.0);
    }
}
