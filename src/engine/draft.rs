//! Drafts the next tokens of a sequence: speculative decoding by prompt lookup.
//!
//! A summary quotes its source. If the last tokens occurred earlier in the sequence, the tokens that followed them then
//! are a good draft. One step reads several drafted tokens in little more than the time of one, as long as reading the
//! weights dominates its time. Called by the decoder worker, which keeps only the tokens that the sampler would have
//! chosen anyway, so drafting does not change the completion.
//!
//! Source: A. Saxena, "Prompt Lookup Decoding" (2023).

/// Number of last tokens that must have occurred before.
const MATCH_TOKENS: usize = 2;
/// Maximum number of drafted tokens per sequence.
const MAX_DRAFT: usize = 6;
/// Maximum number of tokens of given completions per step: each of them needs logits as large as the vocabulary.
pub(super) const MAX_GIVEN: usize = 64;

/// Returns the tokens that followed the most recent earlier occurrence of the last [`MATCH_TOKENS`] tokens, up to
/// `limit`.
pub(super) fn draft(tokens: &[u32], limit: usize) -> &[u32] {
    let Some(end) = tokens.len().checked_sub(MATCH_TOKENS) else { return &[] };
    let (before, last) = (&tokens[..tokens.len() - 1], &tokens[end..]);
    match before.windows(MATCH_TOKENS).rposition(|window| window == last) {
        Some(at) => {
            let following = &tokens[at + MATCH_TOKENS..];
            &following[..following.len().min(limit).min(MAX_DRAFT)]
        }
        None => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_what_followed_the_most_recent_occurrence() {
        assert_eq!(draft(&[1, 2, 3, 4, 9, 1, 2, 5, 6, 1, 2], 2), [5, 6]);
        assert_eq!(draft(&[1, 2, 3, 7, 7, 1, 2], 99), [3, 7, 7, 1, 2]);
        assert_eq!(draft(&[7, 7, 7], 99), [7], "an occurrence may overlap the end");
        assert!(draft(&[1, 2, 3, 1, 2], 0).is_empty());
        for none in [&[][..], &[1], &[1, 2], &[1, 2, 3]] {
            assert!(draft(none, 9).is_empty());
        }
    }
}
