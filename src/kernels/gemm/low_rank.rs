//! Low-rank updates (LoRA) of weight matrices: `out[r] += scale · (x[r] · Aᵀ) · Bᵀ` for some rows of a product. `gemm` calls
//! [`down_project`] before the product and [`LowRankTerm::add`] while the sums of a group of panels are in its cache, so an
//! update costs no additional pass over the output.
//!
//! All sums are f32 with fused multiply-add in a fixed order, so the result for a row is the same in every batch, on every
//! number of threads and on every instruction set.

#![allow(unsafe_code)] // threads write disjoint elements; kernels require a CPU feature

use super::gguf_blocks::{GgufMatrix, QuantType, dequantize_row};
use super::panel::LANES;
#[cfg(target_arch = "x86_64")]
use super::x86_64;
use super::{Product, portable};
use crate::kernels::cpu::{CpuFeatures, InstructionSet};
use crate::kernels::pool::SharedMut;
use crate::kernels::widen::widen_f16;
use crate::kernels::{KernelError, Kernels};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::cell::RefCell;
use std::ops::Range;

/// A low-rank update of a weight matrix, `W + scale · B · A`, packed for the kernels. F16 tensors stay F16 in memory; all
/// other types are widened to f32.
pub struct LowRank {
    /// `(rank, columns)`
    a: FloatPanels,
    /// `(rows, rank)`
    b: FloatPanels,
    scale: f32,
}

impl LowRank {
    /// Packs the tensors `a`, `(rank, columns)`, and `b`, `(rows, rank)`. `scale` is usually `alpha / rank`.
    ///
    /// # Errors
    /// [`KernelError::Shape`] if the ranks differ or a matrix has no rows, [`KernelError::RowLength`] or
    /// [`KernelError::DataLength`] if the data of a tensor does not match its shape.
    pub fn from_gguf(a: GgufMatrix<'_>, b: GgufMatrix<'_>, scale: f32) -> Result<Self, KernelError> {
        if a.rows != b.columns {
            return Err(KernelError::Shape(format!(
                "low-rank matrices of different ranks: A has {} rows, B has {} columns",
                a.rows, b.columns
            )));
        }
        Ok(Self { a: FloatPanels::pack(a)?, b: FloatPanels::pack(b)?, scale })
    }

    /// Returns the rank.
    pub fn rank(&self) -> usize {
        self.a.rows
    }

    /// Returns the number of output features.
    pub fn rows(&self) -> usize {
        self.b.rows
    }

    /// Returns the number of input features.
    pub fn columns(&self) -> usize {
        self.a.columns
    }

    /// Returns the number of bytes in memory.
    pub fn bytes(&self) -> usize {
        self.a.bytes() + self.b.bytes()
    }
}

impl std::fmt::Debug for LowRank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LowRank({} x {}, rank {})", self.rows(), self.columns(), self.rank())
    }
}

/// A low-rank update for some rows of a product.
#[derive(Debug, Clone, Copy)]
pub struct RowUpdate<'a> {
    /// The update.
    pub low_rank: &'a LowRank,
    /// The rows of the activations that it applies to, ascending and without duplicates.
    pub rows: &'a [u32],
}

/// A float matrix in panels of 16 rows, `[panel][column][16 rows]`.
struct FloatPanels {
    rows: usize,
    columns: usize,
    values: FloatValues,
}

enum FloatValues {
    F16(Vec<[f16; LANES]>),
    F32(Vec<[f32; LANES]>),
}

impl FloatPanels {
    fn pack(matrix: GgufMatrix<'_>) -> Result<Self, KernelError> {
        let GgufMatrix { ty, rows, columns, data } = matrix;
        let row_bytes = matrix.checked_row_bytes()?;
        let mut values = vec![[0.0; LANES]; rows.div_ceil(LANES) * columns];
        let mut row_values = vec![0.0; columns];
        for (row, bytes) in data.chunks_exact(row_bytes).enumerate() {
            dequantize_row(ty, bytes, &mut row_values);
            let panel = &mut values[row / LANES * columns..][..columns];
            panel.iter_mut().zip(&row_values).for_each(|(lanes, value)| lanes[row % LANES] = *value);
        }
        let values = match ty {
            // Exact: the values come from f16.
            QuantType::F16 => {
                FloatValues::F16(values.into_iter().map(|lanes| lanes.map(f16::from_f32)).collect())
            }
            _ => FloatValues::F32(values),
        };
        Ok(Self { rows, columns, values })
    }

