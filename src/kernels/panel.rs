//! The packed weights: panels of 16 rows, so that the 16 sums of a panel sit in the lanes of a register and need no
//! horizontal adds. `matrix` packs and reads them, the kernels of `portable`, `avx2` and `avx512` multiply them.
//! Nothing here knows the layout of a file (that is `blocks`) or of an instruction set.
//!
//! Four columns × 16 rows of quants are a [`Group`] of 64 bytes: byte `4 · row + column`. Eight groups, 32 columns,
//! are a unit of [`Quants`]; a panel element holds 2 units (types of 32-value blocks) or 8 (types of 256-value
//! blocks) and their scales, and has at most 2.8 % more bytes than the file.

use super::blocks::{Decoded, QuantType, float_at};
use super::quantize::{Activation, FloatColumns, LongBlock, ShortBlocks};
use half::{bf16, f16};

/// Rows in a panel.
pub(super) const LANES: usize = 16;

/// Four columns of 16 rows, as bytes `4 · row + column`.
pub(super) type Group = [u8; 64];

/// f16 bits of one factor for each of the 16 rows.
pub(super) type Factors = [u16; LANES];

/// The first `R` of a slice that has at least as many.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn head<const R: usize, T>(slice: &[T]) -> &[T; R] {
    slice.first_chunk().expect("a tile has as many rows as its caller counted")
}

/// As [`head`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn head_mut<const R: usize, T>(slice: &mut [T]) -> &mut [T; R] {
    slice.first_chunk_mut().expect("a tile has as many rows as its caller counted")
}

/// One column block of 16 rows. A matrix is `[panel][column block]` of these.
pub(super) trait Panel: Copy + Send + Sync + 'static {
    /// Columns of an element.
    const COLUMNS: usize = Self::X::COLUMNS;
    /// The form of the activations that this type is multiplied with.
    type X: Activation;

    /// Packs 16 rows; `rows[i]` is the file's bytes of these columns, empty for rows and columns that only pad.
    fn pack(ty: QuantType, rows: [&[u8]; LANES]) -> Self;

    /// The values of one row, `out` being at most `COLUMNS` long.
    fn dequantize(&self, row: usize, out: &mut [f32]);
}

/// 32 columns of unsigned quants.
pub(super) trait Quants: Copy + Send + Sync + 'static {
    /// The quant that stands for zero in types without a minimum.
    const MIDDLE: i32;
    fn pack(groups: &[Group; 8]) -> Self;
    fn unpack(&self) -> [Group; 8];
}

/// 4-bit quants: groups 0 to 3 in the low halves, 4 to 7 in the high halves.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Four(pub(super) [Group; 4]);

/// 5-bit quants: as [`Four`], and the fifth bit of group `g` in bit `g`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Five(pub(super) [Group; 4], pub(super) Group);

/// 6-bit quants: as [`Four`], and the two high bits of groups `i` and `i + 4` in bits `2i` of the first and second.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Six(pub(super) [Group; 4], pub(super) [Group; 2]);

/// 8-bit quants.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Eight(pub(super) [Group; 8]);

fn group(f: impl Fn(usize) -> u8) -> Group {
    std::array::from_fn(f)
}

impl Quants for Four {
    const MIDDLE: i32 = 8;

    #[inline(always)]
    fn pack(g: &[Group; 8]) -> Self {
        Self(std::array::from_fn(|i| group(|b| g[i][b] & 15 | g[i + 4][b] << 4)))
    }

    #[inline(always)]
    fn unpack(&self) -> [Group; 8] {
        std::array::from_fn(|i| group(|b| if i < 4 { self.0[i][b] & 15 } else { self.0[i - 4][b] >> 4 }))
    }
}

impl Quants for Five {
    const MIDDLE: i32 = 16;

    #[inline(always)]
    fn pack(g: &[Group; 8]) -> Self {
        let high = group(|b| (0..8).fold(0, |bits, i| bits | (g[i][b] >> 4 & 1) << i));
        Self(Four::pack(g).0, high)
    }

    #[inline(always)]
    fn unpack(&self) -> [Group; 8] {
        let low = Four(self.0).unpack();
        std::array::from_fn(|i| group(|b| low[i][b] | (self.1[b] >> i & 1) << 4))
    }
}

impl Quants for Six {
    const MIDDLE: i32 = 32;

    #[inline(always)]
    fn pack(g: &[Group; 8]) -> Self {
        let high =
            |h: usize| group(|b| (0..4).fold(0, |bits, i| bits | (g[4 * h + i][b] >> 4 & 3) << (2 * i)));
        Self(Four::pack(g).0, [high(0), high(1)])
    }

