//! Attention of the tokens of many sequences over the keys and values of a [`KvStore`]: causal, grouped-query, with an online
//! softmax. `model` calls it once per layer, after it has written the keys and values of the new tokens.
//!
//! A task is a tile: some query tokens of one sequence with the query heads of one KV head. This way a single sequence in
//! decode, many of them, and one in prefill all use every thread. A tile reads the blocks of its sequence in ascending order
//! and widens each to f32 once for all its query rows. The result of a query row depends only on its position and the keys
//! up to it, not on the tile, so a chunked prefill returns the same bits as an unchunked one.

#![allow(unsafe_code)] // threads write disjoint heads of the output

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dispatch;
mod kv_store;
mod softmax;
#[cfg(test)]
mod tests;

pub use kv_store::{KV_BLOCK_TOKENS, KvShape, KvStore, KvType};

use self::dispatch::{add_values, scores, widen};
use self::softmax::{SoftmaxState, SoftmaxStep};
use crate::kernels::math::sum16;
use crate::kernels::pool::SharedMut;
use crate::kernels::{CpuFeatures, Kernels};
use std::cell::RefCell;

const TOKENS: usize = KV_BLOCK_TOKENS;

/// Query rows (tokens × query heads of a KV head) of a tile, so that their sums and the block stay in the L2 cache.
const TILE_ROWS: usize = 48;

/// One sequence of a batch: `tokens` new tokens at the end of `context` cached tokens.
#[derive(Debug, Clone, Copy)]
pub struct AttentionSequence<'a> {
    /// The row of its first query in the batch.
    pub first_row: usize,
    /// Its query rows; row `i` is at position `context - tokens + i` and attends to the positions up to its own.
    pub tokens: usize,
    /// Tokens in the cache, including the new ones.
    pub context: usize,
    /// Its block table: position `p` is in `blocks[p / 16]`.
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
    /// Maximum number of positions that a row attends to, its own included; `usize::MAX` for all. At least 1.
    pub window: usize,
    /// Each row of `q` belongs to at most one of these; the output of other rows is unchanged.
    pub sequences: &'a [AttentionSequence<'a>],
}

/// Computes `out = softmax(scale · q · kᵀ) · v`, `(rows, heads · head_dim)`, over the keys and values of `layer`.
///
/// # Panics
/// If shapes do not match, rows of two sequences overlap, or a block does not exist.
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
        "{} query heads are not a multiple of {kv_heads} KV heads",
        batch.heads
    );
    assert!(
        batch.q.len() == out.len() && out.len().is_multiple_of(batch.heads * dim),
        "shapes of queries and output"
    );
    assert!(batch.window > 0, "the window is empty");
    check_rows(batch, out.len() / (batch.heads * dim));
    let group = batch.heads / kv_heads;
    let tile_tokens = (TILE_ROWS / group).max(1);
    let mut tiles = Vec::new();
    for sequence in batch.sequences {
        // The last tokens of a prefill attend to the most keys. They come first, so that no long tile runs at the end.
        for first in (0..sequence.tokens).step_by(tile_tokens).rev() {
            let tokens = tile_tokens.min(sequence.tokens - first);
            tiles.extend((0..kv_heads).map(|head| AttentionTile {
                sequence,
                first,
                tokens,
                head,
                group,
                dim,
            }));
        }
    }
    let out = SharedMut::new(out);
    kernels.pool().run(tiles.len(), &|i| tiles[i].attend(kernels.cpu(), store, layer, batch, &out));
}

/// Asserts that the sequences fit into the batch and do not share rows.
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

/// Some query tokens of one sequence, with the query heads of one KV head. Its rows are ordered by token, then head.
struct AttentionTile<'a> {
    sequence: &'a AttentionSequence<'a>,
    /// The first token, relative to the sequence's new tokens.
    first: usize,
    tokens: usize,
    /// The KV head.
    head: usize,
    /// Query heads per KV head.
    group: usize,
    dim: usize,
}

