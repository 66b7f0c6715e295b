//! The order of work of a matrix product: which thread multiplies which panels with which rows, and which instruction
//! set does it. Called through [`QuantMatrix::matmul`] and [`matmul_group`]; the arithmetic is in `portable`, `avx2`,
//! `avx512` and `amx`, the shape of the data in `panel` and `quantize`.
//!
//! Weights are read from memory once for each call: a thread takes a group of panels that fits its cache and
//! multiplies all rows with it, a cache-sized block of rows at a time.

#![allow(unsafe_code)] // threads write disjoint columns of the output; kernels need a CPU feature

use super::cpu::{CpuFeatures, InstructionSet, Loops};
use super::matrix::{Panels, QuantMatrix, with_panels};
use super::panel::{Float, FloatValue, LANES, LongMin, LongSix, Minima, Panel, Quants, Short};
use super::pool::SharedMut;
use super::quantize::{Activation, FloatColumns, LongBlock, ShortBlocks};
use super::{Kernels, Pool, portable};
use std::cell::RefCell;
use std::sync::Mutex;

/// Rows of activations that are multiplied with a group of panels before the next group comes.
fn row_block(set: InstructionSet) -> usize {
    match set {
        // A panel is unpacked once for all of them.
        InstructionSet::Amx => 256,
        // Their sums stay in L1.
        _ => 64,
    }
}

/// With fewer rows than this, AVX-512 is as fast as AMX: both wait for memory.
const AMX_ROWS: usize = 6;

/// Bytes of activations that a group of panels is multiplied with before the next columns come: half of an L2 cache.
const CACHE: usize = 1 << 20;

thread_local! {
    /// Sums of a group of panels, `(panels, rows)`.
    static SUMS: RefCell<Vec<[f32; LANES]>> = RefCell::default();
}

/// Blocks of activations that an instruction set may read, and not use, after the last row.
#[cfg(target_arch = "x86_64")]
const PADDING: usize = super::amx::PADDING;
#[cfg(not(target_arch = "x86_64"))]
const PADDING: usize = 0;

/// One product of a group: `out = x · weightsᵀ`.
#[derive(Debug)]
pub struct Product<'a> {
    /// `(rows, columns)`; all matrices of a group have the same columns.
    pub weights: &'a QuantMatrix,
    /// `(m, rows)`, row-major.
    pub out: &'a mut [f32],
}

/// The activations of the current product, kept so that their memory is not asked for again each time.
#[derive(Default)]
pub(super) struct Scratch {
    long: Vec<LongBlock>,
    short: Vec<ShortBlocks>,
    float: Vec<FloatColumns>,
}

/// Several products of the same `x`, `(m, columns)` row-major, as one job: query, key and value projections, or gate
/// and up. The activations are quantized once and the threads meet once.
///
/// # Panics
/// Where a slice has a length that does not fit the shapes, or the matrices differ in their columns.
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
    let mut fresh = Scratch::default();
    let mut shared = kernels.scratch.try_lock().ok();
    let scratch = shared.as_deref_mut().unwrap_or(&mut fresh);
    let (cpu, pool) = (kernels.cpu(), kernels.pool());
    let needs = |f: fn(&Panels) -> bool| products.iter().any(|p| f(&p.weights.panels));
    if needs(|p| matches!(p, Panels::Q4K(_) | Panels::Q5K(_) | Panels::Q6K(_))) {
        activations(cpu, pool, x, columns, &mut scratch.long);
    }
    if needs(|p| matches!(p, Panels::F32(_) | Panels::F16(_) | Panels::Bf16(_))) {
        activations(cpu, pool, x, columns, &mut scratch.float);
    }
    if needs(|p| {
        matches!(p, Panels::Q40(_) | Panels::Q41(_) | Panels::Q50(_) | Panels::Q51(_) | Panels::Q80(_))
    }) {
        activations(cpu, pool, x, columns, &mut scratch.short);
    }
    let scratch = &*scratch;

    let total: usize = products.iter().map(|p| p.weights.rows().div_ceil(LANES)).sum();
    let group = (total / (4 * pool.threads())).clamp(1, 8);
    let mut first_chunk = 0;
    let parts: Vec<_> = products
        .iter_mut()
        .map(|p| {
            let chunks = p.weights.rows().div_ceil(LANES).div_ceil(group);
            first_chunk += chunks;
            (first_chunk - chunks, p.weights, SharedMut::new(p.out))
        })
        .collect();
    pool.run(first_chunk, &|chunk| {
        let part = parts.partition_point(|(first, ..)| *first <= chunk) - 1;
        let (first, weights, out) = &parts[part];
        let part = Part { cpu, m, columns, rows: weights.rows(), first: (chunk - first) * group, group, out };
        with_panels!(weights, panels => part.multiply(panels, scratch));
    });
}

