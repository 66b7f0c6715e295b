//! The outcome of the checks on one output, and the order of outputs by quality.
//!
//! Filled by `check`, compared by `pipeline`. [`Verdict::score`] is the only place that weighs findings against each
//! other.

use std::{cmp::Reverse, ops::Range};

use super::finding::{Finding, FindingKind};

/// The outcome of all checks on one output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The problems found, the most serious first.
    pub findings: Vec<Finding>,
    /// The numbers and terms of the source with their counterparts in the output.
    pub alignments: Vec<Alignment>,
    /// The counts of numbers, dates and amounts.
    pub numbers: NumberCounts,
    /// The counts of required terms.
    pub terms: TermCounts,
    /// The counts of names that the lexicon knows.
    pub names: TermCounts,
}

/// A number or term of the source and its counterpart in the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alignment {
    /// Numbers or terms.
    pub kind: AlignmentKind,
    /// The bytes of the source.
    pub source_span: Range<usize>,
    /// The bytes of the output.
    pub output_span: Range<usize>,
}

/// The kind of an alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlignmentKind {
    /// Two numbers, dates or amounts of the same value.
    Number,
    /// A glossary term and its rendering.
    Term,
}

/// The numbers, dates and amounts that an output has to contain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NumberCounts {
    /// Numbers that the translation has to contain; for a summary, the numbers in it.
    pub expected: usize,
    /// Expected numbers that appear with the right value.
    pub kept: usize,
    /// Expected numbers that do not appear.
    pub missing: usize,
    /// Numbers of the output that do not appear in the source.
    pub unexpected: usize,
}

impl NumberCounts {
    /// Returns the sum of two counts.
    pub fn plus(self, other: Self) -> Self {
        Self {
            expected: self.expected + other.expected,
            kept: self.kept + other.kept,
            missing: self.missing + other.missing,
            unexpected: self.unexpected + other.unexpected,
        }
    }
}

/// The required terms or names that an output has to contain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TermCounts {
    /// Required terms that appear in the source.
    pub expected: usize,
    /// Expected terms whose rendering appears in the output.
    pub kept: usize,
}

impl TermCounts {
    /// Returns the sum of two counts.
    pub fn plus(self, other: Self) -> Self {
        Self { expected: self.expected + other.expected, kept: self.kept + other.kept }
    }
}

/// The quality of an output; the better of two outputs has the greater score. Compared field by field, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// The output is neither empty, a loop, chatter nor a copy of its source.
    usable: bool,
    /// The weighted sum of the findings. Additions and damage count twice; a dropped part counts four times because it
    /// contained more than one thing.
    faults: Reverse<usize>,
    /// The number of numbers and terms kept.
    kept: usize,
}

impl Verdict {
    /// Returns `true` if there are no findings.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Returns the score that decides between two candidates for one source.
    ///
    /// ```
    /// use yizhai::fidelity::check_translation;
    ///
    /// let source = "投资35亿元，增长3%。";
    /// let good = check_translation(source, &[], "Investment rose 3 percent to 3.5 billion yuan.", true);
    /// let bad = check_translation(source, &[], "Investment rose 3 percent to 350 million yuan.", true);
    /// assert!(good.score() > bad.score());
    /// ```
    pub fn score(&self) -> Score {
        Score {
            usable: !self.findings.iter().any(|finding| is_fatal(&finding.kind)),
            faults: Reverse(self.findings.iter().map(|finding| weight(&finding.kind)).sum()),
            kept: self.numbers.kept + self.terms.kept + self.names.kept,
        }
    }

    /// Appends the verdict on the next part of the same text, whose source begins at byte `source_start` and whose
    /// output begins at byte `output_start`.
    pub fn append(&mut self, next: Self, source_start: usize, output_start: usize) {
        let shift = |span: Range<usize>, by: usize| span.start + by..span.end + by;
        self.findings.extend(next.findings.into_iter().map(|finding| Finding {
            source_span: finding.source_span.map(|span| shift(span, source_start)),
            output_span: finding.output_span.map(|span| shift(span, output_start)),
            ..finding
        }));
        self.alignments.extend(next.alignments.into_iter().map(|alignment| Alignment {
            source_span: shift(alignment.source_span, source_start),
            output_span: shift(alignment.output_span, output_start),
            ..alignment
        }));
        self.numbers = self.numbers.plus(next.numbers);
        self.terms = self.terms.plus(next.terms);
        self.names = self.names.plus(next.names);
    }

    pub(super) fn add(
        &mut self,
        kind: FindingKind,
        source_span: Option<Range<usize>>,
        output_span: Option<Range<usize>>,
    ) {
        self.findings.push(Finding { kind, source_span, output_span });
    }
}

/// Returns `true` if an output with such a finding cannot be used at all.
fn is_fatal(kind: &FindingKind) -> bool {
    matches!(
        kind,
        FindingKind::Empty
            | FindingKind::Loop { .. }
            | FindingKind::Chatter { .. }
            | FindingKind::CopiedInput
    )
}

fn weight(kind: &FindingKind) -> usize {
    match kind {
        FindingKind::Truncated
        | FindingKind::HanInTranslation { .. }
        | FindingKind::NumberNotInSource { .. }
        | FindingKind::NameNotInSource { .. }
        | FindingKind::TooLong => 2,
        FindingKind::TooShort => 4,
        _ => 1,
    }
}
