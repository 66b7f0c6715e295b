//! The structure of a page: as JSON, and drawn for a person.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::text;
use crate::pb;

/// The structure as JSON: what is absent is null, and `spans` beside the texts holds the byte ranges
/// `{"start", "end"}` of each under the same names. A record's id comes along.
pub(crate) fn json(document: &pb::Document, id: Option<Value>) -> Value {
    let mut value = json!({
        "encoding": document.encoding,
        "articles": document.articles.iter().map(article).collect::<Vec<_>>(),
        "others": document.others.iter().map(labelled).collect::<Vec<_>>(),
    });
    if let Some(id) = id {
        value["id"] = id;
    }
    value
}

fn article(article: &pb::Article) -> Value {
    json!({
        "headline": text(article.headline.as_ref()),
        "subtitle": text(article.subtitle.as_ref()),
        "kicker": text(article.kicker.as_ref()),
        "dateline": text(article.dateline.as_ref()),
        "byline": text(article.byline.as_ref()),
        "continued": article.continued,
        "captions": texts(&article.captions),
        "sections": article.sections.iter().map(section).collect::<Vec<_>>(),
        "others": article.others.iter().map(labelled).collect::<Vec<_>>(),
        "spans": {
            "headline": article.headline.as_ref().map(spans),
            "subtitle": article.subtitle.as_ref().map(spans),
            "kicker": article.kicker.as_ref().map(spans),
            "dateline": article.dateline.as_ref().map(spans),
            "byline": article.byline.as_ref().map(spans),
            "captions": article.captions.iter().map(spans).collect::<Vec<_>>(),
        },
    })
}

fn section(section: &pb::Section) -> Value {
    json!({
        "heading": text(section.heading.as_ref()),
        "paragraphs": texts(&section.paragraphs),
        "spans": {
            "heading": section.heading.as_ref().map(spans),
            "paragraphs": section.paragraphs.iter().map(spans).collect::<Vec<_>>(),
        },
    })
}

fn labelled(other: &pb::LabelledText) -> Value {
    let element = other.text.as_ref();
    json!({ "label": other.label, "text": text(element), "spans": element.map(spans) })
}

fn texts(elements: &[pb::Text]) -> Vec<&str> {
    elements.iter().map(|element| element.text.as_str()).collect()
}

fn spans(element: &pb::Text) -> Vec<Value> {
    element.spans.iter().map(|span| json!({ "start": span.start_byte, "end": span.end_byte })).collect()
}

/// The structure drawn as a tree; paragraphs are shortened.
pub(crate) fn drawing(document: &pb::Document) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = draw(document, &mut out);
    out
}

fn draw(document: &pb::Document, out: &mut String) -> std::fmt::Result {
    for (index, article) in document.articles.iter().enumerate() {
        let headline = text(article.headline.as_ref()).unwrap_or("(no headline)");
        writeln!(out, "{}. {headline}", index + 1)?;
        let elements = [
            ("kicker", &article.kicker),
            ("subtitle", &article.subtitle),
            ("dateline", &article.dateline),
            ("byline", &article.byline),
        ];
        for (label, element) in elements {
            if let Some(element) = element {
                writeln!(out, "   {label}: {}", element.text)?;
            }
        }
        if article.continued {
            writeln!(out, "   continued from another page")?;
        }
        for caption in &article.captions {
            writeln!(out, "   caption: {}", shortened(&caption.text))?;
        }
        for other in &article.others {
            writeln!(
                out,
                "   {}: {}",
                other.label,
                shortened(text(other.text.as_ref()).unwrap_or_default())
            )?;
        }
        for section in &article.sections {
            if let Some(heading) = text(section.heading.as_ref()) {
                writeln!(out, "   ## {heading}")?;
            }
            for paragraph in &section.paragraphs {
                writeln!(out, "      ¶ {}", shortened(&paragraph.text))?;
            }
        }
        writeln!(out)?;
    }
    for other in &document.others {
        writeln!(out, "{}: {}", other.label, shortened(text(other.text.as_ref()).unwrap_or_default()))?;
    }
    Ok(())
}

/// The first and last characters of a long text, and how long it is.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 36;
    let length = text.chars().count();
    if length <= SHOWN {
        return text.to_owned();
    }
    let head: String = text.chars().take(SHOWN - 8).collect();
    let tail: String = text.chars().skip(length - 6).collect();
    format!("{head}…{tail} ({length})")
}
