//! Fills a [`CleanText`] from a marked-up input: the text in it, the way back to its bytes, and the markup as left out.
//!
//! The readers of HTML, Markdown and JSON Lines hand over pieces of the input in order; whatever lies between two
//! lines of text and is not blank becomes a region of [`ElementRole::Markup`], so that nothing of the input is lost.

use std::ops::Range;

use crate::document::blocks::line::MarkupHint;
use crate::document::decode::normalize::CleanText;
use crate::document::decode::{DecodedText, is_big5_second, original_width};
use crate::document::span::OffsetMap;
use crate::document::{ElementRole, Span};

/// The decoded input and where its characters came from.
pub(crate) struct SourceText<'a> {
    /// The characters.
    pub(crate) text: &'a str,
    /// From offsets in them to the original bytes; none for UTF-8, where they only differ by the byte order mark.
    origin: Option<OffsetMap>,
    bom_len: usize,
}

impl<'a> SourceText<'a> {
    /// The input that `decoded` was read from `bytes`.
    pub(crate) fn new(decoded: &'a DecodedText<'_>, bytes: &[u8]) -> Self {
        let origin = (decoded.encoding != encoding_rs::UTF_8).then(|| {
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
        Self { text: &decoded.text, origin, bom_len: decoded.bom_len }
    }

    fn span(&self, range: Range<usize>) -> Span {
        match &self.origin {
            // What has no place of its own stands at the end of what is before it.
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
pub(crate) enum TextFragment {
    /// Characters of the input, as they are.
    Verbatim(Range<usize>),
    /// One character that the input spells otherwise there, such as `&nbsp;`.
    Spelled(char, Range<usize>),
}

impl TextFragment {
    fn range(&self) -> &Range<usize> {
        match self {
            Self::Verbatim(range) | Self::Spelled(_, range) => range,
        }
    }
}

/// Writes the text of an input into a [`CleanText`].
pub(crate) struct CleanTextBuilder<'i, 'a> {
    input: &'i SourceText<'a>,
    source: CleanText,
    hints: Vec<(Range<usize>, MarkupHint)>,
    /// Up to here, the input is in the source or known as left out.
    done: usize,
}

impl<'i, 'a> CleanTextBuilder<'i, 'a> {
    /// A writer for the part of the input from byte `start` on.
    pub(crate) fn new(input: &'i SourceText<'a>, start: usize) -> Self {
        let mut source = CleanText::default();
        if start == 0 {
            source.leave_out(ElementRole::Ignored, Span::new(0, input.bom_len));
        }
        Self { input, source, hints: Vec::new(), done: start }
    }

    /// Adds a line made of `pieces`, which come later in the input than all before; gives back where it is in the clean
    /// text.
    pub(crate) fn line(&mut self, pieces: &[TextFragment], hint: Option<MarkupHint>) -> Range<usize> {
        let start = self.source.text.len();
        for piece in pieces {
            // Tags within the line are noted, too; where a region covers them in the end, they are dropped again.
            self.leave_out_to(piece.range().start);
            self.done = self.done.max(piece.range().end);
            match piece {
                TextFragment::Verbatim(range) if self.input.origin.is_none() => {
                    self.source.push_str(&self.input.text[range.clone()], range.start + self.input.bom_len);
                }
                TextFragment::Verbatim(range) => {
                    for (at, character) in self.input.text[range.clone()].char_indices() {
                        let at = range.start + at;
                        self.source.push(character, None, self.input.span(at..at + character.len_utf8()));
                    }
                }
                TextFragment::Spelled(character, range) => {
                    let span = self.input.span(range.clone());
                    // A line break that is spelled \n is white space in the text and none in the input.
                    let spelled_out = !self.input.text[range.clone()].trim().is_empty();
                    if character.is_whitespace() && spelled_out {
                        self.source.leave_out(ElementRole::Markup, span);
                    }
                    self.source.push(*character, None, span);
                }
            }
        }
        let end = self.source.text.len();
        if let Some(hint) = hint {
            self.hints.push((start..end.max(start + 1), hint));
        }
        self.source.end_line(self.input.span(self.done..self.done).start);
        start..end
    }

    /// What was written, after everything up to byte `end` of the input has been accounted for.
    pub(crate) fn finish(mut self, end: usize) -> (CleanText, Vec<(Range<usize>, MarkupHint)>) {
        self.leave_out_to(end);
        (self.source, self.hints)
    }

    fn leave_out_to(&mut self, end: usize) {
        let between = self.input.text.get(self.done..end).unwrap_or_default();
        let markup = between.trim();
        if !markup.is_empty() {
            let start = self.done + between.len() - between.trim_start().len();
            self.source.leave_out(ElementRole::Markup, self.input.span(start..start + markup.len()));
        }
        self.done = self.done.max(end);
    }
}

/// Turns levels of headings into hints: those of the highest level that occurs are titles, the others headings.
pub(crate) fn hint_of_level(level: u8, highest: u8) -> MarkupHint {
    if level <= highest { MarkupHint::Title } else { MarkupHint::Heading }
}
