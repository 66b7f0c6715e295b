//! Weight matrices in packed form: built from the data of a GGUF tensor, multiplied by `gemm`, and read row by row for
//! embeddings.

#![allow(unsafe_code)] // several threads pack panels into memory that is not yet initialized

use super::gguf_blocks::{GgufMatrix, QuantType};
use super::panel::{Block32, Block256Min, Block256Q6, BlockFloat, Factors, LANES, PanelBlock};
use super::quants::{Quants4, Quants5, Quants8};
use super::{Product, matmul_group};
use crate::kernels::pool::SharedMut;
use crate::kernels::{KernelError, Kernels, Pool};
use half::{bf16, f16};

/// A weight matrix of `rows` output features × `columns` input features, packed for the kernels. It takes at most 2.8 %
/// more memory than the tensor in the file, plus at most 15 rows of padding.
pub struct QuantMatrix {
    ty: QuantType,
    rows: usize,
    columns: usize,
    pub(super) panels: Panels,
}

/// The packed panels, `[panel of 16 rows][column block]`.
pub(super) enum Panels {
    F32(Vec<BlockFloat<f32>>),
    F16(Vec<BlockFloat<f16>>),
    Bf16(Vec<BlockFloat<bf16>>),
    Q40(Vec<Block32<Quants4, ()>>),
    Q41(Vec<Block32<Quants4, [Factors; 2]>>),
    Q50(Vec<Block32<Quants5, ()>>),
    Q51(Vec<Block32<Quants5, [Factors; 2]>>),
    Q80(Vec<Block32<Quants8, ()>>),
    Q4K(Vec<Block256Min<Quants4>>),
    Q5K(Vec<Block256Min<Quants5>>),
    Q6K(Vec<Block256Q6>),
}

/// Evaluates `$body` with `$panels` bound to the vector of panels, whose type depends on the variant.
macro_rules! with_panels {
    ($matrix:expr, $panels:ident => $body:expr) => {
        match &$matrix.panels {
            Panels::F32($panels) => $body,
            Panels::F16($panels) => $body,
            Panels::Bf16($panels) => $body,
            Panels::Q40($panels) => $body,
            Panels::Q41($panels) => $body,
            Panels::Q50($panels) => $body,
            Panels::Q51($panels) => $body,
            Panels::Q80($panels) => $body,
            Panels::Q4K($panels) => $body,
            Panels::Q5K($panels) => $body,
            Panels::Q6K($panels) => $body,
        }
    };
}
pub(super) use with_panels;

impl QuantMatrix {
    /// Packs a tensor. Its data can be dropped afterwards.
    ///
    /// # Errors
    /// [`KernelError::RowLength`] if a row is not a whole number of blocks, [`KernelError::DataLength`] if the size of the
    /// data does not match the shape, [`KernelError::Shape`] for a matrix without rows.
    pub fn from_gguf(kernels: &Kernels, matrix: GgufMatrix<'_>) -> Result<Self, KernelError> {
        let GgufMatrix { ty, rows, columns, .. } = matrix;
        let packer = Packer { pool: kernels.pool(), row_bytes: matrix.checked_row_bytes()?, matrix };
        let panels = match ty {
            QuantType::F32 => Panels::F32(packer.pack()),
            QuantType::F16 => Panels::F16(packer.pack()),
            QuantType::BF16 => Panels::Bf16(packer.pack()),
            QuantType::Q4_0 => Panels::Q40(packer.pack()),
            QuantType::Q4_1 => Panels::Q41(packer.pack()),
            QuantType::Q5_0 => Panels::Q50(packer.pack()),
            QuantType::Q5_1 => Panels::Q51(packer.pack()),
            QuantType::Q8_0 => Panels::Q80(packer.pack()),
            QuantType::Q4_K => Panels::Q4K(packer.pack()),
            QuantType::Q5_K => Panels::Q5K(packer.pack()),
            QuantType::Q6_K => Panels::Q6K(packer.pack()),
        };
        Ok(Self { ty, rows, columns, panels })
    }

