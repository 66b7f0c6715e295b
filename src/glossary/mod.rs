//! Terms with their required English: glossary files, the built-in glossaries, and the search for terms in a text.
//!
//! `pipeline` writes the English into the source and requires it of the translation; `server` and `cli` read files. The
//! module never decides what to do about a missing term.
//!
//! A glossary file is UTF-8 with one term per line, `Chinese<TAB>English`. Alternatives that are also accepted follow the
//! English after `|`. Lines that begin with `#` are comments; columns after the second are notes.

mod parse;

use std::{
    ops::Range,
    sync::{Arc, LazyLock},
};

use aho_corasick::{AhoCorasick, MatchKind};
use sha2::{Digest, Sha256};

pub use parse::GlossaryError;

/// A Chinese term with its English.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Term {
    /// The Chinese, as it occurs in texts.
    pub source: String,
    /// The preferred English.
    pub target: String,
    /// Other accepted forms of the English.
    pub accepted: Vec<String>,
}

impl Term {
    /// Creates a term. `target` may contain further accepted forms after `|`.
    pub fn new(source: &str, target: &str) -> Self {
        let mut forms = target.split('|').map(|form| form.trim().to_owned());
        let target = forms.next().unwrap_or_default();
        Self { source: source.trim().to_owned(), target, accepted: forms.filter(|f| !f.is_empty()).collect() }
    }
}

/// An occurrence of a term in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence<'g> {
    /// The byte range in the text.
    pub range: Range<usize>,
    /// The term.
    pub term: &'g Term,
}

/// A set of terms, compiled for searching.
#[derive(Debug, Clone)]
pub struct Glossary {
    terms: Vec<Term>,
    /// Matches the sources of `terms`, the longest at each position.
    matcher: AhoCorasick,
    sha256: String,
}

macro_rules! builtin {
    ($file:literal) => {
        (concat!("glossaries/", $file), include_str!(concat!("../../glossaries/", $file)))
    };
}

/// The terms that apply to every request.
static DEFAULT: LazyLock<Arc<Glossary>> =
    LazyLock::new(|| Arc::new(builtin_glossary(&[builtin!("official.tsv"), builtin!("agencies.tsv")])));

/// Places that occur in datelines.
static PLACES: LazyLock<Glossary> = LazyLock::new(|| builtin_glossary(&[builtin!("places.tsv")]));

fn builtin_glossary(files: &[(&str, &str)]) -> Glossary {
    let terms = files.iter().flat_map(|(name, text)| {
        parse::terms(name, text).expect("the files of `glossaries` are part of this build and are tested")
    });
    Glossary::new(terms)
}

impl Glossary {
    /// Creates a glossary without terms.
    pub fn empty() -> Self {
        Self::new([])
    }

    /// Returns the built-in terms: official terminology and the names of agencies.
    pub fn builtin() -> Arc<Self> {
        DEFAULT.clone()
    }

    /// Returns the built-in places that occur in datelines.
    pub fn places() -> &'static Self {
        &PLACES
    }

    /// Creates a glossary. The last of several terms with the same source wins; terms without a source or target are
    /// ignored.
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
            .expect("a glossary is far below the limits of the automaton");
        let sha256 = hash(&terms);
        Self { terms, matcher, sha256 }
    }

    /// Parses a glossary file. `name` identifies the file in errors.
    ///
    /// # Errors
    /// [`GlossaryError`] for the first invalid line.
    pub fn parse(name: &str, text: &str) -> Result<Self, GlossaryError> {
        Ok(Self::new(parse::terms(name, text)?))
    }

    /// Returns this glossary with further terms, which replace existing ones with the same source.
    #[must_use]
    pub fn with(&self, others: impl IntoIterator<Item = Term>) -> Self {
        Self::new(self.terms.iter().cloned().chain(others))
    }

    /// Returns the terms, sorted by source.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Returns the term with exactly this source.
    pub fn get(&self, source: &str) -> Option<&Term> {
        let at = self.terms.binary_search_by(|term| term.source.as_str().cmp(source)).ok()?;
        Some(&self.terms[at])
    }

    /// Finds the terms in a text from left to right, the longest at each position, without overlaps.
    pub fn find<'g>(&'g self, text: &str) -> impl Iterator<Item = Occurrence<'g>> {
        self.matcher
            .find_iter(text)
            .map(|found| Occurrence { range: found.range(), term: &self.terms[found.pattern().as_usize()] })
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Returns the hexadecimal SHA-256 of the terms, which is part of every cache key; empty for a glossary without terms.
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
    fn finds_the_longest_term_at_every_position() {
        let glossary = Glossary::new([
            Term::new("蓝箭", "Blue Arrow"),
            Term::new("蓝箭航天", "LandSpace"),
            Term::new("神舟", "Shenzhou"),
        ]);
        assert_eq!(found(&glossary, "蓝箭航天与蓝箭，不是航天"), ["蓝箭航天=LandSpace", "蓝箭=Blue Arrow"]);
        assert_eq!(found(&Glossary::empty(), "蓝箭航天"), [] as [&str; 0]);
    }

    #[test]
    fn replaces_terms_by_later_ones_and_changes_the_hash() {
        let first = Glossary::new([Term::new("欧盟", "the European Union | EU")]);
        assert_eq!(first.terms()[0].accepted, ["EU"]);
        let second = first.with([Term::new("欧盟", "the EU"), Term::new("", "nothing")]);
        assert_eq!((second.terms().len(), second.get("欧盟").unwrap().target.as_str()), (1, "the EU"));
        assert!(first.sha256().len() == 64 && first.sha256() != second.sha256());
        assert_eq!(Glossary::empty().sha256(), "");
    }

    #[test]
    fn built_in_glossaries_are_valid_and_their_english_contains_no_chinese() {
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
