//! chrF as sacreBLEU computes it: n-grams of up to six characters without white space, recall weighted twice as much as
//! precision.
//!
//! Source: Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation".

use super::{CorpusStatistics, NgramCounts, is_python_whitespace};

/// The longest n-grams, in characters.
const MAX_ORDER: usize = 6;
/// The weight of recall relative to precision.
const BETA: f64 = 2.0;

/// The counts of matching character n-grams of an output and its reference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChrfStatistics {
    /// By the order of the n-grams, single characters first.
    ngrams: [NgramCounts; MAX_ORDER],
}

impl ChrfStatistics {
    /// Compares an output with its reference.
    pub fn new(output: &str, reference: &str) -> Self {
        let characters = |text: &str| text.chars().filter(|c| !is_python_whitespace(*c)).collect();
        let (output, reference): (Vec<char>, Vec<char>) = (characters(output), characters(reference));
        let ngrams = std::array::from_fn(|index| {
            let counts = NgramCounts::new(&output, &reference, index + 1);
            match counts.reference {
                // An order that the reference is too short for does not count against the output.
                0 => NgramCounts::default(),
                _ => counts,
            }
        });
        Self { ngrams }
    }
}

impl CorpusStatistics for ChrfStatistics {
    fn plus(self, other: Self) -> Self {
        Self { ngrams: std::array::from_fn(|index| self.ngrams[index].plus(other.ngrams[index])) }
    }

    fn score(&self) -> f64 {
        // Precision and recall are averaged over the orders that both texts have.
        let orders: Vec<_> = self.ngrams.iter().filter(|n| n.output > 0 && n.reference > 0).collect();
        let mean = |ratio: &dyn Fn(&NgramCounts) -> f64| {
            orders.iter().map(|order| ratio(order)).sum::<f64>() / orders.len().max(1) as f64
        };
        let precision = mean(&|n| n.matches as f64 / n.output as f64);
        let recall = mean(&|n| n.matches as f64 / n.reference as f64);
        match precision + recall > 0.0 {
            true => {
                let weight = BETA * BETA;
                100.0 * (1.0 + weight) * precision * recall / (weight * precision + recall)
            }
            false => 0.0,
        }
    }
}
