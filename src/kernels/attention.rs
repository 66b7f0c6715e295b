//! Attention of packed tokens of many sequences over the keys and values of a [`KvStore`]: causal, grouped-query, with
//! an online softmax. `model` calls it once a layer, after it has written the new tokens' keys and values.
//!
//! The work is cut by (sequence, KV head, tile of query tokens), so that one sequence in decode (two KV heads), many of
//! them, and one in prefill all use every thread. A tile walks its sequence's blocks in order; a block is widened to
//! f32 once for all query heads that share it. What a query row computes depends on its own position and keys only,
//! never on the tile, so chunked prefill gives the same bits as one that comes in a piece.
//! With a window, a tile's walk begins where its first row's window does.

#![allow(unsafe_code)] // threads write disjoint heads of the output; kernels need a CPU feature

use super::cpu::{InstructionSet, Loops};
use super::elementwise::sum16;
use super::kv::{Cells, KV_BLOCK_TOKENS, KvStore};
use super::math::exp;
use super::pool::SharedMut;
use super::{CpuFeatures, Kernels};
use half::f16;
use std::cell::RefCell;

const TOKENS: usize = KV_BLOCK_TOKENS;

/// Query rows (tokens × query heads of a KV head) of a tile: their sums and the block stay in the L2 cache.
const TILE_ROWS: usize = 48;

/// One sequence of a batch: `tokens` new rows at the end of `context` cached tokens.
#[derive(Debug, Clone, Copy)]
pub struct AttentionSequence<'a> {
    /// Row of its first query in the batch.
    pub first_row: usize,
    /// Its query rows; row `i` is at position `context - tokens + i` and sees the positions up to its own.
    pub tokens: usize,
    /// Tokens in the cache, the new ones included.
    pub context: usize,
    /// Its blocks in order: position `p` is in `blocks[p / 16]`.
    pub blocks: &'a [u32],
}

/// The queries of a step.
#[derive(Debug, Clone, Copy)]
pub struct AttentionBatch<'a> {
    /// `(rows, heads · head_dim)`, rotated.
    pub q: &'a [f32],
    /// Query heads; a multiple of the store's KV heads. Head `h` reads the KV head `h / (heads / kv_heads)`.
    pub heads: usize,
    /// Factor of the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// A row sees this many positions at most, its own and those before it; `usize::MAX` for all. At least 1.
    pub window: usize,
    /// Each row of `q` belongs to at most one of these; rows of none keep what is in `out`.
    pub sequences: &'a [AttentionSequence<'a>],
}

/// `out = softmax(scale · q · kᵀ) · v`, `(rows, heads · head_dim)`, for the keys and values of `layer`.
///
/// # Panics
/// Where shapes do not fit, rows of two sequences overlap, or a block does not exist.
pub fn attention(
    kernels: &Kernels,
    store: &KvStore,
    layer: usize,
    batch: &AttentionBatch<'_>,
    out: &mut [f32],
) {
    let (kv_heads, dim) = (store.shape().kv_heads, store.shape().head_dim);
    assert!(
        batch.heads > 0 && batch.heads.is_multiple_of(kv_heads),
        "{} query heads on {kv_heads}",
        batch.heads
    );
    assert!(
        batch.q.len() == out.len() && out.len().is_multiple_of(batch.heads * dim),
        "shapes of queries and output"
    );
    assert!(batch.window > 0, "a window of no position");
    check_rows(batch, out.len() / (batch.heads * dim));
    let group = batch.heads / kv_heads;
    let step = (TILE_ROWS / group).max(1);
    let mut tiles = Vec::new();
    for sequence in batch.sequences {
        // The last tokens of a prefill see the most: they come first, so that no long tile is left for the end.
        for first in (0..sequence.tokens).step_by(step).rev() {
            let tokens = step.min(sequence.tokens - first);
            tiles.extend((0..kv_heads).map(|head| Tile { sequence, first, tokens, head, group, dim }));
        }
    }
    let out = SharedMut::new(out);
    kernels.pool().run(tiles.len(), &|i| tiles[i].attend(kernels.cpu(), store, layer, batch, &out));
}

