//! The tensor types and block layouts of GGUF files, as defined by ggml (`ggml-common.h`, `ggml-quants.c`). `panel` repacks
//! the blocks that this file decodes; the reader of GGUF headers uses [`QuantType`].
//!
//! All quantized types are variants of `w = d · scale_j · q − dmin · min_j`: unsigned quants `q`, an integer scale per
//! sub-block, and an f16 factor per block. [`DecodedBlock`] is this common form.

use crate::kernels::KernelError;
use half::{bf16, f16};

/// A tensor type of a GGUF file, named as in ggml.
#[allow(non_camel_case_types)] // the names that ggml and model cards use
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QuantType {
    /// 32-bit floats.
    F32,
    /// 16-bit IEEE floats.
    F16,
    /// 16-bit brain floats.
    BF16,
    /// 32 values: f16 scale, 4-bit quants around 8.
    Q4_0,
    /// 32 values: f16 scale and minimum, 4-bit quants.
    Q4_1,
    /// 32 values: f16 scale, 5-bit quants around 16.
    Q5_0,
    /// 32 values: f16 scale and minimum, 5-bit quants.
    Q5_1,
    /// 32 values: f16 scale, 8-bit signed quants.
    Q8_0,
    /// 256 values: f16 scale and minimum, 6-bit scales and minima of 8 sub-blocks, 4-bit quants.
    Q4_K,
    /// Like `Q4_K`, with 5-bit quants.
    Q5_K,
    /// 256 values: f16 scale, 8-bit scales of 16 sub-blocks, 6-bit quants around 32.
    Q6_K,
}

impl QuantType {
    /// Returns the type with ggml's number `id`, which GGUF tensor headers contain.
    ///
    /// # Errors
    /// [`KernelError::UnsupportedType`] if no kernel supports the type.
    pub fn from_ggml(id: u32) -> Result<Self, KernelError> {
        Ok(match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4_K,
            13 => Self::Q5_K,
            14 => Self::Q6_K,
            30 => Self::BF16,
            _ => return Err(KernelError::UnsupportedType(id)),
        })
    }

    /// Returns the number of values in a block; a row is a whole number of blocks.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Returns the number of bytes of a block in the file.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// Returns the number of bytes of a row of `columns` values in the file.
    ///
    /// # Errors
    /// [`KernelError::RowLength`] if `columns` is not a whole number of blocks.
    pub fn row_bytes(self, columns: usize) -> Result<usize, KernelError> {
        let block = self.block_len();
        if columns == 0 || !columns.is_multiple_of(block) {
            return Err(KernelError::RowLength { columns, block });
        }
        Ok(columns / block * self.block_bytes())
    }
}

/// A matrix as stored in a GGUF file.
#[derive(Clone, Copy)]
pub struct GgufMatrix<'a> {
    /// The type of the data.
    pub ty: QuantType,
    /// Rows; the second dimension in GGUF's order.
    pub rows: usize,
    /// Columns; the first dimension in GGUF's order.
    pub columns: usize,
    /// The blocks of all rows, row-major.
    pub data: &'a [u8],
}

impl GgufMatrix<'_> {
    /// Returns the number of bytes of a row, after checking that the data matches the shape.
    pub(super) fn checked_row_bytes(&self) -> Result<usize, KernelError> {
        let row_bytes = self.ty.row_bytes(self.columns)?;
        if self.rows == 0 {
            return Err(KernelError::Shape("the matrix has no rows".to_owned()));
        }
        let expected = self
            .rows
            .checked_mul(row_bytes)
            .ok_or_else(|| KernelError::Shape(format!("{} rows are too many", self.rows)))?;
        if self.data.len() != expected {
            return Err(KernelError::DataLength { expected, found: self.data.len() });
        }
        Ok(row_bytes)
    }
}

