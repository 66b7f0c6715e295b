//! Characters → clean text, with the way back: full-width digits and letters become ASCII, exotic spaces plain ones,
//! line breaks `\n`, and characters that cannot be seen go.
//!
//! [`CleanText`] is what every reader (plain text here, HTML and Markdown in their own files) fills and what `segment`
//! works on. Chinese punctuation, Traditional characters and everything else that can be read stay as they are.

use super::{DecodedText, is_big5_second, original_width};
use crate::document::span::OffsetMap;
use crate::document::{ElementRole, Region, Span};

/// Stands in the clean text where a new page begins (form feed).
pub(crate) const PAGE_BREAK: char = '\u{C}';

/// The clean text of one page, its map to the original bytes, and what the text left out.
#[derive(Debug, Default)]
pub(crate) struct CleanText {
    /// The clean text; lines end in `\n`.
    pub(crate) text: String,
    /// From there to the original.
    pub(crate) map: OffsetMap,
    /// What is neither white space nor in the text.
    pub(crate) left_out: Vec<Region>,
}

/// What becomes of one character.
enum CharAction {
    Keep,
    Become(char),
    /// White space of which nothing needs to stay.
    Skip,
    /// Cannot be seen, and is no white space either.
    Ignore,
}

fn action(character: char, next: Option<char>) -> CharAction {
    match character {
        '\n' | ' ' | PAGE_BREAK => CharAction::Keep,
        '\r' if next == Some('\n') => CharAction::Skip,
        '\r' | '\u{B}' | '\u{85}' | '\u{2028}' | '\u{2029}' => CharAction::Become('\n'),
        '\t' | '\u{A0}' | '\u{1680}' | '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}' => {
            CharAction::Become(' ')
        }
        '\0'..='\u{1F}'
        | '\u{7F}'..='\u{9F}'
        | '\u{AD}'
        | '\u{61C}'
        | '\u{180E}'
        | '\u{200B}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}'
        | '\u{FEFF}'
        | '\u{FFF9}'..='\u{FFFB}'
        | '\u{FFFE}'
        | '\u{FFFF}' => CharAction::Ignore,
        // ０-９, Ａ-Ｚ, ａ-ｚ, ％ and the full stop of ３．５; the rest of that block is punctuation of Chinese.
        '\u{FF10}'..='\u{FF19}'
        | '\u{FF21}'..='\u{FF3A}'
        | '\u{FF41}'..='\u{FF5A}'
        | '\u{FF05}'
        | '\u{FF0E}' => {
            CharAction::Become(char::from_u32(u32::from(character) - 0xFEE0).unwrap_or(character))
        }
        _ => CharAction::Keep,
    }
}

impl CleanText {
    /// The clean text of a decoded page. `bytes` is the page before decoding.
    pub(crate) fn plain(decoded: &DecodedText<'_>, bytes: &[u8]) -> Self {
        let mut source = Self { text: String::with_capacity(decoded.text.len()), ..Self::default() };
        if decoded.bom_len > 0 {
            source.leave_out(ElementRole::Ignored, Span::new(0, decoded.bom_len));
        }
        if decoded.encoding == encoding_rs::UTF_8 {
            source.push_str(&decoded.text, decoded.bom_len);
            return source;
        }
        let mut at = decoded.bom_len;
        let mut characters = decoded.text.chars().peekable();
        while let Some(character) = characters.next() {
            let width = if is_big5_second(decoded.encoding, character) {
                0
            } else {
                original_width(decoded.encoding, &bytes[at..], character)
            };
            source.push(character, characters.peek().copied(), Span::new(at, at + width));
            at += width;
        }
        source
    }

    /// Adds UTF-8 text whose first byte is byte `at` of the original.
    pub(crate) fn push_str(&mut self, text: &str, at: usize) {
        // Nearly all of a page stays as it is, so stretches are copied whole between the exceptions.
        let mut copied = 0;
        let mut characters = text.char_indices().peekable();
        while let Some((index, character)) = characters.next() {
            // ASCII that can be seen, and all of CJK from 々 and 「 up to the full-width forms.
            if matches!(character, ' '..='~' | '\n' | '\u{3001}'..='\u{FEFE}') {
                continue;
            }
            let next = characters.peek().map(|(_, next)| *next);
            if matches!(action(character, next), CharAction::Keep) {
                continue;
            }
            self.copy(&text[copied..index], at + copied);
            copied = index + character.len_utf8();
            self.push(character, next, Span::new(at + index, at + copied));
        }
        self.copy(&text[copied..], at + copied);
    }

