//! A weight matrix in packed form: made from a GGUF tensor's bytes, multiplied by `gemm`, read back row by row for
//! embeddings. Owns the packed bytes and nothing else; it knows no file and no tensor name.

#![allow(unsafe_code)] // panels are packed by several threads into memory that is not yet initialized

use super::blocks::QuantType;
use super::panel::{Eight, Factors, Five, Float, Four, LANES, LongMin, LongSix, Panel, Short};
use super::pool::SharedMut;
use super::{KernelError, Kernels, Pool, Product, matmul_group};
use half::{bf16, f16};

/// A weight matrix of `rows` output features × `columns` input features, packed for the kernels. Takes at most 2.8 %
/// more memory than the tensor in the file (and at most 15 rows of padding).
pub struct QuantMatrix {
    ty: QuantType,
    rows: usize,
    columns: usize,
    pub(super) panels: Panels,
}

/// The packed panels, `[panel of 16 rows][column block]`.
pub(super) enum Panels {
    F32(Vec<Float<f32>>),
    F16(Vec<Float<f16>>),
    Bf16(Vec<Float<bf16>>),
    Q40(Vec<Short<Four, ()>>),
    Q41(Vec<Short<Four, [Factors; 2]>>),
    Q50(Vec<Short<Five, ()>>),
    Q51(Vec<Short<Five, [Factors; 2]>>),
    Q80(Vec<Short<Eight, ()>>),
    Q4K(Vec<LongMin<Four>>),
    Q5K(Vec<LongMin<Five>>),
    Q6K(Vec<LongSix>),
}

/// Runs `$body` with `$panels` bound to the vector of whichever type it is.
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
    /// Packs the tensor `data`, `(rows, columns)` row-major in GGUF's layout of `ty`. GGUF writes the shape the other
    /// way round: `columns` is its first dimension. `data` can be dropped afterwards.
    ///
    /// # Errors
    /// [`KernelError::RowLength`] where a row is no whole number of blocks, [`KernelError::DataLength`] where the
    /// bytes do not fit the shape, [`KernelError::Shape`] for a matrix without rows.
    pub fn from_gguf(
        kernels: &Kernels,
        ty: QuantType,
        rows: usize,
        columns: usize,
        data: &[u8],
    ) -> Result<Self, KernelError> {
        let row_bytes = ty.row_bytes(columns)?;
        if rows == 0 {
            return Err(KernelError::Shape("a matrix without rows".to_owned()));
        }
        let expected =
            rows.checked_mul(row_bytes).ok_or_else(|| KernelError::Shape(format!("{rows} rows")))?;
        if data.len() != expected {
            return Err(KernelError::DataLength { expected, found: data.len() });
        }
        let source = Source { pool: kernels.pool(), ty, rows, columns, row_bytes, data };
        let panels = match ty {
            QuantType::F32 => Panels::F32(source.pack()),
            QuantType::F16 => Panels::F16(source.pack()),
            QuantType::BF16 => Panels::Bf16(source.pack()),
            QuantType::Q4_0 => Panels::Q40(source.pack()),
            QuantType::Q4_1 => Panels::Q41(source.pack()),
            QuantType::Q5_0 => Panels::Q50(source.pack()),
            QuantType::Q5_1 => Panels::Q51(source.pack()),
            QuantType::Q8_0 => Panels::Q80(source.pack()),
            QuantType::Q4_K => Panels::Q4K(source.pack()),
            QuantType::Q5_K => Panels::Q5K(source.pack()),
            QuantType::Q6_K => Panels::Q6K(source.pack()),
        };
        Ok(Self { ty, rows, columns, panels })
    }

    /// The tensor type in the file.
    pub fn quant_type(&self) -> QuantType {
        self.ty
    }

    /// Output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of the packed form.
    pub fn packed_bytes(&self) -> usize {
        with_panels!(self, panels => size_of_val(panels.as_slice()))
    }

    /// `out = x · Wᵀ`: `x` is `(m, columns)`, `out` `(m, rows)`, both row-major.
    ///
    /// Quantized types multiply int8 activations, as ggml and candle do. Against exact arithmetic on the dequantized
    /// weights, an output differs by at most `Σ |w| · s/2 + 1e-5 · Σ |w x|`, where `s` is the largest `|x|` of the
    /// activation block (256 or 32 values) over 127. Float types differ by rounding only.
    ///
    /// # Panics
    /// Where a slice has another length.
    pub fn matmul(&self, kernels: &Kernels, x: &[f32], m: usize, out: &mut [f32]) {
        matmul_group(kernels, x, m, &mut [Product { weights: self, out }]);
    }

    /// Embedding look-up: `out[i] = W[ids[i]]`, dequantized; `out` is `(ids, columns)`.
    ///
    /// # Panics
    /// Where an id is no row, or `out` has another length.
    pub fn look_up(&self, ids: &[u32], out: &mut [f32]) {
        assert_eq!(out.len(), ids.len() * self.columns, "output of a look-up");
        for (&id, out) in ids.iter().zip(out.chunks_exact_mut(self.columns)) {
            let row = id as usize;
            assert!(row < self.rows, "row {row} of a matrix of {} rows", self.rows);
            with_panels!(self, panels => read_row(panels, self.columns, row, out));
        }
    }

    /// All of the matrix, `(rows, columns)` row-major: for devices that use other operations, and for tests.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.columns];
        for (row, out) in out.chunks_exact_mut(self.columns).enumerate() {
            with_panels!(self, panels => read_row(panels, self.columns, row, out));
        }
        out
    }
}

