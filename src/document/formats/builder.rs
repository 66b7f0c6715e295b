//! Builds a [`CleanText`] from an input with markup and records the markup as left out.
//!
//! The readers of HTML, Markdown and JSON Lines pass the fragments of each line. Whatever else of the input is not white
//! space becomes a region with the role [`ElementRole::Markup`], so that no part of the input is unaccounted for.

use std::ops::Range;

use crate::document::blocks::line::MarkupHint;
use crate::document::decode::normalize::CleanText;
use crate::document::decode::{DecodedText, is_big5_second, original_width};
use crate::document::span::OffsetMap;
use crate::document::{ElementRole, Span};

/// The decoded input and the map to its original bytes.
pub(super) struct SourceText<'a> {
    pub(super) text: &'a str,
    /// Maps offsets of `text` to offsets of the input. UTF-8 needs no map: offsets only differ by `bom_len`.
    offsets: Option<OffsetMap>,
    bom_len: usize,
}

impl<'a> SourceText<'a> {
    /// Creates the source text for `decoded`, which was decoded from `bytes`.
    pub(super) fn new(decoded: &'a DecodedText<'_>, bytes: &[u8]) -> Self {
        let offsets = (decoded.encoding != encoding_rs::UTF_8).then(|| {
            let mut map = OffsetMap::default();
            let mut at = decoded.bom_len;
            for character in decoded.text.chars() {
                let second = is_big5_second(decoded.encoding, character);
                let width =
                    if second { 0 } else { original_width(decoded.encoding, &bytes[at..], character) };
                map.push(at, character.len_utf8(), width, 1);
                at += width;
            }
            map
        });
        Self { text: &decoded.text, offsets, bom_len: decoded.bom_len }
    }

    /// Returns the bytes of the input that a range of the text came from.
    fn span(&self, range: Range<usize>) -> Span {
        match &self.offsets {
            // An empty range is at the end of the preceding character.
            Some(map) if range.is_empty() => {
                let end =
                    range.start.checked_sub(1).map_or(self.bom_len, |last| map.span(last..range.start).end);
                Span::new(end, end)
            }
            Some(map) => map.span(range),
            None => Span::new(range.start + self.bom_len, range.end + self.bom_len),
        }
    }
}

/// A part of a line of text.
#[derive(Debug, Clone)]
pub(super) enum TextFragment {
    /// Characters that the input contains literally.
    Verbatim(Range<usize>),
    /// A character that the input spells differently, such as `&nbsp;`.
    Escaped(char, Range<usize>),
}

impl TextFragment {
    /// Returns the position in the source text.
    fn range(&self) -> &Range<usize> {
        match self {
            Self::Verbatim(range) | Self::Escaped(_, range) => range,
        }
    }
}

/// Builds a [`CleanText`] line by line.
pub(super) struct CleanTextBuilder<'i, 'a> {
    source: &'i SourceText<'a>,
    clean: CleanText,
    hints: Vec<(Range<usize>, MarkupHint)>,
    /// The ranges of the source text that the lines were made of.
    used: Vec<Range<usize>>,
    start: usize,
}

impl<'i, 'a> CleanTextBuilder<'i, 'a> {
    /// Creates a builder for the part of the source text that starts at byte `start`.
    pub(super) fn new(source: &'i SourceText<'a>, start: usize) -> Self {
        let mut clean = CleanText::default();
        if start == 0 {
            clean.leave_out(ElementRole::Ignored, Span::new(0, source.bom_len));
        }
        Self { source, clean, hints: Vec::new(), used: Vec::new(), start }
    }

    /// Appends a line and returns its position in the clean text.
    pub(super) fn line(&mut self, fragments: &[TextFragment], hint: Option<MarkupHint>) -> Range<usize> {
        let start = self.clean.text.len();
        for fragment in fragments {
            self.used.push(fragment.range().clone());
            match fragment {
                TextFragment::Verbatim(range) if self.source.offsets.is_none() => {
                    self.clean.push_str(&self.source.text[range.clone()], range.start + self.source.bom_len);
                }
                TextFragment::Verbatim(range) => {
                    for (at, character) in self.source.text[range.clone()].char_indices() {
                        let at = range.start + at;
                        self.clean.push(character, None, self.source.span(at..at + character.len_utf8()));
                    }
                }
                TextFragment::Escaped(character, range) => {
                    let span = self.source.span(range.clone());
                    // An escape such as \n is white space in the clean text but not in the input.
                    let is_visible = !self.source.text[range.clone()].trim().is_empty();
                    if character.is_whitespace() && is_visible {
                        self.clean.leave_out(ElementRole::Markup, span);
                    }
                    self.clean.push(*character, None, span);
                }
            }
        }
        let end = self.clean.text.len();
        if let Some(hint) = hint {
            self.hints.push((start..end.max(start + 1), hint));
        }
        let line_end = fragments.last().map_or(self.start, |fragment| fragment.range().end);
        self.clean.end_line(self.source.span(line_end..line_end).start);
        start..end
    }

    /// Records everything up to byte `end` of the source text that no line used as markup, and returns the result.
    pub(super) fn finish(mut self, end: usize) -> (CleanText, Vec<(Range<usize>, MarkupHint)>) {
        let mut used = std::mem::take(&mut self.used);
        used.sort_unstable_by_key(|range| range.start);
        let mut at = self.start;
        for range in used {
            self.leave_out_markup(at..range.start);
            at = at.max(range.end);
        }
        self.leave_out_markup(at..end);
        self.clean.left_out.sort_by_key(|region| region.span);
        (self.clean, self.hints)
    }

    fn leave_out_markup(&mut self, range: Range<usize>) {
        let between = self.source.text.get(range.clone()).unwrap_or_default();
        let markup = between.trim();
        if !markup.is_empty() {
            let start = range.start + between.len() - between.trim_start().len();
            let span = self.source.span(start..start + markup.len());
            self.clean.leave_out(ElementRole::Markup, span);
        }
    }
}

/// Converts heading levels to hints: headings of the highest level that occurs are titles, the others are headings.
pub(super) fn hint_of_level(level: u8, highest: u8) -> MarkupHint {
    if level <= highest { MarkupHint::Title } else { MarkupHint::Heading }
}
