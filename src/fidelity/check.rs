//! Runs all checks on one output and combines them into a verdict.
//!
//! Called by `pipeline` for every candidate.

use std::ops::Range;

use super::{
    checks::{RequiredTerm, Requirement, align_terms, chatter, coverage, repeated_phrase},
    finding::FindingKind,
    han::first_han_run,
    names::{invented_names, latin_names_not_in},
    numerals::{NumberReport, compare, english_of, read_zh, summary_numbers_not_in},
    verdict::{Alignment, AlignmentKind, NumberCounts, Verdict},
};

/// Checks an English translation against its Chinese source.
///
/// Terms that do not appear in the source are ignored. `complete` is false if generation stopped at a limit.
pub fn check_translation(source: &str, terms: &[RequiredTerm<'_>], output: &str, complete: bool) -> Verdict {
    let mut verdict = Verdict::default();
    if !check_any_output(&mut verdict, source, output, complete) {
        verdict.numbers = counts(&compare(source, ""));
        return verdict;
    }
    if is_copy(source, output) {
        verdict.add(FindingKind::CopiedInput, Some(0..source.len()), Some(0..output.len()));
    }
    if let Some(run) = first_han_run(output) {
        let kind = FindingKind::HanInTranslation { found: run.to_owned() };
        verdict.add(kind, span_of(source, run), span_of(output, run));
    }
    check_coverage(&mut verdict, source, output);
    let terms: Vec<_> = terms.iter().filter(|term| source.contains(term.source)).collect();
    check_numbers(&mut verdict, source, &terms, output);
    let renderings: Vec<&str> = terms.iter().flat_map(|term| term.forms()).collect();
    for span in invented_names(source, &renderings, output) {
        let kind = FindingKind::NameNotInSource { found: output[span.clone()].to_owned() };
        verdict.add(kind, None, Some(span));
    }
    verdict.alignments.extend(align_terms(source, &terms, output));
    check_terms(&mut verdict, source, &terms, output);
    verdict
}

/// Checks a Chinese summary against its Chinese source: all numbers and names of the summary must appear in the source.
///
/// `complete` is false if generation stopped at a limit.
pub fn check_summary(source: &str, output: &str, complete: bool) -> Verdict {
    let mut verdict = Verdict::default();
    if !check_any_output(&mut verdict, source, output, complete) {
        return verdict;
    }
    let invented = summary_numbers_not_in(output, source);
    let expected = read_zh(output).iter().filter(|quantity| quantity.required).count();
    let unexpected = invented.len();
    verdict.numbers = NumberCounts { expected, kept: expected - unexpected, missing: 0, unexpected };
    for quantity in invented {
        let kind = FindingKind::NumberNotInSource { found: quantity.text(output).to_owned() };
        verdict.add(kind, None, Some(quantity.span));
    }
    for span in latin_names_not_in(output, source) {
        let kind = FindingKind::NameNotInSource { found: output[span.clone()].to_owned() };
        verdict.add(kind, None, Some(span));
    }
    verdict
}

/// Runs the checks that do not depend on the language. Returns `false` if the output has nothing else to check.
fn check_any_output(verdict: &mut Verdict, source: &str, output: &str, complete: bool) -> bool {
    if !complete {
        verdict.add(FindingKind::Truncated, None, Some(output.len()..output.len()));
    }
    if output.trim().is_empty() {
        if source.chars().any(char::is_alphanumeric) {
            verdict.add(FindingKind::Empty, Some(0..source.len()), None);
        }
        return false;
    }
    if let Some(span) = chatter(source, output) {
        let kind = FindingKind::Chatter { found: output[span.clone()].to_owned() };
        verdict.add(kind, None, Some(span));
    }
    if let Some(phrase) = repeated_phrase(output) {
        // If the source itself repeats a phrase, so may the output.
        if repeated_phrase(source).is_none() {
            let span = span_of(output, &phrase);
            verdict.add(FindingKind::Loop { found: phrase }, None, span);
        }
    }
    true
}

/// Checks the length of the output and the number of its list items.
fn check_coverage(verdict: &mut Verdict, source: &str, output: &str) {
    let measured = coverage(source, output);
    if measured.too_short() {
        verdict.add(FindingKind::TooShort, None, None);
    } else if measured.too_long() {
        verdict.add(FindingKind::TooLong, None, None);
    }
    if measured.items_lost() > 0 {
        let (expected, found) = measured.list_items;
        verdict.add(FindingKind::ListItemsMissing { expected, found }, None, None);
    }
}

/// Compares the numbers of both texts. The numbers within terms (嫦娥六号, Chang’e-6) are left to the check of terms.
fn check_numbers(verdict: &mut Verdict, source: &str, terms: &[&RequiredTerm<'_>], output: &str) {
    let in_source_term = |span: &Range<usize>| terms.iter().any(|term| term.covers_in_source(source, span));
    let in_output_term = |span: &Range<usize>| terms.iter().any(|term| term.covers_in_output(output, span));
    let mut report = compare(source, output);
    report.missing.retain(|quantity| !in_source_term(&quantity.span));
    report.unexpected.retain(|quantity| !in_output_term(&quantity.span));
    report.kept = report.expected.len() - report.missing.len();
    verdict.numbers = counts(&report);
    for quantity in report.unexpected {
        let kind = FindingKind::NumberNotInSource { found: quantity.text(output).to_owned() };
        verdict.add(kind, None, Some(quantity.span));
    }
    for quantity in report.missing {
        let (expected, english) = (quantity.text(source).to_owned(), english_of(&quantity, source));
        verdict.add(FindingKind::NumberMissing { expected, english }, Some(quantity.span), None);
    }
    for (own, other) in report.pairs {
        let (source_span, output_span) = (own.span, other.span);
        if !in_source_term(&source_span) && !in_output_term(&output_span) {
            verdict.alignments.push(Alignment { kind: AlignmentKind::Number, source_span, output_span });
        }
    }
}

/// Counts the required terms and names, and reports those that the output lacks.
fn check_terms(verdict: &mut Verdict, source: &str, terms: &[&RequiredTerm<'_>], output: &str) {
    for term in terms {
        let is_kept = term.is_rendered_in(output);
        let (text, target) = (term.source.to_owned(), term.target.to_owned());
        let (counts, kind) = match term.requirement {
            Requirement::Term => (&mut verdict.terms, FindingKind::TermMissing { source: text, target }),
            Requirement::Name => (&mut verdict.names, FindingKind::NameMissing { source: text, target }),
        };
        counts.expected += 1;
        counts.kept += usize::from(is_kept);
        if !is_kept {
            verdict.add(kind, span_of(source, term.source), None);
        }
    }
}

/// Returns `true` if an output contains its source word for word, apart from spaces and punctuation.
fn is_copy(source: &str, output: &str) -> bool {
    const MIN_CHARS: usize = 40;
    let squeeze = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    let (source, output) = (squeeze(source), squeeze(output));
    source.chars().count() >= MIN_CHARS && output.contains(&source) && !source.is_ascii()
}

fn counts(report: &NumberReport) -> NumberCounts {
    NumberCounts {
        expected: report.expected.len(),
        kept: report.kept,
        missing: report.missing.len(),
        unexpected: report.unexpected.len(),
    }
}

fn span_of(text: &str, part: &str) -> Option<Range<usize>> {
    text.find(part).map(|start| start..start + part.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fidelity::verdict::TermCounts;

    fn kinds(verdict: &Verdict) -> Vec<FindingKind> {
        verdict.findings.iter().map(|finding| finding.kind.clone()).collect()
    }

    fn number_not_in_source(found: &str) -> FindingKind {
        FindingKind::NumberNotInSource { found: found.to_owned() }
    }

    fn number_missing(expected: &str, english: &str) -> FindingKind {
        FindingKind::NumberMissing { expected: expected.to_owned(), english: english.to_owned() }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(500))]

        #[test]
        fn spans_of_any_text_are_on_character_boundaries(
            source in "([一-龥0-9万亿年月日。，：“”·]|[a-zA-Z]{1,5}|\\PC){0,60}",
            output in "([A-Z][a-z]{0,9}|[ .,:'’\\n-]|[0-9]{1,5}|[啊安德森马克龙万亿]|\\PC){0,60}",
        ) {
            for verdict in [check_translation(&source, &[], &output, true), check_summary(&source, &output, true)] {
                for finding in &verdict.findings {
                    let (own, other) = (finding.source_span.clone(), finding.output_span.clone());
                    proptest::prop_assert!(own.is_none_or(|span| source.get(span).is_some()));
                    proptest::prop_assert!(other.is_none_or(|span| output.get(span).is_some()));
                    proptest::prop_assert!(!finding.kind.to_string().is_empty());
                }
                for alignment in &verdict.alignments {
                    proptest::prop_assert!(source.get(alignment.source_span.clone()).is_some());
                    proptest::prop_assert!(output.get(alignment.output_span.clone()).is_some());
                }
                let numbers = verdict.numbers;
                proptest::prop_assert!(numbers.kept <= numbers.expected && numbers.missing <= numbers.expected);
            }
        }
    }

    #[test]
    fn handles_a_very_long_word() {
        let (source, output) = ("啊".repeat(100_000), format!("Then A{} said so.", "a".repeat(100_000)));
        assert_eq!(check_translation(&source, &[], &output, true).terms, TermCounts::default());
    }

    #[test]
    fn reports_every_fault_of_a_translation_with_its_span() {
        let source = "蓝箭航天12月3日融资35亿元。";
        let terms = [("蓝箭航天", "LandSpace"), ("朱雀三号", "Zhuque-3")].map(|(source, target)| {
            RequiredTerm { requirement: Requirement::Term, source, target, accepted: &[] }
        });
        let good = check_translation(source, &terms, "LandSpace raised 3.5 billion yuan on Dec. 3.", true);
        assert_eq!(kinds(&good), []);
        assert_eq!((good.terms.expected, good.terms.kept, good.numbers.kept), (1, 1, 2));

        let output = "Blue Arrow raised 350 million yuan.";
        let bad = check_translation(source, &terms, output, true);
        assert_eq!(
            kinds(&bad),
            [
                number_not_in_source("350 million yuan"),
                number_missing("12月3日", "Dec. 3"),
                number_missing("35亿元", "3.5 billion yuan"),
                FindingKind::TermMissing {
                    source: "蓝箭航天".to_owned(), target: "LandSpace".to_owned()
                },
            ]
        );
        assert_eq!(&output[bad.findings[0].output_span.clone().unwrap()], "350 million yuan");
        assert_eq!(&source[bad.findings[1].source_span.clone().unwrap()], "12月3日");
        assert!(good.score() > bad.score());
    }

    #[test]
    fn aligns_numbers_and_terms_with_their_counterparts() {
        let source = "嫦娥六号12月3日融资35亿元，嫦娥六号。";
        let terms = [RequiredTerm {
            requirement: Requirement::Term,
            source: "嫦娥六号",
            target: "Chang’e-6",
            accepted: &[],
        }];
        let output = "Chang’e-6 raised 3.5 billion yuan on Dec. 3. Chang’e-6 did.";
        let aligned: Vec<_> = check_translation(source, &terms, output, true)
            .alignments
            .into_iter()
            .map(|a| (a.kind, a.source_span.start, &source[a.source_span], &output[a.output_span]))
            .collect();
        assert_eq!(
            aligned,
            [
                (AlignmentKind::Number, 12, "12月3日", "Dec. 3"),
                (AlignmentKind::Number, 27, "35亿元", "3.5 billion yuan"),
                (AlignmentKind::Term, 0, "嫦娥六号", "Chang’e-6"),
                (AlignmentKind::Term, 38, "嫦娥六号", "Chang’e-6"),
            ]
        );
    }

    #[test]
    fn an_unusable_output_scores_below_a_faulty_translation() {
        let source = "火箭发射入轨，是国内首次尝试一级回收的运载火箭，引发社会各界广泛关注，相关负责人披露了一子级回收验证的关键技术细节。";
        let faulty = check_translation(
            source,
            &[],
            "The rocket 2023 entered orbit; the first in China that tried to recover a first stage.",
            true,
        );
        for output in [
            "",
            "Here is the translation: The rocket entered orbit.",
            "the rocket of the rocket of the rocket of the rocket of the rocket of the",
            source,
        ] {
            let verdict = check_translation(source, &[], output, true);
            assert!(verdict.score() < faulty.score(), "{output}");
        }
    }

    #[test]
    fn reports_numbers_and_names_of_a_summary_that_its_source_lacks() {
        let source = "2025年前9个月，G60走廊营收557.4亿元，同比增长14.8%，超过一半来自上海。";
        assert!(check_summary(source, "前9个月营收557.4亿元，增长14.8%。", true).is_clean());
        let verdict = check_summary(source, "CNN报道，2024年营收557亿元。", true);
        assert_eq!(
            kinds(&verdict),
            [
                number_not_in_source("2024年"),
                number_not_in_source("557亿元"),
                FindingKind::NameNotInSource { found: "CNN".to_owned() },
            ]
        );
        assert_eq!((verdict.numbers.expected, verdict.numbers.unexpected), (2, 2));
    }
}
