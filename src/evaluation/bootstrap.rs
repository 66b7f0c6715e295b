//! The paired bootstrap test of sacreBLEU: is the difference between two systems larger than chance explains?
//!
//! Source: Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation". The resamples are those that
//! sacreBLEU draws with its default seed, so the p-values agree up to the precision of its 32-bit arithmetic.

use super::{CorpusStatistics, corpus_score};

/// The number of resamples.
pub const RESAMPLES: usize = 1000;

/// Returns the p-value of the difference between the scores of two systems on the same sentences: how likely a
/// difference at least as large is if the systems are equally good.
///
/// Returns `None` if there is no difference to test: if the scores are equal (sacreBLEU gives 0.001 then), if there are no
/// sentences, or if the systems have different numbers of them.
pub fn paired_bootstrap<S: CorpusStatistics>(baseline: &[S], system: &[S]) -> Option<f64> {
    if baseline.is_empty() || baseline.len() != system.len() {
        return None;
    }
    let sentences = u32::try_from(baseline.len()).ok()?;
    let difference = (corpus_score(baseline) - corpus_score(system)).abs();
    if difference == 0.0 {
        return None;
    }
    let mut random = Pcg64::with_default_seed();
    let mut resample = || {
        let (mut of_baseline, mut of_system) = (S::default(), S::default());
        for _ in 0..sentences {
            let index = random.below(sentences) as usize;
            of_baseline = of_baseline.plus(baseline[index]);
            of_system = of_system.plus(system[index]);
        }
        (of_system.score() - of_baseline.score()).abs()
    };
    let differences: Vec<f64> = (0..RESAMPLES).map(|_| resample()).collect();
    let mean = differences.iter().sum::<f64>() / RESAMPLES as f64;
    // Centered at the mean, the differences are those expected by chance.
    let larger = differences.iter().filter(|resampled| **resampled - mean > difference).count();
    Some((larger + 1) as f64 / (RESAMPLES + 1) as f64)
}

/// The generator of random numbers that numpy uses by default: PCG XSL RR 128/64 (O'Neill 2014).
struct Pcg64 {
    state: u128,
    /// The upper half of the last number if it has not been used yet.
    spare: Option<u32>,
}

impl Pcg64 {
    const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
    /// The increment for the seed 12345.
    const INCREMENT: u128 = 268_209_174_141_567_072_605_526_753_992_732_310_247;
    /// The initial state for the seed 12345.
    const STATE: u128 = 33_261_208_707_367_790_463_622_745_601_869_196_757;

    /// Creates the generator with sacreBLEU's default seed, 12345, as numpy's `SeedSequence` expands it.
    fn with_default_seed() -> Self {
        Self { state: Self::STATE, spare: None }
    }

    fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(Self::MULTIPLIER).wrapping_add(Self::INCREMENT);
        let (high, low) = ((self.state >> 64) as u64, self.state as u64);
        (high ^ low).rotate_right((self.state >> 122) as u32)
    }

    fn next_u32(&mut self) -> u32 {
        self.spare.take().unwrap_or_else(|| {
            let next = self.next_u64();
            self.spare = Some((next >> 32) as u32);
            next as u32
        })
    }

    /// Returns a number below `bound` (Lemire 2019, "Fast Random Integer Generation in an Interval").
    fn below(&mut self, bound: u32) -> u32 {
        // numpy draws nothing if there is only one possibility.
        if bound <= 1 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u64::from(self.next_u32()) * u64::from(bound);
            if product as u32 >= threshold {
                return (product >> 32) as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_the_numbers_that_numpy_draws() {
        let mut random = Pcg64::with_default_seed();
        let drawn: Vec<u32> = (0..12).map(|_| random.below(1000)).collect();
        // numpy.random.default_rng(12345).choice(1000, size=12, replace=True)
        assert_eq!(drawn, [699, 227, 788, 316, 204, 797, 642, 676, 988, 391, 839, 332]);
    }
}