fn check_rows(batch: &AttentionBatch<'_>, rows: usize) {
    let mut spans: Vec<_> = batch.sequences.iter().map(|s| (s.first_row, s.tokens)).collect();
    spans.sort_unstable();
    let mut end = 0;
    for (first, tokens) in spans {
        assert!(first >= end && first + tokens <= rows, "rows of the sequences of a batch");
        end = first + tokens;
    }
    for s in batch.sequences {
        assert!(s.tokens <= s.context && s.context <= s.blocks.len() * TOKENS, "tokens, context and blocks");
    }
}

/// Some tokens of one sequence and the query heads of one KV head.
struct Tile<'a> {
    sequence: &'a AttentionSequence<'a>,
    first: usize,
    tokens: usize,
    head: usize,
    group: usize,
    dim: usize,
}

/// Working memory of a thread, kept between calls.
#[derive(Default)]
struct Work {
    /// Scaled queries `(rows, dim)`.
    q: Vec<f32>,
    /// The block's keys `(dim, 16)`.
    k: Vec<[f32; TOKENS]>,
    /// The block's values `(16, dim)`.
    v: Vec<f32>,
    /// Scores, then weights, `(rows, 16)`.
    p: Vec<[f32; TOKENS]>,
    /// Weighted sums of values `(rows, dim)`.
    sums: Vec<f32>,
    /// `(rows)`
    state: Vec<State>,
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::default();
}

impl Tile<'_> {
    fn attend(
        &self,
        cpu: CpuFeatures,
        store: &KvStore,
        layer: usize,
        batch: &AttentionBatch<'_>,
        out: &SharedMut<'_, f32>,
    ) {
        WORK.with_borrow_mut(|work| {
            let Self { sequence, group, dim, .. } = *self;
            let rows = self.tokens * group;
            let start = |row: usize| {
                let token = sequence.first_row + self.first + row / group;
                (token * batch.heads + self.head * group + row % group) * dim
            };
            work.q.clear();
            (0..rows)
                .for_each(|row| work.q.extend(batch.q[start(row)..][..dim].iter().map(|q| q * batch.scale)));
            work.k.resize(dim, [0.0; TOKENS]);
            work.v.resize(TOKENS * dim, 0.0);
            work.p.resize(rows, [0.0; TOKENS]);
            work.sums.clear();
            work.sums.resize(rows * dim, 0.0);
            work.state.clear();
            work.state.resize(rows, (f32::NEG_INFINITY, [0.0; TOKENS]));

            // The first position that row 0 does not see; a later token sees one more.
            let sees = sequence.context - sequence.tokens + self.first + 1;
            let first_block = sees.saturating_sub(batch.window) / TOKENS;
            let end_block = (sees + self.tokens - 1).div_ceil(TOKENS);
            for (i, &block) in sequence.blocks.iter().enumerate().take(end_block).skip(first_block) {
                let position = i * TOKENS;
                let cell = store.cell(layer, block, self.head);
                widen(cpu, &store.cells, cell, dim, &mut work.k, &mut work.v);
                for (channel, bias) in store.key_bias(layer, self.head, i) {
                    (0..TOKENS).for_each(|token| work.k[*channel][token] += bias[token]);
                }
                // Slots that are not written yet may hold anything, even NaN, from an earlier owner of the block.
                let written = (sequence.context - position).min(TOKENS);
                work.v[written * dim..].fill(0.0);
                // Rows that see nothing of this block are left out: those before it, and those whose window is after it.
                let hidden = (position + 1).saturating_sub(sees).min(self.tokens) * group;
                let shown = (position + TOKENS).saturating_add(batch.window) - sees;
                let shown = shown.min(self.tokens) * group;
                scores(cpu, &work.q[hidden * dim..shown * dim], &work.k, &mut work.p[hidden..shown]);
                let Work { p, state, sums, .. } = &mut *work;
                let (p, sums) = (&mut p[..shown], &mut sums[..shown * dim]);
                let window = batch.window;
                cpu.compiled(Soften { sees, window, position, group, hidden, p, state, sums });
                values(cpu, &work.p[hidden..shown], &work.v, &mut work.sums[hidden * dim..shown * dim]);
            }
            for row in 0..rows {
                let total = sum16(work.state[row].1);
                // SAFETY: a head of a row belongs to one tile: `check_rows` refuses rows of two sequences, and the
                // tiles of a sequence share neither tokens nor heads.
                let out = unsafe { out.slice(start(row), dim) };
                for (out, sum) in out.iter_mut().zip(&work.sums[row * dim..]) {
                    *out = sum / total;
                }
            }
        });
    }
}