    #[inline(always)]
    fn unpack(&self) -> [Group; 8] {
        let low = Four(self.0).unpack();
        std::array::from_fn(|i| group(|b| low[i][b] | (self.1[i / 4][b] >> (i % 4 * 2) & 3) << 4))
    }
}

impl Quants for Eight {
    const MIDDLE: i32 = 128;

    #[inline(always)]
    fn pack(g: &[Group; 8]) -> Self {
        Self(*g)
    }

    #[inline(always)]
    fn unpack(&self) -> [Group; 8] {
        self.0
    }
}

/// `Q4_K`, `Q5_K`: `w = d · scale · q − m · min`, a scale and a minimum for each 32 columns.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct LongMin<Q> {
    pub(super) q: [Q; 8],
    /// `[pair of sub-blocks][2 · row + which of the pair]`
    pub(super) scales: [[i8; 32]; 4],
    /// As `scales`.
    pub(super) mins: [[u8; 32]; 4],
    pub(super) d: Factors,
    pub(super) m: Factors,
}

/// `Q6_K`: `w = d · scale · (q − 32)`, a scale for each 16 columns.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct LongSix {
    pub(super) q: [Six; 8],
    /// `[32 columns][2 · row + which half of them]`
    pub(super) scales: [[i8; 32]; 8],
    pub(super) d: Factors,
}

/// The types of 32-value blocks, two blocks: `w = d · (q − MIDDLE)`, or `w = d · q + m`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Short<Q, M> {
    pub(super) q: [Q; 2],
    pub(super) d: [Factors; 2],
    pub(super) m: M,
}

/// Whether a [`Short`] type has minima.
pub(super) trait Minima: Copy + Send + Sync + 'static {
    const PRESENT: bool;
    fn new(m: [Factors; 2]) -> Self;
    fn get(&self, block: usize) -> Factors;
}

impl Minima for () {
    const PRESENT: bool = false;
    fn new(_: [Factors; 2]) -> Self {}
    fn get(&self, _: usize) -> Factors {
        [0; LANES]
    }
}

impl Minima for [Factors; 2] {
    const PRESENT: bool = true;
    fn new(m: [Factors; 2]) -> Self {
        m
    }
    fn get(&self, block: usize) -> Factors {
        self[block]
    }
}

impl<Q: Quants, M: Minima> Short<Q, M> {
    /// What is subtracted from a quant.
    pub(super) const OFFSET: i32 = if M::PRESENT { 0 } else { Q::MIDDLE };
}

/// Float weights, 16 columns: `[column][row]`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Float<T>(pub(super) [[T; LANES]; 16]);

/// A float type of a file.
pub(super) trait FloatValue: Copy + Default + Send + Sync + 'static {
    fn from_f32(value: f32) -> Self;
    fn to_f32(self) -> f32;
}

macro_rules! float_value {
    ($ty:ty, $from:expr, $to:expr) => {
        impl FloatValue for $ty {
            #[inline(always)]
            fn from_f32(value: f32) -> Self {
                $from(value)
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                $to(self)
            }
        }
    };
}
float_value!(f32, |x| x, |x| x);
float_value!(f16, f16::from_f32, f16::to_f32);
float_value!(bf16, bf16::from_f32, bf16::to_f32);

/// 16 rows of decoded blocks on their way into a panel.
struct Columns<const UNITS: usize> {
    q: [[Group; 8]; UNITS],
    scales: [[i8; 16]; LANES],
    mins: [[u8; 8]; LANES],
}

impl<const UNITS: usize> Columns<UNITS> {
    fn new() -> Self {
        Self { q: [[[0; 64]; 8]; UNITS], scales: [[0; 16]; LANES], mins: [[0; 8]; LANES] }
    }

    /// Puts `q`, whole units from the unit `first` on, into the lanes of `row`.
    #[inline(always)]
    fn put(&mut self, row: usize, first: usize, q: &[u8]) {
        let groups = self.q[first..].as_flattened_mut();
        for (group, four) in groups.iter_mut().zip(q.chunks_exact(4)) {
            group[4 * row..4 * row + 4].copy_from_slice(four);
        }
    }
}

impl<Q: Quants> Panel for LongMin<Q> {
    type X = LongBlock;

