//! The packed tokens of one step. Built by the engine's worker, read by the decoder and its backends.

use std::sync::Arc;

use super::{AdapterId, KV_BLOCK_TOKENS, ModelError};

/// The part of one sequence in a step: `len` tokens that follow the `start` tokens already in the KV cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its block table: position `p` is stored in `blocks[p / KV_BLOCK_TOKENS]`.
    pub blocks: Arc<[u32]>,
    /// Position of its first token, which is the number of tokens cached before this step.
    pub start: usize,
    /// Number of its tokens in this step, at least 1.
    pub len: usize,
    /// Number of its last tokens for which the step returns logits, at most `len`.
    pub logits: usize,
    /// The adapter that the sequence uses.
    pub adapter: Option<AdapterId>,
}

/// The packed tokens of several sequences for one step.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Token ids, segment after segment: `(total_tokens)`.
    pub tokens: Vec<u32>,
    /// The segments, in the order of their tokens.
    pub segments: Vec<Segment>,
}

impl Batch {
    /// Appends the next tokens of a sequence; the step returns logits for the last `logits` of them.
    pub fn push(&mut self, blocks: Arc<[u32]>, start: usize, tokens: &[u32], logits: usize) {
        self.push_with_adapter(blocks, start, tokens, logits, None);
    }

    /// Like [`Self::push`], for a sequence that may use an adapter.
    pub fn push_with_adapter(
        &mut self,
        blocks: Arc<[u32]>,
        start: usize,
        tokens: &[u32],
        logits: usize,
        adapter: Option<AdapterId>,
    ) {
        self.tokens.extend_from_slice(tokens);
        self.segments.push(Segment { blocks, start, len: tokens.len(), logits, adapter });
    }

    /// Returns the number of tokens for which the step returns logits.
    pub fn logit_rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.logits).sum()
    }

    /// Returns the position of every token in its sequence: `(total_tokens)`.
    pub(super) fn positions(&self) -> Vec<u32> {
        self.segments.iter().flat_map(|s| s.start as u32..(s.start + s.len) as u32).collect()
    }

    /// Returns the rows of the tokens for which the step returns logits: `(logit_rows)`.
    pub(super) fn rows_with_logits(&self) -> Vec<u32> {
        let mut end = 0;
        let rows = self.segments.iter().flat_map(|segment| {
            end += segment.len;
            (end - segment.logits) as u32..end as u32
        });
        rows.collect()
    }

    /// Checks that every segment fits into its blocks, requests logits for its own tokens only, and uses one of
    /// `adapters` adapters.
    pub(super) fn check(&self, adapters: usize) -> Result<(), ModelError> {
        for Segment { blocks, start, len, logits, adapter } in &self.segments {
            if adapter.is_some_and(|adapter| adapter.index() >= adapters) {
                return Err(ModelError::step("a sequence uses an adapter that the model does not have"));
            }
            if logits > len {
                return Err(ModelError::step(format!("{logits} rows of logits requested for {len} tokens")));
            }
            let capacity = blocks.len() * KV_BLOCK_TOKENS;
            if start + len > capacity {
                return Err(ModelError::step(format!(
                    "{} tokens do not fit into blocks for {capacity}",
                    start + len
                )));
            }
        }
        Ok(())
    }
}
