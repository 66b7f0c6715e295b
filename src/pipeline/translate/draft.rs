//! A checked translation of a chunk, and how drafts are compared and joined.

use super::{super::complete::Usage, offset};
use crate::fidelity::{Alignment, AlignmentKind, Verdict, numerals};

/// A translation with its verdict and its cost.
#[derive(Debug, Clone)]
pub(super) struct TranslationDraft {
    pub(super) text: String,
    /// False if the model was cut off at the token limit.
    pub(super) complete: bool,
    pub(super) verdict: Verdict,
    /// The mean log-probability of its tokens.
    pub(super) confidence: f64,
    /// The number of the attempt that this took; the largest one if several drafts were joined or compared.
    pub(super) attempts: usize,
    pub(super) usage: Usage,
}

impl Default for TranslationDraft {
    /// Returns the translation of a source without words.
    fn default() -> Self {
        Self::of_text(String::new())
    }
}

impl TranslationDraft {
    /// Wraps a part of a paragraph that was translated by rule, and aligns its numbers.
    pub(super) fn by_rule(source: &str, text: String) -> Self {
        let pairs = numerals::compare(source, &text).pairs;
        let mut draft = Self::of_text(text);
        draft.verdict.alignments.extend(pairs.into_iter().map(|(in_source, in_output)| Alignment {
            kind: AlignmentKind::Number,
            source_span: in_source.span,
            output_span: in_output.span,
        }));
        draft
    }

    /// Wraps a text that was rendered without the model.
    fn of_text(text: String) -> Self {
        Self {
            text,
            complete: true,
            verdict: Verdict::default(),
            confidence: 0.0,
            attempts: 0,
            usage: Usage::default(),
        }
    }

    /// Returns the draft with the better verdict, `self` if they are equal, with the usage of both.
    pub(super) fn better(self, other: Self) -> Self {
        let usage = self.usage.plus(other.usage);
        let attempts = self.attempts.max(other.attempts);
        let better = if other.verdict.score() > self.verdict.score() { other } else { self };
        Self { usage, attempts, ..better }
    }

    /// Restores the quotation marks of a draft of a quotation if the model left out either of them.
    pub(super) fn in_quotes(mut self) -> Self {
        const MARKS: [char; 3] = ['“', '”', '"'];
        let opened = self.text.strip_prefix(MARKS).unwrap_or(&self.text);
        let quoted = opened.strip_suffix(MARKS).unwrap_or(opened);
        let has_both = self.text.starts_with(MARKS) && self.text.ends_with(MARKS);
        if has_both || quoted.is_empty() || quoted.contains(MARKS) {
            return self;
        }
        let shift = '“'.len_utf8() - offset(&self.text, quoted);
        let text = format!("“{quoted}”");
        let verdict = std::mem::take(&mut self.verdict);
        self.verdict.append(verdict, 0, shift);
        Self { text, ..self }
    }

    /// Appends the translation of the source that begins at byte `source_start`.
    pub(super) fn append(&mut self, next: Self, source_start: usize) {
        if !self.text.is_empty() && !next.text.is_empty() {
            self.text.push(' ');
        }
        let (len, next_len) = (self.text.len() as f64, next.text.len() as f64);
        self.confidence = (self.confidence * len + next.confidence * next_len) / (len + next_len).max(1.0);
        self.verdict.append(next.verdict, source_start, self.text.len());
        self.text.push_str(&next.text);
        self.complete &= next.complete;
        self.attempts = self.attempts.max(next.attempts);
        self.usage = self.usage.plus(next.usage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fidelity::{Finding, FindingKind};

    /// Returns the text in quotes, and what the span of a finding about 1930 covers in it.
    fn in_quotes(text: &str) -> (String, Option<String>) {
        let mut draft = TranslationDraft::of_text(text.to_owned());
        let output_span = text.find("1930").map(|at| at..at + 4);
        let kind = FindingKind::NumberNotInSource { found: "1930".to_owned() };
        draft.verdict.findings.push(Finding { kind, source_span: None, output_span });
        let TranslationDraft { text, verdict, .. } = draft.in_quotes();
        let span = verdict.findings[0].output_span.clone();
        let covered = span.map(|span| text[span].to_owned());
        (text, covered)
    }

    #[test]
    fn restores_quotation_marks_and_shifts_the_spans_of_findings() {
        let covered = Some("1930".to_owned());
        for text in ["It was in 1930.", "“It was in 1930.", "\"It was in 1930.", "It was in 1930.”"] {
            assert_eq!(in_quotes(text), ("“It was in 1930.”".to_owned(), covered.clone()), "{text}");
        }
        for text in [
            "“It was in 1930.”",
            "\"It was in 1930.\"",
            "The “war” was in 1930.",
            "““It was in 1930.",
            "\"“It was in 1930.",
        ] {
            assert_eq!(in_quotes(text), (text.to_owned(), covered.clone()));
        }
        assert_eq!(in_quotes("").0, "");
    }
}
