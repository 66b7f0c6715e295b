//! Reads each input format into a [`Document`]: plain text, HTML, Markdown, one section per line, and JSON Lines.
//!
//! `parse` calls [`read`] with the decoded input. HTML and Markdown become clean text with hints about its lines,
//! which `assemble` segments like plain text; JSON Lines may also hold articles whose parts are already known.

mod builder;
mod detect;
pub(super) mod fields;
mod html;
mod jsonl;
mod lines;
mod markdown;
pub(super) mod record;

use builder::SourceText;

use super::assemble::segment;
use super::decode::DecodedText;
use super::decode::normalize::CleanText;
use super::{Document, DocumentError};

/// The format of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum InputFormat {
    /// Detects HTML, JSON Lines or Markdown, and falls back to plain text.
    #[default]
    Auto,
    /// Plain text, as extracted from a page.
    Text,
    /// A web page, of which only the article is read.
    Html,
    /// Markdown.
    Markdown,
    /// One section per line; a blank line is a section without paragraphs.
    Lines,
    /// JSON Lines: one page or article per line.
    JsonLines,
}

/// Reads a decoded input. `bytes` is the input before decoding.
pub(super) fn read(
    decoded: &DecodedText<'_>,
    bytes: &[u8],
    format: InputFormat,
) -> Result<Document, DocumentError> {
    let encoding = decoded.encoding.name();
    let format = if format == InputFormat::Auto { detect::format_of(&decoded.text) } else { format };
    let source = || SourceText::new(decoded, bytes);
    let (text, hints) = match format {
        InputFormat::Auto | InputFormat::Text => (CleanText::plain(decoded, bytes), Vec::new()),
        InputFormat::Lines => return lines::read(&CleanText::plain(decoded, bytes), encoding),
        InputFormat::JsonLines => return jsonl::read(&source(), encoding),
        InputFormat::Html => html::read(&source()),
        InputFormat::Markdown => markdown::read(&source()),
    };
    segment(&text, encoding, &hints)
}
