//! Reads an input whose lines are sections of their own into one article without a headline.
//!
//! `formats` calls [`read`] for [`InputFormat::Lines`](crate::document::InputFormat::Lines). Lines are not segmented:
//! the article has exactly as many sections as the input has lines.

use crate::document::decode::normalize::{CleanText, PAGE_BREAK};
use crate::document::{Article, Document, DocumentError, ElementRole, Region, Section, Text};

/// Makes one article with a section for every line of `source`; blank lines become empty sections.
pub(super) fn read(source: &CleanText, encoding: &'static str) -> Result<Document, DocumentError> {
    let mut article = Article::default();
    let mut regions = Vec::new();
    let mut at = 0;
    for raw in source.text.split_inclusive(['\n', PAGE_BREAK]) {
        let text = raw.trim();
        let start = at + raw.len() - raw.trim_start().len();
        at += raw.len();
        let mut section = Section::default();
        if !text.is_empty() {
            let span = source.map.span(start..start + text.len());
            regions.push(Region { role: ElementRole::Paragraph, span, article: Some(0) });
            section.paragraphs.push(Text { text: text.to_string(), spans: vec![span] });
        }
        article.sections.push(section);
    }
    if regions.is_empty() {
        return Err(DocumentError::Empty);
    }
    let regions = source.with_left_out(regions);
    Ok(Document { encoding, articles: vec![article], notes: Vec::new(), regions })
}
