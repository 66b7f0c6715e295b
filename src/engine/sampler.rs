//! Chooses the next token of a sequence out of its logits. Owned by the worker, one for each sequence.

use candle_core::{Device, Error, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling as CandleSampling};

use super::{Sampling, TokenMask};

/// The state of one sequence's choice of tokens.
pub(super) enum Sampler {
    Greedy,
    Random(Box<LogitsProcessor>),
}

impl Sampler {
    pub(super) fn new(sampling: Sampling) -> Self {
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
    pub(super) fn sample(&mut self, logits: &[f32], allowed: Option<&TokenMask>) -> Result<u32, Error> {
        // Without a branch, so that the compiler makes vector instructions of it; 150,000 logits are the usual number.
        if logits.iter().fold(false, |found, logit| found | logit.is_nan()) {
            return Err(Error::msg("the logits hold NaN"));
        }
        let is_allowed = |id: usize| allowed.is_none_or(|allowed| allowed.allows(id));
        match self {
            Self::Greedy => most_likely(logits, is_allowed),
            Self::Random(processor) => {
                let may_be = |(id, &logit)| if is_allowed(id) { logit } else { f32::NEG_INFINITY };
                let logits: Vec<f32> = logits.iter().enumerate().map(may_be).collect();
                let count = logits.len();
                processor.sample(&Tensor::from_vec(logits, count, &Device::Cpu)?)
            }
        }
    }
}

/// The first of the largest logits that are allowed. Only where a chunk holds one that is larger than those before is
/// it looked at one by one.
fn most_likely(logits: &[f32], is_allowed: impl Fn(usize) -> bool) -> Result<u32, Error> {
    const CHUNK: usize = 128;
    let (mut best, mut largest) = (None, f32::NEG_INFINITY);
    for (chunk, first) in logits.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
        let mut lanes = [f32::NEG_INFINITY; 16];
        for part in chunk.chunks(16) {
            for (lane, &logit) in lanes.iter_mut().zip(part) {
                *lane = if logit > *lane { logit } else { *lane };
            }
        }
        if lanes.iter().all(|&lane| lane <= largest) {
            continue;
        }
        for (&logit, id) in chunk.iter().zip(first..) {
            if logit > largest && is_allowed(id) {
                (best, largest) = (Some(id as u32), logit);
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
        let mut greedy = Sampler::new(Sampling::Greedy);
        assert_eq!(greedy.sample(&logits, None).unwrap(), 1);
        assert_eq!(greedy.sample(&logits, Some(&mask)).unwrap(), 2);
        let sampling = Sampling::Random { temperature: 2.0, top_p: 1.0, top_k: None, seed: 1 };
        let mut random = Sampler::new(sampling);
        for _ in 0..100 {
            assert!([0, 2].contains(&random.sample(&logits, Some(&mask)).unwrap()));
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
                let mut greedy = Sampler::new(Sampling::Greedy);
                assert_eq!(greedy.sample(&logits, None).unwrap(), at as u32);
                let mask = TokenMask::new((0..len).map(|id| logits[id] < 0.0).collect());
                let expected = (0..len)
                    .rev()
                    .filter(|&id| mask.allows(id))
                    .max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
                assert_eq!(greedy.sample(&logits, Some(&mask)).ok(), expected.map(|id| id as u32));
            }
        }
    }
}