/// Largest score so far, and the sum of the weights in 16 lanes.
type State = (f32, [f32; TOKENS]);

/// [`soften`] for the rows of a tile and the block at `position`.
struct Soften<'a> {
    /// The first position that row 0 does not see.
    sees: usize,
    /// Positions that a row sees at most.
    window: usize,
    position: usize,
    group: usize,
    /// Rows before this one see nothing of the block.
    hidden: usize,
    p: &'a mut [[f32; TOKENS]],
    state: &'a mut [State],
    sums: &'a mut [f32],
}

impl Loops for Soften<'_> {
    #[inline(always)]
    fn run(self) {
        let dim = self.sums.len() / self.p.len();
        for row in self.hidden..self.p.len() {
            let end = self.sees + row / self.group;
            let first = end.saturating_sub(self.window).saturating_sub(self.position);
            let visible = first..end.saturating_sub(self.position).min(TOKENS);
            let sums = &mut self.sums[row * dim..(row + 1) * dim];
            soften(&mut self.p[row], visible, &mut self.state[row], sums);
        }
    }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Turns 16 scores into weights relative to the largest score so far, and brings what was summed before onto it.
#[inline(always)]
fn soften(p: &mut [f32; TOKENS], visible: std::ops::Range<usize>, state: &mut State, sums: &mut [f32]) {
    for (token, p) in p.iter_mut().enumerate() {
        *p = if token >= visible.start && token < visible.end { *p } else { f32::NEG_INFINITY };
    }
    let most: [f32; 8] = std::array::from_fn(|i| larger(p[i], p[i + 8]));
    let most: [f32; 4] = std::array::from_fn(|i| larger(most[i], most[i + 4]));
    let most = larger(larger(most[0], most[2]), larger(most[1], most[3]));
    let (largest, weights) = state;
    if most > *largest {
        let factor = exp(*largest - most); // 0 at the first block
        *largest = most;
        weights.iter_mut().for_each(|w| *w *= factor);
        sums.iter_mut().for_each(|s| *s *= factor);
    }
    for (p, weight) in p.iter_mut().zip(weights) {
        *p = exp(*p - *largest);
        *weight += *p;
    }
}

/// One cell in f32, with its scales.
fn widen(cpu: CpuFeatures, cells: &Cells, cell: usize, dim: usize, k: &mut [[f32; TOKENS]], v: &mut [f32]) {
    let len = TOKENS * dim;
    let start = 2 * cell * len;
    match cells {
        Cells::F16(data) => {
            let (keys, vals) = data[start..start + 2 * len].split_at(len);
            widen_f16(cpu, keys, k.as_flattened_mut());
            widen_f16(cpu, vals, v);
        }
        Cells::Int8 { quants, scales } => {
            let (keys, vals) = quants[start..start + 2 * len].split_at(len);
            let (k_scales, v_scales) = scales[2 * cell * TOKENS..2 * (cell + 1) * TOKENS].split_at(TOKENS);
            let k_scales = k_scales.first_chunk().expect("a scale for each token");
            widen_int8(cpu, keys.as_chunks().0, k_scales, k, vals, v_scales, v);
        }
    }
}

