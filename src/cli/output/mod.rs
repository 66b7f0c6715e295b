//! How results are written: for people, or as JSON.

pub(super) mod digest_json;
pub(super) mod digest_text;
pub(super) mod structure;

use crate::pb;

/// The text of an optional element.
pub(super) fn text(element: Option<&pb::Text>) -> Option<&str> {
    element.map(|element| element.text.as_str())
}

/// The heading under which a section stands: its own, or for the first section the article's headline.
pub(super) fn heading(article: &pb::Article, section: usize) -> Option<&str> {
    let own = article.sections.get(section).and_then(|s| text(s.heading.as_ref()));
    own.or_else(|| text(article.headline.as_ref()).filter(|_| section == 0))
}
