//! Splits clean text into lines and records their layout: blank lines above, indent, width.
//!
//! `assemble` calls [`lines`] first. The text of a line is classified when it becomes a block.

use std::ops::Range;

use crate::document::decode::normalize::PAGE_BREAK;

/// The role that HTML or Markdown markup gives to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkupHint {
    /// The title of the page.
    Title,
    /// A heading of a lower level.
    Heading,
    /// A complete paragraph, which is never joined to another line.
    Paragraph,
    /// An item of a list, which is body text however short it is.
    ListItem,
    /// The text under a picture.
    Caption,
}

/// A line that is not blank.
#[derive(Debug, Clone)]
pub(crate) struct PageLine<'a> {
    /// The text without surrounding white space.
    pub(crate) text: &'a str,
    /// The position of `text` in the clean text.
    pub(crate) range: Range<usize>,
    /// The number of blank lines above.
    pub(crate) blank_above: usize,
    /// The number of leading spaces; Chinese paragraphs usually have two.
    pub(crate) indent: usize,
    /// The width in terminal columns, two for a Chinese character.
    pub(crate) width: usize,
    /// `true` for the first line of a page.
    pub(crate) new_page: bool,
    /// The role that the markup gives to the line.
    pub(crate) hint: Option<MarkupHint>,
}

/// Splits clean text into its lines. `hints` are for ranges of `text`, in order.
pub(crate) fn lines<'a>(text: &'a str, hints: &[(Range<usize>, MarkupHint)]) -> Vec<PageLine<'a>> {
    let mut lines = Vec::with_capacity(text.bytes().filter(|byte| *byte == b'\n').count() + 1);
    let mut hints = hints.iter().peekable();
    let (mut at, mut blank_above, mut new_page) = (0, 0, true);
    for raw in text.split_inclusive(['\n', PAGE_BREAK]) {
        let body = raw.trim_start();
        let start = at + raw.len() - body.len();
        let body = body.trim_end();
        if body.is_empty() {
            blank_above += 1;
        } else {
            while hints.next_if(|(range, _)| range.end <= start).is_some() {}
            let hint = hints.peek().filter(|(range, _)| range.start <= start).map(|(_, hint)| *hint);
            lines.push(PageLine {
                text: body,
                range: start..start + body.len(),
                blank_above,
                indent: start - at,
                width: width(body),
                new_page,
                hint,
            });
            (blank_above, new_page) = (0, false);
        }
        new_page |= raw.ends_with(PAGE_BREAK);
        at += raw.len();
    }
    lines
}

/// Returns the width of `text` in terminal columns: one for an ASCII character, two for any other.
pub(crate) fn width(text: &str) -> usize {
    // Counts lead bytes, which is faster than decoding characters; this runs over the whole page.
    text.bytes().map(|byte| usize::from(byte < 0x80) + 2 * usize::from(byte >= 0xC0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_the_layout_of_each_line() {
        let lines = lines("题\n\n  一 a \n二\u{C}\n三", &[(0..3, MarkupHint::Title)]);
        let layout: Vec<_> = lines
            .iter()
            .map(|line| (line.text, line.blank_above, line.indent, line.width, line.new_page, line.hint))
            .collect();
        assert_eq!(
            layout,
            [
                ("题", 0, 0, 2, true, Some(MarkupHint::Title)),
                ("一 a", 1, 2, 4, false, None),
                ("二", 0, 0, 2, false, None),
                ("三", 1, 0, 2, true, None),
            ]
        );
        assert!(lines.iter().all(|line| "题\n\n  一 a \n二\u{C}\n三"[line.range.clone()] == *line.text));
    }
}
