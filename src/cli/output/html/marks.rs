//! Cuts the texts of a page into fragments: plain text, links between the two languages, and findings.
//!
//! Called by `page`. All spans come from the API's alignments and findings; this module compares no texts itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use crate::pb;

/// A part of a text that is shown in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) text: String,
    pub(super) kind: FragmentKind,
}

/// The way in which a fragment is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FragmentKind {
    Plain,
    /// A number or term, linked to its counterpart in the other language.
    Link {
        /// The CSS class, `number` or `term`.
        class: &'static str,
        /// The group of all fragments with the same meaning.
        group: usize,
        id: String,
        /// The id of the first fragment of the group in the other language.
        target: String,
        /// The tooltip.
        title: &'static str,
    },
    /// The subject of a finding.
    Finding {
        message: String,
    },
}

/// The fragments of a sentence that a summary cites, or of the text between two such sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TextRun {
    /// The id of the cited sentence.
    pub(super) sentence: Option<String>,
    pub(super) fragments: Vec<Fragment>,
}

/// A paragraph in both languages, with everything that is marked in it.
pub(super) struct MarkedParagraph<'a> {
    /// The prefix of the ids of its fragments.
    pub(super) id: &'a str,
    pub(super) source: &'a str,
    pub(super) english: &'a str,
    pub(super) alignments: &'a [pb::Alignment],
    pub(super) findings: &'a [&'a pb::Finding],
    /// The cited sentences of the source with their ids, in order and without overlaps.
    pub(super) sentences: &'a [(Range<usize>, String)],
}

/// One of the two languages of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Output,
}

/// A marked span of a text.
#[derive(Debug, Clone)]
struct MarkedSpan {
    range: Range<usize>,
    kind: MarkKind,
}

#[derive(Debug, Clone)]
enum MarkKind {
    Link { class: &'static str, group: usize },
    Finding { message: String },
}

impl MarkedParagraph<'_> {
    /// Returns the runs of the source and of the English.
    pub(super) fn runs(&self) -> (Vec<TextRun>, Vec<TextRun>) {
        let (source_links, english_links) = self.links();
        let source_findings = finding_marks(self.source, self.findings, Side::Source);
        let english_findings = finding_marks(self.english, self.findings, Side::Output);
        let mut source = without_overlaps(source_findings.into_iter().chain(source_links).collect());
        source.retain(|mark| self.sentences.iter().all(|(range, _)| !is_partly_in(&mark.range, range)));
        let english = without_overlaps(english_findings.into_iter().chain(english_links).collect());
        let linked: BTreeSet<usize> = groups(&source).intersection(&groups(&english)).copied().collect();
        let cutter = |side| FragmentCutter { id: self.id, side, linked: &linked };
        (
            cutter(Side::Source).cut(self.source, &source, self.sentences),
            cutter(Side::Output).cut(self.english, &english, &[]),
        )
    }

    /// Returns the linked spans of both texts. Spans that are aligned with a common one share a group.
    fn links(&self) -> (Vec<MarkedSpan>, Vec<MarkedSpan>) {
        let (mut source, mut english) = (BTreeMap::new(), BTreeMap::new());
        for (next, alignment) in self.alignments.iter().enumerate() {
            let class = match alignment.kind() {
                pb::AlignmentKind::Term => "term",
                _ => "number",
            };
            let (Some(own), Some(other)) = (
                range(self.source, alignment.source_span.as_ref()),
                range(self.english, alignment.output_span.as_ref()),
            ) else {
                continue;
            };
            let (own, other) = ((own.start, own.end), (other.start, other.end));
            let known = source.get(&own).or_else(|| english.get(&other)).copied();
            let (class, group) = known.unwrap_or((class, next));
            source.entry(own).or_insert((class, group));
            english.entry(other).or_insert((class, group));
        }
        let marks = |links: BTreeMap<(usize, usize), (&'static str, usize)>| {
            let mark = |((start, end), (class, group))| MarkedSpan {
                range: start..end,
                kind: MarkKind::Link { class, group },
            };
            links.into_iter().map(mark).collect()
        };
        (marks(source), marks(english))
    }
}

/// Cuts the sentences of a summary into fragments. A sentence that is not found in `summary` stays whole.
pub(super) fn summary_fragments<'a>(
    summary: &str,
    sentences: impl Iterator<Item = &'a str>,
    findings: &[&pb::Finding],
) -> Vec<Vec<Fragment>> {
    let marks = without_overlaps(finding_marks(summary, findings, Side::Output));
    let linked = BTreeSet::new();
    let cutter = FragmentCutter { id: "", side: Side::Output, linked: &linked };
    let mut from = 0;
    let cut = |sentence: &str| match summary[from..].find(sentence) {
        Some(offset) => {
            let range = from + offset..from + offset + sentence.len();
            from = range.end;
            cutter.fragments(summary, range, &marks, &mut BTreeMap::new())
        }
        None => vec![Fragment { text: sentence.to_owned(), kind: FragmentKind::Plain }],
    };
    sentences.map(cut).collect()
}

