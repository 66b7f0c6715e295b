//! The structure of a page as JSON, the form that `yizhai segment --format json` prints.
//!
//! What is absent is null. Beside each element, under `spans`, stands where it came from: the same keys again, with
//! lists of spans in place of the texts.

use serde::Serialize;
use serde::ser::SerializeStruct;

use super::{Article, Document, Labelled, Section, Span, Text};

/// Serializes a [`Document`]; made with [`Document::view`].
#[derive(Debug, Clone, Copy)]
pub struct View<'a>(&'a Document);

impl Document {
    /// The document as JSON, through serde.
    pub fn view(&self) -> View<'_> {
        View(self)
    }
}

impl Serialize for View<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut view = serializer.serialize_struct("Document", 3)?;
        view.serialize_field("encoding", self.0.encoding)?;
        let articles: Vec<ArticleView<'_>> = self.0.articles.iter().map(ArticleView::of).collect();
        view.serialize_field("articles", &articles)?;
        let notes: Vec<NoteView<'_>> = self.0.notes.iter().map(NoteView::of).collect();
        view.serialize_field("notes", &notes)?;
        view.end()
    }
}

#[derive(Serialize)]
struct ArticleView<'a> {
    headline: Option<&'a str>,
    subtitle: Option<&'a str>,
    kicker: Option<&'a str>,
    dateline: Option<&'a str>,
    byline: Option<&'a str>,
    continued: bool,
    captions: Vec<&'a str>,
    notes: Vec<NoteView<'a>>,
    sections: Vec<SectionView<'a>>,
    spans: ArticleSpans<'a>,
}

#[derive(Serialize)]
struct ArticleSpans<'a> {
    headline: Option<&'a [Span]>,
    subtitle: Option<&'a [Span]>,
    kicker: Option<&'a [Span]>,
    dateline: Option<&'a [Span]>,
    byline: Option<&'a [Span]>,
    captions: Vec<&'a [Span]>,
}

#[derive(Serialize)]
struct NoteView<'a> {
    role: super::Role,
    text: &'a str,
    spans: &'a [Span],
}

#[derive(Serialize)]
struct SectionView<'a> {
    heading: Option<&'a str>,
    paragraphs: Vec<&'a str>,
    spans: SectionSpans<'a>,
}

#[derive(Serialize)]
struct SectionSpans<'a> {
    heading: Option<&'a [Span]>,
    paragraphs: Vec<&'a [Span]>,
}

fn text(text: &Option<Text>) -> Option<&str> {
    text.as_ref().map(|text| text.text.as_str())
}

fn spans(text: &Option<Text>) -> Option<&[Span]> {
    text.as_ref().map(|text| text.spans.as_slice())
}

impl<'a> ArticleView<'a> {
    fn of(article: &'a Article) -> Self {
        Self {
            headline: text(&article.headline),
            subtitle: text(&article.subtitle),
            kicker: text(&article.kicker),
            dateline: text(&article.dateline),
            byline: text(&article.byline),
            continued: article.continued,
            captions: article.captions.iter().map(|caption| caption.text.as_str()).collect(),
            notes: article.notes.iter().map(NoteView::of).collect(),
            sections: article.sections.iter().map(SectionView::of).collect(),
            spans: ArticleSpans {
                headline: spans(&article.headline),
                subtitle: spans(&article.subtitle),
                kicker: spans(&article.kicker),
                dateline: spans(&article.dateline),
                byline: spans(&article.byline),
                captions: article.captions.iter().map(|caption| caption.spans.as_slice()).collect(),
            },
        }
    }
}

impl<'a> NoteView<'a> {
    fn of(note: &'a Labelled) -> Self {
        Self { role: note.role, text: &note.text.text, spans: &note.text.spans }
    }
}

impl<'a> SectionView<'a> {
    fn of(section: &'a Section) -> Self {
        Self {
            heading: text(&section.heading),
            paragraphs: section.paragraphs.iter().map(|paragraph| paragraph.text.as_str()).collect(),
            spans: SectionSpans {
                heading: spans(&section.heading),
                paragraphs: section.paragraphs.iter().map(|paragraph| paragraph.spans.as_slice()).collect(),
            },
        }
    }
}
