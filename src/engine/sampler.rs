//! Chooses the next token of a sequence out of its logits. Owned by the worker, one for each sequence.

use candle_core::{Device, Error, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling as CandleSampling};

use super::{Sampling, TokenMask};

/// Logits that are looked at together.
pub(super) const CHUNK: usize = 128;

/// The state of one sequence's choice of tokens.
pub(super) enum Sampler {
    Greedy,
    Random(Box<LogitsProcessor>),
    /// Nothing is chosen: this is what comes.
    Given(std::vec::IntoIter<u32>),
}

/// A token and how likely the model found it among all tokens, allowed or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    pub(super) token: u32,
    pub(super) log_probability: f32,
}

impl Sampler {
    pub(super) fn new(sampling: Sampling, given: Option<Vec<u32>>) -> Self {
        if let Some(given) = given {
            return Self::Given(given.into_iter());
        }
        match sampling {
            Sampling::Greedy => Self::Greedy,
            Sampling::Random { temperature, top_p, top_k, seed } => {
                let sampling = match top_k {
                    Some(k) => CandleSampling::TopKThenTopP { k, p: top_p, temperature },
                    None => CandleSampling::TopP { p: top_p, temperature },
                };
                Self::Random(Box::new(LogitsProcessor::from_sampling(seed, sampling)))
            }
        }
    }

    /// The next token among the allowed ones, given the logits `(vocab_size)`.
    ///
    /// # Errors
    /// When the logits are no numbers (the model or its weights are broken), or no token is allowed.
    pub(super) fn sample(&mut self, logits: &[f32], allowed: Option<&TokenMask>) -> Result<Choice, Error> {
        // Without a branch, so that the compiler makes vector instructions of it; 150,000 logits are the usual number.
        if logits.iter().fold(false, |found, logit| found | logit.is_nan()) {
            return Err(Error::msg("the logits hold NaN"));
        }
        // Of every chunk its largest: what is far from the largest of all need not be looked at one by one.
        let tops: Vec<f32> = logits.chunks(CHUNK).map(largest).collect();
        let is_allowed = |id: usize| allowed.is_none_or(|allowed| allowed.allows(id));
        let token = match self {
            Self::Greedy => most_likely(logits, &tops, is_allowed)?,
            Self::Random(processor) => {
                let may_be = |(id, &logit)| if is_allowed(id) { logit } else { f32::NEG_INFINITY };
                let logits: Vec<f32> = logits.iter().enumerate().map(may_be).collect();
                let count = logits.len();
                processor.sample(&Tensor::from_vec(logits, count, &Device::Cpu)?)?
            }
            Self::Given(tokens) => tokens.next().ok_or_else(|| Error::msg("the given answer is over"))?,
        };
        let logit =
            logits.get(token as usize).ok_or_else(|| Error::msg(format!("there is no token {token}")))?;
        Ok(Choice { token, log_probability: logit - log_sum_exp(logits, &tops) })
    }
}

/// `ln Σ e^logit`, to about 1e-3. What is less than e^-20 of the largest is left out: nearly all of a vocabulary is.
pub(super) fn log_sum_exp(logits: &[f32], tops: &[f32]) -> f32 {
    let largest = largest(tops);
    let counts = logits.chunks(CHUNK).zip(tops).filter(|(_, top)| **top > largest - 20.0);
    let sum: f32 = counts.flat_map(|(chunk, _)| chunk).map(|logit| (logit - largest).exp()).sum();
    largest + sum.ln()
}

/// The largest of some logits, in a form that compilers make vector instructions of.
pub(super) fn largest(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    for part in logits.chunks(16) {
        for (lane, &logit) in lanes.iter_mut().zip(part) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// The first of the largest logits that are allowed. Only where a chunk holds one that is larger than those before is
/// it looked at one by one.
fn most_likely(logits: &[f32], tops: &[f32], is_allowed: impl Fn(usize) -> bool) -> Result<u32, Error> {
    let (mut best, mut most) = (None, f32::NEG_INFINITY);
    for ((chunk, top), first) in logits.chunks(CHUNK).zip(tops).zip((0..).step_by(CHUNK)) {
        if *top <= most {
            continue;
        }
        for (&logit, id) in chunk.iter().zip(first..) {
            if logit > most && is_allowed(id) {
                (best, most) = (Some(id as u32), logit);
            }
        }
    }
    best.ok_or_else(|| Error::msg("no token is allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_is_never_chosen() {
        let logits = [1.0f32, 5.0, 3.0, 5.0];
        let mask = TokenMask::new(vec![true, false, true]);
        let mut greedy = Sampler::new(Sampling::Greedy, None);
        assert_eq!(greedy.sample(&logits, None).unwrap().token, 1);
        assert_eq!(greedy.sample(&logits, Some(&mask)).unwrap().token, 2);
        let sampling = Sampling::Random { temperature: 2.0, top_p: 1.0, top_k: None, seed: 1 };
        let mut random = Sampler::new(sampling, None);
        for _ in 0..100 {
            assert!([0, 2].contains(&random.sample(&logits, Some(&mask)).unwrap().token));
        }
        assert!(greedy.sample(&logits, Some(&TokenMask::new(vec![]))).is_err());
        assert!(greedy.sample(&[1.0, f32::NAN, 3.0, 5.0], None).is_err());
        assert!(greedy.sample(&[f32::NEG_INFINITY; 3], None).is_err());
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest_that_are_allowed_wherever_it_stands() {
        for len in [1, 15, 127, 128, 129, 1000] {
            for at in [0, len / 2, len - 1] {
                let mut logits: Vec<f32> = (0..len).map(|i| (i * 7919 % 101) as f32 - 200.0).collect();
                logits[at] = 7.0;
                logits[len - 1] = 7.0;
                let mut greedy = Sampler::new(Sampling::Greedy, None);
                assert_eq!(greedy.sample(&logits, None).unwrap().token, at as u32);
                let mask = TokenMask::new((0..len).map(|id| logits[id] < 0.0).collect());
                let expected = (0..len)
                    .rev()
                    .filter(|&id| mask.allows(id))
                    .max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
                assert_eq!(
                    greedy.sample(&logits, Some(&mask)).ok().map(|c| c.token),
                    expected.map(|id| id as u32)
                );
            }
        }
    }

    #[test]
    fn a_choice_tells_its_probability_among_all_tokens() {
        let logits: Vec<f32> = (0..1000).map(|i| (i * 7919 % 101) as f32 / 3.0 - 40.0).collect();
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let want = |token: u32| f64::from(logits[token as usize]) - sum.ln();
        let mut given = Sampler::new(Sampling::Greedy, Some(vec![3, 999]));
        for token in [3, 999] {
            let choice = given.sample(&logits, Some(&TokenMask::new(vec![]))).unwrap();
            assert_eq!(choice.token, token);
            assert!((f64::from(choice.log_probability) - want(token)).abs() < 1e-3, "{choice:?}");
        }
        assert!(given.sample(&logits, None).is_err(), "there is nothing more");
        assert!(Sampler::new(Sampling::Greedy, Some(vec![1000])).sample(&logits, None).is_err());
    }
}
