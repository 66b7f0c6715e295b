//! Detects outputs that repeat a phrase over and over.

use std::collections::HashMap;

/// The length of a phrase in text with spaces, in words.
const PHRASE_WORDS: usize = 3;
/// The number of repetitions that make a phrase a loop.
const MIN_REPETITIONS: usize = 4;
/// The length of a phrase in text without spaces, in characters.
const PHRASE_CHARS: usize = 8;

/// Returns a phrase that an output repeats at least four times: three words in text with spaces, eight characters in
/// text without.
pub(in crate::fidelity) fn repeated_phrase(output: &str) -> Option<String> {
    let words: Vec<&str> = output.split_whitespace().collect();
    let chars: Vec<char> = output.chars().filter(|c| !c.is_whitespace()).collect();
    // Chinese has few spaces, so phrases are counted in characters.
    if words.len() * PHRASE_CHARS < chars.len() {
        repeated(&chars, PHRASE_CHARS).map(|phrase| phrase.iter().collect())
    } else {
        repeated(&words, PHRASE_WORDS).map(|phrase| phrase.join(" "))
    }
}

fn repeated<T: std::hash::Hash + Eq>(items: &[T], length: usize) -> Option<&[T]> {
    let mut counts = HashMap::new();
    for phrase in items.windows(length) {
        let count = counts.entry(phrase).or_insert(0);
        *count += 1;
        if *count >= MIN_REPETITIONS {
            return Some(phrase);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_loops_in_both_languages() {
        let english = "and the world of the world of the world of the world of";
        assert_eq!(repeated_phrase(english).as_deref(), Some("the world of"));
        let chinese = "推动高质量发展迈上新台阶，".repeat(4);
        assert!(repeated_phrase(&chinese).is_some());
    }

    #[test]
    fn accepts_ordinary_text() {
        let text =
            "The city of Chengdu and the city of Nanjing signed 20 agreements with the city of Montpellier.";
        assert_eq!(repeated_phrase(text), None);
        assert_eq!(repeated_phrase("全国建成3.5万多家基础级、230多家卓越级智能工厂。"), None);
        assert_eq!(repeated_phrase(""), None);
    }
}
