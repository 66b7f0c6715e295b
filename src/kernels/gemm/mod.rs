//! Matrix products of quantized weights: `out = x · Wᵀ`. This file owns the schedule (which thread multiplies which panels
//! by which rows); `model` calls it through [`matmul_group`].
//!
//! ```text
//! gguf_blocks ──▶ panel ──▶ matrix (weights) ──┐
//!               activations (quantized x) ─────┴─▶ schedule ──▶ dispatch ──▶ portable │ x86_64::{avx2, avx512, amx}
//! ```
//!
//! Each call reads the weights from memory once: a thread takes a group of panels that fits into its cache and multiplies
//! it by all rows, one cache-sized block of rows at a time.

#![allow(unsafe_code)] // threads write disjoint columns of the output

mod activations;
mod dispatch;
mod gguf_blocks;
mod low_rank;
#[cfg(test)]
mod low_rank_tests;
mod matrix;
mod panel;
mod portable;
mod quants;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use gguf_blocks::{GgufMatrix, QuantType};
pub use low_rank::{LowRank, RowUpdate};
pub use matrix::QuantMatrix;
#[cfg(target_arch = "x86_64")]
pub(super) use x86_64::amx_is_present;

use self::activations::{ActivationBlock, Activations2x32, Activations256, ActivationsF32, fill};
use self::dispatch::MultiplyPanel;
use self::low_rank::{LowRankTerm, down_project};
use self::matrix::{Panels, with_panels};
use self::panel::LANES;
use crate::kernels::Kernels;
use crate::kernels::cpu::{CpuFeatures, InstructionSet};
use crate::kernels::pool::SharedMut;
use std::cell::RefCell;
use std::sync::Mutex;

/// Returns the number of rows of activations that a group of panels is multiplied by before the next group.
fn row_block(set: InstructionSet) -> usize {
    match set {
        // A panel is unpacked once for all of them.
        InstructionSet::Amx => 256,
        // Their sums stay in L1.
        _ => 64,
    }
}

/// Bytes of activations that a group of panels is multiplied by before the next columns: half of an L2 cache.
const CACHE_BYTES: usize = 1 << 20;

thread_local! {
    /// Sums of a group of panels, `(panels, rows)`.
    static SUMS: RefCell<Vec<[f32; LANES]>> = RefCell::default();
}

/// Blocks of activations after the last row that an instruction set may read without using them.
#[cfg(target_arch = "x86_64")]
const PADDING: usize = x86_64::amx::PADDING;
#[cfg(not(target_arch = "x86_64"))]
const PADDING: usize = 0;

/// One product of a group: `out = x · weightsᵀ`, plus the low-rank updates of some rows.
#[derive(Debug)]
pub struct Product<'a> {
    /// `(rows, columns)`; all matrices of a group have the same number of columns.
    pub weights: &'a QuantMatrix,
    /// `(m, rows)`, row-major.
    pub out: &'a mut [f32],
    /// Low-rank updates. A row may be in several of them, which are added in this order, or in none.
    pub updates: &'a [RowUpdate<'a>],
}

/// The intermediate results of the current product, kept to reuse their memory.
#[derive(Default)]
pub(super) struct GemmScratch {
    activations_256: Vec<Activations256>,
    activations_2x32: Vec<Activations2x32>,
    activations_f32: Vec<ActivationsF32>,
    /// The activations after the first matrix of each low-rank update.
    projected: Vec<[f32; LANES]>,
}

/// [`GemmScratch`] behind a lock; a second concurrent caller allocates its own.
pub(super) type SharedGemmScratch = Mutex<GemmScratch>;

