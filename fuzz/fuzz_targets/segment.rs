//! Passes arbitrary bytes through the module `document`: it must not panic, its regions must cover the input in order,
//! and the sentences of a paragraph must add up to the paragraph.
//!
//! The module is compiled from its source, without the rest of the crate, so that the engine is not built with it.

#![no_main]

#[allow(dead_code, unreachable_pub)]
#[path = "../../src/document/mod.rs"]
mod document;

use document::{Document, InputFormat, Limits, MAX_SENTENCE_CHARS, parse, sentences};
use libfuzzer_sys::fuzz_target;

/// Checks that regions do not overlap and that only white space lies between them.
fn assert_covered(document: &Document, bytes: &[u8]) {
    let mut at = 0;
    for region in &document.regions {
        let span = region.span;
        assert!(at <= span.start && span.start <= span.end && span.end <= bytes.len());
        at = span.end;
    }
    if document.encoding == "UTF-8" {
        let mut at = 0;
        let ends = [(bytes.len(), 0)];
        for (start, end) in document.regions.iter().map(|region| (region.span.start, region.span.end)).chain(ends)
        {
            let between = std::str::from_utf8(&bytes[at..start]).expect("regions end between characters");
            assert!(between.trim().is_empty());
            at = end;
        }
    }
}

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
    let Ok(document) = parse(bytes, format, &Limits::default()) else { return };
    assert_covered(&document, bytes);
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