/// A block in the common form: `w[i] = d · (scale[i / sub] · (q[i] − offset)) + m · min[i / sub]`, where `sub` is 32 (16 for
/// `Q6_K`). For types without scales, minima or an offset, these are 1, 0 and 0.
pub(super) struct DecodedBlock {
    /// Unsigned quants; types with 32-value blocks use the first 32 only.
    pub(super) q: [u8; 256],
    /// Sub-block scales.
    pub(super) scales: [i8; 16],
    /// Sub-block minima, subtracted; `K` types only.
    pub(super) mins: [u8; 8],
    /// The block's factor, as f16 bits.
    pub(super) d: u16,
    /// The factor of the minima (`K` types, subtracted) or the minimum (`Q4_1`, `Q5_1`, added), as f16 bits.
    pub(super) m: u16,
}

impl DecodedBlock {
    pub(super) const ZERO: Self = Self { q: [0; 256], scales: [0; 16], mins: [0; 8], d: 0, m: 0 };

    /// Decodes one block of a quantized type; `bytes` has the type's `block_bytes`.
    #[inline(always)]
    pub(super) fn read(&mut self, ty: QuantType, bytes: &[u8]) {
        assert_eq!(bytes.len(), ty.block_bytes());
        match ty {
            QuantType::Q4_0 => {
                self.d = u16_at(bytes, 0);
                nibbles32(&bytes[2..18], &mut self.q);
            }
            QuantType::Q4_1 => {
                (self.d, self.m) = (u16_at(bytes, 0), u16_at(bytes, 2));
                nibbles32(&bytes[4..20], &mut self.q);
            }
            QuantType::Q5_0 => {
                self.d = u16_at(bytes, 0);
                nibbles32(&bytes[6..22], &mut self.q);
                fifth_bits32(&bytes[2..6], &mut self.q);
            }
            QuantType::Q5_1 => {
                (self.d, self.m) = (u16_at(bytes, 0), u16_at(bytes, 2));
                nibbles32(&bytes[8..24], &mut self.q);
                fifth_bits32(&bytes[4..8], &mut self.q);
            }
            QuantType::Q8_0 => {
                self.d = u16_at(bytes, 0);
                for (q, &byte) in self.q.iter_mut().zip(&bytes[2..34]) {
                    *q = byte ^ 0x80; // signed to unsigned with an offset of 128
                }
            }
            QuantType::Q4_K => {
                (self.d, self.m) = (u16_at(bytes, 0), u16_at(bytes, 2));
                self.six_bit_scales(&bytes[4..16]);
                self.nibbles256(&bytes[16..144]);
            }
            QuantType::Q5_K => {
                (self.d, self.m) = (u16_at(bytes, 0), u16_at(bytes, 2));
                self.six_bit_scales(&bytes[4..16]);
                self.nibbles256(&bytes[48..176]);
                let high = &bytes[16..48];
                for (j, sub) in self.q.chunks_exact_mut(32).enumerate() {
                    for (q, &h) in sub.iter_mut().zip(high) {
                        *q |= ((h >> j) & 1) << 4;
                    }
                }
            }
            QuantType::Q6_K => {
                for (half, q) in self.q.chunks_exact_mut(128).enumerate() {
                    let low = &bytes[half * 64..half * 64 + 64];
                    let high = &bytes[128 + half * 32..128 + half * 32 + 32];
                    for (quarter, q) in q.chunks_exact_mut(32).enumerate() {
                        let low = &low[quarter % 2 * 32..quarter % 2 * 32 + 32];
                        for ((q, &l), &h) in q.iter_mut().zip(low).zip(high) {
                            *q = (l >> (quarter / 2 * 4)) & 0x0f | ((h >> (quarter * 2)) & 3) << 4;
                        }
                    }
                }
                for (scale, &byte) in self.scales.iter_mut().zip(&bytes[192..208]) {
                    *scale = byte.cast_signed();
                }
                self.d = u16_at(bytes, 208);
            }
            QuantType::F32 | QuantType::F16 | QuantType::BF16 => unreachable!("float types have no blocks"),
        }
    }

