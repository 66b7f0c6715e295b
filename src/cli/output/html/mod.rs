//! Digests as HTML: one page an input that needs nothing but itself, and an index of a directory.
//!
//! Templates lie beside this file and are compiled in; everything that comes from a text is escaped by them. Only the
//! styles and scripts of this folder go in as they are.

mod index;
mod marks;
mod page;

pub(in crate::cli) use index::{Listed, Sums, index, index_name};
pub(super) use page::page;

/// The styles of both kinds of page.
const STYLE: &str = include_str!("style.css");
/// What both kinds of page do.
const SCRIPT: &str = include_str!("script.js");

/// The language of a source: traditional characters come in Big5, the others as good as always are simplified.
fn source_language(encoding: &str) -> &'static str {
    if encoding == "Big5" { "zh-Hant" } else { "zh-Hans" }
}