/// Returns the marks of the findings on one side: what is missing in the source, what is wrong in the output.
fn finding_marks(text: &str, findings: &[&pb::Finding], side: Side) -> Vec<MarkedSpan> {
    let mark = |finding: &&pb::Finding| {
        let span = match side {
            Side::Source if finding.expected.is_empty() => None,
            Side::Source => finding.source_span.as_ref(),
            Side::Output => finding.output_span.as_ref(),
        };
        let range = range(text, span)?;
        Some(MarkedSpan { range, kind: MarkKind::Finding { message: finding.message.clone() } })
    };
    findings.iter().filter_map(mark).collect()
}

/// Returns the range of a span, unless it is empty or does not fit the text.
fn range(text: &str, span: Option<&pb::Span>) -> Option<Range<usize>> {
    let span = span?;
    let range = usize::try_from(span.start_byte).ok()?..usize::try_from(span.end_byte).ok()?;
    text.get(range.clone()).filter(|part| !part.is_empty()).map(|_| range)
}

fn is_partly_in(range: &Range<usize>, other: &Range<usize>) -> bool {
    let overlaps = range.start < other.end && other.start < range.end;
    overlaps && !(other.start <= range.start && range.end <= other.end)
}

fn groups(marks: &[MarkedSpan]) -> BTreeSet<usize> {
    let group = |mark: &MarkedSpan| match mark.kind {
        MarkKind::Link { group, .. } => Some(group),
        MarkKind::Finding { .. } => None,
    };
    marks.iter().filter_map(group).collect()
}

/// Sorts marks and removes overlaps: the earlier mark wins; of two that begin together, the longer one.
fn without_overlaps(mut marks: Vec<MarkedSpan>) -> Vec<MarkedSpan> {
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

/// Cuts the text of one side into runs and fragments.
struct FragmentCutter<'a> {
    id: &'a str,
    side: Side,
    /// The groups that have fragments on both sides.
    linked: &'a BTreeSet<usize>,
}