/// Working memory of a thread, kept between calls.
#[derive(Default)]
struct TileScratch {
    /// Scaled queries `(rows, dim)`.
    q: Vec<f32>,
    /// Keys of the block `(dim, 16)`.
    k: Vec<[f32; TOKENS]>,
    /// Values of the block `(16, dim)`.
    v: Vec<f32>,
    /// Scores, then weights, `(rows, 16)`.
    p: Vec<[f32; TOKENS]>,
    /// Weighted sums of values `(rows, dim)`.
    sums: Vec<f32>,
    /// `(rows)`
    states: Vec<SoftmaxState>,
}

thread_local! {
    static SCRATCH: RefCell<TileScratch> = RefCell::default();
}

impl AttentionTile<'_> {
    fn attend(
        &self,
        cpu: CpuFeatures,
        store: &KvStore,
        layer: usize,
        batch: &AttentionBatch<'_>,
        out: &SharedMut<'_, f32>,
    ) {
        SCRATCH.with_borrow_mut(|scratch| {
            let Self { sequence, group, dim, .. } = *self;
            let rows = self.tokens * group;
            // The index of the row's first element in `q` and `out`.
            let start = |row: usize| {
                let token = sequence.first_row + self.first + row / group;
                (token * batch.heads + self.head * group + row % group) * dim
            };
            scratch.q.clear();
            for row in 0..rows {
                scratch.q.extend(batch.q[start(row)..][..dim].iter().map(|q| q * batch.scale));
            }
            scratch.k.resize(dim, [0.0; TOKENS]);
            scratch.v.resize(TOKENS * dim, 0.0);
            scratch.p.resize(rows, [0.0; TOKENS]);
            scratch.sums.clear();
            scratch.sums.resize(rows * dim, 0.0);
            scratch.states.clear();
            scratch.states.resize(rows, SoftmaxState::EMPTY);

            // The end of the positions that the first token attends to; each later token attends to one more.
            let end = sequence.context - sequence.tokens + self.first + 1;
            let first_block = end.saturating_sub(batch.window) / TOKENS;
            let end_block = (end + self.tokens - 1).div_ceil(TOKENS);
            for (i, &block) in sequence.blocks.iter().enumerate().take(end_block).skip(first_block) {
                let position = i * TOKENS;
                let cell = store.cell(layer, block, self.head);
                widen(cpu, &store.cells, cell, dim, &mut scratch.k, &mut scratch.v);
                for (channel, bias) in store.key_bias(layer, self.head, i) {
                    (0..TOKENS).for_each(|token| scratch.k[*channel][token] += bias[token]);
                }
                // Slots that are not written yet may hold any value of the block's earlier owner, even NaN.
                let written = (sequence.context - position).min(TOKENS);
                scratch.v[written * dim..].fill(0.0);
                // Skip the tokens before this block and those whose window begins after it.
                let skipped = (position + 1).saturating_sub(end).min(self.tokens) * group;
                let end_token = (position + TOKENS).saturating_add(batch.window) - end;
                let end_row = end_token.min(self.tokens) * group;
                let q = &scratch.q[skipped * dim..end_row * dim];
                scores(cpu, q, &scratch.k, &mut scratch.p[skipped..end_row]);
                cpu.compiled(SoftmaxStep {
                    end,
                    window: batch.window,
                    position,
                    group,
                    skipped,
                    p: &mut scratch.p[..end_row],
                    states: &mut scratch.states,
                    sums: &mut scratch.sums[..end_row * dim],
                });
                let sums = &mut scratch.sums[skipped * dim..end_row * dim];
                add_values(cpu, &scratch.p[skipped..end_row], &scratch.v, sums);
            }
            for row in 0..rows {
                let total = sum16(scratch.states[row].weights);
                // SAFETY: a head of a row belongs to one tile: `check_rows` rejects rows of two sequences, and the tiles
                // of a sequence share neither tokens nor heads.
                let out = unsafe { out.slice(start(row), dim) };
                for (out, sum) in out.iter_mut().zip(&scratch.sums[row * dim..]) {
                    *out = sum / total;
                }
            }
        });
    }
}
