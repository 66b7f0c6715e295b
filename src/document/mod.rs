//! Parses Chinese newspaper text into articles, sections, paragraphs and sentences.
//!
//! ```text
//! bytes
//!   ─ decode ────▶ characters, then clean text with a map back to the bytes
//!   ─ formats ───▶ the same for HTML, Markdown and JSON Lines, with hints from the markup
//!   ─ blocks ────▶ lines, joined into whole paragraphs and titles
//!   ─ assemble ──▶ articles and sections: a `Document`
//! ```
//!
//! `recognize` holds the questions about a single text that every step asks: is it a byline, a caption, a title?
//! `server` calls [`parse`] and [`parse_text`], `pipeline` calls [`sentences`], `cli` reads [`Record`]s. This module
//! knows nothing of models, prompts, gRPC or files, starts no threads and never panics, whatever the input.

mod assemble;
mod blocks;
mod decode;
mod error;
mod formats;
mod recognize;
mod sentence;
mod span;
#[cfg(test)]
mod tests;
mod tree;

pub use error::{DocumentError, Limits};
pub use formats::InputFormat;
pub use formats::fields::JsonString;
pub use formats::record::{Record, RecordArticle, RecordContent, RecordError, RecordSection};
pub use sentence::{MAX_SENTENCE_CHARS, sentences};
pub use span::Span;
pub use tree::{Article, Document, ElementRole, LabeledText, Region, Section, Text};

use decode::DecodedText;

/// Parses a page: detects its encoding, cleans its text and finds its articles.
///
/// All spans are byte ranges of `bytes`. Takes linear time.
///
/// # Errors
///
/// Returns an error if the input is too large, blank or unreadable; see [`DocumentError`].
pub fn parse(bytes: &[u8], format: InputFormat, limits: &Limits) -> Result<Document, DocumentError> {
    limits.check(bytes.len())?;
    formats::read(&decode::decode(bytes)?, bytes, format)
}

/// Parses a page that is already decoded. All spans are byte ranges of `text`.
///
/// # Errors
///
/// Returns an error if the text is too large or blank, or if a line of JSON Lines is invalid.
pub fn parse_text(text: &str, format: InputFormat, limits: &Limits) -> Result<Document, DocumentError> {
    limits.check(text.len())?;
    let decoded = DecodedText { text: text.into(), encoding: encoding_rs::UTF_8, bom_len: 0 };
    formats::read(&decoded, text.as_bytes(), format)
}

/// Decodes `bytes` without their byte order mark, detecting the encoding as [`parse`] does.
///
/// # Errors
///
/// Returns an error if the bytes are not valid in any supported encoding.
pub fn decode_text(bytes: &[u8]) -> Result<String, DocumentError> {
    Ok(decode::decode(bytes)?.text.into_owned())
}
