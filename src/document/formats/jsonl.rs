//! Reads JSON Lines: one page or one article in parts on each line.
//!
//! A line is a string, or an object with a page in `text` (or `page_text`, `content`, `source`), with a page cut into
//! `lines`, with the parts of an article (`headline` or `title`, `sections` or `paragraphs`), or with such `articles`.
//! Spans lead to the bytes of the JSON strings, their escapes included.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::value::RawValue;

use super::builder::{CleanTextBuilder, SourceText, TextFragment};
use crate::document::assemble::segment;
use crate::document::{Article, Document, DocumentError, ElementRole, LabeledText, Region, Section, Text};

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// The names under which a page stands in a record.
const PAGE: &[&str] = &["text", "page_text", "page", "content", "body", "source"];

/// One document for each line that is not blank.
pub(crate) fn read(input: &SourceText<'_>, encoding: &'static str) -> Vec<Result<Document, DocumentError>> {
    let mut documents = Vec::new();
    let mut at = 0;
    for (number, raw) in input.text.split_inclusive('\n').enumerate() {
        let line = raw.trim();
        let start = at + raw.len() - raw.trim_start().len();
        at += raw.len();
        if !line.trim_start_matches('\u{FEFF}').is_empty() {
            let record = RecordReader { input, encoding, range: start..start + line.len() };
            documents.push(record.document(line).map_err(|reason| match reason {
                RecordFailure::NoRecord(reason) => DocumentError::RecordReader { line: number + 1, reason },
                RecordFailure::Document(error) => error,
            }));
        }
    }
    documents
}

/// All lines as one document.
pub(crate) fn merge(documents: Vec<Result<Document, DocumentError>>) -> Result<Document, DocumentError> {
    let mut all: Option<Document> = None;
    for document in documents {
        let document = document?;
        let Some(all) = &mut all else {
            all = Some(document);
            continue;
        };
        let before = all.articles.len();
        all.articles.extend(document.articles);
        all.notes.extend(document.notes);
        let moved = document
            .regions
            .into_iter()
            .map(|region| Region { article: region.article.map(|at| at + before), ..region });
        all.regions.extend(moved);
    }
    all.ok_or(DocumentError::Empty)
}

enum RecordFailure {
    NoRecord(String),
    Document(DocumentError),
}

impl From<serde_json::Error> for RecordFailure {
    fn from(error: serde_json::Error) -> Self {
        Self::NoRecord(error.to_string())
    }
}

impl From<DocumentError> for RecordFailure {
    fn from(error: DocumentError) -> Self {
        Self::Document(error)
    }
}

struct RecordReader<'i, 'a> {
    input: &'i SourceText<'a>,
    encoding: &'static str,
    range: Range<usize>,
}

impl RecordReader<'_, '_> {
    fn document(&self, line: &str) -> Result<Document, RecordFailure> {
        if line.starts_with('"') {
            return self.page(&[serde_json::from_str(line)?]);
        }
        let fields: Fields<'_> = serde_json::from_str(line)?;
        if let Some(articles) = fields.get("articles") {
            let articles: Vec<Fields<'_>> = serde_json::from_str(articles.get())?;
            return self.articles(&articles);
        }
        if fields.contains_key("sections") || fields.contains_key("paragraphs") {
            return self.articles(std::slice::from_ref(&fields));
        }
        if let Some(lines) = fields.get("lines") {
            return self.page(&serde_json::from_str::<Vec<&RawValue>>(lines.get())?);
        }
        let Some(page) = PAGE.iter().find_map(|name| fields.get(*name)) else {
            let known =
                "give a page in \"text\" or \"lines\", or an article with \"sections\" or \"paragraphs\"";
            return Err(RecordFailure::NoRecord(format!("no text in it: {known}")));
        };
        let title = ["headline", "title"]
            .iter()
            .find_map(|name| fields.get(*name))
            .filter(|title| title.get() != "null");
        let mut strings: Vec<&RawValue> = title.copied().into_iter().chain([*page]).collect();
        // The writer wants them as they stand in the input.
        strings.sort_by_key(|string| self.at(string));
        self.page(&strings)
    }