    fn panels(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    fn bytes(&self) -> usize {
        match &self.values {
            FloatValues::F16(values) => size_of_val(values.as_slice()),
            FloatValues::F32(values) => size_of_val(values.as_slice()),
        }
    }

    /// Returns some columns of a panel in f32; `buffer` holds them if they are stored in f16.
    fn widen<'a>(
        &'a self,
        cpu: CpuFeatures,
        panel: usize,
        columns: Range<usize>,
        buffer: &'a mut Vec<[f32; LANES]>,
    ) -> &'a [[f32; LANES]] {
        let range = panel * self.columns + columns.start..panel * self.columns + columns.end;
        match &self.values {
            FloatValues::F32(values) => &values[range],
            FloatValues::F16(values) => {
                buffer.resize(range.len(), [0.0; LANES]);
                let halves = values[range].as_flattened().reinterpret_cast();
                widen_f16(cpu, halves, buffer.as_flattened_mut());
                buffer
            }
        }
    }
}

/// The rows of one update of a product, down-projected.
pub(super) struct LowRankTerm<'a> {
    update: RowUpdate<'a>,
    /// `scale · x · Aᵀ`, `(rows of the update, panels of A)`.
    projected: &'a [[f32; LANES]],
}

/// Columns of a task of [`down_project`].
const CHUNK_COLUMNS: usize = 1024;

/// Rows of a task of [`down_project`].
const CHUNK_ROWS: usize = 48;

/// Columns that are summed in one chain, whose sums are then added in ascending order. A widened panel of them stays in L1.
const CHAIN_COLUMNS: usize = 256;

thread_local! {
    /// A widened part of a panel.
    static PANEL: RefCell<Vec<[f32; LANES]>> = RefCell::default();
}

/// Computes `scale · x · Aᵀ` for all updates of the products, as one job, and returns the terms of each product. `buffer`
/// holds them.
///
/// # Panics
/// If an update does not have the shape of its matrix, or its rows are not ascending or out of range.
pub(super) fn down_project<'a>(
    kernels: &Kernels,
    x: &[f32],
    columns: usize,
    products: &[Product<'a>],
    buffer: &'a mut Vec<[f32; LANES]>,
) -> Vec<Vec<LowRankTerm<'a>>> {
    let updates: Vec<RowUpdate<'a>> = products.iter().flat_map(|p| p.updates).copied().collect();
    if updates.is_empty() {
        return products.iter().map(|_| Vec::new()).collect();
    }
    for product in products {
        product.updates.iter().for_each(|update| check(update, product, x.len() / columns));
    }
    // Each update has one copy of its rows for each chunk of columns; the copies are added at the end.
    let chunks = columns.div_ceil(CHUNK_COLUMNS);
    let sizes = updates.iter().map(|update| update.rows.len() * update.low_rank.a.panels());
    buffer.resize(sizes.clone().sum::<usize>() * chunks, [0.0; LANES]);
    let mut tasks = Vec::new();
    let mut rest = buffer.as_mut_slice();
    let mut outputs = Vec::with_capacity(updates.len());
    for (index, (update, size)) in updates.iter().zip(sizes).enumerate() {
        let (output, others) = rest.split_at_mut(size * chunks);
        rest = others;
        outputs.push(output);
        for first_row in (0..update.rows.len()).step_by(CHUNK_ROWS) {
            tasks.extend((0..chunks).map(|chunk| (index, chunk, first_row)));
        }
    }
    let shared: Vec<_> = outputs.iter_mut().map(|output| SharedMut::new(output)).collect();
    kernels.pool().run(tasks.len(), &|task| {
        let (index, chunk, first_row) = tasks[task];
        let RowUpdate { low_rank, rows } = updates[index];
        let end_row = rows.len().min(first_row + CHUNK_ROWS);
        let width = low_rank.a.panels();
        let start = (chunk * rows.len() + first_row) * width;
        // SAFETY: each task has its own rows of its own copy, and `run` passes each index to one thread, once.
        let out = unsafe { shared[index].slice(start, (end_row - first_row) * width) };
        let chunk = chunk * CHUNK_COLUMNS..columns.min((chunk + 1) * CHUNK_COLUMNS);
        down_project_chunk(kernels.cpu(), &low_rank.a, x, &rows[first_row..end_row], chunk, out);
    });
    drop(shared);
    let mut terms = updates.iter().zip(outputs).map(|(update, output)| {
        let (projected, others) = output.split_at_mut(output.len() / chunks);
        for chunk in others.chunks_exact(projected.len().max(1)) {
            let chunk = chunk.as_flattened();
            projected.as_flattened_mut().iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x);
        }
        projected.as_flattened_mut().iter_mut().for_each(|x| *x *= update.low_rank.scale);
        LowRankTerm { update: *update, projected }
    });
    products.iter().map(|product| terms.by_ref().take(product.updates.len()).collect()).collect()
}

