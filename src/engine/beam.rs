//! Beam search: finds the most likely completions of a source, following several candidates at a time.
//!
//! Pure bookkeeping over rows of logits; the encoder-decoder worker owns one search per source. Which candidates are
//! kept, when a completion counts as ended and when the search stops follow transformers
//! (`GenerationMixin._beam_search`), because the published quality of the models was measured with it.

use std::cmp::Ordering;

use candle_core::Error;

use super::{
    TokenMask,
    sampler::{CHUNK, largest, log_sum_exp},
};
use crate::model::seq2seq::{EarlyStopping, SearchSettings};

/// The search for the completions of one source.
pub(super) struct BeamSearch {
    settings: SearchSettings,
    max_new_tokens: usize,
    stop_tokens: Vec<u32>,
    /// Unfinished hypotheses, the most likely first.
    running: Vec<Hypothesis>,
    /// Finished hypotheses, the best first; at most as many as beams.
    finished: Vec<Hypothesis>,
    /// Number of steps so far, which is the length of the running hypotheses.
    steps: usize,
}

/// A completion, finished or not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hypothesis {
    /// The tokens, without the stop token.
    pub(super) tokens: Vec<u32>,
    /// The log-probability of each token among all tokens.
    pub(super) log_probabilities: Vec<f32>,
    /// The sum of the log-probabilities, divided by the length penalty once the hypothesis is finished.
    pub(super) score: f32,
    /// `true` if the model generated a stop token.
    pub(super) complete: bool,
}

/// The outcome of one step of a search.
#[derive(Debug, PartialEq)]
pub(super) enum SearchStep {
    /// The search continues with these beams.
    Continue {
        /// For each beam, the row of the beam that it extends.
        beams: Vec<u32>,
        /// The next token of each beam.
        tokens: Vec<u32>,
    },
    /// The search has ended with these completions, the best first.
    Done(Vec<Hypothesis>),
}

/// A token that may extend a beam.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    beam: usize,
    token: u32,
    score: f32,
    log_probability: f32,
}

impl BeamSearch {
    /// Creates a search with one empty hypothesis: its first step takes one row.
    pub(super) fn new(settings: &SearchSettings, max_new_tokens: usize, stop_tokens: Vec<u32>) -> Self {
        let empty =
            Hypothesis { tokens: Vec::new(), log_probabilities: Vec::new(), score: 0.0, complete: false };
        Self {
            settings: settings.clone(),
            max_new_tokens,
            stop_tokens,
            running: vec![empty],
            finished: Vec::new(),
            steps: 0,
        }
    }

