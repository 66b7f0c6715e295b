//! The structure of a page: as JSON, and drawn for a person.
//!
//! `segment` writes what the server answered; nothing here decides anything about the text.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Effects, Style};
use serde::Serialize;
use serde_json::Value;

use super::text;
use crate::pb;

const HEADLINE: Style = Style::new().bold();
const LABEL: Style = AnsiColor::Cyan.on_default();
const ASIDE: Style = Style::new().effects(Effects::DIMMED);

/// The structure as JSON: what is absent is null, and `spans` beside the texts holds the byte ranges
/// `{"start", "end"}` of each under the same names. A record's id comes along.
#[derive(Debug, Serialize)]
pub(crate) struct Structure<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    articles: Vec<Article<'a>>,
    others: Vec<Other<'a>>,
    encoding: &'a str,
}

#[derive(Debug, Serialize)]
struct Article<'a> {
    headline: Option<&'a str>,
    subtitle: Option<&'a str>,
    kicker: Option<&'a str>,
    dateline: Option<&'a str>,
    byline: Option<&'a str>,
    continued: bool,
    captions: Vec<&'a str>,
    sections: Vec<Section<'a>>,
    others: Vec<Other<'a>>,
    spans: ArticleSpans,
}

#[derive(Debug, Serialize)]
struct ArticleSpans {
    headline: Option<Vec<Span>>,
    subtitle: Option<Vec<Span>>,
    kicker: Option<Vec<Span>>,
    dateline: Option<Vec<Span>>,
    byline: Option<Vec<Span>>,
    captions: Vec<Vec<Span>>,
}

#[derive(Debug, Serialize)]
struct Section<'a> {
    heading: Option<&'a str>,
    paragraphs: Vec<&'a str>,
    spans: SectionSpans,
}

#[derive(Debug, Serialize)]
struct SectionSpans {
    heading: Option<Vec<Span>>,
    paragraphs: Vec<Vec<Span>>,
}

#[derive(Debug, Serialize)]
struct Other<'a> {
    label: &'a str,
    text: &'a str,
    spans: Vec<Span>,
}

#[derive(Debug, Serialize)]
struct Span {
    start: i64,
    end: i64,
}

impl<'a> Structure<'a> {
    /// What `document`, the answer to the record with this id, looks like in JSON.
    pub(crate) fn of(document: &'a pb::Document, id: Option<&'a Value>) -> Self {
        Self {
            id,
            articles: document.articles.iter().map(Article::of).collect(),
            others: others(&document.others),
            encoding: &document.encoding,
        }
    }
}

impl<'a> Article<'a> {
    fn of(article: &'a pb::Article) -> Self {
        let spans = |element: &Option<pb::Text>| element.as_ref().map(spans);
        Self {
            headline: text(article.headline.as_ref()),
            subtitle: text(article.subtitle.as_ref()),
            kicker: text(article.kicker.as_ref()),
            dateline: text(article.dateline.as_ref()),
            byline: text(article.byline.as_ref()),
            continued: article.continued,
            captions: texts(&article.captions),
            sections: article.sections.iter().map(Section::of).collect(),
            others: others(&article.others),
            spans: ArticleSpans {
                headline: spans(&article.headline),
                subtitle: spans(&article.subtitle),
                kicker: spans(&article.kicker),
                dateline: spans(&article.dateline),
                byline: spans(&article.byline),
                captions: all_spans(&article.captions),
            },
        }
    }
}

impl<'a> Section<'a> {
    fn of(section: &'a pb::Section) -> Self {
        Self {
            heading: text(section.heading.as_ref()),
            paragraphs: texts(&section.paragraphs),
            spans: SectionSpans {
                heading: section.heading.as_ref().map(spans),
                paragraphs: all_spans(&section.paragraphs),
            },
        }
    }
}

impl<'a> Other<'a> {
    fn of(labelled: &'a pb::LabelledText) -> Self {
        let element = labelled.text.as_ref();
        Self {
            label: &labelled.label,
            text: text(element).unwrap_or_default(),
            spans: element.map(spans).unwrap_or_default(),
        }
    }
}

fn others(labelled: &[pb::LabelledText]) -> Vec<Other<'_>> {
    labelled.iter().map(Other::of).collect()
}

fn texts(elements: &[pb::Text]) -> Vec<&str> {
    elements.iter().map(|element| element.text.as_str()).collect()
}

fn all_spans(elements: &[pb::Text]) -> Vec<Vec<Span>> {
    elements.iter().map(spans).collect()
}

fn spans(element: &pb::Text) -> Vec<Span> {
    element.spans.iter().map(|span| Span { start: span.start_byte, end: span.end_byte }).collect()
}

/// The structure drawn for a person: titles in full, of long paragraphs the beginning, the end and the length.
pub(crate) fn drawing(document: &pb::Document) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = draw(document, &mut out);
    out
}