fn check(update: &RowUpdate<'_>, product: &Product<'_>, m: usize) {
    let RowUpdate { low_rank, rows } = update;
    assert!(
        low_rank.rows() == product.weights.rows() && low_rank.columns() == product.weights.columns(),
        "shape of a low-rank update"
    );
    assert!(rows.is_sorted_by(|a, b| a < b), "rows of a low-rank update are not ascending");
    assert!(
        rows.last().is_none_or(|&last| (last as usize) < m),
        "rows of a low-rank update are out of range"
    );
}

/// Computes `x · Aᵀ` for some rows and columns of `x`; `out` is `(rows, panels of A)`.
fn down_project_chunk(
    cpu: CpuFeatures,
    a: &FloatPanels,
    x: &[f32],
    rows: &[u32],
    columns: Range<usize>,
    out: &mut [[f32; LANES]],
) {
    let panels = a.panels();
    out.fill([0.0; LANES]);
    PANEL.with_borrow_mut(|buffer| {
        for first in columns.clone().step_by(CHAIN_COLUMNS) {
            let end = columns.end.min(first + CHAIN_COLUMNS);
            for panel in 0..panels {
                let weights = a.widen(cpu, panel, first..end, buffer);
                let x_start = |i: usize| rows[i] as usize * a.columns + first;
                add_products(cpu, weights, rows.len(), x, x_start, out, |i| i * panels + panel);
            }
        }
    });
}

impl LowRankTerm<'_> {
    /// Adds `projected · Bᵀ` to the sums, `(panels, count)`, of the activation rows `first_row..first_row + count`.
    pub(super) fn add(
        &self,
        cpu: CpuFeatures,
        panels: Range<usize>,
        first_row: usize,
        count: usize,
        sums: &mut [[f32; LANES]],
    ) {
        let RowUpdate { low_rank, rows } = self.update;
        let start = rows.partition_point(|&row| (row as usize) < first_row);
        let end = rows.partition_point(|&row| (row as usize) < first_row + count);
        let (rows, width) = (&rows[start..end], low_rank.a.panels() * LANES);
        if rows.is_empty() {
            return;
        }
        let x = self.projected.as_flattened();
        PANEL.with_borrow_mut(|buffer| {
            for (panel, sums) in panels.zip(sums.chunks_exact_mut(count)) {
                let weights = low_rank.b.widen(cpu, panel, 0..low_rank.rank(), buffer);
                let x_start = |i: usize| (start + i) * width;
                add_products(cpu, weights, rows.len(), x, x_start, sums, |i| rows[i] as usize - first_row);
            }
        });
    }
}

/// Multiplies `rows` rows of activations by a panel of float weights, `(columns, 16)`, and adds the products to `sums`. Row
/// `i` begins at `x[x_start(i)]`, and its sums are `sums[sums_index(i)]`. The columns are summed from zero in ascending order,
/// with fused multiply-add.
fn add_products(
    cpu: CpuFeatures,
    weights: &[[f32; LANES]],
    rows: usize,
    x: &[f32],
    x_start: impl Fn(usize) -> usize,
    sums: &mut [[f32; LANES]],
    sums_index: impl Fn(usize) -> usize,
) {
    match cpu.instruction_set() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `cpu` is the proof that this machine has these features.
        InstructionSet::Avx2 => unsafe {
            x86_64::low_rank::add_products_avx2(weights, rows, x, x_start, sums, sums_index);
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        InstructionSet::Avx512 | InstructionSet::Amx => unsafe {
            x86_64::low_rank::add_products_avx512(weights, rows, x, x_start, sums, sums_index);
        },
        _ => portable::add_products(weights, rows, x, x_start, sums, sums_index),
    }
}
