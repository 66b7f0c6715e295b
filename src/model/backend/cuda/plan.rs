//! The layout of a batch for the attention kernel: the cache slots of keys and values, and the tiles of query rows.
//!
//! Computed on the host by [`super::Gpu`] and uploaded once per step; tested without a GPU.

use crate::model::{Batch, KV_BLOCK_TOKENS};

/// Size of a tile in 32-bit words: the fields of `Tile` in `attention.cu`.
pub(super) const TILE_WORDS: usize = 5;
/// Number of keys that a tile processes at a time, and its number of warps: `KEYS` and `WARPS` in `attention.cu`.
const KEYS: usize = 32;
pub(super) const WARPS: usize = 4;
/// Maximum number of query rows of a tile: more rows share loaded keys, fewer rows make more tiles.
const TILE_ROWS: usize = 16;
/// Shared memory that every GPU grants a block by default, in bytes.
const SHARED_BYTES: usize = 48 << 10;

/// The arrays, all of 32-bit words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The cache slot of each token: `(total_tokens)`.
    pub(super) slots: Vec<u32>,
    /// `(tiles, TILE_WORDS)`: the batch row of the sequence's first token, its position, the first query row, the
    /// number of query rows, the start of the sequence's block table. The query rows of a sequence are numbered token
    /// by token, and within a token by the heads that share a KV head.
    pub(super) tiles: Vec<u32>,
    /// The block tables of all sequences, one after another, up to the last block in use.
    pub(super) table: Vec<u32>,
}

impl Plan {
    /// Plans a batch for layers in which `group` query heads share a KV head, in tiles of `rows` query rows.
    pub(super) fn new(batch: &Batch, group: usize, rows: usize) -> Self {
        let mut plan = Self { slots: Vec::with_capacity(batch.tokens.len()), tiles: vec![], table: vec![] };
        let mut row = 0;
        for segment in &batch.segments {
            let end = segment.start + segment.len;
            let block_tokens = KV_BLOCK_TOKENS as u32;
            plan.slots.extend((segment.start..end).map(|position| {
                segment.blocks[position / KV_BLOCK_TOKENS] * block_tokens + position as u32 % block_tokens
            }));
            let query_rows = segment.len * group;
            // The last rows attend to the most keys. They come first, so that no long tile runs at the end.
            for first in (0..query_rows).step_by(rows).rev() {
                let count = rows.min(query_rows - first);
                plan.tiles.extend([row, segment.start, first, count, plan.table.len()].map(|n| n as u32));
            }
            plan.table.extend_from_slice(&segment.blocks[..end.div_ceil(KV_BLOCK_TOKENS)]);
            row += segment.len;
        }
        plan
    }
}

/// Returns the number of query rows per tile that fit into shared memory; 0 if the heads are too large.
pub(super) fn tile_rows(head_dim: usize) -> usize {
    let available = SHARED_BYTES.saturating_sub(shared_bytes(0, head_dim));
    TILE_ROWS.min(available / (shared_bytes(1, head_dim) - shared_bytes(0, head_dim)))
}

/// Returns the shared memory of a tile of `rows` query rows in `attend`, in bytes.
pub(super) fn shared_bytes(rows: usize, head_dim: usize) -> usize {
    let floats = 2 * rows * head_dim + 2 * rows + WARPS * KEYS;
    let halves = KEYS * (head_dim + 2) + KEYS * head_dim;
    floats * 4 + halves * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assigns_slots_and_puts_every_query_row_into_one_tile() {
        let mut batch = Batch::default();
        batch.push([7, 3].into(), 15, &[0; 3], 1);
        batch.push([5, 9].into(), 0, &[0; 1], 1);
        let plan = Plan::new(&batch, 3, 4);
        assert_eq!(plan.slots, [7 * 16 + 15, 3 * 16, 3 * 16 + 1, 5 * 16]);
        assert_eq!(plan.table, [7, 3, 5]);
        let tiles: Vec<_> = plan.tiles.chunks_exact(TILE_WORDS).collect();
        assert_eq!(tiles, [[0, 15, 8, 1, 0], [0, 15, 4, 4, 0], [0, 15, 0, 4, 0], [3, 0, 0, 3, 2]]);
    }

    #[test]
    fn tiles_fit_into_shared_memory() {
        for (head_dim, rows) in [(64, 16), (128, 16), (256, 7), (512, 0)] {
            assert_eq!(tile_rows(head_dim), rows);
            assert!(rows == 0 || shared_bytes(rows, head_dim) <= SHARED_BYTES);
        }
    }
}