impl std::fmt::Debug for QuantMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QuantMatrix({:?}, {} x {})", self.ty, self.rows, self.columns)
    }
}

fn read_row<P: Panel>(panels: &[P], columns: usize, row: usize, out: &mut [f32]) {
    let blocks = columns.div_ceil(P::COLUMNS);
    let panel = &panels[row / LANES * blocks..][..blocks];
    for (block, out) in panel.iter().zip(out.chunks_mut(P::COLUMNS)) {
        block.dequantize(row % LANES, out);
    }
}

/// A tensor as it lies in the file.
struct Source<'a> {
    pool: &'a Pool,
    ty: QuantType,
    rows: usize,
    columns: usize,
    row_bytes: usize,
    data: &'a [u8],
}

impl Source<'_> {
    fn pack<P: Panel>(&self) -> Vec<P> {
        let (panels, blocks) = (self.rows.div_ceil(LANES), self.columns.div_ceil(P::COLUMNS));
        let total = panels * blocks;
        let mut packed = Vec::<P>::with_capacity(total);
        let slots = SharedMut::new(&mut packed.spare_capacity_mut()[..total]);
        self.pool.run(panels, &|panel| {
            // SAFETY: each panel has slots of its own, and `run` hands each number to one thread, once.
            let slots = unsafe { slots.slice(panel * blocks, blocks) };
            for (block, slot) in slots.iter_mut().enumerate() {
                slot.write(P::pack(
                    self.ty,
                    std::array::from_fn(|lane| self.columns_of::<P>(panel * LANES + lane, block)),
                ));
            }
        });
        // SAFETY: `run` has returned, so every panel was visited, and a visit writes each of its slots.
        unsafe { packed.set_len(total) };
        packed
    }

    /// The bytes of one row in one column block: fewer at the right edge, none below the last row.
    fn columns_of<P: Panel>(&self, row: usize, block: usize) -> &[u8] {
        if row >= self.rows {
            return &[];
        }
        let bytes = P::COLUMNS / self.ty.block_len() * self.ty.block_bytes();
        let row = &self.data[row * self.row_bytes..][..self.row_bytes];
        &row[block * bytes..self.row_bytes.min((block + 1) * bytes)]
    }
}
