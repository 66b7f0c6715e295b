//! Normalizes decoded text: full-width digits and letters become ASCII, unusual spaces become plain ones, line breaks
//! become `\n`, and invisible characters are removed.
//!
//! The readers in `formats` build a [`CleanText`], and `assemble` segments it. Chinese punctuation, Traditional
//! characters and everything else that is visible stay unchanged.

use super::{DecodedText, is_big5_second, original_width};
use crate::document::span::OffsetMap;
use crate::document::{ElementRole, Region, Span};

/// Marks the beginning of a new page in the clean text (form feed).
pub(crate) const PAGE_BREAK: char = '\u{C}';

/// The normalized text of an input and the map to its original bytes.
#[derive(Debug, Default)]
pub(crate) struct CleanText {
    /// The clean text; lines end in `\n`.
    pub(crate) text: String,
    /// Maps offsets of `text` to offsets of the input.
    pub(crate) map: OffsetMap,
    /// The parts of the input that are neither in `text` nor white space.
    pub(crate) left_out: Vec<Region>,
}

/// The treatment of a character.
enum CharAction {
    Keep,
    Replace(char),
    /// Drop redundant white space.
    Skip,
    /// Drop an invisible character that is not white space.
    Ignore,
}

fn action(character: char, next: Option<char>) -> CharAction {
    match character {
        '\n' | ' ' | PAGE_BREAK => CharAction::Keep,
        '\r' if next == Some('\n') => CharAction::Skip,
        '\r' | '\u{B}' | '\u{85}' | '\u{2028}' | '\u{2029}' => CharAction::Replace('\n'),
        '\t' | '\u{A0}' | '\u{1680}' | '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}' => {
            CharAction::Replace(' ')
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
        // ０-９, Ａ-Ｚ, ａ-ｚ, ％ and the dot of ３．５. The rest of the block is Chinese punctuation.
        '\u{FF10}'..='\u{FF19}'
        | '\u{FF21}'..='\u{FF3A}'
        | '\u{FF41}'..='\u{FF5A}'
        | '\u{FF05}'
        | '\u{FF0E}' => {
            CharAction::Replace(char::from_u32(u32::from(character) - 0xFEE0).unwrap_or(character))
        }
        _ => CharAction::Keep,
    }
}

impl CleanText {
    /// Normalizes a decoded page. `bytes` is the page before decoding.
    pub(crate) fn plain(decoded: &DecodedText<'_>, bytes: &[u8]) -> Self {
        let mut clean = Self { text: String::with_capacity(decoded.text.len()), ..Self::default() };
        if decoded.bom_len > 0 {
            clean.leave_out(ElementRole::Ignored, Span::new(0, decoded.bom_len));
        }
        if decoded.encoding == encoding_rs::UTF_8 {
            clean.push_str(&decoded.text, decoded.bom_len);
            return clean;
        }
        let mut at = decoded.bom_len;
        let mut characters = decoded.text.chars().peekable();
        while let Some(character) = characters.next() {
            let width = if is_big5_second(decoded.encoding, character) {
                0
            } else {
                original_width(decoded.encoding, &bytes[at..], character)
            };
            clean.push(character, characters.peek().copied(), Span::new(at, at + width));
            at += width;
        }
        clean
    }

    /// Appends UTF-8 text that starts at byte `at` of the input.
    pub(crate) fn push_str(&mut self, text: &str, at: usize) {
        // Nearly all of a page stays unchanged, so the runs between exceptions are copied in one go.
        let mut copied = 0;
        let mut characters = text.char_indices().peekable();
        while let Some((index, character)) = characters.next() {
            // Printable ASCII, and all of CJK from 、 up to the full-width forms.
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

    /// Appends the character at `span` of the input; `next` is the character after it.
    pub(crate) fn push(&mut self, character: char, next: Option<char>, span: Span) {
        let clean = match action(character, next) {
            CharAction::Keep => character,
            CharAction::Replace(other) => other,
            CharAction::Skip => return,
            CharAction::Ignore => return self.leave_out(ElementRole::Ignored, span),
        };
        self.text.push(clean);
        self.map.push(span.start, clean.len_utf8(), span.len(), 1);
    }

    /// Ends the current line if it is not empty. The line break maps to an empty range at byte `at` of the input.
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

    /// Records that `span` of the input is not part of the text.
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

    fn clean_text(bytes: &[u8]) -> CleanText {
        CleanText::plain(&decode(bytes).expect("decodable text"), bytes)
    }

    #[test]
    fn removes_invisible_characters_and_keeps_offsets() {
        let page = "\u{FEFF}　　２０２５年\u{AD}增长３．５％\r\n第\u{200B}二\0行";
        let clean = clean_text(page.as_bytes());
        assert_eq!(clean.text, "  2025年增长3.5%\n第二行");
        let at = clean.text.find("增长").expect("kept");
        assert_eq!(&page[clean.map.span(at..at + 10).range()], "增长３．５％");
        let left_out: Vec<&str> = clean.left_out.iter().map(|region| &page[region.span.range()]).collect();
        assert_eq!(left_out, ["\u{FEFF}", "\u{AD}", "\u{200B}", "\0"]);
    }

    #[test]
    fn maps_offsets_to_bytes_of_multibyte_encodings() {
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
    fn normalizes_every_kind_of_line_break() {
        assert_eq!(clean_text("一\r二\r\n三\u{2028}四\u{85}五".as_bytes()).text, "一\n二\n三\n四\n五");
    }
}