    #[inline(always)]
    fn pack(ty: QuantType, rows: [&[u8]; LANES]) -> Self {
        let (mut columns, mut block) = (Columns::<8>::new(), Decoded::ZERO);
        let (mut d, mut m) = ([0; LANES], [0; LANES]);
        for (row, bytes) in rows.into_iter().enumerate().filter(|(_, bytes)| !bytes.is_empty()) {
            block.read(ty, bytes);
            columns.put(row, 0, &block.q);
            (columns.scales[row], columns.mins[row]) = (block.scales, block.mins);
            (d[row], m[row]) = (block.d, block.m);
        }
        Self {
            q: std::array::from_fn(|j| Q::pack(&columns.q[j])),
            scales: std::array::from_fn(|p| std::array::from_fn(|i| columns.scales[i / 2][2 * p + i % 2])),
            mins: std::array::from_fn(|p| std::array::from_fn(|i| columns.mins[i / 2][2 * p + i % 2])),
            d,
            m,
        }
    }

    fn dequantize(&self, row: usize, out: &mut [f32]) {
        let (d, m) = (f16::from_bits(self.d[row]).to_f32(), f16::from_bits(self.m[row]).to_f32());
        for (j, out) in out.chunks_mut(32).enumerate() {
            let at = 2 * row + j % 2;
            let (scale, min) = (d * f32::from(self.scales[j / 2][at]), m * f32::from(self.mins[j / 2][at]));
            let groups = self.q[j].unpack();
            for (i, out) in out.iter_mut().enumerate() {
                *out = scale * f32::from(groups[i / 4][4 * row + i % 4]) - min;
            }
        }
    }
}

impl Panel for LongSix {
    type X = LongBlock;

    #[inline(always)]
    fn pack(ty: QuantType, rows: [&[u8]; LANES]) -> Self {
        let (mut columns, mut block, mut d) = (Columns::<8>::new(), Decoded::ZERO, [0; LANES]);
        for (row, bytes) in rows.into_iter().enumerate().filter(|(_, bytes)| !bytes.is_empty()) {
            block.read(ty, bytes);
            columns.put(row, 0, &block.q);
            columns.scales[row] = block.scales;
            d[row] = block.d;
        }
        Self {
            q: std::array::from_fn(|j| Six::pack(&columns.q[j])),
            scales: std::array::from_fn(|p| std::array::from_fn(|i| columns.scales[i / 2][2 * p + i % 2])),
            d,
        }
    }

    fn dequantize(&self, row: usize, out: &mut [f32]) {
        let d = f16::from_bits(self.d[row]).to_f32();
        for (j, out) in out.chunks_mut(32).enumerate() {
            let groups = self.q[j].unpack();
            for (i, out) in out.iter_mut().enumerate() {
                let scale = d * f32::from(self.scales[j][2 * row + i / 16]);
                *out = scale * (i32::from(groups[i / 4][4 * row + i % 4]) - Six::MIDDLE) as f32;
            }
        }
    }
}

impl<Q: Quants, M: Minima> Panel for Short<Q, M> {
    type X = ShortBlocks;

    #[inline(always)]
    fn pack(ty: QuantType, rows: [&[u8]; LANES]) -> Self {
        let (mut columns, mut block) = (Columns::<2>::new(), Decoded::ZERO);
        let (mut d, mut m) = ([[0; LANES]; 2], [[0; LANES]; 2]);
        for (row, bytes) in rows.into_iter().enumerate() {
            for (h, bytes) in bytes.chunks_exact(ty.block_bytes()).enumerate() {
                block.read(ty, bytes);
                columns.put(row, h, &block.q[..32]);
                (d[h][row], m[h][row]) = (block.d, block.m);
            }
        }
        Self { q: std::array::from_fn(|h| Q::pack(&columns.q[h])), d, m: M::new(m) }
    }

    fn dequantize(&self, row: usize, out: &mut [f32]) {
        for (h, out) in out.chunks_mut(32).enumerate() {
            let d = f16::from_bits(self.d[h][row]).to_f32();
            let m = f16::from_bits(self.m.get(h)[row]).to_f32();
            let groups = self.q[h].unpack();
            for (i, out) in out.iter_mut().enumerate() {
                *out = d * (i32::from(groups[i / 4][4 * row + i % 4]) - Self::OFFSET) as f32 + m;
            }
        }
    }
}

impl<T: FloatValue> Panel for Float<T> {
    type X = FloatColumns;

    #[inline(always)]
    fn pack(ty: QuantType, rows: [&[u8]; LANES]) -> Self {
        let mut values = [[T::default(); LANES]; 16];
        for (row, bytes) in rows.into_iter().enumerate() {
            for (column, bytes) in values.iter_mut().zip(bytes.chunks_exact(ty.block_bytes())) {
                column[row] = T::from_f32(float_at(ty, bytes)); // exact: T is the type of the file
            }
        }
        Self(values)
    }

    fn dequantize(&self, row: usize, out: &mut [f32]) {
        for (out, column) in out.iter_mut().zip(&self.0) {
            *out = column[row].to_f32();
        }
    }
}