/// A group of panels of one product.
struct Part<'a> {
    cpu: CpuFeatures,
    /// Rows of activations.
    m: usize,
    columns: usize,
    /// Rows of the matrix.
    rows: usize,
    /// The first panel of the group.
    first: usize,
    /// Panels in the group.
    group: usize,
    out: &'a SharedMut<'a, f32>,
}

impl Part<'_> {
    fn multiply<P: Multiply>(&self, panels: &[P], scratch: &Scratch) {
        let (x, blocks) = (P::X::of(scratch), self.columns.div_ceil(P::COLUMNS));
        let last = (self.first + self.group).min(self.rows.div_ceil(LANES));
        let row_block = row_block(self.cpu.instruction_set());
        SUMS.with_borrow_mut(|sums| {
            for row in (0..self.m).step_by(row_block) {
                let rows = row_block.min(self.m - row);
                let part = (CACHE / (rows * size_of::<P::X>())).max(1);
                sums.clear();
                sums.resize((last - self.first) * rows, [0.0; LANES]);
                for b in (0..blocks).step_by(part) {
                    let x = &x[b * self.m..];
                    for (panel, sums) in (self.first..last).zip(sums.chunks_exact_mut(rows)) {
                        let panel = &panels[panel * blocks..][b..blocks.min(b + part)];
                        P::multiply(self.cpu, panel, x, self.m, row, sums);
                    }
                }
                self.write(row, last, rows, sums);
            }
        });
    }

    /// Hands out the sums, `(panels, rows)`, of the panels up to `last`.
    fn write(&self, row: usize, last: usize, rows: usize, sums: &[[f32; LANES]]) {
        let start = self.first * LANES;
        let width = self.rows.min(last * LANES) - start;
        for i in 0..rows {
            // SAFETY: these columns of the output belong to these panels, and the panels to this chunk.
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

/// Activations of which a product keeps a scratch vector.
pub(super) trait Kept: Activation {
    fn of(scratch: &Scratch) -> &[Self];
}

impl Kept for LongBlock {
    fn of(scratch: &Scratch) -> &[Self] {
        &scratch.long
    }
}

impl Kept for ShortBlocks {
    fn of(scratch: &Scratch) -> &[Self] {
        &scratch.short
    }
}

impl Kept for FloatColumns {
    fn of(scratch: &Scratch) -> &[Self] {
        &scratch.float
    }
}

/// Brings `x` into the form `X`, laid out `[column block][row]`. `kept` may stay longer than needed.
fn activations<X: Activation>(cpu: CpuFeatures, pool: &Pool, x: &[f32], columns: usize, kept: &mut Vec<X>) {
    let (m, blocks) = (x.len() / columns, columns.div_ceil(X::COLUMNS));
    if kept.len() < m * blocks + PADDING {
        kept.resize(m * blocks + PADDING, X::new(&[]));
    }
    // A few microseconds of work a part; one row is not worth a second thread.
    let part = (16_384 / X::COLUMNS).max(1);
    pool.run_parts(&mut kept[..m * blocks], part, &|start, part| {
        cpu.compiled(Fill { cpu, x, columns, m, start, part });
    });
}

/// A part of the activations, from the slot `start` on.
struct Fill<'a, X> {
    cpu: CpuFeatures,
    x: &'a [f32],
    columns: usize,
    m: usize,
    start: usize,
    part: &'a mut [X],
}

impl<X: Activation> Loops for Fill<'_, X> {
    #[inline(always)]
    fn run(self) {
        for (i, slot) in self.part.iter_mut().enumerate() {
            let (block, row) = ((self.start + i) / self.m, (self.start + i) % self.m);
            let x = &self.x[row * self.columns..(row + 1) * self.columns];
            let x = &x[block * X::COLUMNS..x.len().min((block + 1) * X::COLUMNS)];
            X::write(self.cpu, x, slot);
        }
    }
}

