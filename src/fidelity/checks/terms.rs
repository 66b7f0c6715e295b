//! Glossary terms and names whose rendering an output must contain.

use std::{cmp::Reverse, ops::Range};

use crate::fidelity::verdict::{Alignment, AlignmentKind};

/// What requires a rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// A glossary: the output must contain the rendering itself.
    Term,
    /// The lexicon: an inflected or shortened form will do, such as French for France.
    Name,
}

/// A term or name of the source and its renderings, one of which the output must contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequiredTerm<'a> {
    /// What requires it.
    pub requirement: Requirement,
    /// The Chinese term.
    pub source: &'a str,
    /// The preferred rendering.
    pub target: &'a str,
    /// Other correct renderings.
    pub accepted: &'a [String],
}

impl RequiredTerm<'_> {
    /// Returns `true` if `output` contains one of the renderings. Case, the kind of quotation marks, hyphens and a leading
    /// `the` are ignored; of a name, an inflected form or most of its words are enough.
    pub(in crate::fidelity) fn is_rendered_in(&self, output: &str) -> bool {
        let output = normalized(output);
        self.forms().map(normalized).any(|form| {
            let form = form.strip_prefix("the ").unwrap_or(&form);
            output.contains(form)
                || (self.requirement == Requirement::Name && is_paraphrased_in(form, &output))
        })
    }

    /// Returns `true` if a span of the source lies within an occurrence of the term.
    pub(in crate::fidelity) fn covers_in_source(&self, source: &str, span: &Range<usize>) -> bool {
        occurrences(source, self.source).any(|own| contains(&own, span))
    }

    /// Returns `true` if a span of the output lies within an occurrence of one of the renderings.
    pub(in crate::fidelity) fn covers_in_output(&self, output: &str, span: &Range<usize>) -> bool {
        self.forms().any(|form| occurrences(output, form).any(|own| contains(&own, span)))
    }

    /// Returns all correct renderings.
    pub(in crate::fidelity) fn forms(&self) -> impl Iterator<Item = &str> {
        self.accepted.iter().map(String::as_str).chain([self.target])
    }
}

/// Aligns the occurrences of the terms with those of their renderings, in the order in which they appear.
///
/// Renderings are searched literally. Where terms overlap, the longest wins; where a term occurs more often in one text
/// than in the other, the surplus occurrences are aligned with the last one of the other text.
pub(in crate::fidelity) fn align_terms(
    source: &str,
    terms: &[&RequiredTerm<'_>],
    output: &str,
) -> impl Iterator<Item = Alignment> {
    let mut terms = terms.to_vec();
    terms.sort_by_key(|term| Reverse(term.source.len()));
    let (mut source_taken, mut output_taken) = (Vec::new(), Vec::new());
    let mut alignments = Vec::new();
    for term in terms {
        let own = free_occurrences(source, [term.source].into_iter(), &mut source_taken);
        let other = free_occurrences(output, term.forms(), &mut output_taken);
        if own.is_empty() || other.is_empty() {
            continue;
        }
        alignments.extend((0..own.len().max(other.len())).map(|index| Alignment {
            kind: AlignmentKind::Term,
            source_span: own[index.min(own.len() - 1)].clone(),
            output_span: other[index.min(other.len() - 1)].clone(),
        }));
    }
    alignments.into_iter()
}

/// Returns the occurrences of any of the forms that overlap nothing in `taken`, in order, and adds them to it.
fn free_occurrences<'a>(
    text: &str,
    forms: impl Iterator<Item = &'a str>,
    taken: &mut Vec<Range<usize>>,
) -> Vec<Range<usize>> {
    let mut forms: Vec<&str> = forms.filter(|form| !form.is_empty()).collect();
    forms.sort_by_key(|form| Reverse(form.len()));
    let mut free = Vec::new();
    for span in forms.into_iter().flat_map(|form| occurrences(text, form)) {
        if taken.iter().all(|other| span.end <= other.start || other.end <= span.start) {
            taken.push(span.clone());
            free.push(span);
        }
    }
    free.sort_by_key(|span| span.start);
    free
}

/// Returns `true` if more than half of the longer words of a name occur in an output, each in any form.
fn is_paraphrased_in(name: &str, output: &str) -> bool {
    /// Words that share this many letters are forms of one word: France, French; Thailand, Thai.
    const STEM_LETTERS: usize = 4;
    let stem = |word: &str| word.chars().take(STEM_LETTERS).collect::<String>();
    let stems: Vec<String> = name.split(' ').filter(|word| word.len() >= STEM_LETTERS).map(stem).collect();
    let is_kept = |wanted: &&String| {
        output.split(' ').any(|word| stem(word.trim_start_matches(['(', '"', '\''])) == **wanted)
    };
    2 * stems.iter().filter(is_kept).count() > stems.len()
}

fn occurrences<'a>(text: &'a str, part: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    text.match_indices(part).map(|(start, part)| start..start + part.len())
}

fn contains(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// Returns the text in lower case, with one kind of quotation mark, spaces for hyphens, and single spaces.
fn normalized(text: &str) -> String {
    let mark = |c: char| match c {
        '‘' | '’' => '\'',
        '“' | '”' => '"',
        '-' | '‑' | '–' => ' ',
        c => c,
    };
    let normalized: String = text.chars().map(mark).flat_map(char::to_lowercase).collect();
    normalized.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignores_case_quotation_marks_hyphens_and_the_article() {
        let accepted = ["WTO".to_owned()];
        let term = |target| RequiredTerm {
            requirement: Requirement::Term,
            source: "世贸组织",
            target,
            accepted: &accepted,
        };
        assert!(term("the World Trade Organization").is_rendered_in("At World  trade organization talks"));
        assert!(term("the World Trade Organization").is_rendered_in("WTO talks"));
        assert!(!term("the World Trade Organization").is_rendered_in("World Trade talks"));
        let term =
            |target| RequiredTerm { requirement: Requirement::Term, source: "", target, accepted: &[] };
        assert!(term("People’s Daily").is_rendered_in("the People's Daily"));
        assert!(term("high-quality development").is_rendered_in("High quality development"));
    }

    #[test]
    fn accepts_inflected_and_shortened_names() {
        let name =
            |target| RequiredTerm { requirement: Requirement::Name, source: "", target, accepted: &[] };
        assert!(name("Thailand").is_rendered_in("the Thai government said"));
        assert!(name("Chinese Academy of Sciences").is_rendered_in("The academy of sciences in Beijing"));
        assert!(!name("Gansu").is_rendered_in("in Shanxi Province"));
        assert!(!name("Xi'an").is_rendered_in("in Xining"));
        assert!(!RequiredTerm { requirement: Requirement::Term, ..name("Thailand") }.is_rendered_in("Thai"));
    }

    #[test]
    fn aligns_the_longest_term_and_every_occurrence() {
        let term =
            |source, target| RequiredTerm { requirement: Requirement::Term, source, target, accepted: &[] };
        let (long, short) = (term("第3代火箭", "third-generation rocket"), term("3代", "3 generations"));
        let (source, output) = ("第3代火箭，第3代火箭，3代", "third-generation rocket: 3 generations");
        let aligned: Vec<_> = align_terms(source, &[&short, &long], output)
            .map(|alignment| (alignment.source_span, &output[alignment.output_span]))
            .collect();
        let rocket = "third-generation rocket";
        assert_eq!(aligned, [(0..13, rocket), (16..29, rocket), (32..36, "3 generations")]);
    }
}
