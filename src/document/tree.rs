//! The structure of a page: [`Document`], [`Article`], [`Section`], and the [`Text`] of each element.
//!
//! `assemble` and `formats` build these; `pipeline` and `server` read them. Nothing here makes decisions.

use super::Span;

/// The clean text of one element and its position in the input.
///
/// A paragraph that a column break or a caption interrupted has several spans, in reading order. A text that does not
/// come from a page, such as one of an `Article` message, has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    /// The text, normalized, without line breaks.
    pub text: String,
    /// The bytes of the input it came from.
    pub spans: Vec<Span>,
}

impl Text {
    /// Creates a text without a position in a page.
    pub fn unplaced(text: impl Into<String>) -> Self {
        Self { text: text.into(), spans: Vec::new() }
    }
}

/// The role of an element on its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ElementRole {
    /// The title of an article.
    Headline,
    /// The line under a headline, such as ——新质生产力发展一线见闻.
    Subtitle,
    /// The line above a headline (肩题) or the name of the column, such as 国际观察.
    Kicker,
    /// Agency, place and date on a line of their own, such as 新华社北京12月6日电.
    Dateline,
    /// The names of the authors, on a line of their own.
    Byline,
    /// The title of a section.
    Heading,
    /// Body text.
    Paragraph,
    /// The text under a picture.
    Caption,
    /// A continuation mark, such as 上接第一版 or 下转第三版, on a line of its own.
    Continuation,
    /// The editors and designers of the page (责编, 版式设计), on a line of their own.
    Editor,
    /// Page numbers, issue dates and rules made of dashes, which belong to the page and not to an article.
    Furniture,
    /// Tags, navigation and other parts of a marked-up input that are not part of the article.
    Markup,
    /// Byte order marks and the control and zero-width characters that normalization removed.
    Ignored,
}

/// A text other than body text, and its role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabeledText {
    /// The role of the text.
    pub role: ElementRole,
    /// The text.
    pub text: Text,
}

/// A range of the page that belongs to one element. All regions together cover everything except white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// The role of the element.
    pub role: ElementRole,
    /// The position in the input.
    pub span: Span,
    /// The article it belongs to, as an index into [`Document::articles`].
    pub article: Option<usize>,
}

/// The structure of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The encoding of the page, as `encoding_rs` names it: `UTF-8`, `gb18030`, `Big5`, `UTF-16LE` or `UTF-16BE`.
    pub encoding: &'static str,
    /// The articles, in page order.
    pub articles: Vec<Article>,
    /// Texts that belong to the page but not to any of its articles.
    pub notes: Vec<LabeledText>,
    /// Every region of the page, in page order and without overlap.
    pub regions: Vec<Region>,
}

impl Document {
    /// Moves the texts of articles without sections, such as a lone column name, to the notes and removes the articles.
    pub fn note_articles_without_text(&mut self) {
        for article in std::mem::take(&mut self.articles) {
            match article.sections.is_empty() {
                true => self.notes.extend(article.into_notes()),
                false => self.articles.push(article),
            }
        }
    }
}

/// An article of a page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Article {
    /// The line above the headline, or the name of the column.
    pub kicker: Option<Text>,
    /// The title. If an article only has a kicker, that is its headline.
    pub headline: Option<Text>,
    /// The line under the headline.
    pub subtitle: Option<Text>,
    /// Agency, place and date. If they open or close a paragraph, the paragraph contains them as well.
    pub dateline: Option<Text>,
    /// The authors. If a paragraph names them, the paragraph contains them as well.
    pub byline: Option<Text>,
    /// `true` if the article began on another page (上接).
    pub continued: bool,
    /// The captions of its pictures.
    pub captions: Vec<Text>,
    /// Other texts outside the body: continuation marks, editors, further bylines and datelines.
    pub notes: Vec<LabeledText>,
    /// The body. An article without section headings has one section.
    pub sections: Vec<Section>,
}

impl Article {
    /// Returns all texts outside the sections, labeled with their roles.
    fn into_notes(self) -> impl Iterator<Item = LabeledText> {
        let elements = [
            (ElementRole::Kicker, self.kicker),
            (ElementRole::Headline, self.headline),
            (ElementRole::Subtitle, self.subtitle),
            (ElementRole::Dateline, self.dateline),
            (ElementRole::Byline, self.byline),
        ];
        let elements =
            elements.into_iter().filter_map(|(role, text)| Some(LabeledText { role, text: text? }));
        let captions = self.captions.into_iter().map(|text| LabeledText { role: ElementRole::Caption, text });
        elements.chain(captions).chain(self.notes)
    }
}

/// The part of an article under one heading.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Section {
    /// The title of the section. The text before the first heading of an article has none.
    pub heading: Option<Text>,
    /// The body text.
    pub paragraphs: Vec<Text>,
}

impl Section {
    /// Returns the spans of the heading and of all paragraphs; none if the section does not come from a page.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        self.heading.iter().chain(&self.paragraphs).flat_map(|text| text.spans.iter().copied())
    }
}
