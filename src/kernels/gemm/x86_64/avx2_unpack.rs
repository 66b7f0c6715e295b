//! Unpacking of weights into AVX2 registers and their multiplication by activations, for the products in `avx2`.

#![allow(unsafe_code)] // intrinsics on references

use super::head;
use crate::kernels::gemm::quants::{QuantGroup, Quants, Quants4, Quants5, Quants6, Quants8};
use std::arch::x86_64::*;

/// Unpacking of quants, 8 of the 16 rows at a time.
pub(in crate::kernels::gemm) trait UnpackAvx2: Quants {
    /// The number of results of [`UnpackAvx2::multiply`] that can be summed in i16 without overflow: 1, 2 or 4.
    const FIT: usize;

    /// `true` if `pair` returns signed quants instead of unsigned ones.
    const SIGNED: bool = false;

    /// Returns half of the rows of groups `i` and `i + 4`.
    ///
    /// # Safety
    /// The CPU has AVX2.
    unsafe fn pair(&self, i: usize, half: usize) -> [__m256i; 2];

    /// Multiplies bytes and adds neighboring products, as i16.
    ///
    /// # Safety
    /// The CPU has AVX2.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn multiply(w: __m256i, x: __m256i) -> __m256i {
        _mm256_maddubs_epi16(w, x)
    }
}

/// Returns the low and the high halves of the bytes of half a group.
#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(group: &QuantGroup, half: usize) -> [__m256i; 2] {
    let (mask, packed) = (_mm256_set1_epi8(15), load(group, half));
    [_mm256_and_si256(packed, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(packed), mask)]
}

impl UnpackAvx2 for Quants4 {
    const FIT: usize = 4; // 4 · 2 · 15 · 127 < 2^15

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn pair(&self, i: usize, half: usize) -> [__m256i; 2] {
        nibbles(&self.0[i], half)
    }
}

impl UnpackAvx2 for Quants5 {
    const FIT: usize = 4; // 4 · 2 · 31 · 127 < 2^15

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn pair(&self, i: usize, half: usize) -> [__m256i; 2] {
        let ([low, high], bits) = (nibbles(&self.0[i], half), load(&self.1, half));
        let mask = _mm256_set1_epi8(16);
        // Move bit i to bit 4, and bit i + 4 to bit 4.
        let up = _mm256_sll_epi16(bits, _mm_cvtsi64_si128(4 - i as i64));
        let down = _mm256_srl_epi16(bits, _mm_cvtsi64_si128(i as i64));
        [
            _mm256_or_si256(low, _mm256_and_si256(up, mask)),
            _mm256_or_si256(high, _mm256_and_si256(down, mask)),
        ]
    }
}

impl UnpackAvx2 for Quants6 {
    const FIT: usize = 2; // 2 · 2 · 63 · 127 < 2^15

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn pair(&self, i: usize, half: usize) -> [__m256i; 2] {
        let (q, mask) = (nibbles(&self.0[i], half), _mm256_set1_epi8(0x30));
        let insert = |h: usize| {
            let bits = load(&self.1[h], half);
            // Move bits 2i and 2i + 1 to bits 4 and 5.
            let placed = match i {
                0 => _mm256_slli_epi16::<4>(bits),
                1 => _mm256_slli_epi16::<2>(bits),
                2 => bits,
                _ => _mm256_srli_epi16::<2>(bits),
            };
            _mm256_or_si256(q[h], _mm256_and_si256(placed, mask))
        };
        [insert(0), insert(1)]
    }
}

impl UnpackAvx2 for Quants8 {
    const FIT: usize = 1; // 2 · 128 · 127 < 2^15
    const SIGNED: bool = true;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn pair(&self, i: usize, half: usize) -> [__m256i; 2] {
        let flip = _mm256_set1_epi8(i8::MIN);
        [_mm256_xor_si256(load(&self.0[i], half), flip), _mm256_xor_si256(load(&self.0[i + 4], half), flip)]
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn multiply(w: __m256i, x: __m256i) -> __m256i {
        _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
    }
}

/// Loads half of a group: 8 rows.
#[inline]
#[target_feature(enable = "avx2")]
fn load(group: &QuantGroup, half: usize) -> __m256i {
    let bytes: &[u8; 32] = head(&group[32 * half..]);
    // SAFETY: a reference to 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}
