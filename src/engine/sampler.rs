//! Chooses the next token of a sequence from its logits. The worker owns one sampler per sequence.

use candle_core::{Device, Error, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling as CandleSampling};

use super::{Sampling, TokenMask};

/// Number of logits that are scanned together.
pub(super) const CHUNK: usize = 128;

/// The sampling state of one sequence.
pub(super) enum Sampler {
    Greedy,
    Random(Box<LogitsProcessor>),
    /// Yields the tokens of a given completion.
    Given(std::vec::IntoIter<u32>),
}

/// A sampled token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SampledToken {
    pub(super) id: u32,
    /// Its log-probability among all tokens, including those that are not allowed.
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

    /// Samples the next token among the allowed ones from the logits `(vocab_size)`.
    ///
    /// # Errors
    /// If the logits contain NaN (the weights are corrupt), or no token is allowed.
    pub(super) fn sample(
        &mut self,
        logits: &[f32],
        allowed: Option<&TokenMask>,
    ) -> Result<SampledToken, Error> {
        // Branch-free, so that the compiler vectorizes it: a row usually has 150,000 logits.
        if logits.iter().fold(false, |found, logit| found | logit.is_nan()) {
            return Err(Error::msg("the logits contain NaN"));
        }
        // The largest logit of each chunk: chunks far below the maximum are not scanned.
        let tops: Vec<f32> = logits.chunks(CHUNK).map(largest).collect();
        let is_allowed = |id: usize| allowed.is_none_or(|allowed| allowed.allows(id));
        let token = match self {
            Self::Greedy => most_likely(logits, &tops, is_allowed)?,
            Self::Random(processor) => {
                let masked = |(id, &logit)| if is_allowed(id) { logit } else { f32::NEG_INFINITY };
                let logits: Vec<f32> = logits.iter().enumerate().map(masked).collect();
                let count = logits.len();
                processor.sample(&Tensor::from_vec(logits, count, &Device::Cpu)?)?
            }
            Self::Given(tokens) => {
                tokens.next().ok_or_else(|| Error::msg("the given completion has ended"))?
            }
        };
        let logit =
            logits.get(token as usize).ok_or_else(|| Error::msg(format!("token {token} is out of range")))?;
        Ok(SampledToken { id: token, log_probability: logit - log_sum_exp(logits, &tops) })
    }
}

/// Computes `ln Σ e^logit` to about 1e-3. Chunks below e^-20 of the maximum are skipped, which is most of a vocabulary.
pub(super) fn log_sum_exp(logits: &[f32], tops: &[f32]) -> f32 {
    let largest = largest(tops);
    let relevant = logits.chunks(CHUNK).zip(tops).filter(|(_, top)| **top > largest - 20.0);
    let sum: f32 = relevant.flat_map(|(chunk, _)| chunk).map(|logit| (logit - largest).exp()).sum();
    largest + sum.ln()
}

/// Returns the largest logit, in a form that compilers vectorize.
pub(super) fn largest(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    for part in logits.chunks(16) {
        for (lane, &logit) in lanes.iter_mut().zip(part) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Returns the id of the largest allowed logit, the first one of several. Scans only chunks whose maximum exceeds the
/// best so far.
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
    fn never_samples_a_token_that_is_not_allowed() {
        let logits = [1.0f32, 5.0, 3.0, 5.0];
        let mask = TokenMask::new(vec![true, false, true]);
        let mut greedy = Sampler::new(Sampling::Greedy, None);
        assert_eq!(greedy.sample(&logits, None).unwrap().id, 1);
        assert_eq!(greedy.sample(&logits, Some(&mask)).unwrap().id, 2);
        let sampling = Sampling::Random { temperature: 2.0, top_p: 1.0, top_k: None, seed: 1 };
        let mut random = Sampler::new(sampling, None);
        for _ in 0..100 {
            assert!([0, 2].contains(&random.sample(&logits, Some(&mask)).unwrap().id));
        }
        assert!(greedy.sample(&logits, Some(&TokenMask::new(vec![]))).is_err());
        assert!(greedy.sample(&[1.0, f32::NAN, 3.0, 5.0], None).is_err());
        assert!(greedy.sample(&[f32::NEG_INFINITY; 3], None).is_err());
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest_allowed_logits_at_any_position() {
        for len in [1, 15, 127, 128, 129, 1000] {
            for at in [0, len / 2, len - 1] {
                let mut logits: Vec<f32> = (0..len).map(|i| (i * 7919 % 101) as f32 - 200.0).collect();
                logits[at] = 7.0;
                logits[len - 1] = 7.0;
                let mut greedy = Sampler::new(Sampling::Greedy, None);
                assert_eq!(greedy.sample(&logits, None).unwrap().id, at as u32);
                let mask = TokenMask::new((0..len).map(|id| logits[id] < 0.0).collect());
                let expected = (0..len)
                    .rev()
                    .filter(|&id| mask.allows(id))
                    .max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
                assert_eq!(
                    greedy.sample(&logits, Some(&mask)).ok().map(|c| c.id),
                    expected.map(|id| id as u32)
                );
            }
        }
    }

    #[test]
    fn log_probabilities_are_relative_to_all_tokens() {
        let logits: Vec<f32> = (0..1000).map(|i| (i * 7919 % 101) as f32 / 3.0 - 40.0).collect();
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let expected = |token: u32| f64::from(logits[token as usize]) - sum.ln();
        let mut given = Sampler::new(Sampling::Greedy, Some(vec![3, 999]));
        for token in [3, 999] {
            let choice = given.sample(&logits, Some(&TokenMask::new(vec![]))).unwrap();
            assert_eq!(choice.id, token);
            assert!((f64::from(choice.log_probability) - expected(token)).abs() < 1e-3, "{choice:?}");
        }
        assert!(given.sample(&logits, None).is_err(), "the given completion has ended");
        assert!(Sampler::new(Sampling::Greedy, Some(vec![1000])).sample(&logits, None).is_err());
    }
}
