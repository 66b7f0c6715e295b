//! The blocks of the KV cache: which are free, and which hold the beginning of a prompt that others share.
//!
//! Owned by the worker, which asks it for room whenever the scheduler wants to admit a sequence. When the model has read a whole block of a prompt, the
//! block is filed under its tokens and those before them. A prompt that begins with the same tokens (the instructions,
//! a glossary) gets the block as it is and need not be read that far. A filed block that nobody uses any more is kept
//! until its room is needed, the one that was given back first going first.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::model::KV_BLOCK_TOKENS;

/// The tokens of a block and, by its number, the beginning that comes before them. Numbers are never used again, so
/// that what followed a beginning that is gone can never be found by mistake.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Prefix {
    after: u64,
    tokens: Box<[u32]>,
}

/// The beginning of every prompt: nothing.
const NOTHING: u64 = 0;

#[derive(Debug, Default)]
struct Block {
    /// How many sequences hold it.
    users: usize,
    /// Under what it is filed, and the number of that beginning.
    filed: Option<(Prefix, u64)>,
    /// When it was last given back, if it is filed and nobody holds it.
    idle_since: u64,
}

/// All blocks of a cache.
#[derive(Debug)]
pub(super) struct BlockPool {
    blocks: Vec<Block>,
    /// Blocks that hold nothing of use.
    free: Vec<u32>,
    /// Filed blocks that nobody holds, by the time at which they were given back.
    idle: BTreeMap<u64, u32>,
    /// Filed blocks.
    shared: HashMap<Prefix, u32>,
    /// Counts beginnings and times.
    clock: u64,
}

/// The blocks that a sequence holds, and how much of its prompt is in them already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) blocks: Arc<[u32]>,
    /// In tokens; fewer than the prompt has, because its last token must be read to go on from it.
    pub(super) cached: usize,
}

impl BlockPool {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            blocks: (0..blocks).map(|_| Block::default()).collect(),
            free: (0..blocks as u32).rev().collect(),
            idle: BTreeMap::new(),
            shared: HashMap::new(),
            clock: NOTHING,
        }
    }

    /// Takes the blocks for `tokens` tokens of a sequence that begins with `prompt`; `None` when there are not enough.
    pub(super) fn take(&mut self, prompt: &[u32], tokens: usize) -> Option<Lease> {
        let mut held = self.filed(&prompt[..prompt.len().saturating_sub(1)]);
        let missing = tokens.div_ceil(KV_BLOCK_TOKENS).saturating_sub(held.len());
        let found_idle = held.iter().filter(|&&block| self.blocks[block as usize].users == 0).count();
        if self.free.len() + self.idle.len() - found_idle < missing {
            return None;
        }
        let cached = held.len() * KV_BLOCK_TOKENS;
        for &block in &held {
            let block = &mut self.blocks[block as usize];
            if block.users == 0 {
                self.idle.remove(&block.idle_since);
            }
            block.users += 1;
        }
        for _ in 0..missing {
            let block = self.free.pop().or_else(|| self.forget_oldest())?;
            self.blocks[block as usize].users = 1;
            held.push(block);
        }
        Some(Lease { blocks: held.into(), cached })
    }

    /// How many tokens of the beginning of a prompt need not be read.
    pub(super) fn known(&self, prompt: &[u32]) -> usize {
        self.filed(&prompt[..prompt.len().saturating_sub(1)]).len() * KV_BLOCK_TOKENS
    }

    /// Files the whole blocks of what the model has read of a prompt.
    pub(super) fn file(&mut self, read: &[u32], blocks: &[u32]) {
        let mut after = NOTHING;
        for (tokens, &block) in read.chunks_exact(KV_BLOCK_TOKENS).zip(blocks) {
            let prefix = Prefix { after, tokens: tokens.into() };
            // Two sequences may have read the same side by side; then the first one's block serves.
            let holder = *self.shared.entry(prefix.clone()).or_insert(block);
            if holder == block && self.blocks[block as usize].filed.is_none() {
                self.clock += 1;
                self.blocks[block as usize].filed = Some((prefix, self.clock));
            }
            after = self.number(holder);
        }
    }

    /// Gives the blocks of a sequence back.
    pub(super) fn give_back(&mut self, blocks: &[u32]) {
        // Last ones first: a beginning is of use to more prompts than what follows it.
        for &id in blocks.iter().rev() {
            let block = &mut self.blocks[id as usize];
            block.users -= 1;
            if block.users == 0 && block.filed.is_some() {
                self.clock += 1;
                block.idle_since = self.clock;
                self.idle.insert(self.clock, id);
            } else if block.users == 0 {
                self.free.push(id);
            }
        }
    }

    /// Number of blocks that sequences hold; one that several share counts once.
    pub(super) fn held(&self) -> usize {
        self.blocks.len() - self.free.len() - self.idle.len()
    }

    /// The blocks that hold the beginning of these tokens.
    fn filed(&self, tokens: &[u32]) -> Vec<u32> {
        let mut after = NOTHING;
        let mut found = Vec::new();
        for tokens in tokens.chunks_exact(KV_BLOCK_TOKENS) {
            let Some(&block) = self.shared.get(&Prefix { after, tokens: tokens.into() }) else { break };
            found.push(block);
            after = self.number(block);
        }
        found
    }

    /// The number of the beginning that ends with a filed block.
    fn number(&self, block: u32) -> u64 {
        self.blocks[block as usize].filed.as_ref().map_or(NOTHING, |(_, number)| *number)
    }

    /// Makes room of the block that nobody has used for the longest time.
    fn forget_oldest(&mut self) -> Option<u32> {
        let (_, block) = self.idle.pop_first()?;
        if let Some((prefix, _)) = self.blocks[block as usize].filed.take() {
            self.shared.remove(&prefix);
        }
        Some(block)
    }
}

