//! Which blocks of the KV cache are free. Owned by the worker; the scheduler counts, this one names.

use std::sync::Arc;

use crate::model::KV_BLOCK_TOKENS;

/// The free blocks.
#[derive(Debug)]
pub(super) struct BlockPool {
    free: Vec<u32>,
}

impl BlockPool {
    pub(super) fn new(blocks: usize) -> Self {
        Self { free: (0..blocks as u32).rev().collect() }
    }

    /// Takes the blocks for `tokens` tokens; `None` when there are not enough.
    pub(super) fn take(&mut self, tokens: usize) -> Option<Arc<[u32]>> {
        let rest = self.free.len().checked_sub(tokens.div_ceil(KV_BLOCK_TOKENS))?;
        Some(self.free.drain(rest..).rev().collect())
    }

    /// Gives blocks back.
    pub(super) fn give_back(&mut self, blocks: &[u32]) {
        self.free.extend(blocks.iter().rev());
    }
}

/// A number of tokens rounded up to whole blocks.
pub(super) fn whole_blocks(tokens: usize) -> usize {
    tokens.div_ceil(KV_BLOCK_TOKENS) * KV_BLOCK_TOKENS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_taken_once_and_come_back() {
        let mut pool = BlockPool::new(4);
        let first = pool.take(KV_BLOCK_TOKENS + 1).unwrap();
        let second = pool.take(2 * KV_BLOCK_TOKENS).unwrap();
        assert_eq!((first.len(), second.len()), (2, 2));
        assert!(pool.take(1).is_none() && first.iter().all(|block| !second.contains(block)));
        pool.give_back(&first);
        assert_eq!(pool.take(2 * KV_BLOCK_TOKENS), Some(first));
    }
}
