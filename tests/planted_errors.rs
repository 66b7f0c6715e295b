//! The checks must find errors that are planted in good translations and accept the translations themselves.
//!
//! The sentences were written for this test. The checks must find 98 % of the planted errors of each kind, which is the
//! goal for news in general, and report nothing in the good translations.

use std::collections::BTreeMap;

use yizhai::fidelity::{Verdict, check_translation};

#[path = "planted_errors/plant.rs"]
mod plant;

use plant::{PlantedError, plant_errors};

const PAIRS: &str = include_str!("planted_errors/pairs.tsv");

fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAIRS.lines().map(|line| line.split_once('\t').expect("two columns"))
}

fn messages(verdict: &Verdict) -> Vec<String> {
    verdict.findings.iter().map(|finding| finding.kind.to_string()).collect()
}

#[test]
fn accepts_good_translations() {
    for (source, translation) in pairs() {
        let verdict = check_translation(source, &[], translation, true);
        assert_eq!(messages(&verdict), [""; 0], "{translation}");
        assert_eq!(verdict.numbers.kept, verdict.numbers.expected, "{translation}");
    }
}

#[test]
fn finds_planted_errors() {
    let mut counts: BTreeMap<PlantedError, (usize, usize)> = BTreeMap::new();
    let mut missed = Vec::new();
    for (source, translation) in pairs() {
        let good = check_translation(source, &[], translation, true).score();
        for (error, text) in plant_errors(translation) {
            let verdict = check_translation(source, &[], &text, true);
            let (found, all) = counts.entry(error).or_default();
            *all += 1;
            if verdict.is_clean() {
                missed.push(format!("{error:?}: {text}"));
            } else {
                *found += 1;
                assert!(verdict.score() < good, "the faulty translation has the better score: {text}");
            }
        }
    }
    assert_eq!(counts.len(), 7, "an error kind was never planted: {counts:?}");
    for (error, (found, all)) in &counts {
        assert!(found * 100 >= all * 98, "{error:?}: {found} of {all}\n{}", missed.join("\n"));
    }
}
