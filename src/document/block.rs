//! A [`Block`] is a whole element of the page, a paragraph or a title, be it one line of the page or several.
//!
//! `wrap` makes blocks out of lines, `column` joins the halves of cut paragraphs, `boundary` and `segment` put the
//! blocks into articles. [`Form`] says what a block can be by itself, before anything around it is looked at.

use std::borrow::Cow;
use std::ops::Range;

use super::line::{Hint, Line};
use super::mark::Continuation;
use super::title::{self, Looks};
use super::{byline, caption, credit, furniture, mark};

/// What a block can be, judged by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
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

impl Form {
    /// Whether it can stand over an article.
    pub(super) fn is_title(self) -> bool {
        matches!(self, Self::Title | Self::Subtitle | Self::Column)
    }
}

/// An element of the page.
#[derive(Debug, Clone)]
pub(super) struct Block<'a> {
    /// What it says, on one line.
    pub(super) text: Cow<'a, str>,
    /// Where that is in the clean text.
    pub(super) range: Range<usize>,
    /// Where the rest of it is, when it was cut in pieces.
    pub(super) more: Vec<Range<usize>>,
    /// What it can be.
    pub(super) form: Form,
    /// How many blank lines stand over it.
    pub(super) blank_above: usize,
    /// How many spaces it starts with.
    pub(super) indent: usize,
    /// Whether a page begins with it.
    pub(super) new_page: bool,
    /// What the markup says.
    pub(super) hint: Option<Hint>,
}

impl<'a> Block<'a> {
    /// The block of one line.
    pub(super) fn of(line: &Line<'a>) -> Self {
        Self {
            text: Cow::Borrowed(line.text),
            range: line.range.clone(),
            more: Vec::new(),
            form: form(line.text, line.hint),
            blank_above: line.blank_above,
            indent: line.indent,
            new_page: line.new_page,
            hint: line.hint,
        }
    }

    /// Looks at it anew, after its text has changed.
    pub(super) fn reform(&mut self) {
        self.form = form(&self.text, self.hint);
    }

    /// Adds the text of the next line or piece, with a space where two words of Latin letters meet.
    pub(super) fn push_text(&mut self, text: &str) {
        let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let apart = letter(self.text.chars().next_back()) && letter(text.chars().next());
        let own = self.text.to_mut();
        if apart {
            own.push(' ');
        }
        own.push_str(text);
    }

    /// All its pieces in the clean text, in reading order.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &Range<usize>> {
        std::iter::once(&self.range).chain(&self.more)
    }
}

/// What a line that says `text` can be.
fn form(text: &str, hint: Option<Hint>) -> Form {
    match hint {
        Some(Hint::Title | Hint::Heading) => return Form::Title,
        Some(Hint::Caption) => return Form::Caption,
        Some(Hint::Item) => return Form::Body,
        Some(Hint::Whole) | None => {}
    }
    if is_plainly_text(text) {
        // Most of a page; nothing else in it needs to be looked at.
        return if caption::is_caption(text) { Form::Caption } else { Form::Body };
    }
    if furniture::is_furniture(text) || mark::is_pointer(text) {
        Form::Furniture
    } else if let Some(way) = mark::whole_continuation(text) {
        Form::Continuation(way)
    } else if mark::is_editor(text) {
        Form::Editor
    } else if caption::is_photographer(text) {
        Form::Caption
    } else if credit::whole(text).is_some() {
        Form::Dateline
    } else if byline::is_byline(text) {
        Form::Byline
    } else if caption::is_caption(text) {
        Form::Caption
    } else if title::is_subtitle(text) {
        Form::Subtitle
    } else if mark::column_label(text).is_some() || mark::is_column(text) {
        Form::Column
    } else {
        match title::looks(text) {
            // A first line of a story that a narrow column cut off, or its last words.
            Looks::Like if credit::at_head(text).is_some() || credit::at_tail(text).is_some() => Form::Body,
            Looks::Like => Form::Title,
            Looks::Maybe => Form::Question,
            Looks::Not => Form::Body,
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
            ("全国文物普查启动", Form::Title),
            ("——一线见闻", Form::Subtitle),
            ("国际观察", Form::Column),
            ("新华社北京12月6日电", Form::Dateline),
            ("新华社记者 王民 李强", Form::Byline),
            ("（上接第一版）", Form::Continuation(Continuation::From)),
            ("责编：王民", Form::Editor),
            ("图为施工现场。", Form::Caption),
            ("第3版", Form::Furniture),
            ("……", Form::Body),
            ("谁来养老？", Form::Question),
            ("全市的学校今天开学。", Form::Body),
        ] {
            assert_eq!(form(text, None), expected, "{text}");
        }
    }

    #[test]
    fn latin_words_stay_apart() {
        let lines = super::super::line::lines("take\nover", &[]);
        let mut block = Block::of(&lines[0]);
        block.push_text(lines[1].text);
        block.push_text("中文");
        assert_eq!(block.text, "take over中文");
    }
}
