//! The structure of a page as JSON and as text, for `yizhai segment`.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Effects, Style};
use serde::Serialize;
use serde_json::Value;

use super::element_text;
use crate::pb;

const HEADLINE: Style = Style::new().bold();
const LABEL: Style = AnsiColor::Cyan.on_default();
const ASIDE: Style = Style::new().effects(Effects::DIMMED);

/// The structure as JSON.
///
/// Absent elements are `null`. Next to the texts, `spans` has their byte ranges `{"start", "end"}` under the same names.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct StructureJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    articles: Vec<ArticleJson<'a>>,
    others: Vec<OtherJson<'a>>,
    encoding: &'a str,
}

#[derive(Debug, Serialize)]
struct ArticleJson<'a> {
    headline: Option<&'a str>,
    subtitle: Option<&'a str>,
    kicker: Option<&'a str>,
    dateline: Option<&'a str>,
    byline: Option<&'a str>,
    continued: bool,
    captions: Vec<&'a str>,
    sections: Vec<SectionJson<'a>>,
    others: Vec<OtherJson<'a>>,
    spans: ArticleSpansJson,
}

#[derive(Debug, Serialize)]
struct ArticleSpansJson {
    headline: Option<Vec<SpanJson>>,
    subtitle: Option<Vec<SpanJson>>,
    kicker: Option<Vec<SpanJson>>,
    dateline: Option<Vec<SpanJson>>,
    byline: Option<Vec<SpanJson>>,
    captions: Vec<Vec<SpanJson>>,
}

#[derive(Debug, Serialize)]
struct SectionJson<'a> {
    heading: Option<&'a str>,
    paragraphs: Vec<&'a str>,
    spans: SectionSpansJson,
}

#[derive(Debug, Serialize)]
struct SectionSpansJson {
    heading: Option<Vec<SpanJson>>,
    paragraphs: Vec<Vec<SpanJson>>,
}

#[derive(Debug, Serialize)]
struct OtherJson<'a> {
    label: &'a str,
    text: &'a str,
    spans: Vec<SpanJson>,
}

#[derive(Debug, Serialize)]
struct SpanJson {
    start: i64,
    end: i64,
}

impl<'a> StructureJson<'a> {
    /// Describes a document; `id` is the id of its JSONL record.
    pub(in crate::cli) fn new(document: &'a pb::Document, id: Option<&'a Value>) -> Self {
        Self {
            id,
            articles: document.articles.iter().map(ArticleJson::new).collect(),
            others: others(&document.others),
            encoding: &document.encoding,
        }
    }
}

