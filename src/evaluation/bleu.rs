//! BLEU as sacreBLEU computes it: tokenizer 13a, n-grams of up to four tokens, exponential smoothing.
//!
//! Source: Papineni et al. 2002; Post 2018, "A Call for Clarity in Reporting BLEU Scores".

use std::sync::LazyLock;

use regex::Regex;

use super::{CorpusStatistics, NgramCounts, is_python_whitespace};

/// The longest n-grams, in tokens.
const MAX_ORDER: usize = 4;

/// The counts of matching n-grams of an output and its reference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BleuStatistics {
    /// By the order of the n-grams, single tokens first.
    ngrams: [NgramCounts; MAX_ORDER],
}

impl BleuStatistics {
    /// Compares an output with its reference.
    pub fn new(output: &str, reference: &str) -> Self {
        let (output, reference) = (tokenize_13a(output), tokenize_13a(reference));
        let output: Vec<&str> = output.split_ascii_whitespace().collect();
        let reference: Vec<&str> = reference.split_ascii_whitespace().collect();
        Self { ngrams: std::array::from_fn(|index| NgramCounts::new(&output, &reference, index + 1)) }
    }
}

impl CorpusStatistics for BleuStatistics {
    fn plus(self, other: Self) -> Self {
        Self { ngrams: std::array::from_fn(|index| self.ngrams[index].plus(other.ngrams[index])) }
    }

    fn score(&self) -> f64 {
        // Without any match, smoothing would still give a positive score.
        if self.ngrams.iter().all(|order| order.matches == 0) {
            return 0.0;
        }
        let mut smoothing = 1.0;
        let mut log_sum = 0.0;
        for order in self.ngrams {
            if order.output == 0 {
                return 0.0;
            }
            let precision = match order.matches {
                0 => {
                    smoothing *= 2.0;
                    1.0 / (smoothing * order.output as f64)
                }
                matches => matches as f64 / order.output as f64,
            };
            log_sum += precision.ln();
        }
        let [tokens, ..] = self.ngrams;
        let brevity_penalty = match tokens.output < tokens.reference {
            true => (1.0 - tokens.reference as f64 / tokens.output as f64).exp(),
            false => 1.0,
        };
        100.0 * brevity_penalty * (log_sum / MAX_ORDER as f64).exp()
    }
}

/// Separates punctuation from words and normalizes white space, as the tokenizer of mteval-v13a does.
///
/// The tokens of the result are separated by single spaces.
pub(super) fn tokenize_13a(text: &str) -> String {
    /// The rules, applied one after another.
    static RULES: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
        let rule = |pattern, replacement| {
            (Regex::new(pattern).expect("the rules are part of this build and are tested"), replacement)
        };
        [
            // ASCII punctuation other than the apostrophe, the comma, the hyphen and the period; and spaces.
            rule(r"([\{-~\[-` -&\(-\+:-@/])", " $1 "),
            // Periods and commas, except after a digit and except before one.
            rule(r"([^0-9])([.,])", "$1 $2 "),
            rule(r"([.,])([^0-9])", " $1 $2"),
            // Hyphens after a digit.
            rule(r"([0-9])(-)", "$1 $2 "),
        ]
    });
    let text = text.trim_end_matches(is_python_whitespace);
    let text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let text = text.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let mut text = format!(" {text} ");
    for (pattern, replacement) in RULES.iter() {
        text = pattern.replace_all(&text, *replacement).into_owned();
    }
    text.split(is_python_whitespace).filter(|token| !token.is_empty()).collect::<Vec<_>>().join(" ")
}
