//! The choice of tokens on a GPU: what `kernels/cuda/choose.cu` is told, and what it tells. Called by the worker.
//!
//! Logits never leave the device. To it go 24 bytes a row (what is wanted) and a mask when it is first seen; back come 8
//! bytes a row, the token and its log-probability. Draws are repeatable by their seed, but other ones than the CPU's.

#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
mod launch;
#[cfg(feature = "cuda")]
pub(super) use launch::Chooser;

use std::sync::{Arc, Weak};

use candle_core::Error;

use super::{Sampling, TokenMask, sampler::Choice};

/// Words of `Wanted` and of `Choice` in `choose.cu`.
const WANTED_WORDS: usize = 6;
const CHOICE_WORDS: usize = 2;
/// No token, no mask.
const NONE: u32 = u32::MAX;

/// How the token after one row of logits comes.
pub(super) struct Wanted<'a> {
    /// The token that comes anyway.
    pub(super) given: Option<u32>,
    /// How it is chosen if none is given.
    pub(super) sampling: Sampling,
    /// Which tokens may be chosen.
    pub(super) allowed: Option<&'a Arc<TokenMask>>,
    /// How many tokens the sequence has written before: each is drawn anew.
    pub(super) written: usize,
}

impl Wanted<'_> {
    /// As the kernel reads it.
    fn words(&self, masks: &Masks) -> [u32; WANTED_WORDS] {
        let mask = self.allowed.map_or(NONE, |mask| masks.index(mask));
        let given = self.given.unwrap_or(NONE);
        match self.sampling {
            Sampling::Greedy => [mask, given, 0, 0, 0, 0],
            Sampling::Random { temperature, top_p, top_k, seed } => {
                let [temperature, top_p] = [temperature, top_p].map(|number| (number as f32).to_bits());
                let top_k = top_k.map_or(0, |k| u32::try_from(k).unwrap_or(0));
                [mask, given, temperature, top_p, top_k, uniform(seed, self.written as u64).to_bits()]
            }
        }
    }
}

/// What the kernel told of each row.
///
/// # Errors
/// When the logits are no numbers, or no token is allowed.
fn choices(words: &[u32]) -> Result<Vec<Choice>, Error> {
    let choice = |&[token, bits]: &[u32; CHOICE_WORDS]| match f32::from_bits(bits) {
        log_probability if log_probability.is_nan() => Err(Error::msg("the logits hold NaN")),
        _ if token == NONE => Err(Error::msg("no token is allowed")),
        log_probability => Ok(Choice { token, log_probability }),
    };
    words.as_chunks().0.iter().map(choice).collect()
}

/// The masks whose bits are on the device, in their order there.
#[derive(Default)]
struct Masks(Vec<Weak<TokenMask>>);

impl Masks {
    /// Takes in the masks that are not known yet, and forgets those that nobody holds any more; tells whether the bits
    /// on the device are others now.
    fn learn(&mut self, wanted: &[Wanted<'_>]) -> bool {
        let count = self.0.len();
        for mask in wanted.iter().filter_map(|wanted| wanted.allowed) {
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
        let is_it = |known: &Weak<TokenMask>| std::ptr::eq(known.as_ptr(), Arc::as_ptr(mask));
        self.0.iter().position(is_it).map_or(NONE, |index| index as u32)
    }

    /// `(masks, vocab / 32, rounded up)`, the lowest bit first.
    fn bits(&self, vocab: usize) -> Vec<u32> {
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

/// A number in [0, 1) that depends on the seed and the place only (splitmix64).
fn uniform(seed: u64, place: u64) -> f32 {
    let mut z = seed.wrapping_add(place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
}