impl<'a> ArticleJson<'a> {
    fn new(article: &'a pb::Article) -> Self {
        let spans = |element: &Option<pb::Text>| element.as_ref().map(spans);
        Self {
            headline: element_text(article.headline.as_ref()),
            subtitle: element_text(article.subtitle.as_ref()),
            kicker: element_text(article.kicker.as_ref()),
            dateline: element_text(article.dateline.as_ref()),
            byline: element_text(article.byline.as_ref()),
            continued: article.continued,
            captions: texts(&article.captions),
            sections: article.sections.iter().map(SectionJson::new).collect(),
            others: others(&article.others),
            spans: ArticleSpansJson {
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

impl<'a> SectionJson<'a> {
    fn new(section: &'a pb::Section) -> Self {
        Self {
            heading: element_text(section.heading.as_ref()),
            paragraphs: texts(&section.paragraphs),
            spans: SectionSpansJson {
                heading: section.heading.as_ref().map(spans),
                paragraphs: all_spans(&section.paragraphs),
            },
        }
    }
}

impl<'a> OtherJson<'a> {
    fn new(labeled: &'a pb::LabeledText) -> Self {
        let element = labeled.text.as_ref();
        Self {
            label: &labeled.label,
            text: element_text(element).unwrap_or_default(),
            spans: element.map(spans).unwrap_or_default(),
        }
    }
}

fn others(labeled: &[pb::LabeledText]) -> Vec<OtherJson<'_>> {
    labeled.iter().map(OtherJson::new).collect()
}

fn texts(elements: &[pb::Text]) -> Vec<&str> {
    elements.iter().map(|element| element.text.as_str()).collect()
}

fn all_spans(elements: &[pb::Text]) -> Vec<Vec<SpanJson>> {
    elements.iter().map(spans).collect()
}

fn spans(element: &pb::Text) -> Vec<SpanJson> {
    element.spans.iter().map(|span| SpanJson { start: span.start_byte, end: span.end_byte }).collect()
}

/// Renders a document as text. Long paragraphs are abbreviated to their beginning, end and length.
pub(in crate::cli) fn outline(document: &pb::Document) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_outline(document, &mut out);
    out
}

fn write_outline(document: &pb::Document, out: &mut String) -> std::fmt::Result {
    let articles = &document.articles;
    let sections = articles.iter().map(|article| article.sections.len()).sum();
    let paragraphs = articles.iter().flat_map(|a| &a.sections).map(|section| section.paragraphs.len()).sum();
    let mut counts = [(articles.len(), "article"), (sections, "section"), (paragraphs, "paragraph")]
        .map(|(count, noun)| format!("{count} {noun}{}", if count == 1 { "" } else { "s" }))
        .join(" · ");
    if !document.encoding.is_empty() {
        let _ = write!(counts, " · {}", document.encoding);
    }
    writeln!(out, "{ASIDE}{counts}{ASIDE:#}\n")?;
    for (index, article) in articles.iter().enumerate() {
        let headline = element_text(article.headline.as_ref()).unwrap_or("(no headline)");
        writeln!(out, "{HEADLINE}━━━ {}/{}  {headline}{HEADLINE:#}", index + 1, articles.len())?;
        write_article(article, out)?;
    }
    for other in &document.others {
        line(out, &other.label, element_text(other.text.as_ref()).unwrap_or_default())?;
    }
    if !document.others.is_empty() {
        writeln!(out)?;
    }
    Ok(())
}

fn write_article(article: &pb::Article, out: &mut String) -> std::fmt::Result {
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
        if let Some(heading) = element_text(section.heading.as_ref()) {
            writeln!(out, "{HEADLINE}── {heading}{HEADLINE:#}\n")?;
        }
        for paragraph in &section.paragraphs {
            let (shown, length) = abbreviated(&paragraph.text);
            write!(out, "   {LABEL}¶{LABEL:#} {shown}")?;
            if let Some(length) = length {
                write!(out, "  {ASIDE}{length} characters{ASIDE:#}")?;
            }
            writeln!(out)?;
        }
        writeln!(out)?;
    }
    for caption in &article.captions {
        line(out, "caption", &abbreviated(&caption.text).0)?;
    }
    for other in &article.others {
        line(out, &other.label, &abbreviated(element_text(other.text.as_ref()).unwrap_or_default()).0)?;
    }
    if !(article.captions.is_empty() && article.others.is_empty()) {
        writeln!(out)?;
    }
    Ok(())
}

fn line(out: &mut String, label: &str, value: &str) -> std::fmt::Result {
    writeln!(out, "    {LABEL}{label:<12}{LABEL:#} {value}")
}

/// Abbreviates a long text to its first and last characters, and returns its length.
fn abbreviated(text: &str) -> (String, Option<usize>) {
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
    fn json_has_null_for_absent_elements_and_spans_next_to_the_texts() {
        let document = document();
        let id = Value::from(7);
        let json = serde_json::to_value(StructureJson::new(&document, Some(&id))).unwrap();
        assert_eq!(json["id"], 7);
        let article = &json["articles"][0];
        assert!(article["dateline"].is_null() && article.get("byline").is_some_and(Value::is_null));
        assert_eq!(article["captions"], serde_json::json!(["图为桥。"]));
        assert_eq!(article["spans"]["headline"], serde_json::json!([{ "start": 0, "end": 3 }]));
        assert_eq!(article["sections"][0]["spans"]["paragraphs"][0][0]["end"], 3);
        let written = serde_json::to_string(&StructureJson::new(&document, None)).unwrap();
        assert!(written.starts_with(r#"{"articles":[{"headline":"桥通车","#), "{written}");
    }

    #[test]
    fn an_outline_has_complete_titles_and_abbreviated_paragraphs() {
        let outline = anstream::adapter::strip_str(&outline(&document())).to_string();
        for line in [
            "1 article · 1 section · 1 paragraph · UTF-8",
            "━━━ 1/1  桥通车",
            "kicker       交通",
            "── 夜景",
            "⋯ 美。很美。很美。  60 characters",
            "caption      图为桥。",
        ] {
            assert!(outline.contains(line), "{line} is missing in\n{outline}");
        }
    }
}
