//! The comparison of an evaluation: the figures of each candidate, their significance, and the order of the sentences.
//!
//! Called by `yizhai eval`, which writes it as a table, as JSON, or with `html` as a report.

mod table;

use serde_json::{Value, json};

pub(in crate::cli) use table::{figure_rows, write_table};

use crate::{
    evaluation::{
        BleuStatistics, ChrfStatistics, CorpusStatistics as _, EvaluationPair, NameCounts, corpus_score,
        names_kept, paired_bootstrap, proper_words_kept,
    },
    pb,
};

/// All candidates on the same pairs.
pub(in crate::cli) struct Comparison {
    /// The name of the file of pairs.
    pub(in crate::cli) file: String,
    pub(in crate::cli) pairs: Vec<EvaluationPair>,
    /// The candidates; the first one is the baseline.
    pub(in crate::cli) candidates: Vec<CandidateResult>,
}

/// The translations of one candidate, and what they cost.
pub(in crate::cli) struct CandidateRun {
    /// One for each pair: the section with the translation, or an error message.
    pub(in crate::cli) sections: Vec<Result<pb::SectionDigest, String>>,
    /// The time from the first request to the last response. Loading the model does not count.
    pub(in crate::cli) seconds: f64,
    pub(in crate::cli) completion_tokens: u64,
    /// The peak memory of the process while it ran the candidate, if the system reports it.
    pub(in crate::cli) peak_memory_bytes: Option<u64>,
}

/// The figures of one candidate.
pub(in crate::cli) struct CandidateResult {
    pub(in crate::cli) id: String,
    pub(in crate::cli) bleu: MetricResult,
    pub(in crate::cli) chrf: MetricResult,
    /// Numbers, dates and amounts of the source that the translations keep.
    pub(in crate::cli) numbers: NameCounts,
    /// Glossary terms of the source that the translations render as required.
    pub(in crate::cli) terms: NameCounts,
    /// Names that the file of pairs lists.
    pub(in crate::cli) names: NameCounts,
    /// Capitalized words of the references.
    pub(in crate::cli) proper_words: NameCounts,
    pub(in crate::cli) findings: usize,
    /// Sentences that were not translated. They count as empty translations.
    pub(in crate::cli) failed: usize,
    pub(in crate::cli) seconds: f64,
    pub(in crate::cli) tokens_per_second: f64,
    /// The peak memory of the process while it ran the candidate, if the system reports it.
    pub(in crate::cli) peak_memory_bytes: Option<u64>,
    /// One for each pair.
    pub(in crate::cli) sentences: Vec<SentenceResult>,
    bleu_statistics: Vec<BleuStatistics>,
    chrf_statistics: Vec<ChrfStatistics>,
}

/// A score over all sentences.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::cli) struct MetricResult {
    pub(in crate::cli) score: f64,
    /// The p-value of the difference from the baseline; `None` for the baseline and if there is no difference.
    pub(in crate::cli) p: Option<f64>,
}

/// The translation of one sentence.
pub(in crate::cli) struct SentenceResult {
    /// The translation; empty if it failed.
    pub(in crate::cli) text: String,
    pub(in crate::cli) chrf: f64,
    pub(in crate::cli) findings: Vec<pb::Finding>,
    /// The reason why there is no translation.
    pub(in crate::cli) error: Option<String>,
}

impl CandidateResult {
    /// Computes the figures of a candidate.
    pub(in crate::cli) fn new(id: &str, pairs: &[EvaluationPair], run: CandidateRun) -> Self {
        let CandidateRun { sections, seconds, completion_tokens, peak_memory_bytes } = run;
        let mut result = Self {
            id: id.to_owned(),
            bleu: MetricResult::default(),
            chrf: MetricResult::default(),
            numbers: NameCounts::default(),
            terms: NameCounts::default(),
            names: NameCounts::default(),
            proper_words: NameCounts::default(),
            findings: 0,
            failed: 0,
            seconds,
            tokens_per_second: completion_tokens as f64 / seconds.max(1e-9),
            peak_memory_bytes,
            sentences: Vec::new(),
            bleu_statistics: Vec::new(),
            chrf_statistics: Vec::new(),
        };
        for (pair, section) in pairs.iter().zip(sections) {
            result.add(pair, section);
        }
        result.bleu.score = corpus_score(&result.bleu_statistics);
        result.chrf.score = corpus_score(&result.chrf_statistics);
        result
    }