/// Keys `(dim, 16)` by the scale of their column, values `(16, dim)` by that of their row.
fn widen_int8(
    cpu: CpuFeatures,
    keys: &[[i8; TOKENS]],
    k_scales: &[f32; TOKENS],
    k: &mut [[f32; TOKENS]],
    vals: &[i8],
    v_scales: &[f32],
    v: &mut [f32],
) {
    match cpu.instruction_set() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `cpu` is the proof that this machine has these features.
        InstructionSet::Avx2 => unsafe {
            super::attention_avx2::widen_int8(keys, k_scales, k, vals, v_scales, v);
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        InstructionSet::Avx512 | InstructionSet::Amx => unsafe {
            super::attention_avx512::widen_int8(keys, k_scales, k, vals, v_scales, v);
        },
        _ => {
            for (k, keys) in k.iter_mut().zip(keys) {
                *k = std::array::from_fn(|token| f32::from(keys[token]) * k_scales[token]);
            }
            let dim = v.len() / TOKENS;
            for ((v, vals), scale) in v.chunks_exact_mut(dim).zip(vals.chunks_exact(dim)).zip(v_scales) {
                v.iter_mut().zip(vals).for_each(|(v, &quant)| *v = f32::from(quant) * scale);
            }
        }
    }
}

fn widen_f16(cpu: CpuFeatures, from: &[u16], to: &mut [f32]) {
    match cpu.instruction_set() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `cpu` is the proof that this machine has these features.
        InstructionSet::Avx2 => unsafe { super::attention_avx2::widen_f16(from, to) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        InstructionSet::Avx512 | InstructionSet::Amx => unsafe {
            super::attention_avx512::widen_f16(from, to)
        },
        _ => to.iter_mut().zip(from).for_each(|(to, &from)| *to = f16::from_bits(from).to_f32()),
    }
}

/// `p = q · k`: `q` is `(rows, k.len())`.
fn scores(cpu: CpuFeatures, q: &[f32], k: &[[f32; TOKENS]], p: &mut [[f32; TOKENS]]) {
    assert_eq!(q.len(), k.len() * p.len());
    match cpu.instruction_set() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `cpu` is the proof that this machine has these features.
        InstructionSet::Avx2 => unsafe { super::attention_avx2::scores(q, k, p) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        InstructionSet::Avx512 | InstructionSet::Amx => unsafe { super::attention_avx512::scores(q, k, p) },
        _ => {
            for (p, q) in p.iter_mut().zip(q.chunks_exact(k.len())) {
                *p = [0.0; TOKENS];
                for (q, k) in q.iter().zip(k) {
                    for token in 0..TOKENS {
                        p[token] += q * k[token];
                    }
                }
            }
        }
    }
}

/// `sums += p · v`: `v` is `(16, dim)`, `sums` `(p.len(), dim)`.
fn values(cpu: CpuFeatures, p: &[[f32; TOKENS]], v: &[f32], sums: &mut [f32]) {
    let dim = v.len() / TOKENS;
    assert!(dim.is_multiple_of(16) && sums.len() == p.len() * dim);
    match cpu.instruction_set() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `cpu` is the proof that this machine has these features.
        InstructionSet::Avx2 => unsafe { super::attention_avx2::values(p, v, sums) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        InstructionSet::Avx512 | InstructionSet::Amx => unsafe {
            super::attention_avx512::values(p, v, sums)
        },
        _ => {
            for (p, sums) in p.iter().zip(sums.chunks_exact_mut(dim)) {
                for (p, v) in p.iter().zip(v.chunks_exact(dim)) {
                    for (sum, v) in sums.iter_mut().zip(v) {
                        *sum += p * v;
                    }
                }
            }
        }
    }
}