    /// Adds one character that stands at `span` of the original; `next` is the one after it.
    pub(crate) fn push(&mut self, character: char, next: Option<char>, span: Span) {
        let clean = match action(character, next) {
            CharAction::Keep => character,
            CharAction::Become(other) => other,
            CharAction::Skip => return,
            CharAction::Ignore => return self.leave_out(ElementRole::Ignored, span),
        };
        self.text.push(clean);
        self.map.push(span.start, clean.len_utf8(), span.len(), 1);
    }

    /// Ends the line, if there is anything on it; what ends it has no place in the original.
    pub(crate) fn end_line(&mut self, at: usize) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
            self.map.push(at, 1, 0, 1);
        }
    }

    /// Sorts `regions` by position and adds the left-out regions that none of them covers.
    pub(crate) fn with_left_out(&self, mut regions: Vec<Region>) -> Vec<Region> {
        regions.sort_unstable_by_key(|region| region.span);
        if self.left_out.is_empty() {
            return regions;
        }
        let mut all = Vec::with_capacity(regions.len() + self.left_out.len());
        let mut left_out = self.left_out.iter().peekable();
        for region in regions {
            while let Some(left) = left_out.next_if(|left| left.span.end <= region.span.start) {
                all.push(*left);
            }
            while left_out.next_if(|left| left.span.end <= region.span.end).is_some() {}
            all.push(region);
        }
        all.extend(left_out);
        all
    }

    /// Notes that `span` of the original is not in the text, and why.
    pub(crate) fn leave_out(&mut self, role: ElementRole, span: Span) {
        if span.is_empty() {
            return;
        }
        match self.left_out.last_mut() {
            Some(last) if last.role == role && last.span.end == span.start => last.span.end = span.end,
            _ => self.left_out.push(Region { role, span, article: None }),
        }
    }

    fn copy(&mut self, text: &str, at: usize) {
        if !text.is_empty() {
            self.text.push_str(text);
            self.map.push(at, 1, 1, text.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::decode::decode;

    fn source(bytes: &[u8]) -> CleanText {
        CleanText::plain(&decode(bytes).expect("good text"), bytes)
    }

    #[test]
    fn what_cannot_be_seen_goes_and_the_map_knows() {
        let page = "\u{FEFF}　　２０２５年\u{AD}增长３．５％\r\n第\u{200B}二\0行";
        let clean = source(page.as_bytes());
        assert_eq!(clean.text, "  2025年增长3.5%\n第二行");
        let at = clean.text.find("增长").expect("kept");
        assert_eq!(&page[clean.map.span(at..at + 10).range()], "增长３．５％");
        let left_out: Vec<&str> = clean.left_out.iter().map(|region| &page[region.span.range()]).collect();
        assert_eq!(left_out, ["\u{FEFF}", "\u{AD}", "\u{200B}", "\0"]);
    }

    #[test]
    fn the_map_leads_into_bytes_of_every_encoding() {
        let text = "甲 a１\n\u{20000}乙Ê̄丙";
        for encoding in [encoding_rs::GB18030, encoding_rs::BIG5] {
            let readable: String =
                text.chars().filter(|character| !encoding.encode(&character.to_string()).2).collect();
            let bytes = encoding.encode(&readable).0.into_owned();
            let decoded = DecodedText { text: readable.clone().into(), encoding, bom_len: 0 };
            let clean = CleanText::plain(&decoded, &bytes);
            let at = clean.text.find('乙').expect("kept");
            let span = clean.map.span(at..at + '乙'.len_utf8());
            assert_eq!(encoding.decode(&bytes[span.range()]).0, "乙", "{}", encoding.name());
        }
    }

    #[test]
    fn every_kind_of_line_break_is_one() {
        assert_eq!(source("一\r二\r\n三\u{2028}四\u{85}五".as_bytes()).text, "一\n二\n三\n四\n五");
    }
}
