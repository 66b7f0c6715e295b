//! The same transcribed name rendered the same way over the texts of one article.
//!
//! Called by `pipeline` with every piece when it is done. Only names that are heard in both the source and the output,
//! and that nobody has heard of otherwise, are touched: 塔马约 is Tamayo or Tamajo, but the France of 法国 may be French.

use std::collections::BTreeMap;

use super::{
    invented::{LatinWord, NOT_NAMES, words},
    lexicon::{derives_from_known, is_common, is_proper, known},
    phonetics::{TranscribedNames, are_alike},
};

/// How the names of an article have been rendered so far.
#[derive(Debug, Default)]
pub struct Renderings(BTreeMap<String, String>);

impl Renderings {
    /// Renders the names of an output as they were rendered before, and notes those that are new. `None` when that
    /// changes nothing.
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
        let heard = TranscribedNames::of(source);
        if heard.is_empty() {
            return None;
        }
        let mut settled = String::new();
        let mut end = 0;
        for word in words(output).iter().filter(|word| is_name(word)) {
            let Some(name) = heard.only_place_of(&word.text.to_lowercase()) else { continue };
            match self.known_as(name) {
                None => {
                    self.0.insert(name.to_owned(), word.text.to_owned());
                }
                Some(before) if before != word.text && is_free(word.text, before, source) => {
                    settled.push_str(&output[end..word.span.start]);
                    settled.push_str(before);
                    end = word.span.end;
                }
                Some(_) => {}
            }
        }
        (end > 0).then(|| settled + &output[end..])
    }

    /// What a name, or a longer or shorter stretch of the same characters, was rendered as.
    fn known_as(&self, name: &str) -> Option<&str> {
        let same = |other: &str| other.contains(name) || name.contains(other);
        let exact = self.0.get(name);
        exact
            .or_else(|| self.0.iter().find(|(other, _)| same(other)).map(|(_, target)| target))
            .map(String::as_str)
    }
}

/// Whether a word can be a transcribed name.
fn is_name(word: &LatinWord<'_>) -> bool {
    let lower = word.text.to_lowercase();
    let acronym = word.text.chars().all(char::is_uppercase);
    word.capital && !acronym && !NOT_NAMES.contains(&lower.as_str()) && !is_common(&lower)
}

/// Whether a word may be written as another one was: it is known for nothing else, no form of the other, and sounds
/// like it.
fn is_free(word: &str, before: &str, source: &str) -> bool {
    let is_form = word.starts_with(before) || before.starts_with(word);
    let is_known = is_proper(word) || known(&[word], source).is_some() || derives_from_known(word, source);
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
    fn a_name_is_rendered_as_it_was_before() {
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
    fn what_may_be_another_name_or_another_form_is_left() {
        for (first, source, output) in [
            // Forms of names that are known.
            (("墨西哥", "Mexico"), "墨西哥专家", "the Mexican expert"),
            (("哥伦比亚", "Colombia"), "哥伦比亚人", "Colombians"),
            // Two names that sound alike.
            (("莫雷诺说", "Moreno said"), "马里诺与莫雷诺", "Marino and Moreno"),
            // In the source of the second there is no such name.
            (("塔马约说", "Tamayo said"), "专家认为", "Tamajo thinks"),
            // Pinyin is exact.
            (("林伯强说", "Lin Boqiang said"), "林伯强", "Lin Boqiang"),
            (("塔马约说", "Tamayo said"), "塔马约们", "the Tamayos"),
        ] {
            assert_eq!(second(first, source, output), None, "{output}");
        }
    }
}
