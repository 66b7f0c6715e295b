//! The output formats: text, JSON, JSON Lines, Markdown and HTML.
//!
//! ```text
//! structure, sections in page order, statistics ─▶ DigestWriter ─▶ text, json, markdown, html
//!     ResultStream: results one after another, on stdout or in a file
//!     batch::directory: one file per result
//! ```
//!
//! Digests are written by [`DigestWriter`] alone, whether the sections arrive one by one or all at once. `structure`
//! writes what `yizhai segment` found, `evaluation` what `yizhai eval` measured.

mod counts;
mod digest_writer;
pub(super) mod evaluation;
pub(super) mod html;
mod json;
mod json_stream;
mod markdown;
mod stream;
pub(super) mod structure;
mod text;
pub(super) mod units;

pub(super) use counts::DigestCounts;
pub(super) use digest_writer::{DigestLayout, DigestWriter, ResultLabels};
pub(super) use stream::{ResultStream, StreamShape};

use crate::pb;

/// Iterates over the sections of a digest with their articles, in page order.
pub(super) fn sections(
    digest: &pb::DigestResponse,
) -> impl Iterator<Item = (&pb::Article, &pb::SectionDigest)> {
    let articles = digest.document.as_ref().map_or(&[][..], |document| &document.articles);
    digest.sections.iter().filter_map(|section| {
        let article = usize::try_from(section.article_index).ok().and_then(|index| articles.get(index))?;
        Some((article, section))
    })
}

/// Describes where a finding is.
fn finding_location(finding: &pb::Finding) -> String {
    match (finding.task(), finding.paragraph_index) {
        (pb::Task::Summary, _) => "summary".to_owned(),
        (_, Some(paragraph)) => format!("translation, paragraph {}", paragraph + 1),
        (_, None) => "translation of the heading".to_owned(),
    }
}

/// Returns the text of an optional element.
fn element_text(element: Option<&pb::Text>) -> Option<&str> {
    element.map(|element| element.text.as_str())
}

/// Returns the heading of a section; the first section without its own has the headline of the article.
fn section_heading(article: &pb::Article, section: usize) -> Option<&str> {
    let own = article.sections.get(section).and_then(|s| element_text(s.heading.as_ref()));
    own.or_else(|| element_text(article.headline.as_ref()).filter(|_| section == 0))
}
