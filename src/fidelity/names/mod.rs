//! Names in an output that its source does not explain, and consistent renderings of names.
//!
//! A summary is compared word for word; a translation, by lists of known names and by sound. Called by `check` and, for
//! `Renderings`, by `pipeline`.

mod consonants;
mod invented;
mod known;
mod phonetics;
mod renderings;

use std::ops::Range;

pub(super) use invented::invented_names;
pub use renderings::Renderings;

/// Returns the Latin words of a Chinese output that do not appear in its source, ignoring case, as byte ranges of the
/// output in order. Letters and digits that touch form one word (`G60`, `InnoMatch`).
pub(super) fn latin_names_not_in(output: &str, source: &str) -> Vec<Range<usize>> {
    let known: std::collections::HashSet<String> =
        latin_words(source).map(|word| source[word].to_lowercase()).collect();
    latin_words(output).filter(|word| !known.contains(&output[word.clone()].to_lowercase())).collect()
}

/// Returns the runs of letters and digits that contain a Latin letter.
fn latin_words(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let latin = |c: char| c.is_ascii_alphanumeric() || ('\u{c0}'..='\u{24f}').contains(&c);
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + text[at..].find(latin)?;
            let end = text[start..].find(|c| !latin(c)).map_or(text.len(), |n| start + n);
            at = end;
            if text[start..end].contains(|c: char| c.is_alphabetic()) {
                return Some(start..end);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_latin_words_that_the_source_lacks() {
        let spans = latin_names_not_in("CNN报道，HEPS启动", "高能同步辐射光源（heps）启动");
        assert_eq!(spans, std::iter::once(0..3).collect::<Vec<_>>());
    }
}
