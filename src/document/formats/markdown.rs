//! Reads Markdown: its blocks as lines with hints for `segment`.
//!
//! `pulldown-cmark` parses it and says where in the input everything stands.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::builder::{CleanTextBuilder, SourceText, TextFragment, hint_of_level};
use crate::document::blocks::line::MarkupHint;
use crate::document::decode::normalize::CleanText;

/// The clean text of a page in Markdown and what its markup says about the lines.
pub(crate) fn read(input: &SourceText<'_>) -> (CleanText, Vec<(Range<usize>, MarkupHint)>) {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS | Options::ENABLE_FOOTNOTES;
    let levels = Parser::new_ext(input.text, options).filter_map(|event| match event {
        Event::Start(Tag::Heading { level, .. }) => Some(level as u8),
        _ => None,
    });
    let highest = levels.min().unwrap_or(0);
    let mut writer = CleanTextBuilder::new(input, 0);
    let mut row: Vec<TextFragment> = Vec::new();
    let mut hint = MarkupHint::Whole;
    let mut in_metadata = false;
    for (event, range) in Parser::new_ext(input.text, options).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                flush(&mut writer, &mut row, hint);
                hint = hint_of_level(level as u8, highest);
            }
            Event::Start(Tag::Item | Tag::TableCell) => {
                flush(&mut writer, &mut row, hint);
                hint = MarkupHint::Item;
            }
            Event::Start(Tag::Paragraph) if hint == MarkupHint::Item => {}
            Event::Start(Tag::MetadataBlock(_)) => in_metadata = true,
            Event::End(TagEnd::MetadataBlock(_)) => in_metadata = false,
            Event::Start(Tag::Image { .. }) => {
                flush(&mut writer, &mut row, hint);
                hint = MarkupHint::Caption;
            }
            Event::End(TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link)
            | Event::Start(Tag::Emphasis | Tag::Strong | Tag::Strikethrough | Tag::Link { .. }) => {}
            Event::Start(_) | Event::End(_) | Event::HardBreak | Event::Rule => {
                flush(&mut writer, &mut row, hint);
                hint = MarkupHint::Whole;
            }
            Event::Text(text) | Event::Code(text) if !in_metadata => push(&mut row, input.text, &text, range),
            Event::SoftBreak => soft_break(&mut row, input.text, range),
            _ => {}
        }
    }
    flush(&mut writer, &mut row, hint);
    writer.finish(input.text.len())
}

fn flush(writer: &mut CleanTextBuilder<'_, '_>, row: &mut Vec<TextFragment>, hint: MarkupHint) {
    if !row.is_empty() {
        writer.line(row, Some(hint));
        row.clear();
    }
}

/// Adds text to the row; where the input spells it otherwise (an entity, a code span), all of it stands for each.
fn push(row: &mut Vec<TextFragment>, input: &str, text: &str, range: Range<usize>) {
    let source = &input[range.clone()];
    if let Some(inside) = source.find(text) {
        row.push(TextFragment::Verbatim(range.start + inside..range.start + inside + text.len()));
        return;
    }
    let mut rest = range;
    for character in text.chars() {
        // The place of all is that of the first, so that they must stay on one line.
        let character = if character.is_control() || character.is_whitespace() { ' ' } else { character };
        row.push(TextFragment::Spelled(character, rest.clone()));
        rest.start = rest.end;
    }
}

/// A line break within a paragraph is a space between words and nothing between Chinese characters.
fn soft_break(row: &mut Vec<TextFragment>, input: &str, range: Range<usize>) {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_ascii());
    if word(input[..range.start].trim_end().chars().next_back())
        && word(input[range.end..].trim_start().chars().next())
    {
        row.push(TextFragment::Spelled(' ', range));
    }
}
