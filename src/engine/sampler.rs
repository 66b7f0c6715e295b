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
    pub(super) fn sample(&mut self, logits: &Tensor, allowed: Option<&TokenMask>) -> Result<u32, Error> {
        let mut logits: Vec<f32> = logits.to_vec1()?;
        if logits.iter().any(|logit| logit.is_nan()) {
            return Err(Error::msg("the logits hold NaN"));
        }
        if let Some(allowed) = allowed {
            for (id, logit) in logits.iter_mut().enumerate() {
                if !allowed.allows(id) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        match self {
            Self::Greedy => most_likely(&logits),
            Self::Random(processor) => {
                let count = logits.len();
                processor.sample(&Tensor::from_vec(logits, count, &Device::Cpu)?)
            }
        }
    }
}

/// The first of the largest logits.
fn most_likely(logits: &[f32]) -> Result<u32, Error> {
    let best = logits.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    match best {
        Some((id, logit)) if *logit > f32::NEG_INFINITY => Ok(id as u32),
        _ => Err(Error::msg("no token is allowed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_is_never_chosen() {
        let logits = Tensor::new(&[1.0f32, 5.0, 3.0, 5.0], &Device::Cpu).unwrap();
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
    }
}
