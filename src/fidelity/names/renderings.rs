//! Renders a transcribed name in the same way throughout an article.
//!
//! Called by `pipeline` with each translated chunk. Changes only names that sound like a transcription in the source
//! and are not otherwise known: 塔马约 can be Tamayo or Tamajo, but the France of 法国 can be French elsewhere.

use std::collections::BTreeMap;

use super::{
    consonants::are_alike,
    invented::{LatinWord, NOT_NAMES, words},
    known::{derives_from_known, is_common, is_proper, known_name},
    phonetics::TranscribedNames,
};

/// The renderings of the names of an article so far, by their Chinese transcription.
#[derive(Debug, Default)]
pub struct Renderings(BTreeMap<String, String>);

impl Renderings {
    /// Replaces the names of an output with their earlier renderings and remembers the new names. Returns `None` if
    /// nothing changes.
    ///
    /// ```
    /// use yizhai::fidelity::Renderings;
    ///
    /// let mut renderings = Renderings::default();
    /// assert_eq!(renderings.unify("海梅·塔马约说。", "Jaime Tamayo said so."), None);
    /// let again = renderings.unify("塔马约认为不会。", "Tamajo does not think so.");
    /// assert_eq!(again.as_deref(), Some("Tamayo does not think so."));
    /// ```
    pub fn unify(&mut self, source: &str, output: &str) -> Option<String> {
        let transcribed = TranscribedNames::of(source);
        if transcribed.is_empty() {
            return None;
        }
        let mut unified = String::new();
        let mut end = 0;
        for word in words(output).iter().filter(|word| is_name(word)) {
            let Some(name) = transcribed.only_match(&word.text.to_lowercase()) else { continue };
            match self.earlier_rendering(name) {
                None => {
                    self.0.insert(name.to_owned(), word.text.to_owned());
                }
                Some(before) if before != word.text && may_replace(word.text, before, source) => {
                    unified.push_str(&output[end..word.span.start]);
                    unified.push_str(before);
                    end = word.span.end;
                }
                Some(_) => {}
            }
        }
        (end > 0).then(|| unified + &output[end..])
    }

    /// Returns the rendering of a name, or of a longer or shorter part of the same transcription.
    fn earlier_rendering(&self, name: &str) -> Option<&str> {
        let same = |other: &str| other.contains(name) || name.contains(other);
        let exact = self.0.get(name);
        exact
            .or_else(|| self.0.iter().find(|(other, _)| same(other)).map(|(_, target)| target))
            .map(String::as_str)
    }
}

/// Returns `true` if a word can be a transcribed name.
fn is_name(word: &LatinWord<'_>) -> bool {
    let lower = word.text.to_lowercase();
    let acronym = word.text.chars().all(char::is_uppercase);
    word.capital && !acronym && !NOT_NAMES.contains(&lower.as_str()) && !is_common(&lower)
}

/// Returns `true` if a word may be replaced with an earlier rendering: it sounds like it, is not a form of it, and is
/// not a known name.
fn may_replace(word: &str, before: &str, source: &str) -> bool {
    let is_form = word.starts_with(before) || before.starts_with(word);
    let is_known =
        is_proper(word) || known_name(&[word], source).is_some() || derives_from_known(word, source);
    !is_form && !is_known && are_alike(&word.to_lowercase(), &before.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(first: (&str, &str), source: &str, output: &str) -> Option<String> {
        let mut renderings = Renderings::default();
        assert_eq!(renderings.unify(first.0, first.1), None);
        renderings.unify(source, output)
    }

    #[test]
    fn reuses_the_earlier_rendering_of_a_name() {
        for (first, source, output, expected) in [
            (("海梅·塔马约说", "Jaime Tamayo said"), "塔马约认为", "Tamajo thinks", "Tamayo thinks"),
            (("塔马约说", "Tamayo said"), "专家塔马约的看法", "the view of Tamaio’s", "the view of Tamayo’s"),
            (("韦尔施内科夫说", "Verschnekov said"), "韦尔施内科夫", "Vershnekow", "Verschnekov"),
        ] {
            assert_eq!(second(first, source, output).as_deref(), Some(expected), "{output}");
        }
        let mut renderings = Renderings::default();
        let text = renderings.unify("塔马约说，塔马约问", "Tamayo said and Tamajo asked");
        assert_eq!(text.as_deref(), Some("Tamayo said and Tamayo asked"));
    }

    #[test]
    fn keeps_other_names_and_other_forms_of_a_name() {
        for (first, source, output) in [
            // Forms of known names.
            (("墨西哥", "Mexico"), "墨西哥专家", "the Mexican expert"),
            (("哥伦比亚", "Colombia"), "哥伦比亚人", "Colombians"),
            // Two names that sound alike.
            (("莫雷诺说", "Moreno said"), "马里诺与莫雷诺", "Marino and Moreno"),
            // The second source does not contain the name.
            (("塔马约说", "Tamayo said"), "专家认为", "Tamajo thinks"),
            // Pinyin is exact.
            (("林伯强说", "Lin Boqiang said"), "林伯强", "Lin Boqiang"),
            (("塔马约说", "Tamayo said"), "塔马约们", "the Tamayos"),
        ] {
            assert_eq!(second(first, source, output), None, "{output}");
        }
    }
}
