//! Guesses what a sequence will write next: prompt-lookup speculation.
//!
//! A summary quotes its source. Where the last tokens have stood before, what followed them then is a good guess, and
//! the model reads several guessed tokens in one step in little more than the time of one, as long as the step is bound
//! by the reading of the weights. Called by the worker, which keeps of a guess what the sampler would have chosen
//! anyway: the answer is the same with and without.
//!
//! The idea: A. Saxena, "Prompt Lookup Decoding" (2023).

/// How many of the last tokens must have stood before.
const MATCH: usize = 2;
/// The most tokens that are guessed for a sequence.
const LONGEST: usize = 6;
/// The most tokens of given answers that one step reads: the logits of each are as large as the vocabulary.
pub(super) const MOST_GIVEN: usize = 64;

/// What followed when the last [`MATCH`] tokens stood before, the last time; at most `most` tokens, perhaps none.
pub(super) fn draft(tokens: &[u32], most: usize) -> &[u32] {
    let Some(end) = tokens.len().checked_sub(MATCH) else { return &[] };
    let (before, last) = (&tokens[..tokens.len() - 1], &tokens[end..]);
    match before.windows(MATCH).rposition(|window| window == last) {
        Some(at) => {
            let follows = &tokens[at + MATCH..];
            &follows[..follows.len().min(most).min(LONGEST)]
        }
        None => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_last_time_is_guessed() {
        assert_eq!(draft(&[1, 2, 3, 4, 9, 1, 2, 5, 6, 1, 2], 2), [5, 6]);
        assert_eq!(draft(&[1, 2, 3, 7, 7, 1, 2], 99), [3, 7, 7, 1, 2]);
        assert_eq!(draft(&[7, 7, 7], 99), [7], "an occurrence may overlap the end");
        assert!(draft(&[1, 2, 3, 1, 2], 0).is_empty());
        for none in [&[][..], &[1], &[1, 2], &[1, 2, 3]] {
            assert!(draft(none, 9).is_empty());
        }
    }
}
