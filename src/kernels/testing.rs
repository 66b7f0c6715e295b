//! Helpers for tests of the kernels: reproducible random data, random valid GGUF tensors, every instruction set with one
//! and with several threads, and a comparison within a tolerance.

use super::{CpuFeatures, Kernels, QuantType};
use half::{bf16, f16};

/// A small reproducible random number generator (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Returns a number from a roughly normal distribution with standard deviation `scale`.
    pub(crate) fn float(&mut self, scale: f32) -> f32 {
        let sum: f32 = (0..4).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5).sum();
        sum * scale * 1.732
    }

    pub(crate) fn floats(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.float(scale)).collect()
    }

    /// Returns the data of a valid tensor of the type: any quants and scales, small finite factors.
    pub(super) fn tensor(&mut self, ty: QuantType, rows: usize, columns: usize) -> Vec<u8> {
        let factors: &[usize] = match ty {
            QuantType::F32 => {
                return self.floats(rows * columns, 0.1).into_iter().flat_map(f32::to_le_bytes).collect();
            }
            QuantType::F16 => {
                let values = self.floats(rows * columns, 0.1);
                return values.into_iter().flat_map(|x| f16::from_f32(x).to_le_bytes()).collect();
            }
            QuantType::BF16 => {
                let values = self.floats(rows * columns, 0.1);
                return values.into_iter().flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect();
            }
            QuantType::Q4_0 | QuantType::Q5_0 | QuantType::Q8_0 => &[0],
            QuantType::Q4_1 | QuantType::Q5_1 | QuantType::Q4_K | QuantType::Q5_K => &[0, 2],
            QuantType::Q6_K => &[208],
        };
        let len = ty.row_bytes(columns).expect("whole blocks") * rows;
        let mut data: Vec<u8> = (0..len).map(|_| self.next() as u8).collect();
        for block in data.chunks_exact_mut(ty.block_bytes()) {
            for &at in factors {
                block[at..at + 2].copy_from_slice(&f16::from_f32(self.float(0.01)).to_le_bytes());
            }
        }
        data
    }
}

/// Returns every instruction set of this machine, with one thread and with several.
pub(super) fn all_kernels() -> Vec<Kernels> {
    CpuFeatures::available()
        .into_iter()
        .flat_map(|cpu| [1, 3].map(|threads| Kernels::new(cpu, threads)))
        .collect()
}

/// Asserts that each value of `actual` differs from the one of `expected` by at most `tolerance`, relative to it where it
/// is larger than 1. `context` is part of the message.
#[track_caller]
pub(crate) fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32, context: &str) {
    assert_eq!(actual.len(), expected.len(), "{context}: length");
    for (i, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let allowed = tolerance * expected.abs().max(1.0);
        assert!((actual - expected).abs() <= allowed, "{context}: expected {expected} at {i}, got {actual}");
    }
}
