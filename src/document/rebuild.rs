//! Puts a page together again out of its tiles, as it was or with other texts in their places.
//!
//! `cli` uses it for output that keeps the layout of the input; the property tests use it to show that nothing of a
//! page is lost.

use super::{Document, Tile};

/// The page again, byte for byte. `original` is the input that `document` was parsed from.
pub fn rebuild(document: &Document, original: &[u8]) -> Vec<u8> {
    rebuild_with(document, original, |_| None)
}

/// The page with other bytes in the place of some of its tiles: those for which `replace` returns any. The white
/// space between the tiles stays. The replacement is to be in the encoding of the page.
pub fn rebuild_with(
    document: &Document,
    original: &[u8],
    mut replace: impl FnMut(&Tile) -> Option<Vec<u8>>,
) -> Vec<u8> {
    let mut page = Vec::with_capacity(original.len());
    let mut at = 0;
    for tile in &document.tiles {
        let between = original.get(at..tile.span.start).unwrap_or_default();
        page.extend_from_slice(between);
        match replace(tile) {
            Some(bytes) => page.extend(bytes),
            None => page.extend_from_slice(original.get(tile.span.range()).unwrap_or_default()),
        }
        at = tile.span.end.max(at);
    }
    page.extend_from_slice(original.get(at..).unwrap_or_default());
    page
}

#[cfg(test)]
mod tests {
    use super::super::{InputFormat, Limits, Role, parse};
    use super::*;

    #[test]
    fn a_page_comes_back_as_it_was_and_with_other_texts() {
        let page = "  市图书馆开馆\r\n\r\n　　市图书馆今天开馆。\u{200B}\r\n";
        let document = parse(page.as_bytes(), InputFormat::Text, &Limits::default()).expect("a good page");
        assert_eq!(rebuild(&document, page.as_bytes()), page.as_bytes());
        let english = rebuild_with(&document, page.as_bytes(), |tile| match tile.role {
            Role::Headline => Some(b"Library opens".to_vec()),
            Role::Paragraph => Some(b"The city library opened today.".to_vec()),
            _ => None,
        });
        let expected = "  Library opens\r\n\r\n　　The city library opened today.\u{200B}\r\n";
        assert_eq!(String::from_utf8_lossy(&english), expected);
    }
}
