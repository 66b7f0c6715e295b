//! Comparison with the scores of sacreBLEU, which `tests/reference/sacrebleu_scores.py` wrote, and degenerate input.

use proptest::prelude::*;
use serde::Deserialize;

use super::{
    BleuStatistics, ChrfStatistics, CorpusStatistics, bleu::tokenize_13a, corpus_score, paired_bootstrap,
};

const SENTENCES: &str = include_str!("../../tests/data/evaluation/sentences.tsv");
const SCORES: &str = include_str!("../../tests/data/evaluation/scores.json");

#[derive(Deserialize)]
struct GoldenScores {
    ranges: Vec<GoldenRange>,
    /// The tokens of the references.
    tokens: Vec<String>,
}

/// The scores of a range of lines.
#[derive(Deserialize)]
struct GoldenRange {
    start: usize,
    end: usize,
    first: GoldenMetrics,
    second: GoldenMetrics,
    p: GoldenMetrics,
}

#[derive(Deserialize)]
struct GoldenMetrics {
    bleu: f64,
    chrf: f64,
}

/// Returns the reference and the outputs of both systems for every line.
fn sentences() -> Vec<[&'static str; 3]> {
    let lines = SENTENCES.lines().map(|line| line.split('\t').collect::<Vec<_>>().try_into().unwrap());
    lines.collect()
}

fn statistics<S>(lines: &[[&str; 3]], system: usize, new: impl Fn(&str, &str) -> S) -> Vec<S> {
    lines.iter().map(|line| new(line[system], line[0])).collect()
}

#[test]
fn scores_and_p_values_equal_those_of_sacrebleu() {
    let golden: GoldenScores = serde_json::from_str(SCORES).unwrap();
    let sentences = sentences();
    for GoldenRange { start, end, first, second, p } in golden.ranges {
        let lines = &sentences[start..end];
        let bleu = [1, 2].map(|system| statistics(lines, system, BleuStatistics::new));
        let chrf = [1, 2].map(|system| statistics(lines, system, ChrfStatistics::new));
        for (found, expected) in [
            (corpus_score(&bleu[0]), first.bleu),
            (corpus_score(&bleu[1]), second.bleu),
            (corpus_score(&chrf[0]), first.chrf),
            (corpus_score(&chrf[1]), second.chrf),
        ] {
            assert!((found - expected).abs() < 1e-9, "lines {start}..{end}: {found}, not {expected}");
        }
        for (found, expected, are_equal) in [
            (paired_bootstrap(&bleu[0], &bleu[1]), p.bleu, first.bleu == second.bleu),
            (paired_bootstrap(&chrf[0], &chrf[1]), p.chrf, first.chrf == second.chrf),
        ] {
            match found {
                // sacreBLEU computes resampled scores in 32 bits, which can flip a few of 1000 comparisons.
                Some(found) => {
                    assert!(
                        (found - expected).abs() < 0.005,
                        "lines {start}..{end}: {found}, not {expected}"
                    );
                }
                None => assert!(are_equal, "lines {start}..{end}"),
            }
        }
    }
}

#[test]
fn tokens_equal_those_of_sacrebleu() {
    let golden: GoldenScores = serde_json::from_str(SCORES).unwrap();
    for ([reference, ..], expected) in sentences().into_iter().zip(golden.tokens) {
        assert_eq!(tokenize_13a(reference), expected);
    }
}

#[test]
fn a_test_without_a_difference_has_no_p_value() {
    let one = [ChrfStatistics::new("a", "a")];
    assert_eq!(paired_bootstrap::<ChrfStatistics>(&[], &[]), None);
    assert_eq!(paired_bootstrap(&one, &[]), None);
    assert_eq!(paired_bootstrap(&one, &one), None);
    assert_eq!(corpus_score::<BleuStatistics>(&[]), 0.0);
    assert_eq!(corpus_score::<ChrfStatistics>(&[]), 0.0);
}

fn is_score(score: f64) -> bool {
    (0.0..=100.0 + 1e-9).contains(&score)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_has_a_score_between_0_and_100(output in "(\\PC|[ .,\\n\\t-]|[a-c0-9]){0,40}", reference in "(\\PC|[ .,-]|[a-c0-9]){0,40}") {
        prop_assert!(is_score(BleuStatistics::new(&output, &reference).score()));
        prop_assert!(is_score(ChrfStatistics::new(&output, &reference).score()));
    }

    #[test]
    fn a_copy_of_the_reference_has_the_best_score(reference in "[a-z]{1,8}( [a-z]{1,8}){3,9}\\.") {
        prop_assert!(BleuStatistics::new(&reference, &reference).score() > 100.0 - 1e-9);
        prop_assert!(ChrfStatistics::new(&reference, &reference).score() > 100.0 - 1e-9);
    }

    #[test]
    fn systems_with_different_scores_have_a_p_value(texts in prop::collection::vec(("[ab ]{0,6}", "[ab ]{0,6}", "[ab ]{0,6}"), 1..4)) {
        let system = |of: fn(&(String, String, String)) -> &String| -> Vec<ChrfStatistics> {
            texts.iter().map(|text| ChrfStatistics::new(of(text), &text.2)).collect()
        };
        let (first, second) = (system(|text| &text.0), system(|text| &text.1));
        let are_equal = corpus_score(&first) == corpus_score(&second);
        match paired_bootstrap(&first, &second) {
            Some(p) => prop_assert!(p > 0.0 && p <= 1.0 && !are_equal),
            None => prop_assert!(are_equal),
        }
    }
}
