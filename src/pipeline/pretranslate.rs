//! Writes terms, names and quantities into the source in English before the model sees it, so that the model only has to
//! copy them.
//!
//! Called by `translate` for every chunk. Measured: a list of terms in the prompt was ignored, and the model converted 12
//! of 62 quantities in 万 and 亿 by itself; with the English written into the source, the terms and 58 of the 62 came
//! out right.

use std::ops::Range;

use super::Job;
use crate::{
    fidelity::{
        RequiredTerm, Requirement,
        numerals::{self, QuantityRewrite},
    },
    glossary::Term,
    lexicon::Entry,
};

/// A source as the model sees it, and the terms and names that its translation must contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pretranslated<'j> {
    /// The text that goes into the prompt.
    pub(super) text: String,
    /// The glossary terms that occur in the source, each once.
    pub(super) terms: Vec<&'j Term>,
    /// The names of the lexicon that occur in the source outside of terms, each once.
    pub(super) names: Vec<&'j Entry>,
}

impl<'j> Pretranslated<'j> {
    /// Leaves the source as it is, for models that were not trained on Chinese with English words in it.
    pub(super) fn unchanged(source: &str, job: &'j Job) -> Self {
        let known = known_in(source, job);
        Self { text: source.to_owned(), terms: known.terms, names: known.names }
    }

    /// Returns the terms and names in the form in which the checks require them of the translation.
    pub(super) fn required(&self) -> Vec<RequiredTerm<'_>> {
        let terms = self.terms.iter().map(|term| RequiredTerm {
            requirement: Requirement::Term,
            source: &term.source,
            target: &term.target,
            accepted: &term.accepted,
        });
        let names = self.names.iter().map(|entry| RequiredTerm {
            requirement: Requirement::Name,
            source: &entry.source,
            target: &entry.target,
            accepted: &entry.accepted,
        });
        terms.chain(names).collect()
    }
}

/// Replaces the terms and names of a source, and the quantities that `quantities` selects, by their English.
///
/// A space separates English from Chinese where the two would touch: in `Chang’e-6月球样品` the model would read `6月`, June.
pub(super) fn pretranslate<'j>(source: &str, job: &'j Job, quantities: QuantityRewrite) -> Pretranslated<'j> {
    let known = known_in(source, job);
    let mut text = String::with_capacity(source.len());
    let mut end = 0;
    for (range, english) in &known.replacements {
        push_spaced(&mut text, &numerals::rewrite_quantities(&source[end..range.start], quantities));
        push_spaced(&mut text, english);
        end = range.end;
    }
    push_spaced(&mut text, &numerals::rewrite_quantities(&source[end..], quantities));
    Pretranslated { text, terms: known.terms, names: known.names }
}

/// What the glossary and the lexicon know in a source.
#[derive(Default)]
struct Known<'j> {
    /// What to replace and the English to write, from left to right and without overlap.
    replacements: Vec<(Range<usize>, &'j str)>,
    terms: Vec<&'j Term>,
    names: Vec<&'j Entry>,
}

/// Finds the terms of the glossary, and between them the names of the lexicon.
fn known_in<'j>(source: &str, job: &'j Job) -> Known<'j> {
    let mut known = Known::default();
    for occurrence in job.glossary.find(source) {
        known.replacements.push((occurrence.range, &occurrence.term.target));
        push_once(&mut known.terms, occurrence.term);
    }
    let of_terms = known.replacements.clone();
    for mention in job.lexicon.find(source) {
        let is_free = |(taken, _): &(Range<usize>, _)| {
            mention.range.end <= taken.start || taken.end <= mention.range.start
        };
        if of_terms.iter().all(is_free) {
            known.replacements.push((mention.range, &mention.entry.target));
            push_once(&mut known.names, mention.entry);
        }
    }
    known.replacements.sort_by_key(|(range, _)| range.start);
    known
}

fn push_once<'j, T: PartialEq>(items: &mut Vec<&'j T>, item: &'j T) {
    if !items.contains(&item) {
        items.push(item);
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
    use std::sync::Arc;

    use super::*;
    use crate::{
        document::{InputFormat, Limits, parse_text},
        glossary::Glossary,
        lexicon::{EntryKind, Lexicon},
    };

    fn job<const N: usize>(terms: [Term; N], names: &[(&str, &str)]) -> Job {
        let document = parse_text("甲。", InputFormat::Lines, &Limits::default()).unwrap();
        let entry = |(source, target): &(&str, &str)| Entry {
            source: (*source).to_owned(),
            target: (*target).to_owned(),
            accepted: Vec::new(),
            kind: EntryKind::Place,
        };
        Job {
            glossary: Arc::new(Glossary::new(terms)),
            lexicon: Arc::new(Lexicon::new(names.iter().map(entry).collect())),
            ..Job::new(document)
        }
    }

    #[test]
    fn replaces_names_outside_of_terms() {
        let names = [("东莞市", "Dongguan"), ("呼和浩特", "Hohhot")];
        let job = job([Term::new("东莞市政府", "Dongguan Municipal Government")], &names);
        let source = "东莞市政府5日在呼和浩特说，30亩";
        let default = pretranslate(source, &job, QuantityRewrite::default());
        assert_eq!(default.text, "Dongguan Municipal Government the 5th 在 Hohhot 说，30亩");
        assert_eq!(default.names.iter().map(|e| e.target.as_str()).collect::<Vec<_>>(), ["Hohhot"]);
        let all = pretranslate(source, &job, QuantityRewrite::ALL);
        assert_eq!(all.text, "Dongguan Municipal Government the 5th 在 Hohhot 说，30 mu");
        assert_eq!(all.terms, default.terms);
    }

    #[test]
    fn replaces_terms_and_quantities_and_lists_the_terms() {
        let job = job([Term::new("蓝箭航天", "LandSpace"), Term::new("朱雀三号", "Zhuque-3")], &[]);
        let source = "蓝箭航天披露，朱雀三号融资35亿元。蓝箭航天朱雀三号";
        let Pretranslated { text, terms, .. } = pretranslate(source, &job, QuantityRewrite::default());
        assert!(text.starts_with("LandSpace 披露，Zhuque-3 融资"), "{text}");
        assert!(text.contains("3.5 billion") && text.ends_with("LandSpace Zhuque-3"), "{text}");
        assert_eq!(terms.iter().map(|t| t.target.as_str()).collect::<Vec<_>>(), ["LandSpace", "Zhuque-3"]);
        let unchanged = Pretranslated::unchanged("蓝箭航天融资35亿元", &job);
        assert_eq!((unchanged.text.as_str(), unchanged.terms.len()), ("蓝箭航天融资35亿元", 1));
    }
}