/// How many tokens the beginnings of two prompts have in common, in whole blocks; the last token of a prompt is its own.
pub(super) fn in_common(one: &[u32], other: &[u32]) -> usize {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    same.min(one.len().saturating_sub(1)) / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS
}

/// A number of tokens rounded up to whole blocks.
pub(super) fn whole_blocks(tokens: usize) -> usize {
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
    fn blocks_are_taken_once_and_come_back() {
        let mut pool = BlockPool::new(4);
        let first = pool.take(&[1], BLOCK + 1).unwrap();
        let second = pool.take(&[1], 2 * BLOCK).unwrap();
        assert_eq!((first.blocks.len(), second.blocks.len(), first.cached), (2, 2, 0));
        assert!(pool.take(&[1], 1).is_none());
        assert!(first.blocks.iter().all(|block| !second.blocks.contains(block)));
        pool.give_back(&first.blocks);
        assert_eq!(pool.take(&[1], 2 * BLOCK), Some(first));
    }

    #[test]
    fn a_beginning_that_was_read_is_shared_but_for_the_last_token_of_a_prompt() {
        let mut pool = BlockPool::new(16);
        let prompt = tokens(0, 3 * BLOCK);
        let first = pool.take(&prompt, 4 * BLOCK).unwrap();
        assert_eq!(pool.take(&prompt, 4 * BLOCK).unwrap().cached, 0, "nothing has been read yet");
        pool.file(&prompt[..2 * BLOCK + 3], &first.blocks);
        let second = pool.take(&prompt, 4 * BLOCK).unwrap();
        assert_eq!((second.cached, &second.blocks[..2]), (2 * BLOCK, &first.blocks[..2]));
        assert_ne!(second.blocks[2], first.blocks[2]);
        pool.file(&prompt, &first.blocks);
        assert_eq!(pool.take(&prompt, 3 * BLOCK).unwrap().cached, 2 * BLOCK);
    }

    #[test]
    fn a_block_counts_only_after_the_same_beginning() {
        let mut pool = BlockPool::new(8);
        let prompt = tokens(0, 2 * BLOCK + 1);
        let first = pool.take(&prompt, prompt.len()).unwrap();
        pool.file(&prompt, &first.blocks);
        let other = [tokens(500, BLOCK), prompt[BLOCK..].to_vec()].concat();
        assert_eq!(pool.take(&other, other.len()).unwrap().cached, 0);
    }

    #[test]
    fn room_is_made_of_what_was_used_longest_ago_and_its_followers_are_not_found_any_more() {
        let mut pool = BlockPool::new(4);
        let prompt = tokens(0, 2 * BLOCK + 1);
        let first = pool.take(&prompt, 2 * BLOCK).unwrap();
        pool.file(&prompt, &first.blocks);
        pool.give_back(&first.blocks);
        let other = pool.take(&tokens(900, 1), 3 * BLOCK).unwrap();
        assert_eq!(pool.take(&prompt, BLOCK).unwrap().cached, BLOCK, "the instructions outlive what follows");
        assert_eq!(other.blocks.len(), 3);
    }

    proptest! {
        #[test]
        fn nothing_leaks_and_nobody_writes_into_what_another_holds(
            steps in prop::collection::vec((0u32..3, 1usize..70, 1usize..100, any::<bool>()), 1..80),
        ) {
            let mut pool = BlockPool::new(12);
            let mut held: Vec<(Vec<u32>, Lease)> = Vec::new();
            for (kind, prompt, answer, ends) in steps {
                // Three kinds of prompts that begin alike and differ by their kind after 20 tokens.
                let prompt: Vec<u32> = (0..prompt as u32).map(|n| if n < 20 { n } else { n + 1000 * kind }).collect();
                if let Some(lease) = pool.take(&prompt, prompt.len() + answer) {
                    prop_assert!(lease.cached < prompt.len());
                    let unique: HashSet<_> = lease.blocks.iter().collect();
                    prop_assert_eq!(unique.len(), lease.blocks.len());
                    for (other, theirs) in &held {
                        // What it will write into is nobody else's; what it shares begins with the same tokens.
                        let own = &lease.blocks[lease.cached / BLOCK..];
                        prop_assert!(own.iter().all(|block| !theirs.blocks.contains(block)));
                        for (at, block) in lease.blocks[..lease.cached / BLOCK].iter().enumerate() {
                            if theirs.blocks.contains(block) {
                                prop_assert_eq!(&other[..(at + 1) * BLOCK], &prompt[..(at + 1) * BLOCK]);
                            }
                        }
                    }
                    pool.file(&prompt, &lease.blocks);
                    held.push((prompt, lease));
                }
                if ends && !held.is_empty() {
                    pool.give_back(&held.remove(0).1.blocks);
                }
            }
            for (_, lease) in held {
                pool.give_back(&lease.blocks);
            }
            prop_assert_eq!(pool.held(), 0);
            prop_assert_eq!(pool.shared.len(), pool.idle.len());
            prop_assert_eq!(pool.take(&[7], 12 * BLOCK).unwrap().blocks.len(), 12);
        }
    }
}
