//! Reads JSON Lines into a [`Document`] whose spans point into the JSON strings, escapes included.
//!
//! `formats` calls [`read`] with the whole input; `record` defines what a line may contain. The command line reads
//! files line by line instead and sends every [`Record`] on its own.

use std::ops::Range;

use super::builder::{CleanTextBuilder, SourceText, TextFragment};
use super::fields::JsonString;
use super::record::{Record, RecordArticle, RecordContent};
use crate::document::assemble::segment;
use crate::document::decode::normalize::CleanText;
use crate::document::{Article, Document, DocumentError, Region, Section, Text};

/// Reads all records as one document.
pub(super) fn read(source: &SourceText<'_>, encoding: &'static str) -> Result<Document, DocumentError> {
    let mut merged: Option<Document> = None;
    let (mut at, mut record_start) = (0, 0);
    for (index, line) in source.text.split_inclusive('\n').enumerate() {
        at += line.len();
        if line.trim_start_matches('\u{FEFF}').trim().is_empty() {
            continue;
        }
        let record = Record::parse(line)
            .map_err(|error| DocumentError::InvalidRecord { line: index + 1, reason: error.to_string() })?;
        let reader = RecordReader { source, encoding, range: record_start..at };
        let document = match record.content {
            RecordContent::Page(strings) => reader.page(&strings),
            RecordContent::Articles(articles) => reader.articles(articles),
        }?;
        record_start = at;
        match &mut merged {
            Some(merged) => append(merged, document),
            None => merged = Some(document),
        }
    }
    merged.ok_or(DocumentError::Empty)
}

/// Appends the articles, notes and regions of `document` to `merged`.
fn append(merged: &mut Document, document: Document) {
    let before = merged.articles.len();
    merged.articles.extend(document.articles);
    merged.notes.extend(document.notes);
    let regions = document.regions.into_iter();
    merged
        .regions
        .extend(regions.map(|region| Region { article: region.article.map(|at| at + before), ..region }));
}

/// Converts a record into a document.
struct RecordReader<'i, 'a> {
    source: &'i SourceText<'a>,
    encoding: &'static str,
    /// The part of the source text to account for: from the end of the previous record to the end of this one.
    range: Range<usize>,
}

impl RecordReader<'_, '_> {
    /// Segments a page that consists of `strings`, each of which has one or more lines.
    fn page(&self, strings: &[JsonString<'_>]) -> Result<Document, DocumentError> {
        let mut builder = CleanTextBuilder::new(self.source, self.range.start);
        for string in strings {
            builder.line(&self.fragments(string, true), None);
        }
        let (text, hints) = builder.finish(self.range.end);
        segment(&text, self.encoding, &hints)
    }

    /// Builds the document of articles whose elements are known.
    fn articles(&self, articles: Vec<RecordArticle<JsonString<'_>>>) -> Result<Document, DocumentError> {
        let mut builder = CleanTextBuilder::new(self.source, self.range.start);
        let mut line = |string: JsonString<'_>| builder.line(&self.fragments(&string, false), None);
        let articles: Vec<RecordArticle<Range<usize>>> =
            articles.into_iter().map(|article| article.map(|_, string| line(string))).collect();
        let (text, _) = builder.finish(self.range.end);
        let mut regions = Vec::new();
        let articles = articles
            .into_iter()
            .enumerate()
            .map(|(number, article)| {
                let article = article.map(|role, range| {
                    let text = text_at(&text, range);
                    let spans = text.spans.iter();
                    regions.extend(spans.map(|span| Region { role, span: *span, article: Some(number) }));
                    text
                });
                article_of(article)
            })
            .collect();
        if regions.is_empty() {
            return Err(DocumentError::Empty);
        }
        let regions = text.with_left_out(regions);
        Ok(Document { encoding: self.encoding, articles, notes: Vec::new(), regions })
    }

    /// Returns the characters of a JSON string with their positions. Without `keep_line_breaks`, white space becomes
    /// spaces.
    fn fragments(&self, string: &JsonString<'_>, keep_line_breaks: bool) -> Vec<TextFragment> {
        // The JSON is a slice of the source text.
        let start = string.json.as_ptr() as usize - self.source.text.as_ptr() as usize;
        let mut fragments: Vec<TextFragment> = Vec::new();
        let mut at = '"'.len_utf8();
        for character in string.text.chars() {
            let length = spelled_len(&string.json[at..], character);
            let range = start + at..start + at + length;
            at += length;
            let clean = if character.is_whitespace() && !keep_line_breaks { ' ' } else { character };
            if length != character.len_utf8() || clean != character {
                fragments.push(TextFragment::Escaped(clean, range));
            } else if let Some(TextFragment::Verbatim(last)) = fragments.last_mut() {
                last.end = range.end;
            } else {
                fragments.push(TextFragment::Verbatim(range));
            }
        }
        fragments
    }
}

/// Returns the number of bytes that spell `character` at the start of `json`.
fn spelled_len(json: &str, character: char) -> usize {
    match json.as_bytes() {
        [b'\\', b'u', ..] => 6 * character.len_utf16(),
        [b'\\', ..] => 2,
        _ => character.len_utf8(),
    }
}

/// Returns the text at `range` without surrounding white space; a blank one has no span.
fn text_at(clean: &CleanText, range: Range<usize>) -> Text {
    let raw = clean.text.get(range.clone()).unwrap_or_default();
    let text = raw.trim();
    let start = range.start + raw.len() - raw.trim_start().len();
    let spans = if text.is_empty() { Vec::new() } else { vec![clean.map.span(start..start + text.len())] };
    Text { text: text.to_string(), spans }
}

/// Builds an article of its texts, leaving out blank ones.
fn article_of(article: RecordArticle<Text>) -> Article {
    let one = |text: Option<Text>| text.filter(|text| !text.text.is_empty());
    let all = |texts: Vec<Text>| texts.into_iter().filter(|text| !text.text.is_empty()).collect();
    Article {
        headline: one(article.headline),
        kicker: one(article.kicker),
        subtitle: one(article.subtitle),
        dateline: one(article.dateline),
        byline: one(article.byline),
        continued: article.continued,
        captions: all(article.captions),
        notes: Vec::new(),
        sections: article
            .sections
            .into_iter()
            .map(|section| Section { heading: one(section.heading), paragraphs: all(section.paragraphs) })
            .collect(),
    }
}
