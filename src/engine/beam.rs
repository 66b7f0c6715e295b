//! Beam search: of the answers to a source the likeliest, followed several at a time.
//!
//! Pure bookkeeping over rows of logits, one search a source; owned by the encoder-decoder's worker. What is kept, when an
//! answer counts as ended and when the search ends are those of transformers (`GenerationMixin._beam_search`), because the
//! published quality of the models was measured with them.

use std::cmp::Ordering;

use candle_core::Error;

use super::{
    TokenMask,
    sampler::{CHUNK, largest, log_sum_exp},
};
use crate::model::seq2seq::{Decoding, EarlyStopping};

/// The search for the answers to one source.
pub(super) struct BeamSearch {
    decoding: Decoding,
    max_new_tokens: usize,
    stop_tokens: Vec<u32>,
    /// Answers that go on, the likeliest first.
    running: Vec<Answer>,
    /// Answers that have ended, the best first; no more than beams.
    ended: Vec<Answer>,
    written: usize,
}

/// An answer, whole or so far.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// The tokens, without the one that ended it.
    pub(super) tokens: Vec<u32>,
    /// The logarithm of each token's probability among all.
    pub(super) log_probabilities: Vec<f32>,
    /// The sum of the logarithms by which answers are compared; of an ended one, over its length.
    pub(super) score: f32,
    /// Whether the model ended it.
    pub(super) whole: bool,
}

/// What a step of a search has come to.
#[derive(Debug, PartialEq)]
pub(super) enum Advance {
    /// The next tokens, one a beam, each with the row of the beam that it goes on with.
    Next {
        /// The rows.
        beams: Vec<u32>,
        /// The tokens.
        tokens: Vec<u32>,
    },
    /// The answers, the best first.
    Done(Vec<Answer>),
}

/// A token that may go on with a beam.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    beam: usize,
    token: u32,
    score: f32,
    log_probability: f32,
}

impl BeamSearch {
    /// A search that has written nothing: its first step has one row.
    pub(super) fn new(decoding: &Decoding, max_new_tokens: usize, stop_tokens: Vec<u32>) -> Self {
        let begin = Answer { tokens: Vec::new(), log_probabilities: Vec::new(), score: 0.0, whole: false };
        Self {
            decoding: decoding.clone(),
            max_new_tokens,
            stop_tokens,
            running: vec![begin],
            ended: Vec::new(),
            written: 0,
        }
    }