fn draw(document: &pb::Document, out: &mut String) -> std::fmt::Result {
    let articles = &document.articles;
    let sections = articles.iter().map(|article| article.sections.len()).sum();
    let paragraphs = articles.iter().flat_map(|a| &a.sections).map(|section| section.paragraphs.len()).sum();
    let mut counts = [(articles.len(), "article"), (sections, "section"), (paragraphs, "paragraph")]
        .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
        .join(" · ");
    if !document.encoding.is_empty() {
        let _ = write!(counts, " · {}", document.encoding);
    }
    writeln!(out, "{ASIDE}{counts}{ASIDE:#}\n")?;
    for (index, article) in articles.iter().enumerate() {
        let headline = text(article.headline.as_ref()).unwrap_or("(no headline)");
        writeln!(out, "{HEADLINE}━━━ {}/{}  {headline}{HEADLINE:#}", index + 1, articles.len())?;
        draw_article(article, out)?;
    }
    for other in &document.others {
        line(out, &other.label, text(other.text.as_ref()).unwrap_or_default())?;
    }
    if !document.others.is_empty() {
        writeln!(out)?;
    }
    Ok(())
}

fn draw_article(article: &pb::Article, out: &mut String) -> std::fmt::Result {
    let elements = [
        ("kicker", &article.kicker),
        ("subtitle", &article.subtitle),
        ("dateline", &article.dateline),
        ("byline", &article.byline),
    ];
    for (label, element) in elements {
        if let Some(element) = element {
            line(out, label, &element.text)?;
        }
    }
    if article.continued {
        line(out, "continued", "from another page")?;
    }
    writeln!(out)?;
    for section in &article.sections {
        if let Some(heading) = text(section.heading.as_ref()) {
            writeln!(out, "{HEADLINE}── {heading}{HEADLINE:#}\n")?;
        }
        for paragraph in &section.paragraphs {
            let (shown, length) = shortened(&paragraph.text);
            write!(out, "   {LABEL}¶{LABEL:#} {shown}")?;
            if let Some(length) = length {
                write!(out, "  {ASIDE}{length} characters{ASIDE:#}")?;
            }
            writeln!(out)?;
        }
        writeln!(out)?;
    }
    for caption in &article.captions {
        line(out, "caption", &shortened(&caption.text).0)?;
    }
    for other in &article.others {
        line(out, &other.label, &shortened(text(other.text.as_ref()).unwrap_or_default()).0)?;
    }
    if !(article.captions.is_empty() && article.others.is_empty()) {
        writeln!(out)?;
    }
    Ok(())
}

fn line(out: &mut String, label: &str, value: &str) -> std::fmt::Result {
    writeln!(out, "    {LABEL}{label:<12}{LABEL:#} {value}")
}

/// Of a long text the first and last characters and its length; a short one as it is.
fn shortened(text: &str) -> (String, Option<usize>) {
    const HEAD: usize = 24;
    const TAIL: usize = 8;
    let length = text.chars().count();
    if length <= HEAD + TAIL + 4 {
        return (text.to_owned(), None);
    }
    let head: String = text.chars().take(HEAD).collect();
    let tail: String = text.chars().skip(length - TAIL).collect();
    (format!("{head} ⋯ {tail}"), Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(text: &str) -> pb::Text {
        pb::Text { text: text.to_owned(), spans: vec![pb::Span { start_byte: 0, end_byte: 3 }] }
    }

    fn document() -> pb::Document {
        let section = pb::Section {
            heading: Some(element("夜景")),
            paragraphs: vec![element(&"很美。".repeat(20))],
        };
        let article = pb::Article {
            headline: Some(element("桥通车")),
            kicker: Some(element("交通")),
            sections: vec![section],
            captions: vec![element("图为桥。")],
            ..pb::Article::default()
        };
        pb::Document { articles: vec![article], encoding: "UTF-8".to_owned(), ..pb::Document::default() }
    }

    #[test]
    fn json_has_null_for_what_is_absent_and_spans_beside_the_texts() {
        let document = document();
        let id = Value::from(7);
        let json = serde_json::to_value(Structure::of(&document, Some(&id))).unwrap();
        assert_eq!(json["id"], 7);
        let article = &json["articles"][0];
        assert!(article["dateline"].is_null() && article.get("byline").is_some_and(Value::is_null));
        assert_eq!(article["captions"], serde_json::json!(["图为桥。"]));
        assert_eq!(article["spans"]["headline"], serde_json::json!([{ "start": 0, "end": 3 }]));
        assert_eq!(article["sections"][0]["spans"]["paragraphs"][0][0]["end"], 3);
        let written = serde_json::to_string(&Structure::of(&document, None)).unwrap();
        assert!(written.starts_with(r#"{"articles":[{"headline":"桥通车","#), "{written}");
    }

    #[test]
    fn a_drawing_shows_titles_in_full_and_paragraphs_by_their_ends() {
        let drawn = anstream::adapter::strip_str(&drawing(&document())).to_string();
        for shown in [
            "1 article · 1 section · 1 paragraph · UTF-8",
            "━━━ 1/1  桥通车",
            "kicker       交通",
            "── 夜景",
            "⋯ 美。很美。很美。  60 characters",
            "caption      图为桥。",
        ] {
            assert!(drawn.contains(shown), "{shown} is not in\n{drawn}");
        }
    }
}
