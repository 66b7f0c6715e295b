//! Clean text → lines, each with what the layout says about it: blank lines over it, its indent, its width.
//!
//! `segment` cuts every page with [`lines`] first. What a line says is looked at in `block`.

use std::ops::Range;

use crate::document::decode::normalize::PAGE_BREAK;

/// What the markup of an HTML or Markdown page says that a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkupHint {
    /// The title of the page.
    Title,
    /// A title of a lower level.
    Heading,
    /// A whole paragraph or line of a list, of which no other half is to be looked for.
    Whole,
    /// An item of a list: text, however short.
    Item,
    /// What stands under a picture.
    Caption,
}

/// One line that is not blank.
#[derive(Debug, Clone)]
pub(crate) struct PageLine<'a> {
    /// What it says, without the white space around.
    pub(crate) text: &'a str,
    /// Where that is in the clean text.
    pub(crate) range: Range<usize>,
    /// How many blank lines stand over it.
    pub(crate) blank_above: usize,
    /// How many spaces it starts with; Chinese paragraphs start with two.
    pub(crate) indent: usize,
    /// Its width in columns; a Chinese character takes two.
    pub(crate) width: usize,
    /// Whether a page begins with it.
    pub(crate) new_page: bool,
    /// What the markup says.
    pub(crate) hint: Option<MarkupHint>,
}

/// Cuts clean text into its lines. `hints` are of ranges of it, in order.
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

/// The width of `text` in columns of a terminal or a typewriter: one for ASCII, two for the rest.
pub(crate) fn width(text: &str) -> usize {
    // Counted from the lead bytes, because this runs over every byte of the page.
    text.bytes().map(|byte| usize::from(byte < 0x80) + 2 * usize::from(byte >= 0xC0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_kept_beside_the_text() {
        let found = lines("题\n\n  一 a \n二\u{C}\n三", &[(0..3, MarkupHint::Title)]);
        let seen: Vec<_> = found
            .iter()
            .map(|line| (line.text, line.blank_above, line.indent, line.width, line.new_page, line.hint))
            .collect();
        assert_eq!(
            seen,
            [
                ("题", 0, 0, 2, true, Some(MarkupHint::Title)),
                ("一 a", 1, 2, 4, false, None),
                ("二", 0, 0, 2, false, None),
                ("三", 1, 0, 2, true, None),
            ]
        );
        assert!(found.iter().all(|line| "题\n\n  一 a \n二\u{C}\n三"[line.range.clone()] == *line.text));
    }
}
