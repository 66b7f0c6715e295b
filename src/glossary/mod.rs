//! Terms and the English that they must become: glossary files, the ones that come with the build, and their search in
//! a text.
//!
//! Called by `pipeline` (which writes the English into the source and requires it of the output), by `server` and `cli`
//! (which read files). Knows none of the others, and never decides what to do about a term that is missing.
//!
//! A glossary file holds a term a line, `Chinese<TAB>English`, UTF-8; `#` begins a comment line, and columns after the
//! second are notes. Further accepted forms of the English follow the first after `|`.

mod parse;

use std::{
    ops::Range,
    sync::{Arc, LazyLock},
};

use aho_corasick::{AhoCorasick, MatchKind};
use sha2::{Digest, Sha256};

pub use parse::GlossaryError;

/// A Chinese term and its English.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Term {
    /// As it stands in the text.
    pub source: String,
    /// The English that is written.
    pub target: String,
    /// Other forms of the English that are right as well.
    pub accepted: Vec<String>,
}

impl Term {
    /// A term; `target` may name further accepted forms after `|`.
    pub fn new(source: &str, target: &str) -> Self {
        let mut forms = target.split('|').map(|form| form.trim().to_owned());
        let target = forms.next().unwrap_or_default();
        Self { source: source.trim().to_owned(), target, accepted: forms.filter(|f| !f.is_empty()).collect() }
    }
}

/// A place in a text where a term stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence<'g> {
    /// The bytes of the text.
    pub range: Range<usize>,
    /// The term.
    pub term: &'g Term,
}

/// Terms, ready to be searched for.
#[derive(Debug, Clone)]
pub struct Glossary {
    terms: Vec<Term>,
    /// Finds the sources of `terms`, the longest at each place.
    matcher: AhoCorasick,
    sha256: String,
}

macro_rules! builtin {
    ($file:literal) => {
        (concat!("glossaries/", $file), include_str!(concat!("../../glossaries/", $file)))
    };
}

/// The terms that every request begins with.
static DEFAULT: LazyLock<Arc<Glossary>> =
    LazyLock::new(|| Arc::new(builtin_glossary(&[builtin!("official.tsv"), builtin!("agencies.tsv")])));

/// Places that stand in datelines.
static PLACES: LazyLock<Glossary> = LazyLock::new(|| builtin_glossary(&[builtin!("places.tsv")]));

fn builtin_glossary(files: &[(&str, &str)]) -> Glossary {
    let terms = files.iter().flat_map(|(name, text)| {
        parse::terms(name, text).expect("the files of `glossaries` are part of this build and are tested")
    });
    Glossary::new(terms)
}

impl Glossary {
    /// The glossary without terms.
    pub fn empty() -> Self {
        Self::new([])
    }

    /// The terms that come with the build: official terms and the names of agencies.
    pub fn builtin() -> Arc<Self> {
        DEFAULT.clone()
    }

    /// The places that stand in datelines.
    pub fn places() -> &'static Self {
        &PLACES
    }

    /// Of two terms with the same source the later one counts; a term without source or target is left out.
    pub fn new(terms: impl IntoIterator<Item = Term>) -> Self {
        let mut by_source = std::collections::BTreeMap::new();
        for term in terms {
            if !term.source.is_empty() && !term.target.is_empty() {
                by_source.insert(term.source.clone(), term);
            }
        }
        let terms: Vec<Term> = by_source.into_values().collect();
        let matcher = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(terms.iter().map(|term| &term.source))
            .expect("a glossary is far smaller than what the automaton can hold");
        let sha256 = hash(&terms);
        Self { terms, matcher, sha256 }
    }

    /// Reads a glossary file; `name` stands in errors.
    ///
    /// # Errors
    /// [`GlossaryError`] names the line that is no term.
    pub fn parse(name: &str, text: &str) -> Result<Self, GlossaryError> {
        Ok(Self::new(parse::terms(name, text)?))
    }

    /// This glossary with the terms of another, which win.
    #[must_use]
    pub fn with(&self, others: impl IntoIterator<Item = Term>) -> Self {
        Self::new(self.terms.iter().cloned().chain(others))
    }

    /// The terms, by source.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// The term of exactly this source.
    pub fn get(&self, source: &str) -> Option<&Term> {
        let at = self.terms.binary_search_by(|term| term.source.as_str().cmp(source)).ok()?;
        Some(&self.terms[at])
    }

    /// Where terms stand in a text, from left to right, the longest at each place, without overlap.
    pub fn find<'g>(&'g self, text: &str) -> impl Iterator<Item = Occurrence<'g>> {
        self.matcher
            .find_iter(text)
            .map(|found| Occurrence { range: found.range(), term: &self.terms[found.pattern().as_usize()] })
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// SHA-256 over the terms, hexadecimal; empty without terms. A part of the key of every result.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

fn hash(terms: &[Term]) -> String {
    if terms.is_empty() {
        return String::new();
    }
    let mut hash = Sha256::new();
    for term in terms {
        hash.update(format!("{}\t{}\t{}\n", term.source, term.target, term.accepted.join("|")));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(glossary: &Glossary, text: &str) -> Vec<String> {
        glossary.find(text).map(|o| format!("{}={}", &text[o.range], o.term.target)).collect()
    }

    #[test]
    fn the_longest_term_wins_at_every_place() {
        let glossary = Glossary::new([
            Term::new("蓝箭", "Blue Arrow"),
            Term::new("蓝箭航天", "LandSpace"),
            Term::new("神舟", "Shenzhou"),
        ]);
        assert_eq!(found(&glossary, "蓝箭航天与蓝箭，不是航天"), ["蓝箭航天=LandSpace", "蓝箭=Blue Arrow"]);
        assert_eq!(found(&Glossary::empty(), "蓝箭航天"), [] as [&str; 0]);
    }

    #[test]
    fn later_terms_win_and_change_the_hash() {
        let first = Glossary::new([Term::new("欧盟", "the European Union | EU")]);
        assert_eq!(first.terms()[0].accepted, ["EU"]);
        let second = first.with([Term::new("欧盟", "the EU"), Term::new("", "nothing")]);
        assert_eq!((second.terms().len(), second.get("欧盟").unwrap().target.as_str()), (1, "the EU"));
        assert!(first.sha256().len() == 64 && first.sha256() != second.sha256());
        assert_eq!(Glossary::empty().sha256(), "");
    }

    #[test]
    fn what_comes_with_the_build_can_be_read_and_holds_no_chinese_in_its_english() {
        let han = |text: &str| text.chars().any(|c| ('\u{3400}'..='\u{9fff}').contains(&c));
        for glossary in [&*Glossary::builtin(), Glossary::places()] {
            assert!(glossary.terms().len() > 100);
            for term in glossary.terms() {
                assert!(!han(&term.target) && !term.accepted.iter().any(|form| han(form)), "{term:?}");
            }
        }
        assert_eq!(Glossary::places().get("墨西哥城").unwrap().target, "Mexico City");
    }
}