/// Computes several products of the same `x`, `(m, columns)` row-major, as one job: the projections to queries, keys and
/// values, or gate and up. The activations are quantized once, and the threads synchronize once.
///
/// # Panics
/// If the length of a slice does not match the shapes, the matrices differ in their number of columns, or a low-rank update
/// does not match its matrix.
pub fn matmul_group(kernels: &Kernels, x: &[f32], m: usize, products: &mut [Product<'_>]) {
    let Some(columns) = products.first().map(|p| p.weights.columns()) else { return };
    assert_eq!(x.len(), m * columns, "activations of a product");
    for product in products.iter() {
        assert_eq!(product.weights.columns(), columns, "columns of the matrices of a group");
        assert_eq!(product.out.len(), m * product.weights.rows(), "output of a product");
    }
    if m == 0 {
        return;
    }
    let mut own_scratch = GemmScratch::default();
    let mut shared_scratch = kernels.scratch.try_lock().ok();
    let scratch = shared_scratch.as_deref_mut().unwrap_or(&mut own_scratch);
    let needs = |f: fn(&Panels) -> bool| products.iter().any(|p| f(&p.weights.panels));
    if needs(|p| matches!(p, Panels::Q4K(_) | Panels::Q5K(_) | Panels::Q6K(_))) {
        fill(kernels, x, columns, &mut scratch.activations_256);
    }
    if needs(|p| matches!(p, Panels::F32(_) | Panels::F16(_) | Panels::Bf16(_))) {
        fill(kernels, x, columns, &mut scratch.activations_f32);
    }
    if needs(|p| {
        matches!(p, Panels::Q40(_) | Panels::Q41(_) | Panels::Q50(_) | Panels::Q51(_) | Panels::Q80(_))
    }) {
        fill(kernels, x, columns, &mut scratch.activations_2x32);
    }
    let mut projected = std::mem::take(&mut scratch.projected);
    let terms = down_project(kernels, x, columns, products, &mut projected);
    multiply_all(kernels, scratch, m, columns, products, &terms);
    drop(terms);
    scratch.projected = projected;
}

/// Multiplies the activations of `scratch` by all panels of all products, as one job of the pool.
fn multiply_all(
    kernels: &Kernels,
    scratch: &GemmScratch,
    m: usize,
    columns: usize,
    products: &mut [Product<'_>],
    terms: &[Vec<LowRankTerm<'_>>],
) {
    let (cpu, pool) = (kernels.cpu(), kernels.pool());
    let total: usize = products.iter().map(|p| p.weights.rows().div_ceil(LANES)).sum();
    let group = (total / (4 * pool.threads())).clamp(1, 8);
    let mut tasks = 0;
    // The first task of each product, in ascending order.
    let outputs: Vec<_> = products
        .iter_mut()
        .map(|p| {
            let first_task = tasks;
            tasks += p.weights.rows().div_ceil(LANES).div_ceil(group);
            (first_task, p.weights, SharedMut::new(p.out))
        })
        .collect();
    pool.run(tasks, &|task| {
        let product = outputs.partition_point(|(first_task, ..)| *first_task <= task) - 1;
        let (first_task, weights, out) = &outputs[product];
        let first_panel = (task - first_task) * group;
        let end_panel = (first_panel + group).min(weights.rows().div_ceil(LANES));
        let (rows, terms) = (weights.rows(), &terms[product]);
        let panels = PanelGroup { cpu, m, columns, rows, first_panel, end_panel, terms, out };
        with_panels!(weights, all => panels.multiply(all, scratch));
    });
}

/// A group of panels of one product.
struct PanelGroup<'a> {
    cpu: CpuFeatures,
    /// Rows of activations.
    m: usize,
    columns: usize,
    /// Rows of the matrix.
    rows: usize,
    first_panel: usize,
    end_panel: usize,
    /// Of the product.
    terms: &'a [LowRankTerm<'a>],
    out: &'a SharedMut<'a, f32>,
}

impl PanelGroup<'_> {
    /// Multiplies the group, of the matrix's `panels`, by all rows of activations.
    fn multiply<P: MultiplyPanel>(&self, panels: &[P], scratch: &GemmScratch) {
        let (x, blocks) = (P::X::get(scratch), self.columns.div_ceil(P::COLUMNS));
        let row_block = row_block(self.cpu.instruction_set());
        SUMS.with_borrow_mut(|sums| {
            for row in (0..self.m).step_by(row_block) {
                let rows = row_block.min(self.m - row);
                let cached_blocks = (CACHE_BYTES / (rows * size_of::<P::X>())).max(1);
                sums.clear();
                sums.resize((self.end_panel - self.first_panel) * rows, [0.0; LANES]);
                for block in (0..blocks).step_by(cached_blocks) {
                    let x = &x[block * self.m..];
                    let end_block = blocks.min(block + cached_blocks);
                    for (panel, sums) in (self.first_panel..self.end_panel).zip(sums.chunks_exact_mut(rows)) {
                        let panel = &panels[panel * blocks..][block..end_block];
                        P::multiply(self.cpu, panel, x, self.m, row, sums);
                    }
                }
                for term in self.terms {
                    term.add(self.cpu, self.first_panel..self.end_panel, row, rows, sums);
                }
                self.write(row, rows, sums);
            }
        });
    }

    /// Writes the sums, `(panels, rows)`, to the output rows from `row` on.
    fn write(&self, row: usize, rows: usize, sums: &[[f32; LANES]]) {
        let start = self.first_panel * LANES;
        let width = self.rows.min(self.end_panel * LANES) - start;
        for i in 0..rows {
            // SAFETY: these columns of the output belong to these panels, and the panels to this task.
            let out = unsafe { self.out.slice((row + i) * self.rows + start, width) };
            for (out, sums) in out.chunks_mut(LANES).zip(sums[i..].iter().step_by(rows)) {
                match out.first_chunk_mut() {
                    Some(out) => *out = *sums, // a call of memcpy costs more than the 64 bytes
                    None => out.copy_from_slice(&sums[..out.len()]),
                }
            }
        }
    }
}

/// An activation type that has a vector in [`GemmScratch`].
trait ScratchActivations: ActivationBlock {
    /// Returns that vector.
    fn get(scratch: &GemmScratch) -> &[Self];
}

impl ScratchActivations for Activations256 {
    fn get(scratch: &GemmScratch) -> &[Self] {
        &scratch.activations_256
    }
}

impl ScratchActivations for Activations2x32 {
    fn get(scratch: &GemmScratch) -> &[Self] {
        &scratch.activations_2x32
    }
}

impl ScratchActivations for ActivationsF32 {
    fn get(scratch: &GemmScratch) -> &[Self] {
        &scratch.activations_f32
    }
}
