//! What a page is made of: [`Document`], [`Article`], [`Section`], and the [`Text`] of each element.
//!
//! `segment` builds these; `pipeline` and `server` read them; a caller who already has an article in parts makes it
//! here with [`Article::from_parts`]. Nothing here decides anything.

use super::Span;

/// The clean text of one element and where it stood in the input.
///
/// A paragraph that a column break or a picture caption cut in two has several spans, in reading order. A text that
/// did not come out of a page (see [`Article::from_parts`]) has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    /// The text, normalized, without line breaks.
    pub text: String,
    /// The bytes of the input it came from.
    pub spans: Vec<Span>,
}

impl Text {
    /// A text that stands in no page.
    pub fn unplaced(text: impl Into<String>) -> Self {
        Self { text: text.into(), spans: Vec::new() }
    }
}

/// What an element of the page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ElementRole {
    /// The title of an article.
    Headline,
    /// The line under a headline, such as ——新质生产力发展一线见闻.
    Subtitle,
    /// The line over a headline (肩题) or the name of the column, such as 国际观察.
    Kicker,
    /// Agency, place and day on a line of their own, such as 新华社北京12月6日电.
    Dateline,
    /// Who wrote it, on a line of its own.
    Byline,
    /// The title of a section.
    Heading,
    /// Body text.
    Paragraph,
    /// What stands under a picture.
    Caption,
    /// 上接第一版, 下转第三版, on a line of its own.
    Continuation,
    /// 责编, 版式设计, on a line of its own.
    Editor,
    /// Page numbers, the date of the issue, rules made of dashes: what belongs to the page and to no article.
    Furniture,
    /// Tags, navigation and other parts of a marked-up input that are not the article.
    Markup,
    /// Byte order marks, control and zero-width characters that normalisation took out.
    Ignored,
}

/// A text that is not body text, with what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabeledText {
    /// What it is.
    pub role: ElementRole,
    /// What it says.
    pub text: Text,
}

/// One piece of the page. All regions together, in page order, cover everything of it but white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// What the piece is.
    pub role: ElementRole,
    /// Where it stands.
    pub span: Span,
    /// The article it belongs to, as an index into [`Document::articles`].
    pub article: Option<usize>,
}

/// A page, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The encoding the page was in, as `encoding_rs` names it: `UTF-8`, `GB18030`, `Big5`, `UTF-16LE`, `UTF-16BE`.
    pub encoding: &'static str,
    /// The articles, in page order.
    pub articles: Vec<Article>,
    /// What belongs to the page and to none of its articles.
    pub notes: Vec<LabeledText>,
    /// Every piece of the page, in page order, without overlap; between them is only white space.
    pub regions: Vec<Region>,
}

impl Document {
    /// Takes out the articles that have no section (the title of a column, a headline that refers to another page): what
    /// they say stands among the notes then, each with what it is.
    pub fn note_articles_without_text(&mut self) {
        for article in std::mem::take(&mut self.articles) {
            match article.sections.is_empty() {
                true => self.notes.extend(article.into_notes()),
                false => self.articles.push(article),
            }
        }
    }
}

/// One article.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Article {
    /// The line over the headline, or the name of the column.
    pub kicker: Option<Text>,
    /// The title; of an article that has only a kicker, the kicker.
    pub headline: Option<Text>,
    /// The line under the headline.
    pub subtitle: Option<Text>,
    /// Agency, place and day; when these open or close a paragraph, they stay in its text as well.
    pub dateline: Option<Text>,
    /// Who wrote it; when this stands in a paragraph, it stays in its text as well.
    pub byline: Option<Text>,
    /// Whether the article began on another page (上接).
    pub continued: bool,
    /// What stands under its pictures.
    pub captions: Vec<Text>,
    /// Everything else that is not body text: continuation marks, editors, further bylines and datelines.
    pub notes: Vec<LabeledText>,
    /// The body; an article without section headings has one section.
    pub sections: Vec<Section>,
}

impl Article {
    /// Everything but its sections.
    fn into_notes(self) -> impl Iterator<Item = LabeledText> {
        let named = [
            (ElementRole::Kicker, self.kicker),
            (ElementRole::Headline, self.headline),
            (ElementRole::Subtitle, self.subtitle),
            (ElementRole::Dateline, self.dateline),
            (ElementRole::Byline, self.byline),
        ];
        let named = named.into_iter().filter_map(|(role, text)| Some(LabeledText { role, text: text? }));
        let captions = self.captions.into_iter().map(|text| LabeledText { role: ElementRole::Caption, text });
        named.chain(captions).chain(self.notes)
    }
}

/// A stretch of an article under one heading.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Section {
    /// Its title; the text before the first heading has none.
    pub heading: Option<Text>,
    /// Its body.
    pub paragraphs: Vec<Text>,
}

impl Section {
    /// The pieces of the page that it is made of, heading first; empty if it stands in no page.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        self.heading.iter().chain(&self.paragraphs).flat_map(|text| text.spans.iter().copied())
    }
}
