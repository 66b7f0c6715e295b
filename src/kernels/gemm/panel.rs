//! Packed weights: panels of 16 rows, so that the 16 sums of a panel are the lanes of a register and no horizontal adds are
//! needed. `matrix` packs and dequantizes them; `portable` and `x86_64` multiply them.
//!
//! A panel is a sequence of column blocks. Each holds the scales and 2 units of [`Quants`] (types with 32-value blocks) or 8
//! units (types with 256-value blocks), and takes at most 2.8 % more bytes than in the file.

use super::activations::{ActivationBlock, Activations2x32, Activations256, ActivationsF32};
use super::gguf_blocks::{DecodedBlock, QuantType, float_at};
use super::quants::{QuantGroup, Quants, Quants6};
use half::{bf16, f16};

/// Rows in a panel.
pub(super) const LANES: usize = 16;

/// One factor for each of the 16 rows, as f16 bits.
pub(super) type Factors = [u16; LANES];

/// A column block of 16 rows. A matrix is laid out `[panel][column block]`.
pub(super) trait PanelBlock: Copy + Send + Sync + 'static {
    /// Columns of a block.
    const COLUMNS: usize = Self::X::COLUMNS;
    /// The form of the activations that this type is multiplied by.
    type X: ActivationBlock;

    /// Packs 16 rows; `rows[i]` is the row's data for these columns in the file's layout, empty for padding.
    fn pack(ty: QuantType, rows: [&[u8]; LANES]) -> Self;

    /// Dequantizes one row; `out` has at most `COLUMNS` values.
    fn dequantize(&self, row: usize, out: &mut [f32]);
}

/// `Q4_K`, `Q5_K`: `w = d · scale · q − m · min`, with a scale and a minimum for every 32 columns.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Block256Min<Q> {
    pub(super) q: [Q; 8],
    /// `[pair of sub-blocks][2 · row + index in the pair]`
    pub(super) scales: [[i8; 32]; 4],
    /// Laid out like `scales`.
    pub(super) mins: [[u8; 32]; 4],
    pub(super) d: Factors,
    pub(super) m: Factors,
}

/// `Q6_K`: `w = d · scale · (q − 32)`, with a scale for every 16 columns.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Block256Q6 {
    pub(super) q: [Quants6; 8],
    /// `[unit of 32 columns][2 · row + half of the unit]`
    pub(super) scales: [[i8; 32]; 8],
    pub(super) d: Factors,
}

/// Two blocks of a type with 32-value blocks: `w = d · (q − ZERO_POINT)`, or `w = d · q + m`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Block32<Q, M> {
    pub(super) q: [Q; 2],
    pub(super) d: [Factors; 2],
    pub(super) m: M,
}

/// The minima of a [`Block32`], or `()` for a type without.
pub(super) trait BlockMinimum: Copy + Send + Sync + 'static {
    /// `true` if the type has minima.
    const PRESENT: bool;

    fn new(m: [Factors; 2]) -> Self;

    /// Returns the minima of one of the two blocks; zero if the type has none.
    fn get(&self, block: usize) -> Factors;
}

impl BlockMinimum for () {
    const PRESENT: bool = false;
    fn new(_: [Factors; 2]) -> Self {}
    fn get(&self, _: usize) -> Factors {
        [0; LANES]
    }
}

impl BlockMinimum for [Factors; 2] {
    const PRESENT: bool = true;
    fn new(m: [Factors; 2]) -> Self {
        m
    }
    fn get(&self, block: usize) -> Factors {
        self[block]
    }
}

impl<Q: Quants, M: BlockMinimum> Block32<Q, M> {
    /// The offset that is subtracted from a quant.
    pub(super) const OFFSET: i32 = if M::PRESENT { 0 } else { Q::ZERO_POINT };
}

/// Float weights, 16 columns: `[column][row]`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct BlockFloat<T>(pub(super) [[T; LANES]; 16]);

/// A float type that weights are stored in.
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

/// 16 rows of decoded blocks, in the layout of a panel.
struct DecodedRows<const UNITS: usize> {
    q: [[QuantGroup; 8]; UNITS],
    scales: [[i8; 16]; LANES],
    mins: [[u8; 8]; LANES],
}

impl<const UNITS: usize> DecodedRows<UNITS> {
    fn new() -> Self {
        Self { q: [[[0; 64]; 8]; UNITS], scales: [[0; 16]; LANES], mins: [[0; 8]; LANES] }
    }

    /// Copies the quants `q`, whole units beginning with `first_unit`, into the lanes of `row`.
    #[inline(always)]
    fn put(&mut self, row: usize, first_unit: usize, q: &[u8]) {
        let groups = self.q[first_unit..].as_flattened_mut();
        for (group, four) in groups.iter_mut().zip(q.chunks_exact(4)) {
            group[4 * row..4 * row + 4].copy_from_slice(four);
        }
    }
}

impl<Q: Quants> PanelBlock for Block256Min<Q> {
    type X = Activations256;

    #[inline(always)]
    fn pack(ty: QuantType, rows: [&[u8]; LANES]) -> Self {
        let (mut columns, mut block) = (DecodedRows::<8>::new(), DecodedBlock::ZERO);
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

impl PanelBlock for Block256Q6 {
    type X = Activations256;

    #[inline(always)]
    fn pack(ty: QuantType, rows: [&[u8]; LANES]) -> Self {
        let (mut columns, mut block, mut d) = (DecodedRows::<8>::new(), DecodedBlock::ZERO, [0; LANES]);
        for (row, bytes) in rows.into_iter().enumerate().filter(|(_, bytes)| !bytes.is_empty()) {
            block.read(ty, bytes);
            columns.put(row, 0, &block.q);
            columns.scales[row] = block.scales;
            d[row] = block.d;
        }
        Self {
            q: std::array::from_fn(|j| Quants6::pack(&columns.q[j])),
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
                *out = scale * (i32::from(groups[i / 4][4 * row + i % 4]) - Quants6::ZERO_POINT) as f32;
            }
        }
    }
}

impl<Q: Quants, M: BlockMinimum> PanelBlock for Block32<Q, M> {
    type X = Activations2x32;

    #[inline(always)]
    fn pack(ty: QuantType, rows: [&[u8]; LANES]) -> Self {
        let (mut columns, mut block) = (DecodedRows::<2>::new(), DecodedBlock::ZERO);
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

impl<T: FloatValue> PanelBlock for BlockFloat<T> {
    type X = ActivationsF32;

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
