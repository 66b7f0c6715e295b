//! The pool of KV cache blocks and the prefix cache over them.
//!
//! Owned by the decoder worker, which allocates the blocks of a sequence when the scheduler admits it. A block of a
//! prompt that the model has read completely is registered under its tokens, its adapter and the prefix before it; a
//! prompt with the same adapter that starts with the same tokens (instructions, a glossary) shares the block and skips
//! its prefill. Registered blocks that no sequence uses stay cached until their memory is needed, and are evicted in
//! the order of their release.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::model::{AdapterId, KV_BLOCK_TOKENS};

/// The key of a registered block: its tokens, the id of the prefix before them, and the adapter, because keys and
/// values depend on it. Ids are never reused, so a block is never found behind a prefix that was evicted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PrefixKey {
    parent: u64,
    adapter: Option<AdapterId>,
    tokens: Box<[u32]>,
}

/// The id of the empty prefix.
const EMPTY_PREFIX: u64 = 0;

#[derive(Debug, Default)]
struct PoolBlock {
    /// Number of sequences that use it.
    users: usize,
    /// Its key if it is registered, and the id of the prefix that ends with it.
    registration: Option<(PrefixKey, u64)>,
    /// The time of its last release; meaningful if it is registered and unused.
    released_at: u64,
}

/// All blocks of a KV cache.
#[derive(Debug)]
pub(super) struct BlockPool {
    blocks: Vec<PoolBlock>,
    /// Blocks without cached contents.
    free: Vec<u32>,
    /// Registered blocks that no sequence uses, by time of release.
    evictable: BTreeMap<u64, u32>,
    /// Registered blocks.
    registered: HashMap<PrefixKey, u32>,
    /// Source of prefix ids and release times.
    clock: u64,
}

/// The blocks allocated to a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockLease {
    /// The block table.
    pub(super) blocks: Arc<[u32]>,
    /// Number of leading prompt tokens that are cached. Fewer than the prompt has, because the step that reads its last
    /// token yields the first logits.
    pub(super) cached: usize,
}

impl BlockPool {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            blocks: (0..blocks).map(|_| PoolBlock::default()).collect(),
            free: (0..blocks as u32).rev().collect(),
            evictable: BTreeMap::new(),
            registered: HashMap::new(),
            clock: EMPTY_PREFIX,
        }
    }

    /// Allocates blocks for `tokens` tokens of a sequence that starts with `prompt` and uses `adapter`; returns `None`
    /// if there are too few.
    pub(super) fn allocate(
        &mut self,
        prompt: &[u32],
        adapter: Option<AdapterId>,
        tokens: usize,
    ) -> Option<BlockLease> {
        let mut blocks = self.find_prefix(&prompt[..prompt.len().saturating_sub(1)], adapter);
        let missing = tokens.div_ceil(KV_BLOCK_TOKENS).saturating_sub(blocks.len());
        let reused = blocks.iter().filter(|&&block| self.blocks[block as usize].users == 0).count();
        if self.free.len() + self.evictable.len() - reused < missing {
            return None;
        }
        let cached = blocks.len() * KV_BLOCK_TOKENS;
        for &block in &blocks {
            let block = &mut self.blocks[block as usize];
            if block.users == 0 {
                self.evictable.remove(&block.released_at);
            }
            block.users += 1;
        }
        for _ in 0..missing {
            let block = self.free.pop().or_else(|| self.evict_oldest())?;
            self.blocks[block as usize].users = 1;
            blocks.push(block);
        }
        Some(BlockLease { blocks: blocks.into(), cached })
    }

    /// Returns the number of leading tokens of a prompt that are in the prefix cache.
    pub(super) fn cached_prefix(&self, prompt: &[u32], adapter: Option<AdapterId>) -> usize {
        self.find_prefix(&prompt[..prompt.len().saturating_sub(1)], adapter).len() * KV_BLOCK_TOKENS
    }

    /// Registers the complete blocks of the part of a prompt that the model has read.
    pub(super) fn register(&mut self, read: &[u32], adapter: Option<AdapterId>, blocks: &[u32]) {
        let mut parent = EMPTY_PREFIX;
        for (tokens, &block) in read.chunks_exact(KV_BLOCK_TOKENS).zip(blocks) {
            let key = PrefixKey { parent, adapter, tokens: tokens.into() };
            // If two sequences read the same prefix at the same time, the first one's block stays registered.
            let holder = *self.registered.entry(key.clone()).or_insert(block);
            if holder == block && self.blocks[block as usize].registration.is_none() {
                self.clock += 1;
                self.blocks[block as usize].registration = Some((key, self.clock));
            }
            parent = self.prefix_id(holder);
        }
    }

    /// Releases the blocks of a sequence.
    pub(super) fn release(&mut self, blocks: &[u32]) {
        // In reverse order, so that the end of a prefix is evicted before its start, which more prompts share.
        for &id in blocks.iter().rev() {
            let block = &mut self.blocks[id as usize];
            block.users -= 1;
            if block.users == 0 && block.registration.is_some() {
                self.clock += 1;
                block.released_at = self.clock;
                self.evictable.insert(self.clock, id);
            } else if block.users == 0 {
                self.free.push(id);
            }
        }
    }

    /// Returns the number of blocks that sequences use; a shared block counts once.
    pub(super) fn in_use(&self) -> usize {
        self.blocks.len() - self.free.len() - self.evictable.len()
    }

    /// Returns the registered blocks of the longest cached prefix of `tokens`.
    fn find_prefix(&self, tokens: &[u32], adapter: Option<AdapterId>) -> Vec<u32> {
        let mut parent = EMPTY_PREFIX;
        let mut found = Vec::new();
        for tokens in tokens.chunks_exact(KV_BLOCK_TOKENS) {
            let key = PrefixKey { parent, adapter, tokens: tokens.into() };
            let Some(&block) = self.registered.get(&key) else { break };
            found.push(block);
            parent = self.prefix_id(block);
        }
        found
    }

    /// Returns the id of the prefix that ends with a registered block.
    fn prefix_id(&self, block: u32) -> u64 {
        self.blocks[block as usize].registration.as_ref().map_or(EMPTY_PREFIX, |(_, id)| *id)
    }

    /// Evicts the block that has been unused for the longest time.
    fn evict_oldest(&mut self) -> Option<u32> {
        let (_, block) = self.evictable.pop_first()?;
        if let Some((key, _)) = self.blocks[block as usize].registration.take() {
            self.registered.remove(&key);
        }
        Some(block)
    }
}

