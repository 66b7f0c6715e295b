//! Results as HTML: a self-contained page per input, the index of an output directory, and the report of an evaluation.
//!
//! The templates in this folder are compiled into the program. They escape all text except the style sheet and the
//! script of this folder.

mod eval;
mod index;
mod marks;
mod page;

pub(in crate::cli) use eval::evaluation_page;
pub(in crate::cli) use index::{IndexEntry, IndexTotals, index_file_name, index_page};
pub(super) use page::page;

/// The style sheet of result pages and index pages.
const STYLE: &str = include_str!("style.css");
/// The script of result pages and index pages.
const SCRIPT: &str = include_str!("script.js");

/// Guesses the language tag of a source from its encoding: Big5 means traditional characters.
fn source_language(encoding: &str) -> &'static str {
    if encoding == "Big5" { "zh-Hant" } else { "zh-Hans" }
}
