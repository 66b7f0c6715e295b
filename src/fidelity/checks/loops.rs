//! Output that goes round in circles.

use std::collections::HashMap;

/// Number of words of the phrases that are counted.
const PHRASE_WORDS: usize = 3;
/// A phrase that stands this often in one output is a loop, unless the source repeats itself as well.
const TOO_OFTEN: usize = 4;
/// Number of characters of the phrases that are counted in text without spaces.
const PHRASE_CHARS: usize = 8;

/// The phrase that an output repeats over and over, if there is one: three words in a text with spaces,
/// eight characters in one without, four times or more.
pub(in crate::fidelity) fn repeated_phrase(output: &str) -> Option<String> {
    let words: Vec<&str> = output.split_whitespace().collect();
    let chars: Vec<char> = output.chars().filter(|c| !c.is_whitespace()).collect();
    // Chinese has few spaces: count characters there, words elsewhere.
    if words.len() * PHRASE_CHARS < chars.len() {
        most_frequent(&chars, PHRASE_CHARS).map(|phrase| phrase.iter().collect())
    } else {
        most_frequent(&words, PHRASE_WORDS).map(|phrase| phrase.join(" "))
    }
}

fn most_frequent<T: std::hash::Hash + Eq>(items: &[T], length: usize) -> Option<&[T]> {
    let mut counts = HashMap::new();
    for phrase in items.windows(length) {
        let count = counts.entry(phrase).or_insert(0);
        *count += 1;
        if *count >= TOO_OFTEN {
            return Some(phrase);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_found_in_both_languages() {
        let english = "and the world of the world of the world of the world of";
        assert_eq!(repeated_phrase(english).as_deref(), Some("the world of"));
        let chinese = "推动高质量发展迈上新台阶，".repeat(4);
        assert!(repeated_phrase(&chinese).is_some());
    }

    #[test]
    fn ordinary_text_is_no_loop() {
        let text =
            "The city of Chengdu and the city of Nanjing signed 20 agreements with the city of Montpellier.";
        assert_eq!(repeated_phrase(text), None);
        assert_eq!(repeated_phrase("全国建成3.5万多家基础级、230多家卓越级智能工厂。"), None);
        assert_eq!(repeated_phrase(""), None);
    }
}