/// Returns the length of the prefix of `prompt` that it can share with `other`: whole blocks, without its last token.
pub(super) fn shared_prefix(prompt: &[u32], other: &[u32]) -> usize {
    let same = prompt.iter().zip(other).take_while(|(a, b)| a == b).count();
    same.min(prompt.len().saturating_sub(1)) / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS
}

/// Rounds a number of tokens up to whole blocks.
pub(super) fn round_up_to_blocks(tokens: usize) -> usize {
    tokens.div_ceil(KV_BLOCK_TOKENS) * KV_BLOCK_TOKENS
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const BLOCK: usize = KV_BLOCK_TOKENS;

    fn tokens(from: u32, count: usize) -> Vec<u32> {
        (from..from + count as u32).collect()
    }

    #[test]
    fn reuses_released_blocks_and_never_allocates_one_twice() {
        let mut pool = BlockPool::new(4);
        let first = pool.allocate(&[1], None, BLOCK + 1).unwrap();
        let second = pool.allocate(&[1], None, 2 * BLOCK).unwrap();
        assert_eq!((first.blocks.len(), second.blocks.len(), first.cached), (2, 2, 0));
        assert!(pool.allocate(&[1], None, 1).is_none());
        assert!(first.blocks.iter().all(|block| !second.blocks.contains(block)));
        pool.release(&first.blocks);
        assert_eq!(pool.allocate(&[1], None, 2 * BLOCK), Some(first));
    }

    #[test]
    fn shares_complete_blocks_of_a_prefix_but_not_the_last_token() {
        let mut pool = BlockPool::new(16);
        let prompt = tokens(0, 3 * BLOCK);
        let first = pool.allocate(&prompt, None, 4 * BLOCK).unwrap();
        assert_eq!(pool.allocate(&prompt, None, 4 * BLOCK).unwrap().cached, 0, "nothing has been read yet");
        pool.register(&prompt[..2 * BLOCK + 3], None, &first.blocks);
        let second = pool.allocate(&prompt, None, 4 * BLOCK).unwrap();
        assert_eq!((second.cached, &second.blocks[..2]), (2 * BLOCK, &first.blocks[..2]));
        assert_ne!(second.blocks[2], first.blocks[2]);
        pool.register(&prompt, None, &first.blocks);
        assert_eq!(pool.allocate(&prompt, None, 3 * BLOCK).unwrap().cached, 2 * BLOCK);
    }

    #[test]
    fn does_not_share_a_block_behind_another_prefix() {
        let mut pool = BlockPool::new(8);
        let prompt = tokens(0, 2 * BLOCK + 1);
        let first = pool.allocate(&prompt, None, prompt.len()).unwrap();
        pool.register(&prompt, None, &first.blocks);
        let other = [tokens(500, BLOCK), prompt[BLOCK..].to_vec()].concat();
        assert_eq!(pool.allocate(&other, None, other.len()).unwrap().cached, 0);
    }

    #[test]
    fn does_not_share_blocks_between_different_adapters() {
        let mut pool = BlockPool::new(8);
        let prompt = tokens(0, 2 * BLOCK + 1);
        let adapters = [None, Some(AdapterId::new(0)), Some(AdapterId::new(1))];
        for (index, adapter) in adapters.into_iter().enumerate() {
            let lease = pool.allocate(&prompt, adapter, 2 * BLOCK).unwrap();
            assert_eq!(lease.cached, 0);
            pool.register(&prompt, adapter, &lease.blocks);
            let cached = adapters.map(|adapter| pool.cached_prefix(&prompt, adapter));
            let expected: Vec<usize> =
                (0..3).map(|other| if other <= index { 2 * BLOCK } else { 0 }).collect();
            assert_eq!(cached.as_slice(), expected);
        }
    }

    #[test]
    fn evicts_the_end_of_a_prefix_before_its_start() {
        let mut pool = BlockPool::new(4);
        let prompt = tokens(0, 2 * BLOCK + 1);
        let first = pool.allocate(&prompt, None, 2 * BLOCK).unwrap();
        pool.register(&prompt, None, &first.blocks);
        pool.release(&first.blocks);
        let other = pool.allocate(&tokens(900, 1), None, 3 * BLOCK).unwrap();
        assert_eq!(
            pool.allocate(&prompt, None, BLOCK).unwrap().cached,
            BLOCK,
            "the start of the prefix is still cached"
        );
        assert_eq!(other.blocks.len(), 3);
    }

    proptest! {
        #[test]
        fn blocks_never_leak_and_sequences_never_write_to_shared_blocks(
            steps in prop::collection::vec((0u32..3, 1usize..70, 1usize..100, any::<bool>()), 1..80),
        ) {
            let mut pool = BlockPool::new(12);
            let mut held: Vec<(Vec<u32>, Option<AdapterId>, BlockLease)> = Vec::new();
            for (kind, prompt, completion, ends) in steps {
                // Three kinds of prompts that share their first 20 tokens; the second and third differ by the adapter.
                let adapter = (kind == 2).then(|| AdapterId::new(0));
                let prompt: Vec<u32> = (0..prompt as u32).map(|n| if n < 20 { n } else { n + 1000 * kind.min(1) }).collect();
                if let Some(lease) = pool.allocate(&prompt, adapter, prompt.len() + completion) {
                    prop_assert!(lease.cached < prompt.len());
                    let unique: HashSet<_> = lease.blocks.iter().collect();
                    prop_assert_eq!(unique.len(), lease.blocks.len());
                    for (other, other_adapter, theirs) in &held {
                        // Blocks that it will write to are its own; shared blocks hold the same prefix.
                        let own = &lease.blocks[lease.cached / BLOCK..];
                        prop_assert!(own.iter().all(|block| !theirs.blocks.contains(block)));
                        for (at, block) in lease.blocks[..lease.cached / BLOCK].iter().enumerate() {
                            if theirs.blocks.contains(block) {
                                prop_assert_eq!(*other_adapter, adapter);
                                prop_assert_eq!(&other[..(at + 1) * BLOCK], &prompt[..(at + 1) * BLOCK]);
                            }
                        }
                    }
                    pool.register(&prompt, adapter, &lease.blocks);
                    held.push((prompt, adapter, lease));
                }
                if ends && !held.is_empty() {
                    pool.release(&held.remove(0).2.blocks);
                }
            }
            for (_, _, lease) in held {
                pool.release(&lease.blocks);
            }
            prop_assert_eq!(pool.in_use(), 0);
            prop_assert_eq!(pool.registered.len(), pool.evictable.len());
            prop_assert_eq!(pool.allocate(&[7], None, 12 * BLOCK).unwrap().blocks.len(), 12);
        }
    }
}