    fn add(&mut self, pair: &EvaluationPair, section: Result<pb::SectionDigest, String>) {
        let (section, error) = match section {
            Ok(section) => (section, None),
            Err(error) => (pb::SectionDigest::default(), Some(error)),
        };
        let paragraphs = section.translation.iter().flat_map(|translation| &translation.paragraphs);
        let text = paragraphs.map(|paragraph| paragraph.text.as_str()).collect::<Vec<_>>().join(" ");
        let verdict = section.verdict.unwrap_or_default();
        self.numbers = self.numbers.plus(counts(verdict.numbers));
        self.terms = self.terms.plus(counts(verdict.terms));
        self.names = self.names.plus(names_kept(&pair.names, &text));
        self.proper_words = self.proper_words.plus(proper_words_kept(&pair.reference, &text));
        self.findings += verdict.findings.len();
        self.failed += usize::from(error.is_some());
        let chrf = ChrfStatistics::new(&text, &pair.reference);
        self.bleu_statistics.push(BleuStatistics::new(&text, &pair.reference));
        self.chrf_statistics.push(chrf);
        self.sentences.push(SentenceResult { text, chrf: chrf.score(), findings: verdict.findings, error });
    }
}

fn counts(tally: Option<pb::Tally>) -> NameCounts {
    let tally = tally.unwrap_or_default();
    let count = |number: i32| usize::try_from(number).unwrap_or_default();
    NameCounts { expected: count(tally.expected), kept: count(tally.kept) }
}

impl Comparison {
    /// Computes the significance of the differences from the first candidate.
    pub(in crate::cli) fn new(
        file: String,
        pairs: Vec<EvaluationPair>,
        mut candidates: Vec<CandidateResult>,
    ) -> Self {
        if let Some((baseline, others)) = candidates.split_first_mut() {
            for other in others {
                other.bleu.p = paired_bootstrap(&baseline.bleu_statistics, &other.bleu_statistics);
                other.chrf.p = paired_bootstrap(&baseline.chrf_statistics, &other.chrf_statistics);
            }
        }
        Self { file, pairs, candidates }
    }

    /// Returns the difference between the best and the worst chrF of a sentence.
    pub(in crate::cli) fn difference(&self, sentence: usize) -> f64 {
        let scores = self.candidates.iter().map(|candidate| candidate.sentences[sentence].chrf);
        let (worst, best) =
            scores.fold((f64::INFINITY, 0.0_f64), |(worst, best), score| (worst.min(score), best.max(score)));
        (best - worst).max(0.0)
    }

    /// Returns the indices of the sentences: those with the largest differences first, then those with the lowest scores.
    pub(in crate::cli) fn by_difference(&self) -> Vec<usize> {
        let mean = |sentence: usize| -> f64 {
            self.candidates.iter().map(|candidate| candidate.sentences[sentence].chrf).sum()
        };
        let mut order: Vec<usize> = (0..self.pairs.len()).collect();
        order.sort_by(|&a, &b| {
            let by_difference = self.difference(b).total_cmp(&self.difference(a));
            by_difference.then(mean(a).total_cmp(&mean(b)))
        });
        order
    }

    /// Returns the first error of any candidate.
    pub(in crate::cli) fn first_error(&self) -> Option<&str> {
        let sentences = self.candidates.iter().flat_map(|candidate| &candidate.sentences);
        sentences.filter_map(|sentence| sentence.error.as_deref()).next()
    }

