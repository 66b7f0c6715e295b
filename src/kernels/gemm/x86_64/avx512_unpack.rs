//! Unpacking of weights into AVX-512 registers, for the products in `avx512` and `amx`.

#![allow(unsafe_code)] // intrinsics on references

use crate::kernels::gemm::quants::{QuantGroup, Quants, Quants4, Quants5, Quants6, Quants8};
use std::arch::x86_64::*;

/// Unpacking of 32 columns into registers.
pub(in crate::kernels::gemm) trait UnpackAvx512: Quants {
    /// Returns the 8 groups.
    ///
    /// # Safety
    /// The CPU has AVX-512 F and BW.
    unsafe fn registers(&self) -> [__m512i; 8];
}

/// Returns the low and the high halves of the bytes of four groups.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn nibbles(groups: &[QuantGroup; 4]) -> [__m512i; 8] {
    let mask = _mm512_set1_epi8(15);
    let packed = [load(&groups[0]), load(&groups[1]), load(&groups[2]), load(&groups[3])];
    let mut all = [_mm512_setzero_si512(); 8];
    for i in 0..4 {
        all[i] = _mm512_and_si512(packed[i], mask);
        all[i + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(packed[i]), mask);
    }
    all
}

/// Returns `low | (high & mask)`.
#[inline]
#[target_feature(enable = "avx512f")]
fn insert(low: __m512i, high: __m512i, mask: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xf8>(low, high, mask)
}

impl UnpackAvx512 for Quants4 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn registers(&self) -> [__m512i; 8] {
        nibbles(&self.0)
    }
}

impl UnpackAvx512 for Quants5 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn registers(&self) -> [__m512i; 8] {
        let (q, high, bit) = (nibbles(&self.0), load(&self.1), _mm512_set1_epi8(16));
        // The shifts of 16-bit elements carry bits from byte to byte; the mask removes them.
        [
            insert(q[0], _mm512_slli_epi16::<4>(high), bit),
            insert(q[1], _mm512_slli_epi16::<3>(high), bit),
            insert(q[2], _mm512_slli_epi16::<2>(high), bit),
            insert(q[3], _mm512_slli_epi16::<1>(high), bit),
            insert(q[4], high, bit),
            insert(q[5], _mm512_srli_epi16::<1>(high), bit),
            insert(q[6], _mm512_srli_epi16::<2>(high), bit),
            insert(q[7], _mm512_srli_epi16::<3>(high), bit),
        ]
    }
}

impl UnpackAvx512 for Quants6 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn registers(&self) -> [__m512i; 8] {
        let (mut q, bits) = (nibbles(&self.0), _mm512_set1_epi8(0x30));
        for half in 0..2 {
            let high = load(&self.1[half]);
            let q = &mut q[4 * half..4 * half + 4];
            q[0] = insert(q[0], _mm512_slli_epi16::<4>(high), bits);
            q[1] = insert(q[1], _mm512_slli_epi16::<2>(high), bits);
            q[2] = insert(q[2], high, bits);
            q[3] = insert(q[3], _mm512_srli_epi16::<2>(high), bits);
        }
        q
    }
}

impl UnpackAvx512 for Quants8 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn registers(&self) -> [__m512i; 8] {
        let q = &self.0;
        [
            load(&q[0]),
            load(&q[1]),
            load(&q[2]),
            load(&q[3]),
            load(&q[4]),
            load(&q[5]),
            load(&q[6]),
            load(&q[7]),
        ]
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &QuantGroup) -> __m512i {
    // SAFETY: a reference to 64 bytes.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}