impl FragmentCutter<'_> {
    fn cut(&self, text: &str, marks: &[MarkedSpan], sentences: &[(Range<usize>, String)]) -> Vec<TextRun> {
        let mut counts = BTreeMap::new();
        let mut runs = Vec::new();
        let mut end = 0;
        let mut push = |range: Range<usize>, sentence: Option<String>| {
            if !range.is_empty() {
                let fragments = self.fragments(text, range, marks, &mut counts);
                runs.push(TextRun { sentence, fragments });
            }
        };
        for (range, id) in sentences {
            push(end..range.start, None);
            push(range.clone(), Some(id.clone()));
            end = range.end;
        }
        push(end..text.len(), None);
        runs
    }

    /// Returns the fragments of a range. `counts` holds the number of fragments of each group so far.
    fn fragments(
        &self,
        text: &str,
        range: Range<usize>,
        marks: &[MarkedSpan],
        counts: &mut BTreeMap<usize, usize>,
    ) -> Vec<Fragment> {
        let mut fragments = Vec::new();
        let mut push = |range: Range<usize>, kind| {
            if !range.is_empty() {
                fragments.push(Fragment { text: text[range].to_owned(), kind });
            }
        };
        let mut end = range.start;
        let is_inside = |mark: &&MarkedSpan| range.start <= mark.range.start && mark.range.end <= range.end;
        for mark in marks.iter().filter(is_inside) {
            push(end..mark.range.start, FragmentKind::Plain);
            push(mark.range.clone(), self.kind(&mark.kind, counts));
            end = mark.range.end;
        }
        push(end..range.end, FragmentKind::Plain);
        fragments
    }

    fn kind(&self, kind: &MarkKind, counts: &mut BTreeMap<usize, usize>) -> FragmentKind {
        match kind {
            MarkKind::Finding { message } => FragmentKind::Finding { message: message.clone() },
            MarkKind::Link { class, group } if self.linked.contains(group) => {
                let count = counts.entry(*group).or_insert(0);
                let (own, other, title) = match self.side {
                    Side::Source => ('z', 'e', "matches the translation"),
                    Side::Output => ('e', 'z', "matches the source"),
                };
                let id = format!("{}{own}{group}-{count}", self.id);
                *count += 1;
                let target = format!("{}{other}{group}-0", self.id);
                FragmentKind::Link { class, group: *group, id, target, title }
            }
            MarkKind::Link { .. } => FragmentKind::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(runs: &[TextRun]) -> String {
        runs.iter().flat_map(|run| &run.fragments).map(|fragment| fragment.text.as_str()).collect()
    }

    fn marked(runs: &[TextRun]) -> Vec<(&str, &FragmentKind)> {
        let fragments = runs.iter().flat_map(|run| &run.fragments);
        fragments
            .filter(|fragment| fragment.kind != FragmentKind::Plain)
            .map(|fragment| (fragment.text.as_str(), &fragment.kind))
            .collect()
    }

    fn span(text: &str, part: &str) -> Option<pb::Span> {
        let start = text.find(part).unwrap();
        Some(pb::Span { start_byte: start as i64, end_byte: (start + part.len()) as i64 })
    }

    fn alignment(
        kind: pb::AlignmentKind,
        (source, own): (&str, &str),
        (english, other): (&str, &str),
    ) -> pb::Alignment {
        let (source_span, output_span) = (span(source, own), span(english, other));
        pb::Alignment { kind: kind.into(), source_span, output_span }
    }

    fn finding(message: &str) -> pb::Finding {
        pb::Finding { message: message.to_owned(), ..Default::default() }
    }

    #[test]
    fn links_alignments_and_marks_findings_without_losing_text() {
        use pb::AlignmentKind::{Number, Term};
        let source = "蓝箭航天营收557.4亿元。增长14.8%。另有3项。";
        let english = "LandSpace earned 55.74 billion yuan, up 14.8%, CNN said.";
        let pairs = [
            (Term, "蓝箭航天", "LandSpace"),
            (Number, "557.4亿元", "55.74 billion yuan"),
            (Number, "14.8%", "14.8%"),
        ];
        let alignments = pairs.map(|(kind, own, other)| alignment(kind, (source, own), (english, other)));
        let missing =
            pb::Finding { expected: "3".to_owned(), source_span: span(source, "3项"), ..finding("missing") };
        let invented = pb::Finding { output_span: span(english, "CNN"), ..finding("invented") };
        let sentences = [(0..source.find("增").unwrap(), "s0".to_owned())];
        let paragraph = MarkedParagraph {
            id: "p",
            source,
            english,
            alignments: &alignments,
            findings: &[&missing, &invented],
            sentences: &sentences,
        };
        let (zh, en) = paragraph.runs();
        assert_eq!((text(&zh), text(&en)), (source.to_owned(), english.to_owned()));
        assert_eq!((zh[0].sentence.as_deref(), zh[1].sentence.as_deref()), (Some("s0"), None));
        let link = |runs: &[TextRun], text: &str| match marked(runs).iter().find(|(own, _)| *own == text) {
            Some((_, FragmentKind::Link { id, target, .. })) => (id.clone(), target.clone()),
            other => panic!("{text} is {other:?}"),
        };
        for (_, own, other) in pairs {
            let (from, to) = (link(&zh, own), link(&en, other));
            assert_eq!((from.1, from.0), (to.0, to.1), "{own}");
        }
        let found = |message: &str| FragmentKind::Finding { message: message.to_owned() };
        assert_eq!(marked(&zh).last(), Some(&("3项", &found("missing"))));
        assert_eq!(marked(&en).last(), Some(&("CNN", &found("invented"))));
    }

    #[test]
    fn overlapping_marks_and_spans_outside_the_text_are_dropped() {
        use pb::AlignmentKind::Term;
        let (source, english) = ("第3代火箭", "third-generation rocket");
        let mut alignments = vec![
            alignment(Term, (source, "3代"), (english, "generation")),
            alignment(Term, (source, "第3代"), (english, "third-generation")),
        ];
        let outside = |end_byte| Some(pb::Span { start_byte: 1, end_byte });
        alignments.push(pb::Alignment { source_span: outside(99), ..alignments[0] });
        alignments.push(pb::Alignment { output_span: outside(-1), ..alignments[0] });
        let paragraph = MarkedParagraph {
            id: "p",
            source,
            english,
            alignments: &alignments,
            findings: &[],
            sentences: &[],
        };
        let (zh, en) = paragraph.runs();
        let texts =
            |runs: &[TextRun]| marked(runs).iter().map(|(text, _)| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!((texts(&zh), texts(&en)), (vec!["第3代".to_owned()], vec!["third-generation".to_owned()]));
    }

    #[test]
    fn findings_are_marked_in_the_sentences_of_a_summary() {
        let summary = "CNN报道。CNN说。";
        let second = summary.rfind("CNN").unwrap() as i64;
        let output_span = Some(pb::Span { start_byte: second, end_byte: second + 3 });
        let invented = pb::Finding { output_span, ..finding("invented") };
        let cut = summary_fragments(summary, ["CNN报道。", "CNN说。", "别的。"].into_iter(), &[&invented]);
        let texts: Vec<Vec<&str>> = cut.iter().map(|s| s.iter().map(|f| f.text.as_str()).collect()).collect();
        assert_eq!(texts, [vec!["CNN报道。"], vec!["CNN", "说。"], vec!["别的。"]]);
        assert_eq!(cut[1][0].kind, FragmentKind::Finding { message: "invented".to_owned() });
    }
}
