//! Writes terms and quantities into the source in English before the model sees it, so that the model only has to copy
//! them.
//!
//! Called by `translate` for every chunk. Measured: a list of terms in the prompt was ignored, and the model converted 12
//! of 62 quantities in 万 and 亿 by itself; with the English written into the source, the terms and 58 of the 62 came
//! out right.

use crate::{
    fidelity::{
        RequiredTerm,
        numerals::{self, QuantityRewrite},
    },
    glossary::{Glossary, Term},
};

/// A source as the model sees it, and the terms that its translation must contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pretranslated<'g> {
    /// The text that goes into the prompt.
    pub(super) text: String,
    /// The glossary terms that occur in the source, each once.
    pub(super) terms: Vec<&'g Term>,
}

impl<'g> Pretranslated<'g> {
    /// Leaves the source as it is, for models that were not trained on Chinese with English words in it.
    pub(super) fn unchanged(source: &str, glossary: &'g Glossary) -> Self {
        let mut terms: Vec<&Term> = Vec::new();
        glossary.find(source).for_each(|occurrence| push_once(&mut terms, occurrence.term));
        Self { text: source.to_owned(), terms }
    }

    /// Returns the terms in the form in which the checks require them of the translation.
    pub(super) fn required(&self) -> Vec<RequiredTerm<'_>> {
        self.terms
            .iter()
            .map(|term| RequiredTerm { source: &term.source, target: &term.target, accepted: &term.accepted })
            .collect()
    }
}

/// Replaces the terms of a source, and the quantities that `quantities` selects, by their English.
///
/// [`QuantityRewrite::ALL`] replaces place names as well; most of the time the model knows those by itself. A space separates
/// English from Chinese where the two would touch: in `Chang’e-6月球样品` the model would read `6月`, June.
pub(super) fn pretranslate<'g>(
    source: &str,
    glossary: &'g Glossary,
    quantities: QuantityRewrite,
) -> Pretranslated<'g> {
    let mut text = String::with_capacity(source.len());
    let mut terms: Vec<&Term> = Vec::new();
    let mut end = 0;
    for occurrence in glossary.find(source) {
        push_between_terms(&mut text, &source[end..occurrence.range.start], quantities);
        push_spaced(&mut text, &occurrence.term.target);
        end = occurrence.range.end;
        push_once(&mut terms, occurrence.term);
    }
    push_between_terms(&mut text, &source[end..], quantities);
    Pretranslated { text, terms }
}

/// Appends the source between two terms, with its quantities (and, for [`QuantityRewrite::ALL`], its places) in English.
fn push_between_terms(text: &mut String, source: &str, quantities: QuantityRewrite) {
    let mut end = 0;
    if quantities == QuantityRewrite::ALL {
        for place in Glossary::places().find(source) {
            push_spaced(text, &numerals::rewrite_quantities(&source[end..place.range.start], quantities));
            push_spaced(text, &place.term.target);
            end = place.range.end;
        }
    }
    push_spaced(text, &numerals::rewrite_quantities(&source[end..], quantities));
}

fn push_once<'g>(terms: &mut Vec<&'g Term>, term: &'g Term) {
    if !terms.contains(&term) {
        terms.push(term);
    }
}

/// Appends `next`, after a space where two words would touch.
fn push_spaced(text: &mut String, next: &str) {
    if text.ends_with(char::is_alphanumeric) && next.starts_with(char::is_alphanumeric) {
        text.push(' ');
    }
    text.push_str(next);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_places_only_when_everything_is_replaced() {
        let glossary = Glossary::new([Term::new("东莞市政府", "Dongguan Municipal Government")]);
        let source = "东莞市政府5日在呼和浩特说，30亩";
        let default = pretranslate(source, &glossary, QuantityRewrite::default());
        assert_eq!(default.text, "Dongguan Municipal Government the 5th 在呼和浩特说，30亩");
        let all = pretranslate(source, &glossary, QuantityRewrite::ALL);
        assert_eq!(all.text, "Dongguan Municipal Government the 5th 在 Hohhot 说，30 mu");
        assert_eq!(all.terms, default.terms);
    }

    #[test]
    fn replaces_terms_and_quantities_and_lists_the_terms() {
        let glossary = Glossary::new([Term::new("蓝箭航天", "LandSpace"), Term::new("朱雀三号", "Zhuque-3")]);
        let source = "蓝箭航天披露，朱雀三号融资35亿元。蓝箭航天朱雀三号";
        let Pretranslated { text, terms } = pretranslate(source, &glossary, QuantityRewrite::default());
        assert!(text.starts_with("LandSpace 披露，Zhuque-3 融资"), "{text}");
        assert!(text.contains("3.5 billion") && text.ends_with("LandSpace Zhuque-3"), "{text}");
        assert_eq!(terms.iter().map(|t| t.target.as_str()).collect::<Vec<_>>(), ["LandSpace", "Zhuque-3"]);
        let unchanged = Pretranslated::unchanged("蓝箭航天融资35亿元", &glossary);
        assert_eq!((unchanged.text.as_str(), unchanged.terms.len()), ("蓝箭航天融资35亿元", 1));
    }
}
