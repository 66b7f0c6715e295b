//! What a GPU is told of a batch: which keys and values go where, and the tiles of its attention. Pure; tested without one.

use crate::model::{Batch, KV_BLOCK_TOKENS};

/// Words of a tile, the fields of `Tile` in `attention.cu`.
pub(super) const TILE_WORDS: usize = 5;
/// Keys that a tile looks at together, and warps that do: `KEYS` and `WARPS` in `attention.cu`.
const KEYS: usize = 32;
pub(super) const WARPS: usize = 4;
/// Query rows of a tile, at most: more share the keys that were fetched, fewer are more tiles.
const TILE_ROWS: usize = 16;
/// Shared memory that every GPU gives a block without being asked, in bytes.
const SHARED_BYTES: usize = 48 << 10;

/// The arrays, all of u32 words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Where in the cache each token is kept: `(total_tokens)`.
    pub(super) places: Vec<u32>,
    /// `(tiles, TILE_WORDS)`: row of the sequence's first token in the batch, position of that token, first query row,
    /// number of them, start of the sequence in the table. A sequence's query rows are counted token by token, in
    /// each the heads that share a KV head.
    pub(super) tiles: Vec<u32>,
    /// The blocks of all sequences, one after another, as far as they are read.
    pub(super) table: Vec<u32>,
}

impl Plan {
    /// For layers in which `group` query heads share a KV head, in tiles of `rows` query rows.
    pub(super) fn new(batch: &Batch, group: usize, rows: usize) -> Self {
        let mut plan = Self { places: Vec::with_capacity(batch.tokens.len()), tiles: vec![], table: vec![] };
        let mut row = 0;
        for segment in &batch.segments {
            let end = segment.start + segment.len;
            let block_tokens = KV_BLOCK_TOKENS as u32;
            plan.places.extend((segment.start..end).map(|position| {
                segment.blocks[position / KV_BLOCK_TOKENS] * block_tokens + position as u32 % block_tokens
            }));
            let query_rows = segment.len * group;
            // The last rows see the most keys: they come first, so that no long tile is left for the end.
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

/// Query rows of a tile, as many as have room; 0 where the heads are too long for any.
pub(super) fn tile_rows(head_dim: usize) -> usize {
    let room = SHARED_BYTES.saturating_sub(shared_bytes(0, head_dim));
    TILE_ROWS.min(room / (shared_bytes(1, head_dim) - shared_bytes(0, head_dim)))
}

/// Shared memory of a tile of `rows` query rows, in bytes, as `attend` lays it out.
pub(super) fn shared_bytes(rows: usize, head_dim: usize) -> usize {
    let floats = 2 * rows * head_dim + 2 * rows + WARPS * KEYS;
    let halves = KEYS * (head_dim + 2) + KEYS * head_dim;
    floats * 4 + halves * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_their_places_and_every_query_row_is_in_one_tile() {
        let mut batch = Batch::default();
        batch.push([7, 3].into(), 15, &[0; 3], 1);
        batch.push([5, 9].into(), 0, &[0; 1], 1);
        let plan = Plan::new(&batch, 3, 4);
        assert_eq!(plan.places, [7 * 16 + 15, 3 * 16, 3 * 16 + 1, 5 * 16]);
        assert_eq!(plan.table, [7, 3, 5]);
        let tiles: Vec<_> = plan.tiles.chunks_exact(TILE_WORDS).collect();
        assert_eq!(tiles, [[0, 15, 8, 1, 0], [0, 15, 4, 4, 0], [0, 15, 0, 4, 0], [3, 0, 0, 3, 2]]);
    }

    #[test]
    fn tiles_fit_into_what_a_block_may_have() {
        for (head_dim, rows) in [(64, 16), (128, 16), (256, 7), (512, 0)] {
            assert_eq!(tile_rows(head_dim), rows);
            assert!(rows == 0 || shared_bytes(rows, head_dim) <= SHARED_BYTES);
        }
    }
}
