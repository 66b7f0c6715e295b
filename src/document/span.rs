//! Byte ranges of the input, and the map from the clean text back to them.
//!
//! `decode` and the readers of marked-up formats build an [`OffsetMap`] while they write the clean text of a page;
//! `assemble` cuts that text and looks up the spans. Nothing here looks at characters.

use std::ops::Range;

/// A half-open range of bytes of the input exactly as the caller provided it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// Creates a span of the bytes from `start` up to, but not including, `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Returns the number of bytes.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Returns `true` if the span contains no bytes.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns the span as a range, for slicing.
    #[cfg(test)]
    pub(super) fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A run of characters that all have the same width in the text, and all the same width in the input.
///
/// A page in UTF-8 is a single run; a page in GB18030 has a new run wherever Chinese characters (2 bytes, 3 in UTF-8)
/// and ASCII (1 byte) alternate. So the map stays small even for long pages.
#[derive(Debug, Clone, Copy)]
struct OffsetRun {
    text_start: usize,
    original_start: usize,
    text_width: usize,
    original_width: usize,
}

/// Maps byte offsets of the clean text to byte offsets of the input.
#[derive(Debug, Default)]
pub(super) struct OffsetMap {
    runs: Vec<OffsetRun>,
    text_len: usize,
    /// The offset in the input at which the last run ends.
    original_end: usize,
}

impl OffsetMap {
    /// Appends `count` characters of `text_width` bytes each, which were `original_width` bytes each in the input,
    /// starting at `original`.
    pub(super) fn push(&mut self, original: usize, text_width: usize, original_width: usize, count: usize) {
        let extends_last = original == self.original_end
            && self
                .runs
                .last()
                .is_some_and(|run| run.text_width == text_width && run.original_width == original_width);
        if !extends_last {
            self.runs.push(OffsetRun {
                text_start: self.text_len,
                original_start: original,
                text_width,
                original_width,
            });
        }
        self.original_end = original + original_width * count;
        self.text_len += text_width * count;
    }

    /// Returns the bytes of the input that a non-empty range of the clean text came from.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        let start = self.run_at(range.start).map_or(0, |run| {
            run.original_start + (range.start - run.text_start) / run.text_width * run.original_width
        });
        let last = range.end.saturating_sub(1).max(range.start);
        let end = self.run_at(last).map_or(start, |run| {
            run.original_start + ((last - run.text_start) / run.text_width + 1) * run.original_width
        });
        Span::new(start, end.max(start))
    }

    fn run_at(&self, text: usize) -> Option<&OffsetRun> {
        let after = self.runs.partition_point(|run| run.text_start <= text);
        self.runs.get(after.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_ranges_across_runs_of_different_widths() {
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
