//! Reads Markdown: its blocks become lines with hints for `assemble`.
//!
//! `pulldown-cmark` parses the text and reports the position of every element.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::builder::{CleanTextBuilder, SourceText, TextFragment, hint_of_level};
use crate::document::blocks::line::MarkupHint;
use crate::document::decode::normalize::CleanText;

/// Returns the clean text of a Markdown page and hints about its lines.
pub(super) fn read(source: &SourceText<'_>) -> (CleanText, Vec<(Range<usize>, MarkupHint)>) {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS | Options::ENABLE_FOOTNOTES;
    let levels = Parser::new_ext(source.text, options).filter_map(|event| match event {
        Event::Start(Tag::Heading { level, .. }) => Some(level as u8),
        _ => None,
    });
    let highest = levels.min().unwrap_or(0);
    let mut builder = CleanTextBuilder::new(source, 0);
    let mut line: Vec<TextFragment> = Vec::new();
    let mut hint = MarkupHint::Paragraph;
    let mut in_metadata = false;
    for (event, range) in Parser::new_ext(source.text, options).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                flush(&mut builder, &mut line, hint);
                hint = hint_of_level(level as u8, highest);
            }
            Event::Start(Tag::Item | Tag::TableCell) => {
                flush(&mut builder, &mut line, hint);
                hint = MarkupHint::ListItem;
            }
            Event::Start(Tag::Paragraph) if hint == MarkupHint::ListItem => {}
            Event::Start(Tag::MetadataBlock(_)) => in_metadata = true,
            Event::End(TagEnd::MetadataBlock(_)) => in_metadata = false,
            Event::Start(Tag::Image { .. }) => {
                flush(&mut builder, &mut line, hint);
                hint = MarkupHint::Caption;
            }
            Event::End(TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link)
            | Event::Start(Tag::Emphasis | Tag::Strong | Tag::Strikethrough | Tag::Link { .. }) => {}
            Event::Start(_) | Event::End(_) | Event::HardBreak | Event::Rule => {
                flush(&mut builder, &mut line, hint);
                hint = MarkupHint::Paragraph;
            }
            Event::Text(text) | Event::Code(text) if !in_metadata => {
                push_text(&mut line, source.text, &text, range)
            }
            Event::SoftBreak => push_soft_break(&mut line, source.text, range),
            _ => {}
        }
    }
    flush(&mut builder, &mut line, hint);
    builder.finish(source.text.len())
}

fn flush(builder: &mut CleanTextBuilder<'_, '_>, line: &mut Vec<TextFragment>, hint: MarkupHint) {
    if !line.is_empty() {
        builder.line(line, Some(hint));
        line.clear();
    }
}

/// Adds text to the line. Where the source spells it differently (an entity, a code span), the first character gets the
/// whole range of the source and the others an empty one.
fn push_text(line: &mut Vec<TextFragment>, source: &str, text: &str, range: Range<usize>) {
    let spelling = &source[range.clone()];
    if let Some(at) = spelling.find(text) {
        line.push(TextFragment::Verbatim(range.start + at..range.start + at + text.len()));
        return;
    }
    let mut rest = range;
    for character in text.chars() {
        // The characters share one range, so a line break must not separate them.
        let character = if character.is_control() || character.is_whitespace() { ' ' } else { character };
        line.push(TextFragment::Escaped(character, rest.clone()));
        rest.start = rest.end;
    }
}

/// Adds a space for a line break within a paragraph if it separates ASCII words; Chinese characters need none.
fn push_soft_break(line: &mut Vec<TextFragment>, source: &str, range: Range<usize>) {
    let is_ascii = |c: Option<char>| c.is_some_and(|c| c.is_ascii());
    if is_ascii(source[..range.start].trim_end().chars().next_back())
        && is_ascii(source[range.end..].trim_start().chars().next())
    {
        line.push(TextFragment::Escaped(' ', range));
    }
}
