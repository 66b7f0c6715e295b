//! Chooses the next token of a sequence out of its logits. Owned by the worker, one for each sequence.

use candle_core::Tensor;
use candle_transformers::generation::{LogitsProcessor, Sampling as CandleSampling};

use super::Sampling;

/// The state of one sequence's choice of tokens.
pub(super) struct Sampler {
    processor: LogitsProcessor,
}

impl Sampler {
    pub(super) fn new(sampling: Sampling) -> Self {
        let (seed, sampling) = match sampling {
            Sampling::Greedy => (0, CandleSampling::ArgMax),
            Sampling::Random { temperature, top_p, top_k, seed } => {
                let sampling = match top_k {
                    Some(k) => CandleSampling::TopKThenTopP { k, p: top_p, temperature },
                    None => CandleSampling::TopP { p: top_p, temperature },
                };
                (seed, sampling)
            }
        };
        Self { processor: LogitsProcessor::from_sampling(seed, sampling) }
    }

    /// The next token, given the logits `(vocab_size)`.
    ///
    /// # Errors
    /// When the logits are no numbers: the model or its weights are broken.
    pub(super) fn sample(&mut self, logits: &Tensor) -> Result<u32, candle_core::Error> {
        // NaN in any place makes the maximum or the sum NaN or the choice meaningless: refuse it.
        let sum = logits.sum_all()?.to_scalar::<f32>()?;
        if sum.is_nan() {
            return Err(candle_core::Error::msg("the logits hold NaN"));
        }
        self.processor.sample(logits)
    }
}