    /// Chooses the next tokens, given the logits after each beam, `(beams, vocab_size)`.
    ///
    /// # Errors
    /// If the logits contain NaN, or no token is allowed.
    pub(super) fn advance<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a [f32]>,
        allowed: Option<&TokenMask>,
    ) -> Result<SearchStep, Error> {
        let beams = self.settings.beams;
        // Enough candidates that `beams` of them continue even if every beam could end.
        let limit = beams * (1 + self.stop_tokens.len()).max(2);
        let mut candidates = Vec::new();
        for (beam, logits) in rows.enumerate() {
            self.propose(beam, logits, allowed, limit, &mut candidates)?;
        }
        if candidates.is_empty() {
            return Err(Error::msg("no token is allowed"));
        }
        self.steps += 1;
        let is_last = self.steps == self.max_new_tokens;
        let running = std::mem::take(&mut self.running);
        let (mut extended, mut tokens) = (Vec::new(), Vec::new());
        for (rank, Candidate { beam, token, score, log_probability }) in candidates.into_iter().enumerate() {
            let is_end = self.stop_tokens.contains(&token);
            let mut hypothesis = running[beam].clone();
            if !is_end {
                hypothesis.tokens.push(token);
                hypothesis.log_probabilities.push(log_probability);
            }
            hypothesis.score = score;
            match is_end || is_last {
                // Only the `beams` most likely candidates may finish; the others are there to continue.
                true if rank < beams => {
                    hypothesis.complete = is_end && !(is_last && self.settings.force_end);
                    hypothesis.score = score / self.length_norm(self.steps);
                    self.finished.push(hypothesis);
                }
                false if self.running.len() < beams => {
                    extended.push(beam as u32);
                    tokens.push(token);
                    self.running.push(hypothesis);
                }
                _ => {}
            }
        }
        self.finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.finished.truncate(beams);
        Ok(match is_last || self.running.is_empty() || !self.can_improve() {
            true => SearchStep::Done(std::mem::take(&mut self.finished)),
            false => SearchStep::Continue { beams: extended, tokens },
        })
    }

    /// Returns `true` if a running hypothesis may still beat a finished one.
    fn can_improve(&self) -> bool {
        let is_full = self.finished.len() == self.settings.beams;
        let (Some(best), Some(worst), true) = (self.running.first(), self.finished.last(), is_full) else {
            return true;
        };
        let length = match self.settings.early_stopping {
            EarlyStopping::Yes => return false,
            EarlyStopping::Never if self.settings.length_penalty > 0.0 => self.max_new_tokens,
            EarlyStopping::No | EarlyStopping::Never => self.steps,
        };
        best.score / self.length_norm(length) > worst.score
    }

    fn length_norm(&self, length: usize) -> f32 {
        (length as f32).powf(self.settings.length_penalty)
    }

    /// Adds the most likely tokens after a beam to the candidates, which stay sorted and at most `limit`.
    fn propose(
        &self,
        beam: usize,
        logits: &[f32],
        allowed: Option<&TokenMask>,
        limit: usize,
        candidates: &mut Vec<Candidate>,
    ) -> Result<(), Error> {
        if logits.iter().fold(false, |found, logit| found | logit.is_nan()) {
            return Err(Error::msg("the logits contain NaN"));
        }
        let hypothesis = &self.running[beam];
        let log_sum_of_all = log_sum_exp(logits, &chunk_maxima(logits));
        let is_forced = self.settings.force_end && self.steps + 1 == self.max_new_tokens;
        if let (true, Some(&token)) = (is_forced, self.stop_tokens.first()) {
            let log_probability = logits.get(token as usize).map_or(0.0, |logit| logit - log_sum_of_all);
            let candidate = Candidate { beam, token, score: hypothesis.score, log_probability };
            insert_sorted(candidates, candidate, limit);
            return Ok(());
        }
        let masked = self.mask(hypothesis, logits, allowed);
        let maxima = chunk_maxima(&masked);
        let log_sum = if self.settings.renormalize { log_sum_exp(&masked, &maxima) } else { log_sum_of_all };
        for ((chunk, max), first) in masked.chunks(CHUNK).zip(&maxima).zip((0u32..).step_by(CHUNK)) {
            let worst =
                if candidates.len() < limit { f32::NEG_INFINITY } else { candidates[limit - 1].score };
            if max - log_sum + hypothesis.score <= worst {
                continue;
            }
            for (token, logit) in (first..).zip(chunk) {
                let score = logit - log_sum + hypothesis.score;
                if *logit > f32::NEG_INFINITY {
                    let log_probability = logit - log_sum_of_all;
                    insert_sorted(candidates, Candidate { beam, token, score, log_probability }, limit);
                }
            }
        }
        Ok(())
    }

    /// Returns the logits with -∞ for the tokens that may not be generated.
    fn mask(&self, hypothesis: &Hypothesis, logits: &[f32], allowed: Option<&TokenMask>) -> Vec<f32> {
        let is_allowed = |id: usize| allowed.is_none_or(|allowed| allowed.allows(id));
        let masked = |(id, logit): (usize, &f32)| if is_allowed(id) { *logit } else { f32::NEG_INFINITY };
        let mut masked: Vec<f32> = logits.iter().enumerate().map(masked).collect();
        let repeated = repeated_ngram_ends(&hypothesis.tokens, self.settings.no_repeat_ngram);
        for id in self.settings.suppressed.iter().copied().chain(repeated) {
            if let Some(logit) = masked.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        masked
    }
}

/// Returns the largest logit of each chunk.
fn chunk_maxima(logits: &[f32]) -> Vec<f32> {
    logits.chunks(CHUNK).map(largest).collect()
}

/// Inserts a candidate behind those with the same or a better score, keeping at most `limit`.
fn insert_sorted(candidates: &mut Vec<Candidate>, candidate: Candidate, limit: usize) {
    let is_before = |other: &Candidate| other.score.total_cmp(&candidate.score) != Ordering::Less;
    let at = candidates.partition_point(is_before);
    if at < limit {
        candidates.insert(at, candidate);
        candidates.truncate(limit);
    }
}

