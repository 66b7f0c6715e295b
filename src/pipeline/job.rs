//! One validated request.

use std::{collections::HashSet, sync::Arc, time::Instant};

use sha2::{Digest, Sha256};

use crate::{
    document::Document,
    engine::{Priority, Sampling},
};

/// The longest summary when nothing else is asked for, in characters.
pub const DEFAULT_SUMMARY_CHARS: usize = 100;

/// Which results to make; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tasks {
    /// A Chinese summary of every section.
    pub summary: bool,
    /// An English translation of every paragraph.
    pub translation: bool,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { summary: true, translation: true }
    }
}

/// A Chinese term and the English that it must become.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Term {
    /// As it stands in the text.
    pub source: String,
    /// Its rendering.
    pub target: String,
}

/// One request, parsed and checked.
#[derive(Debug, Clone)]
pub struct Job {
    /// What is to be digested.
    pub document: Arc<Document>,
    /// Which results to make.
    pub tasks: Tasks,
    /// The longest summary, in characters without white space.
    pub summary_max_chars: usize,
    /// Terms, the longest first.
    pub terms: Arc<[Term]>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Who waits.
    pub priority: Priority,
    /// When the answer is worth nothing any more.
    pub deadline: Option<Instant>,
    /// Sections, as indices of article and section, that are known already and left out.
    pub skip: Arc<HashSet<(usize, usize)>>,
}

impl Job {
    /// A job with the default options.
    pub fn new(document: Document) -> Self {
        Self {
            document: Arc::new(document),
            tasks: Tasks::default(),
            summary_max_chars: DEFAULT_SUMMARY_CHARS,
            terms: Arc::new([]),
            sampling: Sampling::Greedy,
            priority: Priority::Interactive,
            deadline: None,
            skip: Arc::default(),
        }
    }

    /// Sets the terms.
    #[must_use]
    pub fn with_terms(mut self, mut terms: Vec<Term>) -> Self {
        terms.sort_by(|a, b| b.source.len().cmp(&a.source.len()).then_with(|| a.source.cmp(&b.source)));
        self.terms = terms.into();
        self
    }

    /// SHA-256 over the terms, hexadecimal; empty without terms.
    pub fn glossary_sha256(&self) -> String {
        if self.terms.is_empty() {
            return String::new();
        }
        let mut hash = Sha256::new();
        for term in self.terms.iter() {
            hash.update(format!("{}\t{}\n", term.source, term.target));
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Writes the English of every term in the place of the Chinese: what is settled is not the model's
    /// to decide. Returns the text and the terms that were found.
    pub(super) fn settle_terms(&self, text: &str) -> (String, Vec<&Term>) {
        let mut settled = text.to_owned();
        let mut found = Vec::new();
        for term in self.terms.iter().filter(|term| text.contains(&term.source)) {
            let replaced = settled.replace(&term.source, &term.target);
            if replaced != settled {
                settled = replaced;
                found.push(term);
            }
        }
        (settled, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(source: &str, target: &str) -> Term {
        Term { source: source.to_owned(), target: target.to_owned() }
    }

    #[test]
    fn the_longest_term_wins_and_only_found_terms_are_required() {
        let empty = Document { encoding: "UTF-8", articles: vec![], notes: vec![], tiles: vec![] };
        let job = Job::new(empty).with_terms(vec![
            term("蓝箭", "Blue Arrow"),
            term("蓝箭航天", "LandSpace"),
            term("神舟", "Shenzhou"),
        ]);
        let (text, found) = job.settle_terms("蓝箭航天披露细节");
        assert_eq!(text, "LandSpace披露细节");
        assert_eq!(found, [&term("蓝箭航天", "LandSpace")]);
        assert_eq!(job.glossary_sha256().len(), 64);
    }
}
