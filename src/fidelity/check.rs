//! All checks on one output, put together into a verdict.
//!
//! Called by `pipeline` for every candidate.

use std::ops::Range;

use super::{
    checks::{RequiredTerm, chatter, coverage, repeated_phrase},
    finding::Finding,
    han::first_han_run,
    names::{invented_names, latin_names_not_in},
    numerals::{NumberReport, compare, read_zh, summary_numbers_not_in},
    verdict::{NumberCounts, Verdict},
};

/// Checks an English translation against its Chinese source.
///
/// Of `terms` those that the source does not hold are passed over. `whole` is false when the output was stopped at a limit.
pub fn check_translation(source: &str, terms: &[RequiredTerm<'_>], output: &str, whole: bool) -> Verdict {
    let mut verdict = Verdict::default();
    if !common(&mut verdict, source, output, whole) {
        let numbers = compare(source, "");
        verdict.numbers = counts(&numbers);
        return verdict;
    }
    if copied(source, output) {
        verdict.add(Finding::CopiedInput, Some(0..source.len()), Some(0..output.len()));
    }
    if let Some(run) = first_han_run(output) {
        verdict.add(
            Finding::HanInTranslation(run.to_owned()),
            source.find(run).map(|at| at..at + run.len()),
            range_of(output, run),
        );
    }
    let measured = coverage(source, output);
    if measured.too_short() {
        verdict.add(Finding::TooShort, None, None);
    } else if measured.too_long() {
        verdict.add(Finding::TooLong, None, None);
    }
    if measured.items_lost() > 0 {
        let (expected, found) = measured.list_items;
        verdict.add(Finding::ListItemsMissing { expected, found }, None, None);
    }
    let mut numbers = compare(source, output);
    let terms: Vec<_> = terms.iter().filter(|term| source.contains(term.source)).collect();
    // The numbers of a term (嫦娥六号, Chang’e-6) are its own: whether it stands there is asked below.
    numbers.missing.retain(|quantity| !terms.iter().any(|term| term.holds_source(source, &quantity.span)));
    numbers.unexpected.retain(|quantity| !terms.iter().any(|term| term.holds_output(output, &quantity.span)));
    numbers.kept = numbers.expected.len() - numbers.missing.len();
    verdict.numbers = counts(&numbers);
    for quantity in &numbers.unexpected {
        verdict.add(
            Finding::NumberNotInSource(quantity.text(output).to_owned()),
            None,
            Some(quantity.span.clone()),
        );
    }
    for quantity in &numbers.missing {
        verdict.add(
            Finding::NumberMissing(quantity.text(source).to_owned()),
            Some(quantity.span.clone()),
            None,
        );
    }
    let renderings: Vec<&str> = terms.iter().flat_map(|term| term.forms()).collect();
    for name in invented_names(source, &renderings, output) {
        verdict.add(Finding::NameNotInSource(output[name.clone()].to_owned()), None, Some(name));
    }
    for term in terms {
        verdict.terms.expected += 1;
        if term.stands_in(output) {
            verdict.terms.kept += 1;
        } else {
            let finding =
                Finding::TermMissing { source: term.source.to_owned(), target: term.target.to_owned() };
            verdict.add(finding, range_of(source, term.source), None);
        }
    }
    verdict
}

/// Checks a Chinese summary against its Chinese source: everything in it must stand in the source.
pub fn check_summary(source: &str, output: &str, whole: bool) -> Verdict {
    let mut verdict = Verdict::default();
    if !common(&mut verdict, source, output, whole) {
        return verdict;
    }
    let invented = summary_numbers_not_in(output, source);
    let all = read_zh(output).iter().filter(|q| q.firm).count();
    verdict.numbers =
        NumberCounts { expected: all, kept: all - invented.len(), missing: 0, unexpected: invented.len() };
    for quantity in &invented {
        verdict.add(
            Finding::NumberNotInSource(quantity.text(output).to_owned()),
            None,
            Some(quantity.span.clone()),
        );
    }
    for name in latin_names_not_in(output, source) {
        verdict.add(Finding::NameNotInSource(output[name.clone()].to_owned()), None, Some(name));
    }
    verdict
}

/// The checks that do not depend on the language; false when there is nothing to check further.
fn common(verdict: &mut Verdict, source: &str, output: &str, whole: bool) -> bool {
    if !whole {
        verdict.add(Finding::Truncated, None, Some(output.len()..output.len()));
    }
    if output.trim().is_empty() {
        if source.chars().any(char::is_alphanumeric) {
            verdict.add(Finding::Empty, Some(0..source.len()), None);
        }
        return false;
    }
    if let Some(span) = chatter(source, output) {
        verdict.add(Finding::Chatter(output[span.clone()].to_owned()), None, Some(span));
    }
    if let Some(phrase) = repeated_phrase(output) {
        // A source that goes round in circles itself may be rendered so.
        if repeated_phrase(source).is_none() {
            let span = range_of(output, &phrase);
            verdict.add(Finding::Loop(phrase), None, span);
        }
    }
    true
}

/// Whether an output is its source again: a long source word for word, spaces aside.
fn copied(source: &str, output: &str) -> bool {
    const LEAST_CHARS: usize = 40;
    let squeeze = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    let (source, output) = (squeeze(source), squeeze(output));
    source.chars().count() >= LEAST_CHARS && output.contains(&source) && !source.is_ascii()
}

fn counts(report: &NumberReport) -> NumberCounts {
    NumberCounts {
        expected: report.expected.len(),
        kept: report.kept,
        missing: report.missing.len(),
        unexpected: report.unexpected.len(),
    }
}

fn range_of(text: &str, part: &str) -> Option<Range<usize>> {
    text.find(part).map(|at| at..at + part.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fidelity::verdict::TermCounts;

    fn findings(verdict: &Verdict) -> Vec<Finding> {
        verdict.findings.iter().map(|found| found.finding.clone()).collect()
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(500))]

        #[test]
        fn no_text_is_too_strange_and_places_lie_between_characters(
            source in "([一-龥0-9万亿年月日。，：“”·]|[a-zA-Z]{1,5}|\\PC){0,60}",
            output in "([A-Z][a-z]{0,9}|[ .,:'’\\n-]|[0-9]{1,5}|[啊安德森马克龙万亿]|\\PC){0,60}",
        ) {
            for verdict in [check_translation(&source, &[], &output, true), check_summary(&source, &output, true)] {
                for found in &verdict.findings {
                    proptest::prop_assert!(found.source.clone().is_none_or(|range| source.get(range).is_some()));
                    proptest::prop_assert!(found.output.clone().is_none_or(|range| output.get(range).is_some()));
                    proptest::prop_assert!(!found.finding.to_string().is_empty());
                }
                let numbers = verdict.numbers;
                proptest::prop_assert!(numbers.kept <= numbers.expected && numbers.missing <= numbers.expected);
            }
        }
    }

    #[test]
    fn a_word_without_end_is_no_name() {
        let (source, output) = ("啊".repeat(100_000), format!("Then A{} said so.", "a".repeat(100_000)));
        assert_eq!(check_translation(&source, &[], &output, true).terms, TermCounts::default());
    }

    #[test]
    fn every_fault_of_a_translation_is_found_with_its_place() {
        let source = "蓝箭航天12月3日融资35亿元。";
        let terms = [("蓝箭航天", "LandSpace"), ("朱雀三号", "Zhuque-3")]
            .map(|(source, target)| RequiredTerm { source, target, accepted: &[] });
        let good = check_translation(source, &terms, "LandSpace raised 3.5 billion yuan on Dec. 3.", true);
        assert_eq!(findings(&good), []);
        assert_eq!((good.terms.expected, good.terms.kept, good.numbers.kept), (1, 1, 2));

        let output = "Blue Arrow raised 350 million yuan.";
        let bad = check_translation(source, &terms, output, true);
        assert_eq!(
            findings(&bad),
            [
                Finding::NumberNotInSource("350 million yuan".to_owned()),
                Finding::NumberMissing("12月3日".to_owned()),
                Finding::NumberMissing("35亿元".to_owned()),
                Finding::TermMissing { source: "蓝箭航天".to_owned(), target: "LandSpace".to_owned() },
            ]
        );
        assert_eq!(&output[bad.findings[0].output.clone().unwrap()], "350 million yuan");
        assert_eq!(&source[bad.findings[1].source.clone().unwrap()], "12月3日");
        assert!(good.score() > bad.score());
    }

    #[test]
    fn an_output_that_is_no_translation_is_worse_than_one_with_faults() {
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
    fn a_summary_may_hold_only_what_its_source_holds() {
        let source = "2025年前9个月，G60走廊营收557.4亿元，同比增长14.8%，超过一半来自上海。";
        assert!(check_summary(source, "前9个月营收557.4亿元，增长14.8%。", true).is_clean());
        let verdict = check_summary(source, "CNN报道，2024年营收557亿元。", true);
        assert_eq!(
            findings(&verdict),
            [
                Finding::NumberNotInSource("2024年".to_owned()),
                Finding::NumberNotInSource("557亿元".to_owned()),
                Finding::NameNotInSource("CNN".to_owned()),
            ]
        );
        assert_eq!((verdict.numbers.expected, verdict.numbers.unexpected), (2, 2));
    }
}