    /// Returns the comparison as JSON, sentences included.
    pub(in crate::cli) fn json(&self) -> Value {
        let counts = |counts: NameCounts| json!({ "kept": counts.kept, "expected": counts.expected });
        let metric = |metric: MetricResult| json!({ "score": metric.score, "p": metric.p });
        let candidate = |candidate: &CandidateResult| {
            let sentence = |sentence: &SentenceResult| {
                let findings: Vec<&str> = sentence.findings.iter().map(|f| f.message.as_str()).collect();
                json!({
                    "text": sentence.text,
                    "chrf": sentence.chrf,
                    "findings": findings,
                    "error": sentence.error,
                })
            };
            json!({
                "model": candidate.id,
                "bleu": metric(candidate.bleu),
                "chrf": metric(candidate.chrf),
                "numbers": counts(candidate.numbers),
                "terms": counts(candidate.terms),
                "names": counts(candidate.names),
                "proper_words": counts(candidate.proper_words),
                "findings": candidate.findings,
                "failed": candidate.failed,
                "seconds": candidate.seconds,
                "generated_tokens_per_second": candidate.tokens_per_second,
                "peak_memory_bytes": candidate.peak_memory_bytes,
                "sentences": candidate.sentences.iter().map(sentence).collect::<Vec<_>>(),
            })
        };
        json!({
            "file": self.file,
            "pairs": self.pairs.len(),
            "candidates": self.candidates.iter().map(candidate).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: &str, pairs: &[EvaluationPair], texts: &[&str]) -> CandidateResult {
        let section = |text: &&str| {
            let paragraph = pb::TranslatedParagraph { text: text.to_string(), ..Default::default() };
            let translation = pb::Translation { paragraphs: vec![paragraph], ..Default::default() };
            let tally = pb::Tally { expected: 2, kept: 1, ..Default::default() };
            let verdict = pb::Verdict { numbers: Some(tally), ..Default::default() };
            match text.is_empty() {
                true => Err("it failed".to_owned()),
                false => Ok(pb::SectionDigest {
                    translation: Some(translation),
                    verdict: Some(verdict),
                    ..Default::default()
                }),
            }
        };
        let sections = texts.iter().map(section).collect();
        let run = CandidateRun { sections, seconds: 2.0, completion_tokens: 10, peak_memory_bytes: None };
        CandidateResult::new(id, pairs, run)
    }

    fn pairs(references: &[&str]) -> Vec<EvaluationPair> {
        let pair = |reference: &&str| EvaluationPair {
            source: "文".to_owned(),
            reference: reference.to_string(),
            names: Vec::new(),
        };
        references.iter().map(pair).collect()
    }

    #[test]
    fn adds_up_the_figures_and_sorts_sentences_by_difference() {
        let references = ["The first sentence.", "The second sentence.", "The third sentence."];
        let pairs = pairs(&references);
        let baseline = candidate("a", &pairs, &references);
        let other = candidate("b", &pairs, &["The first sentence.", "", "A third sentence."]);
        assert_eq!((baseline.numbers, other.numbers.expected), (NameCounts { expected: 6, kept: 3 }, 4));
        assert_eq!((baseline.failed, other.failed, other.tokens_per_second), (0, 1, 5.0));
        let comparison = Comparison::new("pairs.tsv".to_owned(), pairs, vec![baseline, other]);
        assert_eq!(comparison.by_difference(), [1, 2, 0]);
        assert_eq!((comparison.difference(1), comparison.difference(0)), (100.0, 0.0));
        assert_eq!(comparison.candidates[0].bleu.p, None);
        assert!(comparison.candidates[1].chrf.p.is_some());
        assert_eq!(comparison.first_error(), Some("it failed"));
        let json = comparison.json();
        assert_eq!(json["candidates"][1]["sentences"][1]["error"], "it failed");
        assert!((json["candidates"][0]["bleu"]["score"].as_f64().unwrap() - 100.0).abs() < 1e-9);
    }
}