/// Panels that every instruction set can multiply.
pub(super) trait Multiply: Panel<X: Kept> {
    /// Adds to `sums[i]` the products of one panel (all of its column blocks) with row `row + i` of the activations
    /// `x`, laid out `[column block][m rows]`.
    fn multiply(
        cpu: CpuFeatures,
        panel: &[Self],
        x: &[Self::X],
        m: usize,
        row: usize,
        sums: &mut [[f32; LANES]],
    );
}

/// Quants that every instruction set of the target can unpack.
#[cfg(target_arch = "x86_64")]
trait AnyQuants: Quants + super::avx2_unpack::Unpack + super::avx512_unpack::Unpack {}
#[cfg(target_arch = "x86_64")]
impl<Q: Quants + super::avx2_unpack::Unpack + super::avx512_unpack::Unpack> AnyQuants for Q {}
#[cfg(not(target_arch = "x86_64"))]
use Quants as AnyQuants;

/// Floats that every instruction set of the target can widen.
#[cfg(target_arch = "x86_64")]
trait AnyFloat: FloatValue + super::avx2::Widen + super::avx512::Widen {}
#[cfg(target_arch = "x86_64")]
impl<T: FloatValue + super::avx2::Widen + super::avx512::Widen> AnyFloat for T {}
#[cfg(not(target_arch = "x86_64"))]
use FloatValue as AnyFloat;

macro_rules! multiply {
    ($kernel:ident$(, $amx:ident)?: [$($generics:tt)*] $ty:ty) => {
        impl<$($generics)*> Multiply for $ty {
            fn multiply(
                cpu: CpuFeatures,
                panel: &[Self],
                x: &[Self::X],
                m: usize,
                row: usize,
                sums: &mut [[f32; LANES]],
            ) {
                match cpu.instruction_set() {
                    InstructionSet::Portable => portable::$kernel(panel, x, m, row, sums),
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: `cpu` is the proof that this machine has these features.
                    InstructionSet::Avx2 => unsafe { super::avx2::$kernel(panel, x, m, row, sums) },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: as above.
                    $(InstructionSet::Amx if sums.len() >= AMX_ROWS => unsafe {
                        super::amx::$amx(panel, x, m, row, sums)
                    },)?
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: as above.
                    InstructionSet::Avx512 | InstructionSet::Amx => unsafe { super::avx512::$kernel(panel, x, m, row, sums) },
                    #[cfg(not(target_arch = "x86_64"))]
                    _ => portable::$kernel(panel, x, m, row, sums),
                }
            }
        }
    };
}
multiply!(long_min, long_min: [Q: AnyQuants] LongMin<Q>);
multiply!(long_six, long_six: [] LongSix);
multiply!(short, short: [Q: AnyQuants, M: Minima] Short<Q, M>);
multiply!(float: [T: AnyFloat] Float<T>);

/// A scratch behind a lock: two callers at once is not the intended use, but must be sound.
pub(super) type SharedScratch = Mutex<Scratch>;
