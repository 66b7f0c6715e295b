//! Names of the reference that a translation keeps.

use std::{collections::BTreeSet, sync::LazyLock};

use regex::Regex;

/// Capitalized words that are not names.
const CALENDAR: [&str; 19] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// A name of the source with the English forms that the reference uses.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct ReferenceName(pub String, pub Vec<String>);

/// The number of names that a translation should contain, and of those that it does contain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NameCounts {
    /// The names that it should contain.
    pub expected: usize,
    /// The names that it contains.
    pub kept: usize,
}

impl NameCounts {
    fn of(kept: impl Iterator<Item = bool>) -> Self {
        kept.fold(Self::default(), |sum, is_kept| Self {
            expected: sum.expected + 1,
            kept: sum.kept + usize::from(is_kept),
        })
    }

    /// Returns the sum of two counts.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { expected: self.expected + other.expected, kept: self.kept + other.kept }
    }
}

/// Counts the names of which an output contains at least one form, as whole words in any case.
pub fn names_kept(names: &[ReferenceName], output: &str) -> NameCounts {
    let output = folded(output);
    NameCounts::of(
        names.iter().map(|ReferenceName(_, forms)| forms.iter().any(|form| contains(&output, form))),
    )
}

/// Counts the proper words of a reference that an output contains.
///
/// A proper word begins with a capital, has at least three letters, does not open a sentence and does not name a month
/// or a day.
pub fn proper_words_kept(reference: &str, output: &str) -> NameCounts {
    let output = folded(output);
    NameCounts::of(proper_words(reference).into_iter().map(|word| contains(&output, word)))
}

fn proper_words(reference: &str) -> BTreeSet<&str> {
    static WORD: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new("[A-Z][a-zA-Z\u{c0}-\u{24f}]{2,}")
            .expect("the pattern is part of this build and is tested")
    });
    let opens_sentence = |start: usize| {
        let before = reference[..start].trim_end();
        before.is_empty() || before.ends_with(['.', '!', '?', ':', '“', '"'])
    };
    WORD.find_iter(reference)
        .filter(|word| !opens_sentence(word.start()))
        .map(|word| word.as_str())
        .filter(|word| !CALENDAR.contains(&word.to_lowercase().as_str()))
        .collect()
}

/// Returns a text in lower case with plain apostrophes.
fn folded(text: &str) -> String {
    text.to_lowercase().replace('\u{2019}', "'")
}

/// Returns `true` if a folded text contains a word or a phrase that is not part of a longer word.
fn contains(folded_text: &str, phrase: &str) -> bool {
    let phrase = folded(phrase);
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    !phrase.is_empty()
        && folded_text.match_indices(&phrase).any(|(start, _)| {
            let (before, after) = (&folded_text[..start], &folded_text[start + phrase.len()..]);
            !is_word(before.chars().next_back()) && !is_word(after.chars().next())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_names_in_any_accepted_form() {
        let name =
            |forms: &[&str]| ReferenceName("名".to_owned(), forms.iter().map(|f| f.to_string()).collect());
        let names = [name(&["Kim Jong-un", "Kim"]), name(&["Xi’an"]), name(&["Oman"])];
        let counts = names_kept(&names, "KIM visited xi'an, not Romania.");
        assert_eq!(counts, NameCounts { expected: 3, kept: 2 });
        assert_eq!(names_kept(&[name(&[""])], "x"), NameCounts { expected: 1, kept: 0 });
    }

    #[test]
    fn finds_capitalized_words_inside_sentences() {
        let words =
            proper_words("Before May, Li Ming of Müller and AT&T met Anna. Then “Bob” and EU left Oman.");
        assert_eq!(words.into_iter().collect::<Vec<_>>(), ["Anna", "Ming", "Müller", "Oman"]);
        let counts = proper_words_kept("In Oman and in Oman, Anna.", "anna saw Oman");
        assert_eq!(counts, NameCounts { expected: 2, kept: 2 });
    }
}
