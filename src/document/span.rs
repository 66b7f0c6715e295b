//! Byte ranges of the page as it was handed in, and the map that leads back to them.
//!
//! `decode` and the readers of marked-up formats build an [`OffsetMap`] while they write the clean text of a
//! page; `segment` cuts that text and asks the map where every piece came from. Nothing here looks at characters
//! or knows what an article is.

use std::ops::Range;

/// A range of bytes, `start` included and `end` not, of the input exactly as the caller gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The bytes from `start` up to `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// How many bytes it covers.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether it covers no byte at all.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The same bytes as a range, for slicing.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A stretch of text in which every unit of `text_width` bytes came from `original_width` bytes of the input.
///
/// A page in plain UTF-8 is one run of 1:1; one in GB18030 has a run for every change between Chinese characters
/// (3 bytes from 2) and ASCII (1 from 1). So the map stays small, however long the page.
#[derive(Debug, Clone, Copy)]
struct OffsetRun {
    text: usize,
    original: usize,
    text_width: usize,
    original_width: usize,
}

/// Leads from byte offsets of the clean text back to byte offsets of the original input.
#[derive(Debug, Default)]
pub(super) struct OffsetMap {
    runs: Vec<OffsetRun>,
    text_len: usize,
    /// Where in the original the last run would go on.
    expected: usize,
}

impl OffsetMap {
    /// Notes that the next `count` units of clean text, `text_width` bytes each, came from as many units of
    /// `original_width` bytes, the first of which lies at `original`.
    pub(super) fn push(&mut self, original: usize, text_width: usize, original_width: usize, count: usize) {
        let goes_on = original == self.expected
            && self
                .runs
                .last()
                .is_some_and(|run| run.text_width == text_width && run.original_width == original_width);
        if !goes_on {
            self.runs.push(OffsetRun { text: self.text_len, original, text_width, original_width });
        }
        self.expected = original + original_width * count;
        self.text_len += text_width * count;
    }

    /// The original bytes of a range of the clean text; the range must not be empty.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        let start = self
            .run_at(range.start)
            .map_or(0, |run| run.original + (range.start - run.text) / run.text_width * run.original_width);
        let last = range.end.saturating_sub(1).max(range.start);
        let end = self.run_at(last).map_or(start, |run| {
            run.original + ((last - run.text) / run.text_width + 1) * run.original_width
        });
        Span::new(start, end.max(start))
    }

    fn run_at(&self, text: usize) -> Option<&OffsetRun> {
        let after = self.runs.partition_point(|run| run.text <= text);
        self.runs.get(after.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leads_back_through_runs_of_different_widths() {
        let mut map = OffsetMap::default();
        map.push(2, 3, 2, 1); // 中, after a byte order mark of two bytes
        map.push(4, 3, 2, 1); // 国
        map.push(6, 1, 1, 1); // a
        map.push(9, 1, 3, 1); // a full-width digit, after two bytes that were dropped
        assert_eq!(map.runs.len(), 3);
        assert_eq!(map.span(0..3), Span::new(2, 4));
        assert_eq!(map.span(3..7), Span::new(4, 7));
        assert_eq!(map.span(0..8), Span::new(2, 12));
        assert_eq!(map.span(7..8), Span::new(9, 12));
    }
}
