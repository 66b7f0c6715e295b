//! Token sampling on a GPU with the kernel `kernels/cuda/choose.cu`. Called by the decoder worker.
//!
//! Logits never leave the device. The host uploads 24 bytes per row (the request) and each mask once; it downloads 8
//! bytes per row, the token and its log-probability. Random sampling is reproducible per seed, but differs from the
//! CPU's.

#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
mod launch;
#[cfg(feature = "cuda")]
pub(super) use launch::TokenChooser;

use std::sync::{Arc, Weak};

use candle_core::Error;

use super::{Sampling, TokenMask, sampler::SampledToken};

/// Size of a request and of a result in `choose.cu`, in 32-bit words.
const REQUEST_WORDS: usize = 6;
const CHOICE_WORDS: usize = 2;
/// The value for no token and no mask.
const NONE: u32 = u32::MAX;

/// A request for the token after one row of logits.
pub(super) struct ChoiceRequest<'a> {
    /// A given token, to be scored instead of sampled.
    pub(super) given: Option<u32>,
    /// The method of choosing the token if none is given.
    pub(super) sampling: Sampling,
    /// The tokens that may be sampled; `None` allows all.
    pub(super) allowed: Option<&'a Arc<TokenMask>>,
    /// Number of tokens generated before; with the seed, it determines the random number.
    pub(super) generated: usize,
}

impl ChoiceRequest<'_> {
    /// Encodes the request for the kernel.
    fn to_words(&self, masks: &UploadedMasks) -> [u32; REQUEST_WORDS] {
        let mask = self.allowed.map_or(NONE, |mask| masks.index(mask));
        let given = self.given.unwrap_or(NONE);
        match self.sampling {
            Sampling::Greedy => [mask, given, 0, 0, 0, 0],
            Sampling::Random { temperature, top_p, top_k, seed } => {
                let [temperature, top_p] = [temperature, top_p].map(|number| (number as f32).to_bits());
                let top_k = top_k.map_or(0, |k| u32::try_from(k).unwrap_or(0));
                [mask, given, temperature, top_p, top_k, uniform(seed, self.generated as u64).to_bits()]
            }
        }
    }
}

/// Decodes the kernel's results, one per row.
///
/// # Errors
/// If the logits contain NaN, or no token is allowed.
fn decode_results(words: &[u32]) -> Result<Vec<SampledToken>, Error> {
    let decode = |&[id, bits]: &[u32; CHOICE_WORDS]| match f32::from_bits(bits) {
        log_probability if log_probability.is_nan() => Err(Error::msg("the logits contain NaN")),
        _ if id == NONE => Err(Error::msg("no token is allowed")),
        log_probability => Ok(SampledToken { id, log_probability }),
    };
    words.as_chunks().0.iter().map(decode).collect()
}

/// The masks whose bits are on the device, in the same order.
#[derive(Default)]
struct UploadedMasks(Vec<Weak<TokenMask>>);

impl UploadedMasks {
    /// Adds new masks and removes those that are no longer in use. Returns `true` if the bits have to be uploaded
    /// again.
    fn update(&mut self, requests: &[ChoiceRequest<'_>]) -> bool {
        let count = self.0.len();
        for mask in requests.iter().filter_map(|request| request.allowed) {
            if self.index(mask) == NONE {
                self.0.push(Arc::downgrade(mask));
            }
        }
        let is_new = self.0.len() > count;
        if is_new {
            self.0.retain(|mask| mask.strong_count() > 0);
        }
        is_new
    }

    fn index(&self, mask: &Arc<TokenMask>) -> u32 {
        let is_same = |known: &Weak<TokenMask>| std::ptr::eq(known.as_ptr(), Arc::as_ptr(mask));
        self.0.iter().position(is_same).map_or(NONE, |index| index as u32)
    }

    /// Returns the masks as bits, `(masks, vocab / 32, rounded up)`, the lowest bit first.
    fn to_bits(&self, vocab: usize) -> Vec<u32> {
        let bits = |mask: Arc<TokenMask>| -> Vec<u32> {
            let word = |first: usize| {
                (first..vocab.min(first + 32)).filter(|&id| mask.allows(id)).map(|id| 1 << (id - first)).sum()
            };
            (0..vocab).step_by(32).map(word).collect()
        };
        self.0
            .iter()
            .flat_map(|mask| mask.upgrade().map_or_else(|| vec![0; vocab.div_ceil(32)], bits))
            .collect()
    }
}

/// Returns a number in [0, 1) that depends only on the seed and the index (splitmix64).
fn uniform(seed: u64, index: u64) -> f32 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
}