    /// Where in the input a value stands.
    fn at(&self, value: &RawValue) -> usize {
        (value.get().as_ptr() as usize).wrapping_sub(self.input.text.as_ptr() as usize)
    }

    /// The document of a page that is made of these strings, each of one or more lines.
    fn page(&self, strings: &[&RawValue]) -> Result<Document, RecordFailure> {
        let mut writer = CleanTextBuilder::new(self.input, self.range.start);
        for string in strings {
            writer.line(&self.pieces(string, true)?, None);
        }
        let (source, hints) = writer.finish(self.range.end);
        Ok(segment(&source, self.encoding, &hints)?)
    }

    /// The characters of a JSON string, with where each of them stands. PageLine breaks are spaces where none belong.
    fn pieces(&self, value: &RawValue, with_breaks: bool) -> Result<Vec<TextFragment>, RecordFailure> {
        let raw = value.get();
        let text: String = serde_json::from_str(raw)?;
        let start = self.at(value);
        let mut pieces: Vec<TextFragment> = Vec::new();
        let mut at = 1;
        for character in text.chars() {
            let length = escape_len(&raw[at..], character);
            let here = start + at..start + at + length;
            at += length;
            let character_here = if character.is_whitespace() && !with_breaks { ' ' } else { character };
            match pieces.last_mut() {
                Some(TextFragment::Verbatim(last))
                    if length == character.len_utf8() && character_here == character =>
                {
                    last.end = here.end
                }
                _ if length == character.len_utf8() && character_here == character => {
                    pieces.push(TextFragment::Verbatim(here))
                }
                _ => pieces.push(TextFragment::Spelled(character_here, here)),
            }
        }
        Ok(pieces)
    }

    /// The document of articles that are already in parts.
    fn articles(&self, parts: &[Fields<'_>]) -> Result<Document, RecordFailure> {
        let mut builder = PartsCollector { record: self, strings: Vec::new() };
        let drafts = parts.iter().map(|fields| builder.article(fields)).collect::<Result<Vec<_>, _>>()?;
        // All strings go into one source, in the order of the input.
        let mut writer = CleanTextBuilder::new(self.input, self.range.start);
        let mut order: Vec<usize> = (0..builder.strings.len()).collect();
        order.sort_by_key(|at| self.at(builder.strings[*at]));
        let mut ranges = vec![0..0; order.len()];
        for at in order {
            ranges[at] = writer.line(&self.pieces(builder.strings[at], false)?, None);
        }
        let (source, _) = writer.finish(self.range.end);
        let text = |at: usize| {
            let raw = source.text.get(ranges[at].clone()).unwrap_or_default();
            let lead = raw.len() - raw.trim_start().len();
            let start = ranges[at].start + lead;
            let clean = raw.trim();
            let spans =
                if clean.is_empty() { Vec::new() } else { vec![source.map.span(start..start + clean.len())] };
            Text { text: clean.to_string(), spans }
        };
        let mut regions = Vec::new();
        let articles: Vec<Article> = drafts
            .into_iter()
            .enumerate()
            .map(|(number, draft)| draft.finish(number, &text, &mut regions))
            .collect();
        if regions.is_empty() {
            return Err(RecordFailure::Document(DocumentError::Empty));
        }
        Ok(Document {
            encoding: self.encoding,
            articles,
            notes: Vec::new(),
            regions: source.with_left_out(regions),
        })
    }
}

/// How many bytes the escape takes that `raw` begins with and that stands for `character`.
fn escape_len(raw: &str, character: char) -> usize {
    match raw.as_bytes() {
        [b'\\', b'u', ..] => 6 * character.len_utf16(),
        [b'\\', ..] => 2,
        _ => character.len_utf8(),
    }
}

/// Collects the strings of articles in parts, as numbers in `strings`.
struct PartsCollector<'r, 'i, 'a, 'f> {
    record: &'r RecordReader<'i, 'a>,
    strings: Vec<&'f RawValue>,
}

/// An article whose texts are numbers of strings.
#[derive(Default)]
struct ArticleParts {
    named: Vec<(ElementRole, usize)>,
    sections: Vec<(Option<usize>, Vec<usize>)>,
    continued: bool,
}

impl<'f> PartsCollector<'_, '_, '_, 'f> {
    fn add(&mut self, value: &'f RawValue) -> Option<usize> {
        let _ = self.record;
        (value.get() != "null").then(|| {
            self.strings.push(value);
            self.strings.len() - 1
        })
    }

