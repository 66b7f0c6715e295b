//! Measures of translation quality: BLEU, chrF, the names of the reference that are kept, and the significance of a
//! difference between two systems.
//!
//! Called by `yizhai eval`. Pure functions over texts; BLEU and chrF equal those of sacreBLEU 2.6 with its default
//! settings and one reference.

mod bleu;
mod bootstrap;
mod chrf;
mod names;
mod pairs;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, hash::Hash};

pub use bleu::BleuStatistics;
pub use bootstrap::{RESAMPLES, paired_bootstrap};
pub use chrf::ChrfStatistics;
pub use names::{NameCounts, ReferenceName, names_kept, proper_words_kept};
pub use pairs::{EvaluationPair, PairsError, parse_pairs};

/// The counts of one sentence or of a whole corpus, from which a score is computed.
pub trait CorpusStatistics: Copy + Default {
    /// Returns the sum of two counts.
    #[must_use]
    fn plus(self, other: Self) -> Self;

    /// Returns the score, between 0 and 100.
    fn score(&self) -> f64;
}

/// Returns the score of a corpus, given the counts of its sentences.
pub fn corpus_score<S: CorpusStatistics>(sentences: &[S]) -> f64 {
    sentences.iter().fold(S::default(), |sum, sentence| sum.plus(*sentence)).score()
}

/// The number of n-grams of one order in two texts, and of those that they share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct NgramCounts {
    output: u64,
    reference: u64,
    matches: u64,
}

impl NgramCounts {
    /// Counts the n-grams of a length of at least 1. An n-gram matches at most as often as it occurs in the reference.
    fn new<T: Eq + Hash>(output: &[T], reference: &[T], length: usize) -> Self {
        let mut remaining: HashMap<&[T], u64> = HashMap::new();
        for ngram in reference.windows(length) {
            *remaining.entry(ngram).or_default() += 1;
        }
        let mut matches = 0;
        for ngram in output.windows(length) {
            if let Some(count) = remaining.get_mut(ngram).filter(|count| **count > 0) {
                *count -= 1;
                matches += 1;
            }
        }
        let count = |text: &[T]| (text.len() + 1).saturating_sub(length) as u64;
        Self { output: count(output), reference: count(reference), matches }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            output: self.output + other.output,
            reference: self.reference + other.reference,
            matches: self.matches + other.matches,
        }
    }
}

/// Returns `true` for the characters that Python's `str.split` and `str.rstrip` treat as white space.
fn is_python_whitespace(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
