//! The kernel of `choose.cu` over the emulator against the sampler of the CPU.

use std::sync::Arc;

use super::{CHOICE_WORDS, Choice, Masks, Wanted, choices, uniform};
use crate::{
    engine::{Sampling, TokenMask, sampler::Sampler},
    kernels::{
        cuda::emulator::{floats, run, to_words, words},
        testing::Random,
    },
};

fn choose(logits: &[f32], vocab: usize, wanted: &[Wanted<'_>]) -> Result<Vec<Choice>, String> {
    let mut masks = Masks::default();
    masks.learn(wanted);
    let wishes: Vec<u32> = wanted.iter().flat_map(|wanted| wanted.words(&masks)).collect();
    let out = vec![7; wanted.len() * CHOICE_WORDS];
    let mut arguments =
        [floats(logits), words(&masks.bits(vocab)), words(&wishes), words(&out), words(&[vocab as u32])];
    run("choose", (wanted.len(), 1), 64, &mut arguments);
    choices(&to_words(&arguments[3])).map_err(|error| error.to_string())
}

fn wanted(sampling: Sampling, allowed: Option<&Arc<TokenMask>>) -> Wanted<'_> {
    Wanted { given: None, sampling, allowed, written: 0 }
}

const GREEDY: Sampling = Sampling::Greedy;

#[test]
fn the_most_likely_and_the_given_token_are_those_of_the_cpu() {
    let random = &mut Random::new(11);
    for vocab in [1, 31, 97, 1000] {
        // Coarse, so that there are ties.
        let mut row = || -> Vec<f32> { (0..vocab).map(|_| (random.float(8.0)).round() / 2.0).collect() };
        let rows = [row(), row(), row(), row()];
        let odd = Arc::new(TokenMask::new((0..vocab).map(|id| id % 2 == 1 || vocab == 1).collect()));
        let third = Arc::new(TokenMask::new((0..vocab).map(|id| id % 3 == 0).collect()));
        let given = vocab as u32 - 1;
        let wishes = [
            wanted(GREEDY, None),
            wanted(GREEDY, Some(&odd)),
            wanted(GREEDY, Some(&third)),
            Wanted { given: Some(given), ..wanted(GREEDY, Some(&third)) },
        ];
        let found = choose(&rows.concat(), vocab, &wishes).unwrap();
        for ((wish, row), found) in wishes.iter().zip(&rows).zip(found) {
            let mut sampler = Sampler::new(GREEDY, wish.given.map(|given| vec![given]));
            let want = sampler.sample(row, wish.allowed.map(|mask| &**mask)).unwrap();
            assert_eq!(found.token, want.token);
            assert!((found.log_probability - want.log_probability).abs() < 1e-3, "{found:?} {want:?}");
        }
    }
}

#[test]
fn what_cannot_be_chosen_from_is_told() {
    let nobody = Arc::new(TokenMask::new(vec![]));
    let error = |logits: &[f32], wish| choose(logits, logits.len(), &[wish]).unwrap_err();
    assert!(error(&[1.0, 2.0], wanted(GREEDY, Some(&nobody))).contains("no token is allowed"));
    assert!(error(&[f32::NEG_INFINITY; 3], wanted(GREEDY, None)).contains("no token is allowed"));
    let draw = Sampling::Random { temperature: 1.0, top_p: 0.9, top_k: None, seed: 1 };
    assert!(error(&[1.0, f32::NAN, 2.0], wanted(draw, None)).contains("NaN"));
    assert!(error(&[1.0, 2.0], wanted(draw, Some(&nobody))).contains("no token is allowed"));
}

#[test]
fn draws_have_the_probabilities_that_were_asked_for() {
    let vocab = 90;
    let random = &mut Random::new(5);
    let logits = random.floats(vocab, 2.0);
    let mask = Arc::new(TokenMask::new((0..vocab).map(|id| id % 5 != 0).collect()));
    for (top_p, top_k) in [(1.0, Some(7)), (0.8, None), (0.9, Some(3))] {
        let sampling = Sampling::Random { temperature: 0.7, top_p, top_k, seed: 9 };
        let expected = expected(&logits, &mask, 0.7, top_p, top_k);
        // Of every token about as many as its share.
        let draws = 120;
        let mut counts = vec![0usize; vocab];
        let mut wishes = Vec::new();
        for written in 0..draws {
            wishes.push(Wanted { written, ..wanted(sampling, Some(&mask)) });
        }
        for choice in choose(&logits.repeat(draws), vocab, &wishes).unwrap() {
            counts[choice.token as usize] += 1;
        }
        for (id, (count, share)) in counts.iter().zip(&expected).enumerate() {
            assert!(
                *share > 0.0 || *count == 0,
                "{id} was drawn {count} times at top_p {top_p}, top_k {top_k:?}"
            );
            let deviation = (share * draws as f64).sqrt().max(1.0);
            let error = *count as f64 - share * draws as f64;
            assert!(error.abs() < 5.0 * deviation, "{id}: {count} of {draws}, share {share}");
        }
    }
}

/// The probabilities of a draw, by definition.
fn expected(
    logits: &[f32],
    mask: &TokenMask,
    temperature: f64,
    top_p: f64,
    top_k: Option<usize>,
) -> Vec<f64> {
    let weight = |id: usize| if mask.allows(id) { (f64::from(logits[id]) / temperature).exp() } else { 0.0 };
    let total: f64 = (0..logits.len()).map(weight).sum();
    let mut ids: Vec<usize> = (0..logits.len()).collect();
    ids.sort_by(|&a, &b| weight(b).total_cmp(&weight(a)));
    ids.truncate(top_k.unwrap_or(usize::MAX));
    let (mut kept, mut sum) = (vec![0.0; logits.len()], 0.0);
    for id in ids {
        if sum < top_p {
            kept[id] = weight(id) / total;
            sum += kept[id];
        }
    }
    kept.iter_mut().for_each(|share| *share /= sum);
    kept
}

#[test]
fn masks_are_sent_once_and_forgotten_when_nobody_holds_them() {
    let mask = |allowed: &[bool]| Arc::new(TokenMask::new(allowed.to_vec()));
    let (a, b) = (mask(&[true, false]), mask(&[true; 40]));
    let mut masks = Masks::default();
    assert!(!masks.learn(&[wanted(GREEDY, None)]));
    assert!(masks.learn(&[wanted(GREEDY, Some(&a))]));
    assert!(!masks.learn(&[wanted(GREEDY, Some(&a)), wanted(GREEDY, None)]));
    assert!(masks.learn(&[wanted(GREEDY, Some(&b)), wanted(GREEDY, Some(&a))]));
    assert_eq!(masks.bits(40), [1, 0, u32::MAX, 0xff]);
    drop(a);
    let c = mask(&[false, true]);
    assert!(masks.learn(&[wanted(GREEDY, Some(&c))]));
    assert_eq!((masks.index(&b), masks.index(&c)), (0, 1));
}

#[test]
fn uniform_numbers_are_spread_and_repeatable() {
    let numbers: Vec<f32> = (0..1000).map(|place| uniform(3, place)).collect();
    assert!(numbers.iter().all(|n| (0.0..1.0).contains(n)));
    let mean = numbers.iter().sum::<f32>() / 1000.0;
    assert!((mean - 0.5).abs() < 0.05, "{mean}");
    assert_eq!(uniform(3, 7), numbers[7]);
    assert_ne!(uniform(4, 7), numbers[7]);
}
