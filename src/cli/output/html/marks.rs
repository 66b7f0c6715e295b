//! Text cut into pieces: what is plain, the numbers and terms that stand in both languages, what a finding names, and
//! the sentences that a summary rests on. Called by `page`.

use std::{collections::BTreeMap, ops::Range};

use crate::{fidelity::numerals, pb};

/// A piece of a text and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) kind: Kind,
}

/// What a piece is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// A number or a term that stands in the other language too.
    Linked {
        /// "number" or "term".
        class: &'static str,
        /// The group of all pieces that mean the same.
        group: usize,
        id: String,
        /// The id of the first of its group in the other language.
        to: String,
        /// In words, for those who do not see the page.
        label: String,
    },
    /// A number that does not stand in the other language.
    Lone,
    /// What a finding names.
    Found,
}

/// Pieces that belong to one sentence, if anything rests on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// The sentence's id.
    pub(super) sentence: Option<String>,
    pub(super) pieces: Vec<Piece>,
}

/// A range with what stands in it.
#[derive(Debug, Clone)]
struct Mark {
    range: Range<usize>,
    class: &'static str,
    /// What it means: marks of both languages with the same meaning are linked.
    meaning: String,
}

/// A paragraph in both languages, cut into runs. `id` begins the ids of its pieces; `sentences` are ranges of the
/// source with their ids, in order and apart; `found` are pieces of the translation that findings name.
pub(super) fn pair(
    id: &str,
    source: &str,
    english: &str,
    terms: &[pb::Term],
    sentences: &[(Range<usize>, String)],
    found: &[&str],
) -> (Vec<Run>, Vec<Run>) {
    let (zh_numbers, en_numbers) = numbers(source, english);
    let marks = |text: &str, of_term: fn(&pb::Term) -> &str, numbers: Vec<Mark>| {
        let terms = terms.iter().flat_map(|term| {
            occurrences(text, of_term(term)).map(|range| Mark {
                range,
                class: "term",
                meaning: term.source.clone(),
            })
        });
        apart(terms.chain(numbers).collect())
    };
    let found: Vec<Mark> = found
        .iter()
        .flat_map(|piece| {
            occurrences(english, piece).map(|range| Mark { range, class: "found", meaning: String::new() })
        })
        .collect();
    let zh = marks(source, |term| &term.source, zh_numbers);
    let en = apart(found.into_iter().chain(marks(english, |term| &term.target, en_numbers)).collect());
    let groups = groups(&zh, &en);
    let cutter = |side: char, other: char| Cutter { id, side, other, groups: &groups };
    (cutter('z', 'e').cut(source, &zh, sentences), cutter('e', 'z').cut(english, &en, &[]))
}

/// The numbers of both texts; those that say the same mean the same.
fn numbers(source: &str, english: &str) -> (Vec<Mark>, Vec<Mark>) {
    let report = numerals::compare(source, english);
    let mark = |quantity: &numerals::Quantity, meaning: String| Mark {
        range: quantity.span.clone(),
        class: "number",
        meaning,
    };
    let (mut zh, mut en) = (Vec::new(), Vec::new());
    for (here, there) in &report.pairs {
        // Named by where the first of them stands; what stands in several pairs makes one of them.
        let place =
            |marks: &[Mark], span| marks.iter().find(|m: &&Mark| m.range == span).map(|m| m.meaning.clone());
        let meaning = place(&zh, here.span.clone())
            .or_else(|| place(&en, there.span.clone()))
            .unwrap_or_else(|| here.span.start.to_string());
        zh.push(mark(here, meaning.clone()));
        en.push(mark(there, meaning));
    }
    zh.extend(report.missing.iter().map(|quantity| mark(quantity, "missing".to_owned())));
    en.extend(report.unexpected.iter().map(|quantity| mark(quantity, "unexpected".to_owned())));
    (zh, en)
}

/// What stands in both languages, by its class and meaning: the number of its group.
type Groups = BTreeMap<(&'static str, String), usize>;

fn groups(zh: &[Mark], en: &[Mark]) -> Groups {
    let mut groups = Groups::new();
    for mark in zh {
        let stands_in_both =
            en.iter().any(|other| other.class == mark.class && other.meaning == mark.meaning);
        let next = groups.len();
        if stands_in_both {
            groups.entry((mark.class, mark.meaning.clone())).or_insert(next);
        }
    }
    groups
}

struct Cutter<'a> {
    id: &'a str,
    /// The letter of this side in ids, and that of the other.
    side: char,
    other: char,
    groups: &'a Groups,
}

