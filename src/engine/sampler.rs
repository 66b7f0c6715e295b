//! Chooses the next token of a sequence out of its logits. Owned by the worker, one for each sequence.

use candle_core::{D, Error, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling as CandleSampling};

use super::Sampling;

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

    /// The next token, given the logits `(vocab_size)`.
    ///
    /// # Errors
    /// When the logits are no numbers: the model or its weights are broken.
    pub(super) fn sample(&mut self, logits: &Tensor) -> Result<u32, Error> {
        // A NaN in any place makes the sum NaN and every choice meaningless.
        if logits.sum_all()?.to_scalar::<f32>()?.is_nan() {
            return Err(Error::msg("the logits hold NaN"));
        }
        match self {
            Self::Greedy => logits.argmax(D::Minus1)?.to_scalar(),
            Self::Random(processor) => processor.sample(logits),
        }
    }
}
