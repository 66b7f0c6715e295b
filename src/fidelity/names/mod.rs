//! Latin names that an output holds and its source does not: in a Chinese summary word for word, in a translation by what
//! is known of names and of their sound.

mod invented;
mod lexicon;
mod phonetics;
mod renderings;

use std::ops::Range;

pub(super) use invented::invented_names;
pub use renderings::Renderings;

/// The words in Latin letters of a Chinese output (a summary) that its source does not hold, whatever their case; in
/// order, as byte ranges of the output. Letters and digits that touch are one word (`G60`, `InnoMatch`).
///
/// ```
/// use yizhai::fidelity::latin_names_not_in;
///
/// let found = latin_names_not_in("CNN报道，HEPS启动", "高能同步辐射光源（HEPS）启动");
/// assert_eq!(found, [0..3]);
/// ```
pub(super) fn latin_names_not_in(output: &str, source: &str) -> Vec<Range<usize>> {
    let known: std::collections::HashSet<String> =
        latin_words(source).map(|word| source[word].to_lowercase()).collect();
    latin_words(output).filter(|word| !known.contains(&output[word.clone()].to_lowercase())).collect()
}

/// Every run of letters and digits in which there is a Latin letter.
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