    /// Decodes eight 6-bit scales and minima from 12 bytes, like ggml's `get_scale_min_k4`.
    #[inline(always)]
    fn six_bit_scales(&mut self, s: &[u8]) {
        for j in 0..4 {
            self.scales[j] = (s[j] & 63).cast_signed();
            self.mins[j] = s[j + 4] & 63;
            self.scales[j + 4] = (s[j + 8] & 15 | (s[j] >> 6) << 4).cast_signed();
            self.mins[j + 4] = s[j + 8] >> 4 | (s[j + 4] >> 6) << 4;
        }
    }

    /// Decodes 64 values from every 32 bytes: the first half is in the low nibbles.
    #[inline(always)]
    fn nibbles256(&mut self, bytes: &[u8]) {
        for (q, bytes) in self.q.chunks_exact_mut(64).zip(bytes.chunks_exact(32)) {
            for (i, &byte) in bytes.iter().enumerate() {
                q[i] = byte & 15;
                q[i + 32] = byte >> 4;
            }
        }
    }
}

#[inline(always)]
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Decodes 32 values from 16 bytes: the first half is in the low nibbles.
#[inline(always)]
fn nibbles32(bytes: &[u8], q: &mut [u8; 256]) {
    for (i, &byte) in bytes.iter().enumerate() {
        q[i] = byte & 15;
        q[i + 16] = byte >> 4;
    }
}

/// Adds the fifth bits of 32 values.
#[inline(always)]
fn fifth_bits32(bytes: &[u8], q: &mut [u8; 256]) {
    let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for (i, q) in q[..32].iter_mut().enumerate() {
        *q |= (((bits >> i) & 1) as u8) << 4;
    }
}

/// Dequantizes one row, given its blocks.
pub(super) fn dequantize_row(ty: QuantType, bytes: &[u8], out: &mut [f32]) {
    match ty {
        QuantType::F32 | QuantType::F16 | QuantType::BF16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.chunks_exact(ty.block_bytes())) {
                *out = float_at(ty, bytes);
            }
        }
        _ => {
            let mut block = DecodedBlock::ZERO;
            let blocks = bytes.chunks_exact(ty.block_bytes());
            for (out, bytes) in out.chunks_exact_mut(ty.block_len()).zip(blocks) {
                block.read(ty, bytes);
                for (i, out) in out.iter_mut().enumerate() {
                    *out = block.value(ty, i);
                }
            }
        }
    }
}

impl DecodedBlock {
    /// Dequantizes the value `i`.
    fn value(&self, ty: QuantType, i: usize) -> f32 {
        let (d, m) = (f16::from_bits(self.d).to_f32(), f16::from_bits(self.m).to_f32());
        let q = f32::from(self.q[i]);
        match ty {
            QuantType::Q4_K | QuantType::Q5_K => {
                d * f32::from(self.scales[i / 32]) * q - m * f32::from(self.mins[i / 32])
            }
            QuantType::Q6_K => d * f32::from(self.scales[i / 16]) * (q - 32.0),
            QuantType::Q4_1 | QuantType::Q5_1 => d * q + m,
            QuantType::Q4_0 => d * (q - 8.0),
            QuantType::Q5_0 => d * (q - 16.0),
            QuantType::Q8_0 => d * (q - 128.0),
            QuantType::F32 | QuantType::F16 | QuantType::BF16 => unreachable!("float types have no blocks"),
        }
    }
}

/// Decodes one value of a float type.
#[inline(always)]
pub(super) fn float_at(ty: QuantType, bytes: &[u8]) -> f32 {
    match ty {
        QuantType::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        QuantType::F16 => f16::from_bits(u16_at(bytes, 0)).to_f32(),
        QuantType::BF16 => bf16::from_bits(u16_at(bytes, 0)).to_f32(),
        _ => unreachable!("not a float type"),
    }
}
