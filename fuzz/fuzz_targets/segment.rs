//! Arbitrary bytes through the module `document`: it must not panic, its tiles must cover the input in order, and
//! `rebuild` and `sentences` must give back what they were given.
//!
//! The module is compiled from its source, without the rest of the crate, so that the engine is not built with it.

#![no_main]

#[allow(dead_code, unreachable_pub)]
#[path = "../../src/document/mod.rs"]
mod document;

use document::{InputFormat, Limits, MAX_SENTENCE_CHARS, parse, rebuild, records, sentences};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let format = match choice % 6 {
        0 => InputFormat::Auto,
        1 => InputFormat::Html,
        2 => InputFormat::Markdown,
        3 => InputFormat::JsonLines,
        4 => InputFormat::Lines,
        _ => InputFormat::Text,
    };
    let _ = records(bytes, &Limits::default());
    let Ok(document) = parse(bytes, format, &Limits::default()) else { return };
    assert_eq!(rebuild(&document, bytes), bytes);
    let mut at = 0;
    for tile in &document.tiles {
        assert!(at <= tile.span.start && tile.span.start <= tile.span.end && tile.span.end <= bytes.len());
        at = tile.span.end;
    }
    if document.encoding == "UTF-8" {
        // Between the tiles there is only white space, and everything else is in one of them.
        let mut at = 0;
        for (start, end) in
            document.tiles.iter().map(|tile| (tile.span.start, tile.span.end)).chain([(bytes.len(), 0)])
        {
            let between = std::str::from_utf8(&bytes[at..start]).expect("tiles end between characters");
            assert!(between.trim().is_empty());
            at = end;
        }
    }
    for paragraph in
        document.articles.iter().flat_map(|article| &article.sections).flat_map(|section| &section.paragraphs)
    {
        let mut at = 0;
        for range in sentences(&paragraph.text) {
            assert_eq!(range.start, at);
            assert!(paragraph.text[range.clone()].chars().count() <= MAX_SENTENCE_CHARS);
            at = range.end;
        }
        assert_eq!(at, paragraph.text.len());
    }
});