    fn article(&mut self, fields: &Fields<'f>) -> Result<ArticleParts, RecordFailure> {
        let mut parts = ArticleParts::default();
        for (name, role) in [
            ("headline", ElementRole::Headline),
            ("title", ElementRole::Headline),
            ("subtitle", ElementRole::Subtitle),
            ("kicker", ElementRole::Kicker),
            ("dateline", ElementRole::Dateline),
            ("byline", ElementRole::Byline),
        ] {
            if let Some(at) = fields.get(name).and_then(|value| self.add(value)) {
                parts.named.push((role, at));
            }
        }
        if let Some(captions) = fields.get("captions") {
            for caption in serde_json::from_str::<Vec<&'f RawValue>>(captions.get())? {
                parts.named.extend(self.add(caption).map(|at| (ElementRole::Caption, at)));
            }
        }
        parts.continued = fields.get("continued").is_some_and(|value| value.get() == "true");
        if fields.contains_key("paragraphs") {
            parts.sections.push((None, self.paragraphs(fields)?));
        }
        if let Some(sections) = fields.get("sections") {
            for section in serde_json::from_str::<Vec<Fields<'f>>>(sections.get())? {
                let heading = section.get("heading").and_then(|value| self.add(value));
                parts.sections.push((heading, self.paragraphs(&section)?));
            }
        }
        Ok(parts)
    }

    fn paragraphs(&mut self, fields: &Fields<'f>) -> Result<Vec<usize>, RecordFailure> {
        let Some(paragraphs) = fields.get("paragraphs") else {
            return Ok(Vec::new());
        };
        let paragraphs: Vec<&'f RawValue> = serde_json::from_str(paragraphs.get())?;
        Ok(paragraphs.into_iter().filter_map(|paragraph| self.add(paragraph)).collect())
    }
}

impl ArticleParts {
    fn finish(self, number: usize, text: &impl Fn(usize) -> Text, regions: &mut Vec<Region>) -> Article {
        let mut placed = |at: usize, role: ElementRole| {
            let text = text(at);
            regions.extend(text.spans.iter().map(|span| Region { role, span: *span, article: Some(number) }));
            Some(text).filter(|text| !text.text.is_empty())
        };
        let mut article = Article { continued: self.continued, ..Article::default() };
        for (role, at) in self.named {
            let Some(text) = placed(at, role) else { continue };
            let place = match role {
                ElementRole::Headline => &mut article.headline,
                ElementRole::Subtitle => &mut article.subtitle,
                ElementRole::Kicker => &mut article.kicker,
                ElementRole::Dateline => &mut article.dateline,
                ElementRole::Byline => &mut article.byline,
                _ => {
                    article.captions.push(text);
                    continue;
                }
            };
            match place {
                Some(_) => article.notes.push(LabeledText { role, text }),
                None => *place = Some(text),
            }
        }
        for (heading, paragraphs) in self.sections {
            article.sections.push(Section {
                heading: heading.and_then(|at| placed(at, ElementRole::Heading)),
                paragraphs: paragraphs
                    .into_iter()
                    .filter_map(|at| placed(at, ElementRole::Paragraph))
                    .collect(),
            });
        }
        article
    }
}
