//! All checks on one output together: what was found, where, and which of two outputs is better.
//!
//! Called by `pipeline` for every candidate. The order of [`Verdict::score`] is the only place that says what weighs more.

use std::{cmp::Reverse, ops::Range};

use super::{finding::Finding, numerals::NumberReport};

/// The outcome of the checks on one output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What was found, the gravest first.
    pub findings: Vec<Found>,
    /// The numbers, dates and amounts.
    pub numbers: NumberCounts,
    /// The settled terms that the output must hold.
    pub terms: TermCounts,
}

/// A finding and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub finding: Finding,
    /// Where in the source, in bytes, if it is about a place there.
    pub source: Option<Range<usize>>,
    /// Where in the output, in bytes.
    pub output: Option<Range<usize>>,
}

/// How many numbers an output has to hold and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NumberCounts {
    /// The output must hold so many; of a summary so many stand in it.
    pub expected: usize,
    /// Of these it holds so many with their value.
    pub kept: usize,
    /// And lacks so many.
    pub missing: usize,
    /// So many stand in it and not in the source.
    pub unexpected: usize,
}

impl NumberCounts {
    /// The sum of two outputs.
    pub fn plus(self, other: Self) -> Self {
        Self {
            expected: self.expected + other.expected,
            kept: self.kept + other.kept,
            missing: self.missing + other.missing,
            unexpected: self.unexpected + other.unexpected,
        }
    }
}

/// How many terms an output has to hold and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TermCounts {
    /// The source holds so many of the settled terms.
    pub expected: usize,
    /// The output holds so many of their renderings.
    pub kept: usize,
}

impl TermCounts {
    /// The sum of two outputs.
    pub fn plus(self, other: Self) -> Self {
        Self { expected: self.expected + other.expected, kept: self.kept + other.kept }
    }
}

/// How good an output is; of two the greater is better. Compared field by field, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// It is there, and no loop, chatter or copy of its input.
    usable: bool,
    /// Fewest of everything that is wrong, with what is invented or broken counted twice, and a part that was dropped
    /// twice again: it held more than one thing.
    faults: Reverse<usize>,
    /// Most numbers and terms kept.
    kept: usize,
}

impl Verdict {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// The score by which the better of two candidates for one source is chosen.
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
        let fatal = |f: &Finding| {
            matches!(f, Finding::Empty | Finding::Loop(_) | Finding::Chatter(_) | Finding::CopiedInput)
        };
        let weight = |f: &Finding| match f {
            Finding::Truncated
            | Finding::HanInTranslation(_)
            | Finding::NumberNotInSource(_)
            | Finding::NameNotInSource(_)
            | Finding::TooLong => 2,
            Finding::TooShort => 4,
            _ => 1,
        };
        Score {
            usable: !self.findings.iter().any(|found| fatal(&found.finding)),
            faults: Reverse(self.findings.iter().map(|found| weight(&found.finding)).sum()),
            kept: self.numbers.kept + self.terms.kept,
        }
    }

    /// Adds the verdict on an output that is appended to this one: its source stands at `source_start` of the whole
    /// source, its output at `output_start` of the whole output, in bytes.
    pub fn append(&mut self, next: Self, source_start: usize, output_start: usize) {
        let moved = |range: Range<usize>, by: usize| range.start + by..range.end + by;
        self.findings.extend(next.findings.into_iter().map(|found| Found {
            source: found.source.map(|range| moved(range, source_start)),
            output: found.output.map(|range| moved(range, output_start)),
            ..found
        }));
        self.numbers = self.numbers.plus(next.numbers);
        self.terms = self.terms.plus(next.terms);
    }

    pub(super) fn add(
        &mut self,
        finding: Finding,
        source: Option<Range<usize>>,
        output: Option<Range<usize>>,
    ) {
        self.findings.push(Found { finding, source, output });
    }
}
