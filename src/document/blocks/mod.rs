//! Joins the lines of a page into [`Block`]s: whole paragraphs and titles.
//!
//! `wrap` joins lines of fixed width, `headline` joins headlines of several lines, and `column` joins the parts of
//! interrupted paragraphs. `assemble` builds articles out of the blocks. [`BlockKind`] classifies a block by its own text;
//! only `assemble` looks at its surroundings.

pub(crate) mod column;
pub(crate) mod headline;
pub(crate) mod line;
pub(crate) mod wrap;

use std::borrow::Cow;
use std::ops::Range;

use crate::document::recognize::marks::Continuation;
use crate::document::recognize::title::{self, TitleLikeness};
use crate::document::recognize::{byline, caption, credit, furniture, marks};
use line::{MarkupHint, PageLine};

/// The kind of a block, judged by its own text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// A headline, section heading or kicker.
    Title,
    /// A line that ends in ？ or ！: a title where one is expected, otherwise a paragraph.
    Question,
    /// A subtitle: ——….
    Subtitle,
    /// The name of a column.
    Column,
    /// Body text.
    Body,
    /// A dateline, perhaps with a byline.
    Dateline,
    /// A byline.
    Byline,
    /// The text under a picture.
    Caption,
    /// A continuation mark: 上接第一版, 下转第三版.
    Continuation(Continuation),
    /// The editors of the page: 责编.
    Editor,
    /// Page names, issue dates, rules.
    Furniture,
}

impl BlockKind {
    /// Returns `true` for the kinds that can be above an article.
    pub(crate) fn is_title(self) -> bool {
        matches!(self, Self::Title | Self::Subtitle | Self::Column)
    }
}

/// A paragraph or a title of a page.
#[derive(Debug, Clone)]
pub(crate) struct Block<'a> {
    /// The text, on one line.
    pub(crate) text: Cow<'a, str>,
    /// The position of the text, or of its first part, in the clean text.
    pub(crate) range: Range<usize>,
    /// The positions of its further parts, if it was interrupted.
    pub(crate) later_ranges: Vec<Range<usize>>,
    /// The kind of the block.
    pub(crate) kind: BlockKind,
    /// The number of blank lines above.
    pub(crate) blank_above: usize,
    /// The number of leading spaces.
    pub(crate) indent: usize,
    /// `true` for the first line of a page.
    pub(crate) new_page: bool,
    /// The role that the markup gives to the block.
    pub(crate) hint: Option<MarkupHint>,
}

impl<'a> Block<'a> {
    /// Creates a block of one line.
    pub(crate) fn new(line: &PageLine<'a>) -> Self {
        Self {
            text: Cow::Borrowed(line.text),
            range: line.range.clone(),
            later_ranges: Vec::new(),
            kind: classify(line.text, line.hint),
            blank_above: line.blank_above,
            indent: line.indent,
            new_page: line.new_page,
            hint: line.hint,
        }
    }

    /// Classifies the block again after its text has changed.
    pub(crate) fn reclassify(&mut self) {
        self.kind = classify(&self.text, self.hint);
    }

    /// Appends the text of the next line or part, with a space between two Latin words.
    pub(crate) fn push_text(&mut self, text: &str) {
        let is_latin = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let needs_space = is_latin(self.text.chars().next_back()) && is_latin(text.chars().next());
        let joined = self.text.to_mut();
        if needs_space {
            joined.push(' ');
        }
        joined.push_str(text);
    }

    /// Returns the positions of all parts in the clean text, in reading order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = &Range<usize>> {
        std::iter::once(&self.range).chain(&self.later_ranges)
    }
}

/// Classifies a line.
fn classify(text: &str, hint: Option<MarkupHint>) -> BlockKind {
    match hint {
        Some(MarkupHint::Title | MarkupHint::Heading) => return BlockKind::Title,
        Some(MarkupHint::Caption) => return BlockKind::Caption,
        Some(MarkupHint::ListItem) => return BlockKind::Body,
        Some(MarkupHint::Paragraph) | None => {}
    }
    if is_plainly_text(text) {
        // Most of a page takes this shortcut.
        return if caption::is_caption(text) { BlockKind::Caption } else { BlockKind::Body };
    }
    if furniture::is_furniture(text) || marks::is_contents_entry(text) {
        BlockKind::Furniture
    } else if let Some(direction) = marks::continuation_line(text) {
        BlockKind::Continuation(direction)
    } else if marks::is_editor(text) {
        BlockKind::Editor
    } else if caption::is_photographer(text) {
        BlockKind::Caption
    } else if credit::whole_line(text).is_some() {
        BlockKind::Dateline
    } else if byline::is_byline(text) {
        BlockKind::Byline
    } else if caption::is_caption(text) {
        BlockKind::Caption
    } else if title::is_subtitle(text) {
        BlockKind::Subtitle
    } else if marks::column_label(text).is_some() || marks::is_column(text) {
        BlockKind::Column
    } else {
        match title::likeness(text) {
            // The first line of a story in a narrow column, or its last words.
            TitleLikeness::Likely if credit::at_start(text).is_some() || credit::at_end(text).is_some() => {
                BlockKind::Body
            }
            TitleLikeness::Likely => BlockKind::Title,
            TitleLikeness::Possible => BlockKind::Question,
            TitleLikeness::None => BlockKind::Body,
        }
    }
}

/// Returns `true` if `text` is so long that it can only be a paragraph or a caption.
fn is_plainly_text(text: &str) -> bool {
    text.len() > 400 || text.len() > 120 && text.ends_with(['。', '！', '”'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies_lines() {
        for (text, expected) in [
            ("全国文物普查启动", BlockKind::Title),
            ("——一线见闻", BlockKind::Subtitle),
            ("国际观察", BlockKind::Column),
            ("新华社北京12月6日电", BlockKind::Dateline),
            ("新华社记者 王民 李强", BlockKind::Byline),
            ("（上接第一版）", BlockKind::Continuation(Continuation::From)),
            ("责编：王民", BlockKind::Editor),
            ("图为施工现场。", BlockKind::Caption),
            ("第3版", BlockKind::Furniture),
            ("……", BlockKind::Body),
            ("谁来养老？", BlockKind::Question),
            ("全市的学校今天开学。", BlockKind::Body),
        ] {
            assert_eq!(classify(text, None), expected, "{text}");
        }
    }

    #[test]
    fn separates_latin_words_when_joining() {
        let lines = line::lines("press\nroom", &[]);
        let mut block = Block::new(&lines[0]);
        block.push_text(lines[1].text);
        block.push_text("中文");
        assert_eq!(block.text, "press room中文");
    }
}
