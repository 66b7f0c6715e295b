//! Conversion of f16 values to f32, for the KV cache and for low-rank updates.

#![allow(unsafe_code)] // intrinsics on references

use super::cpu::{CpuFeatures, InstructionSet};
use half::f16;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Widens the f16 bits `from` to f32. The lengths must be equal and a multiple of 16.
pub(super) fn widen_f16(cpu: CpuFeatures, from: &[u16], to: &mut [f32]) {
    assert!(from.len() == to.len() && from.len().is_multiple_of(16), "lengths of a conversion");
    match cpu.instruction_set() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `cpu` is the proof that this machine has these features.
        InstructionSet::Avx2 => unsafe { widen_f16_avx2(from, to) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        InstructionSet::Avx512 | InstructionSet::Amx => unsafe { widen_f16_avx512(from, to) },
        _ => to.iter_mut().zip(from).for_each(|(to, &from)| *to = f16::from_bits(from).to_f32()),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen_f16_avx2(from: &[u16], to: &mut [f32]) {
    for (from, to) in from.as_chunks::<8>().0.iter().zip(to.as_chunks_mut::<8>().0) {
        // SAFETY: references to 16 and 32 bytes.
        unsafe {
            let half = _mm_loadu_si128(from.as_ptr().cast());
            _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(half));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,f16c")]
fn widen_f16_avx512(from: &[u16], to: &mut [f32]) {
    for (from, to) in from.as_chunks::<16>().0.iter().zip(to.as_chunks_mut::<16>().0) {
        // SAFETY: references to 32 and 64 bytes.
        unsafe {
            let half = _mm256_loadu_si256(from.as_ptr().cast());
            _mm512_storeu_ps(to.as_mut_ptr(), _mm512_cvtph_ps(half));
        }
    }
}
