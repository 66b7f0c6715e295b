//! A [`Block`] is a whole element of the page, a paragraph or a title, be it one line of the page or several.
//!
//! `wrap` makes blocks out of lines, `column` joins the halves of cut paragraphs, `boundary` and `segment` put the
//! blocks into articles. [`BlockKind`] says what a block can be by itself, before anything around it is looked at.

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

/// What a block can be, judged by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// A headline, section heading or kicker.
    Title,
    /// A title if one is due here; it ends in ？ or ！ and may as well be a paragraph.
    Question,
    /// ——…
    Subtitle,
    /// The name of a column.
    Column,
    /// Body text.
    Body,
    /// Only a dateline (and perhaps its byline).
    Dateline,
    /// Only a byline.
    Byline,
    /// What stands under a picture.
    Caption,
    /// 上接第一版, 下转第三版.
    Continuation(Continuation),
    /// 责编.
    Editor,
    /// 第3版, dates, rules.
    Furniture,
}

impl BlockKind {
    /// Whether it can stand over an article.
    pub(crate) fn is_title(self) -> bool {
        matches!(self, Self::Title | Self::Subtitle | Self::Column)
    }
}

/// An element of the page.
#[derive(Debug, Clone)]
pub(crate) struct Block<'a> {
    /// What it says, on one line.
    pub(crate) text: Cow<'a, str>,
    /// Where that is in the clean text.
    pub(crate) range: Range<usize>,
    /// Where the rest of it is, when it was cut in pieces.
    pub(crate) later_ranges: Vec<Range<usize>>,
    /// What it can be.
    pub(crate) kind: BlockKind,
    /// How many blank lines stand over it.
    pub(crate) blank_above: usize,
    /// How many spaces it starts with.
    pub(crate) indent: usize,
    /// Whether a page begins with it.
    pub(crate) new_page: bool,
    /// What the markup says.
    pub(crate) hint: Option<MarkupHint>,
}

impl<'a> Block<'a> {
    /// The block of one line.
    pub(crate) fn of(line: &PageLine<'a>) -> Self {
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

    /// TitleLikeness at it anew, after its text has changed.
    pub(crate) fn reclassify(&mut self) {
        self.kind = classify(&self.text, self.hint);
    }

    /// Adds the text of the next line or piece, with a space where two words of Latin letters meet.
    pub(crate) fn push_text(&mut self, text: &str) {
        let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let apart = letter(self.text.chars().next_back()) && letter(text.chars().next());
        let own = self.text.to_mut();
        if apart {
            own.push(' ');
        }
        own.push_str(text);
    }

    /// All its pieces in the clean text, in reading order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = &Range<usize>> {
        std::iter::once(&self.range).chain(&self.later_ranges)
    }
}

/// What a line that says `text` can be.
fn classify(text: &str, hint: Option<MarkupHint>) -> BlockKind {
    match hint {
        Some(MarkupHint::Title | MarkupHint::Heading) => return BlockKind::Title,
        Some(MarkupHint::Caption) => return BlockKind::Caption,
        Some(MarkupHint::Item) => return BlockKind::Body,
        Some(MarkupHint::Whole) | None => {}
    }
    if is_plainly_text(text) {
        // Most of a page; nothing else in it needs to be looked at.
        return if caption::is_caption(text) { BlockKind::Caption } else { BlockKind::Body };
    }
    if furniture::is_furniture(text) || marks::is_pointer(text) {
        BlockKind::Furniture
    } else if let Some(way) = marks::whole_continuation(text) {
        BlockKind::Continuation(way)
    } else if marks::is_editor(text) {
        BlockKind::Editor
    } else if caption::is_photographer(text) {
        BlockKind::Caption
    } else if credit::whole(text).is_some() {
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
        match title::looks(text) {
            // A first line of a story that a narrow column cut off, or its last words.
            TitleLikeness::Like if credit::at_head(text).is_some() || credit::at_tail(text).is_some() => {
                BlockKind::Body
            }
            TitleLikeness::Like => BlockKind::Title,
            TitleLikeness::Maybe => BlockKind::Question,
            TitleLikeness::Not => BlockKind::Body,
        }
    }
}

/// Whether `text` is so long that it can only be a paragraph or a caption.
fn is_plainly_text(text: &str) -> bool {
    text.len() > 400 || text.len() > 120 && text.ends_with(['。', '！', '”'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_lines() {
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
    fn latin_words_stay_apart() {
        let lines = line::lines("take\nover", &[]);
        let mut block = Block::of(&lines[0]);
        block.push_text(lines[1].text);
        block.push_text("中文");
        assert_eq!(block.text, "take over中文");
    }
}