    /// Chooses what the beams go on with, given the logits after each, `(beams, vocab_size)`.
    ///
    /// # Errors
    /// When the logits are no numbers, or no token is allowed.
    pub(super) fn advance<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a [f32]>,
        allowed: Option<&TokenMask>,
    ) -> Result<Advance, Error> {
        let beams = self.decoding.beams;
        // So many that `beams` are left when every beam could end.
        let most = beams * (1 + self.stop_tokens.len()).max(2);
        let mut candidates = Vec::new();
        for (beam, logits) in rows.enumerate() {
            self.propose(beam, logits, allowed, most, &mut candidates)?;
        }
        if candidates.is_empty() {
            return Err(Error::msg("no token is allowed"));
        }
        self.written += 1;
        let is_last = self.written == self.max_new_tokens;
        let running = std::mem::take(&mut self.running);
        let (mut next, mut tokens) = (Vec::new(), Vec::new());
        for (rank, Candidate { beam, token, score, log_probability }) in candidates.into_iter().enumerate() {
            let is_end = self.stop_tokens.contains(&token);
            let mut answer = running[beam].clone();
            if !is_end {
                answer.tokens.push(token);
                answer.log_probabilities.push(log_probability);
            }
            answer.score = score;
            match is_end || is_last {
                // Of those that end, only the likeliest count; the others were there to go on with.
                true if rank < beams => {
                    answer.whole = is_end && !(is_last && self.decoding.forced_end);
                    answer.score = score / self.length_norm(self.written);
                    self.ended.push(answer);
                }
                false if self.running.len() < beams => {
                    next.push(beam as u32);
                    tokens.push(token);
                    self.running.push(answer);
                }
                _ => {}
            }
        }
        self.ended.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.ended.truncate(beams);
        Ok(match is_last || self.running.is_empty() || !self.can_improve() {
            true => Advance::Done(std::mem::take(&mut self.ended)),
            false => Advance::Next { beams: next, tokens },
        })
    }

    /// Whether going on may bring a better answer than those that have ended.
    fn can_improve(&self) -> bool {
        let is_full = self.ended.len() == self.decoding.beams;
        let (Some(best), Some(worst), true) = (self.running.first(), self.ended.last(), is_full) else {
            return true;
        };
        let length = match self.decoding.early_stopping {
            EarlyStopping::Yes => return false,
            EarlyStopping::Never if self.decoding.length_penalty > 0.0 => self.max_new_tokens,
            EarlyStopping::No | EarlyStopping::Never => self.written,
        };
        best.score / self.length_norm(length) > worst.score
    }

    fn length_norm(&self, length: usize) -> f32 {
        (length as f32).powf(self.decoding.length_penalty)
    }

    /// Adds the likeliest tokens after a beam to the candidates, of which the best `most` are kept, the best first.
    fn propose(
        &self,
        beam: usize,
        logits: &[f32],
        allowed: Option<&TokenMask>,
        most: usize,
        candidates: &mut Vec<Candidate>,
    ) -> Result<(), Error> {
        if logits.iter().fold(false, |found, logit| found | logit.is_nan()) {
            return Err(Error::msg("the logits hold NaN"));
        }
        let answer = &self.running[beam];
        let sum_of_all = log_sum_exp(logits, &tops(logits));
        let is_forced = self.decoding.forced_end && self.written + 1 == self.max_new_tokens;
        if let (true, Some(&token)) = (is_forced, self.stop_tokens.first()) {
            let log_probability = logits.get(token as usize).map_or(0.0, |logit| logit - sum_of_all);
            let candidate = Candidate { beam, token, score: answer.score, log_probability };
            keep(candidates, candidate, most);
            return Ok(());
        }
        let may_be = self.may_be(answer, logits, allowed);
        let tops = tops(&may_be);
        let sum = if self.decoding.renormalize { log_sum_exp(&may_be, &tops) } else { sum_of_all };
        for ((chunk, top), first) in may_be.chunks(CHUNK).zip(&tops).zip((0u32..).step_by(CHUNK)) {
            let worst = if candidates.len() < most { f32::NEG_INFINITY } else { candidates[most - 1].score };
            if top - sum + answer.score <= worst {
                continue;
            }
            for (token, logit) in (first..).zip(chunk) {
                let score = logit - sum + answer.score;
                if *logit > f32::NEG_INFINITY {
                    let candidate = Candidate { beam, token, score, log_probability: logit - sum_of_all };
                    keep(candidates, candidate, most);
                }
            }
        }
        Ok(())
    }

    /// The logits of the tokens that may be written; of the others -∞.
    fn may_be(&self, answer: &Answer, logits: &[f32], allowed: Option<&TokenMask>) -> Vec<f32> {
        let is_allowed = |id: usize| allowed.is_none_or(|allowed| allowed.allows(id));
        let kept = |(id, logit): (usize, &f32)| if is_allowed(id) { *logit } else { f32::NEG_INFINITY };
        let mut may_be: Vec<f32> = logits.iter().enumerate().map(kept).collect();
        let banned = repeats(&answer.tokens, self.decoding.no_repeat);
        for id in self.decoding.suppressed.iter().copied().chain(banned) {
            if let Some(logit) = may_be.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        may_be
    }
}

/// The largest logit of each chunk.
fn tops(logits: &[f32]) -> Vec<f32> {
    logits.chunks(CHUNK).map(largest).collect()
}

/// Puts a candidate in its place, behind those that are as good.
fn keep(candidates: &mut Vec<Candidate>, candidate: Candidate, most: usize) {
    let is_before = |other: &Candidate| other.score.total_cmp(&candidate.score) != Ordering::Less;
    let at = candidates.partition_point(is_before);
    if at < most {
        candidates.insert(at, candidate);
        candidates.truncate(most);
    }
}

