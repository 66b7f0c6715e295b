//! The checks find errors that are planted in good translations, and leave the good ones alone.
//!
//! The sentences were written for this test. What is asked of them is what the checks must do on news in general: find
//! 98 % of what is planted, with an alarm on at most 2 % of the good translations.

use std::collections::BTreeMap;

use yizhai::fidelity::{Verdict, check_translation};

#[path = "planted_errors/plant.rs"]
mod plant;

use plant::{Plant, plants};

const PAIRS: &str = include_str!("planted_errors/pairs.tsv");

fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAIRS.lines().map(|line| line.split_once('\t').expect("two columns"))
}

fn told(verdict: &Verdict) -> Vec<String> {
    verdict.findings.iter().map(|found| found.finding.to_string()).collect()
}

#[test]
fn good_translations_raise_no_alarm() {
    for (source, translation) in pairs() {
        let verdict = check_translation(source, &[], translation, true);
        assert_eq!(told(&verdict), [""; 0], "{translation}");
        assert_eq!(verdict.numbers.kept, verdict.numbers.expected, "{translation}");
    }
}

#[test]
fn planted_errors_are_found() {
    let mut counts: BTreeMap<Plant, (usize, usize)> = BTreeMap::new();
    let mut missed = Vec::new();
    for (source, translation) in pairs() {
        let good = check_translation(source, &[], translation, true).score();
        for (plant, text) in plants(translation) {
            let verdict = check_translation(source, &[], &text, true);
            let (found, all) = counts.entry(plant).or_default();
            *all += 1;
            if verdict.is_clean() {
                missed.push(format!("{plant:?}: {text}"));
            } else {
                *found += 1;
                assert!(verdict.score() < good, "the faulty one is not the worse: {text}");
            }
        }
    }
    assert_eq!(counts.len(), 7, "every kind of error is planted: {counts:?}");
    for (plant, (found, all)) in &counts {
        assert!(found * 100 >= all * 98, "{plant:?}: {found} of {all}\n{}", missed.join("\n"));
    }
}