    /// Returns the number of output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the number of input features.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Computes `out = x · Wᵀ`; `x` is `(m, columns)`, `out` is `(m, rows)`, both row-major.
    ///
    /// Quantized types multiply int8 activations, as in ggml and candle. Compared with exact arithmetic on the dequantized
    /// weights, an output differs by at most `Σ |w| · s/2 + 1e-5 · Σ |w x|`, where `s` is the largest `|x|` of the
    /// activation block (256 or 32 values) divided by 127. Float types differ only by rounding.
    ///
    /// # Panics
    /// If the length of a slice does not match the shapes.
    pub fn matmul(&self, kernels: &Kernels, x: &[f32], m: usize, out: &mut [f32]) {
        matmul_group(kernels, x, m, &mut [Product { weights: self, out, updates: &[] }]);
    }

    /// Looks up embeddings: `out[i] = W[ids[i]]`, dequantized; `out` is `(ids, columns)`.
    ///
    /// # Panics
    /// If an id is out of range, or `out` does not have that length.
    pub fn look_up(&self, ids: &[u32], out: &mut [f32]) {
        assert_eq!(out.len(), ids.len() * self.columns, "output of a look-up");
        for (&id, out) in ids.iter().zip(out.chunks_exact_mut(self.columns)) {
            let row = id as usize;
            assert!(row < self.rows, "row {row} is out of range for a matrix of {} rows", self.rows);
            with_panels!(self, panels => dequantize_row(panels, self.columns, row, out));
        }
    }
}

impl std::fmt::Debug for QuantMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QuantMatrix({:?}, {} x {})", self.ty, self.rows, self.columns)
    }
}

/// Dequantizes one row; `out` is `(columns)`.
fn dequantize_row<P: PanelBlock>(panels: &[P], columns: usize, row: usize, out: &mut [f32]) {
    let blocks = columns.div_ceil(P::COLUMNS);
    let panel = &panels[row / LANES * blocks..][..blocks];
    for (block, out) in panel.iter().zip(out.chunks_mut(P::COLUMNS)) {
        block.dequantize(row % LANES, out);
    }
}

/// Packs a tensor on all threads.
struct Packer<'a> {
    pool: &'a Pool,
    matrix: GgufMatrix<'a>,
    row_bytes: usize,
}

impl Packer<'_> {
    /// Returns the panels, `[panel][column block]`.
    fn pack<P: PanelBlock>(&self) -> Vec<P> {
        let GgufMatrix { ty, rows, columns, .. } = self.matrix;
        let (panels, blocks) = (rows.div_ceil(LANES), columns.div_ceil(P::COLUMNS));
        let total = panels * blocks;
        let mut packed = Vec::<P>::with_capacity(total);
        let slots = SharedMut::new(&mut packed.spare_capacity_mut()[..total]);
        self.pool.run(panels, &|panel| {
            // SAFETY: each panel has its own slots, and `run` passes each index to one thread, once.
            let slots = unsafe { slots.slice(panel * blocks, blocks) };
            for (block, slot) in slots.iter_mut().enumerate() {
                let data = std::array::from_fn(|lane| self.block_data::<P>(panel * LANES + lane, block));
                slot.write(P::pack(ty, data));
            }
        });
        // SAFETY: `run` has returned, so every task has run, and each has written all slots of its panel.
        unsafe { packed.set_len(total) };
        packed
    }

    /// Returns the data of one row in one column block: fewer bytes at the right edge, none below the last row.
    fn block_data<P: PanelBlock>(&self, row: usize, block: usize) -> &[u8] {
        let GgufMatrix { ty, rows, data, .. } = self.matrix;
        if row >= rows {
            return &[];
        }
        let bytes = P::COLUMNS / ty.block_len() * ty.block_bytes();
        let row = &data[row * self.row_bytes..][..self.row_bytes];
        &row[block * bytes..self.row_bytes.min((block + 1) * bytes)]
    }
}