/// The tokens that would write a run of `length` tokens a second time; none where `length` is 0.
pub(super) fn repeats(tokens: &[u32], length: usize) -> impl Iterator<Item = u32> {
    let end = tokens.len().checked_sub(length.saturating_sub(1)).filter(|_| length > 0);
    let last = end.map(|end| &tokens[end..]);
    let runs = last.map(|last| tokens.windows(length).filter(move |run| run[..length - 1] == *last));
    runs.into_iter().flatten().filter_map(|run| run.last().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u32 = 0;

    fn decoding(beams: usize) -> Decoding {
        Decoding {
            beams,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::No,
            suppressed: Vec::new(),
            forced_end: false,
            renormalize: false,
            no_repeat: 0,
        }
    }

    fn logs(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln()).collect()
    }

    #[test]
    fn an_answer_that_begins_less_likely_may_be_the_best() {
        let mut search = BeamSearch::new(&decoding(2), 9, vec![END]);
        let first = logs(&[0.1, 0.5, 0.4]);
        let next = search.advance([first.as_slice()].into_iter(), None).unwrap();
        assert_eq!(next, Advance::Next { beams: vec![0, 0], tokens: vec![1, 2] });
        // After 1 nothing is likely, after 2 the end is.
        let (after_1, after_2) = (logs(&[0.3, 0.35, 0.35]), logs(&[0.98, 0.01, 0.01]));
        let next = search.advance([after_1.as_slice(), &after_2].into_iter(), None).unwrap();
        let Advance::Next { beams, tokens } = next else { panic!("{next:?}") };
        assert_eq!((beams, tokens), (vec![0, 0], vec![1, 2]));
        let end = logs(&[0.5, 0.25, 0.25]);
        let Advance::Done(answers) = search.advance([end.as_slice(), &end].into_iter(), None).unwrap() else {
            panic!("it goes on")
        };
        assert_eq!(answers.iter().map(|a| a.tokens.as_slice()).collect::<Vec<_>>(), [&[2][..], &[1, 1]]);
        assert!(answers[0].whole && (answers[0].score - (0.4f32 * 0.98).ln() / 2.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_allowed_is_never_followed_and_the_limit_ends_all() {
        let mut with_bans = BeamSearch::new(&Decoding { suppressed: vec![1], ..decoding(2) }, 1, vec![END]);
        let logits = logs(&[0.1, 0.4, 0.2, 0.3]);
        let mask = TokenMask::new(vec![true, true, true]);
        let Advance::Done(answers) = with_bans.advance([logits.as_slice()].into_iter(), Some(&mask)).unwrap()
        else {
            panic!("it goes on")
        };
        let found: Vec<_> = answers.iter().map(|a| (a.tokens.as_slice(), a.whole)).collect();
        assert_eq!(found, [(&[2][..], false), (&[], true)]);
        let mut search = BeamSearch::new(&decoding(1), 1, vec![END]);
        assert!(search.advance([[f32::NAN].as_slice()].into_iter(), None).is_err());
        assert!(search.advance([logits.as_slice()].into_iter(), Some(&TokenMask::new(Vec::new()))).is_err());
    }

    #[test]
    fn a_run_is_not_written_twice() {
        let banned = |tokens: &[u32], length| repeats(tokens, length).collect::<Vec<_>>();
        assert_eq!(banned(&[1, 2, 3, 1], 2), [2]);
        assert_eq!(banned(&[1, 2, 1, 3, 1], 2), [2, 3]);
        assert_eq!(banned(&[1, 2, 3, 1, 2], 3), [3]);
        assert_eq!(banned(&[4, 5], 1), [4, 5]);
        for (tokens, length) in [(&[1, 1, 1][..], 0), (&[], 1), (&[], 3), (&[1, 2], 3)] {
            assert!(banned(tokens, length).is_empty(), "{tokens:?}, {length}");
        }
    }
}
