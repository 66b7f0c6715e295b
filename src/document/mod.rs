//! Chinese newspaper text in, its structure out: bytes → text → lines → articles → sections → paragraphs.
//!
//! ```text
//! bytes ─decode─▶ characters ─normalize─▶ clean text and the way back to the bytes ─line─▶ lines
//!       ─wrap, headline, column─▶ blocks (whole paragraphs and titles; block says what each can be)
//!       ─settle, unit─▶ titles with what follows ─boundary─▶ articles and sections ─late─▶ with the headlines after them
//!       ─segment─▶ Document ─view─▶ JSON, ─rebuild─▶ the page again; sentences cuts up its paragraphs
//! ```
//!
//! `pipeline` and `server` call [`parse`] and [`sentences`], `cli` prints [`View`]s. This module knows nothing of
//! models, prompts, gRPC or files, makes no threads and never panics, whatever the input.

mod block;
mod boundary;
mod byline;
mod caption;
mod chars;
mod column;
mod credit;
mod decode;
mod detect;
mod error;
mod furniture;
mod headline;
mod html;
mod late;
mod line;
mod mark;
mod markdown;
mod markup;
mod normalize;
mod rebuild;
mod record;
mod seam;
mod segment;
mod sentence;
mod settle;
mod span;
#[cfg(test)]
mod tests;
mod title;
mod titles;
mod topic;
mod tree;
mod unit;
mod view;
mod wrap;

pub use error::{DocumentError, Limits};
pub use rebuild::{rebuild, rebuild_with};
pub use sentence::{MAX_SENTENCE_CHARS, sentences};
pub use span::Span;
pub use tree::{Article, Document, Labelled, Role, Section, Text, Tile};
pub use view::View;

use decode::Decoded;
use markup::Input;
use normalize::Source;

/// What kind of text an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum InputFormat {
    /// Find out: HTML, JSON Lines, Markdown, or else plain text.
    #[default]
    Auto,
    /// Plain text, as extracted from a page.
    Text,
    /// A web page; its article without navigation.
    Html,
    /// Markdown.
    Markdown,
    /// Each line is a section of its own, in order; a blank line is a section without paragraphs.
    Lines,
    /// JSON Lines: each line an article with its parts, or a page in one string.
    JsonLines,
}

/// Takes a page apart: finds out its encoding, cleans it up, finds its articles.
///
/// All spans are byte ranges of `bytes`. Takes linear time.
///
/// # Errors
///
/// The input is too large, blank, or cannot be read; see [`DocumentError`].
pub fn parse(bytes: &[u8], format: InputFormat, limits: &Limits) -> Result<Document, DocumentError> {
    limits.check(bytes.len())?;
    read(&decode::decode(bytes)?, bytes, format)
}

/// Takes apart a page that is text already; spans are byte ranges of `text`.
///
/// # Errors
///
/// The text is too large or blank.
pub fn parse_text(text: &str, format: InputFormat, limits: &Limits) -> Result<Document, DocumentError> {
    limits.check(text.len())?;
    let decoded = Decoded { text: text.into(), encoding: encoding_rs::UTF_8, bom_len: 0 };
    read(&decoded, text.as_bytes(), format)
}

/// Reads an input in which each line is a section of its own: as [`parse`] with [`InputFormat::Lines`] and the
/// default limits. The article has as many sections as the input has lines.
///
/// # Errors
///
/// As [`parse`].
pub fn lines(bytes: &[u8]) -> Result<Document, DocumentError> {
    parse(bytes, InputFormat::Lines, &Limits::default())
}

/// Reads JSON Lines as one document for each line that is not blank, so that each line can be answered for itself.
///
/// # Errors
///
/// The input is too large, blank or undecodable; what is wrong with a line is an error in its place.
pub fn records(bytes: &[u8], limits: &Limits) -> Result<Vec<Result<Document, DocumentError>>, DocumentError> {
    limits.check(bytes.len())?;
    let decoded = decode::decode(bytes)?;
    let records = record::read(&Input::new(&decoded, bytes), decoded.encoding.name());
    if records.is_empty() { Err(DocumentError::Empty) } else { Ok(records) }
}

/// The characters of `bytes`, whose encoding is found out as in [`parse`], without their byte order mark.
///
/// # Errors
///
/// A byte belongs to no encoding that is known here.
pub fn text(bytes: &[u8]) -> Result<String, DocumentError> {
    Ok(decode::decode(bytes)?.text.into_owned())
}

fn read(decoded: &Decoded<'_>, bytes: &[u8], format: InputFormat) -> Result<Document, DocumentError> {
    let encoding = decoded.encoding.name();
    let format = if format == InputFormat::Auto { detect::format_of(&decoded.text) } else { format };
    let marked_up = || Input::new(decoded, bytes);
    let (source, hints) = match format {
        InputFormat::Auto | InputFormat::Text => (Source::plain(decoded, bytes), Vec::new()),
        InputFormat::Lines => return segment::sections_of_lines(Source::plain(decoded, bytes), encoding),
        InputFormat::JsonLines => return record::merge(record::read(&marked_up(), encoding)),
        InputFormat::Html => html::read(&marked_up()),
        InputFormat::Markdown => markdown::read(&marked_up()),
    };
    segment::segment(source, encoding, &hints)
}