/// Returns the tokens that would repeat an n-gram of `length` tokens; none if `length` is 0.
pub(super) fn repeated_ngram_ends(tokens: &[u32], length: usize) -> impl Iterator<Item = u32> {
    let start = tokens.len().checked_sub(length.saturating_sub(1)).filter(|_| length > 0);
    let last = start.map(|start| &tokens[start..]);
    let ngrams = last.map(|last| tokens.windows(length).filter(move |ngram| ngram[..length - 1] == *last));
    ngrams.into_iter().flatten().filter_map(|ngram| ngram.last().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u32 = 0;

    fn settings(beams: usize) -> SearchSettings {
        SearchSettings {
            beams,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::No,
            suppressed: Vec::new(),
            force_end: false,
            renormalize: false,
            no_repeat_ngram: 0,
        }
    }

    fn logs(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln()).collect()
    }

    #[test]
    fn finds_a_completion_that_starts_less_likely() {
        let mut search = BeamSearch::new(&settings(2), 9, vec![END]);
        let first = logs(&[0.1, 0.5, 0.4]);
        let next = search.advance([first.as_slice()].into_iter(), None).unwrap();
        assert_eq!(next, SearchStep::Continue { beams: vec![0, 0], tokens: vec![1, 2] });
        // After token 1 no token is likely, after token 2 the end is.
        let (after_1, after_2) = (logs(&[0.3, 0.35, 0.35]), logs(&[0.98, 0.01, 0.01]));
        let next = search.advance([after_1.as_slice(), &after_2].into_iter(), None).unwrap();
        let SearchStep::Continue { beams, tokens } = next else { panic!("{next:?}") };
        assert_eq!((beams, tokens), (vec![0, 0], vec![1, 2]));
        let end = logs(&[0.5, 0.25, 0.25]);
        let SearchStep::Done(found) = search.advance([end.as_slice(), &end].into_iter(), None).unwrap()
        else {
            panic!("the search continues")
        };
        assert_eq!(found.iter().map(|h| h.tokens.as_slice()).collect::<Vec<_>>(), [&[2][..], &[1, 1]]);
        assert!(found[0].complete && (found[0].score - (0.4f32 * 0.98).ln() / 2.0).abs() < 1e-6);
    }

    #[test]
    fn skips_tokens_that_are_not_allowed_and_ends_at_the_limit() {
        let mut search =
            BeamSearch::new(&SearchSettings { suppressed: vec![1], ..settings(2) }, 1, vec![END]);
        let logits = logs(&[0.1, 0.4, 0.2, 0.3]);
        let mask = TokenMask::new(vec![true, true, true]);
        let SearchStep::Done(found) = search.advance([logits.as_slice()].into_iter(), Some(&mask)).unwrap()
        else {
            panic!("the search continues")
        };
        let found: Vec<_> = found.iter().map(|h| (h.tokens.as_slice(), h.complete)).collect();
        assert_eq!(found, [(&[2][..], false), (&[], true)]);
        let mut search = BeamSearch::new(&settings(1), 1, vec![END]);
        assert!(search.advance([[f32::NAN].as_slice()].into_iter(), None).is_err());
        assert!(search.advance([logits.as_slice()].into_iter(), Some(&TokenMask::new(Vec::new()))).is_err());
    }

    #[test]
    fn bans_tokens_that_would_repeat_an_ngram() {
        let banned = |tokens: &[u32], length| repeated_ngram_ends(tokens, length).collect::<Vec<_>>();
        assert_eq!(banned(&[1, 2, 3, 1], 2), [2]);
        assert_eq!(banned(&[1, 2, 1, 3, 1], 2), [2, 3]);
        assert_eq!(banned(&[1, 2, 3, 1, 2], 3), [3]);
        assert_eq!(banned(&[4, 5], 1), [4, 5]);
        for (tokens, length) in [(&[1, 1, 1][..], 0), (&[], 1), (&[], 3), (&[1, 2], 3)] {
            assert!(banned(tokens, length).is_empty(), "{tokens:?}, {length}");
        }
    }
}