impl Cutter<'_> {
    fn cut(&self, text: &str, marks: &[Mark], sentences: &[(Range<usize>, String)]) -> Vec<Run> {
        let mut seen = vec![0; self.groups.len()];
        let mut runs = Vec::new();
        let mut at = 0;
        let ends = [(text.len()..text.len(), None)];
        let wrapped = sentences.iter().map(|(range, id)| (range.clone(), Some(id.clone()))).chain(ends);
        for (range, sentence) in wrapped {
            if range.start > at {
                let pieces = self.pieces(text, at..range.start, marks, &mut seen);
                runs.push(Run { sentence: None, pieces });
            }
            if !range.is_empty() {
                let pieces = self.pieces(text, range.clone(), marks, &mut seen);
                runs.push(Run { sentence, pieces });
            }
            at = range.end;
        }
        runs
    }

    fn pieces(&self, text: &str, within: Range<usize>, marks: &[Mark], seen: &mut [usize]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut at = within.start;
        let inside = |mark: &&Mark| mark.range.start >= within.start && mark.range.end <= within.end;
        for mark in marks.iter().filter(inside) {
            if mark.range.start > at {
                pieces.push(Piece { text: text[at..mark.range.start].to_owned(), kind: Kind::Plain });
            }
            pieces.push(Piece { text: text[mark.range.clone()].to_owned(), kind: self.kind(mark, seen) });
            at = mark.range.end;
        }
        if at < within.end {
            pieces.push(Piece { text: text[at..within.end].to_owned(), kind: Kind::Plain });
        }
        pieces
    }

    fn kind(&self, mark: &Mark, seen: &mut [usize]) -> Kind {
        match self.groups.get(&(mark.class, mark.meaning.clone())) {
            Some(group) => {
                let occurrence = seen[*group];
                seen[*group] += 1;
                let Self { id, side, other, .. } = self;
                Kind::Linked {
                    class: mark.class,
                    group: *group,
                    id: format!("{id}{side}{group}-{occurrence}"),
                    to: format!("{id}{other}{group}-0"),
                    label: match side {
                        'z' => "the same in the translation".to_owned(),
                        _ => "the same in the source".to_owned(),
                    },
                }
            }
            None if mark.class == "found" => Kind::Found,
            None if mark.class == "number" => Kind::Lone,
            None => Kind::Plain,
        }
    }
}

/// Where a piece stands in a text; never for an empty one.
fn occurrences<'a>(text: &'a str, piece: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    let found = (!piece.is_empty()).then(|| text.match_indices(piece)).into_iter().flatten();
    found.map(|(start, piece)| start..start + piece.len())
}

/// In order, and no two over each other: the earlier wins, and of two that begin together the longer.
fn apart(mut marks: Vec<Mark>) -> Vec<Mark> {
    marks.sort_by_key(|mark| (mark.range.start, std::cmp::Reverse(mark.range.end)));
    let mut end = 0;
    marks.retain(|mark| {
        let is_free = mark.range.start >= end;
        if is_free {
            end = mark.range.end;
        }
        is_free
    });
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(runs: &[Run]) -> String {
        runs.iter().flat_map(|run| &run.pieces).map(|piece| piece.text.as_str()).collect()
    }

    fn kinds(runs: &[Run]) -> Vec<(&str, &Kind)> {
        let pieces = runs.iter().flat_map(|run| &run.pieces);
        pieces.filter(|p| p.kind != Kind::Plain).map(|p| (p.text.as_str(), &p.kind)).collect()
    }

    #[test]
    fn what_stands_in_both_languages_is_linked_and_nothing_of_the_text_is_lost() {
        let zh = "蓝箭航天营收557.4亿元。增长14.8%。另有3项。";
        let en = "LandSpace earned 55.74 billion yuan, up 14.8%, in 准入 terms.";
        let terms = [pb::Term { source: "蓝箭航天".to_owned(), target: "LandSpace".to_owned() }];
        let first = zh.find("增").unwrap();
        let sentences = [(0..first, "s0".to_owned())];
        let (source, english) = pair("p", zh, en, &terms, &sentences, &["准入"]);
        assert_eq!((text(&source), text(&english)), (zh.to_owned(), en.to_owned()));
        assert_eq!(source[0].sentence.as_deref(), Some("s0"));
        assert_eq!(source[1].sentence, None);
        let link = |runs: &[Run], text: &str| match kinds(runs).iter().find(|(found, _)| *found == text) {
            Some((_, Kind::Linked { id, to, .. })) => (id.clone(), to.clone()),
            other => panic!("{text} is {other:?}"),
        };
        for (zh, en) in [("蓝箭航天", "LandSpace"), ("557.4亿元", "55.74 billion yuan"), ("14.8%", "14.8%")]
        {
            let (from, to) = (link(&source, zh), link(&english, en));
            assert_eq!((from.1, from.0), (to.0, to.1), "{zh}");
        }
        assert_eq!(kinds(&source).last(), Some(&("3", &Kind::Lone)));
        assert_eq!(kinds(&english).last(), Some(&("准入", &Kind::Found)));
    }

    #[test]
    fn marks_over_each_other_are_told_apart() {
        let terms = [("第3代", "third-generation"), ("3代", "3 generations")];
        let terms =
            terms.map(|(source, target)| pb::Term { source: source.to_owned(), target: target.to_owned() });
        let (source, _) = pair("p", "第3代火箭", "third-generation rocket", &terms, &[], &[]);
        assert_eq!(kinds(&source).iter().map(|(text, _)| *text).collect::<Vec<_>>(), ["第3代"]);
    }
}
