//! Compares the kernel of `choose.cu`, run by the emulator, with the sampler of the CPU.

use std::sync::Arc;

use super::{CHOICE_WORDS, ChoiceRequest, SampledToken, UploadedMasks, decode_results, uniform};
use crate::{
    engine::{Sampling, TokenMask, sampler::Sampler},
    kernels::{
        cuda::emulator::{floats, run, to_words, words},
        testing::Random,
    },
};

fn choose(logits: &[f32], vocab: usize, requests: &[ChoiceRequest<'_>]) -> Result<Vec<SampledToken>, String> {
    let mut masks = UploadedMasks::default();
    masks.update(requests);
    let request_words: Vec<u32> = requests.iter().flat_map(|request| request.to_words(&masks)).collect();
    let out = vec![7; requests.len() * CHOICE_WORDS];
    let mut arguments = [
        floats(logits),
        words(&masks.to_bits(vocab)),
        words(&request_words),
        words(&out),
        words(&[vocab as u32]),
    ];
    run("choose", (requests.len(), 1), 64, &mut arguments);
    decode_results(&to_words(&arguments[3])).map_err(|error| error.to_string())
}

fn request(sampling: Sampling, allowed: Option<&Arc<TokenMask>>) -> ChoiceRequest<'_> {
    ChoiceRequest { given: None, sampling, allowed, generated: 0 }
}

const GREEDY: Sampling = Sampling::Greedy;

#[test]
fn greedy_and_given_tokens_match_the_cpu() {
    let random = &mut Random::new(11);
    for vocab in [1, 31, 97, 1000] {
        // Coarse values, so that there are ties.
        let mut row = || -> Vec<f32> { (0..vocab).map(|_| (random.float(8.0)).round() / 2.0).collect() };
        let rows = [row(), row(), row(), row()];
        let odd = Arc::new(TokenMask::new((0..vocab).map(|id| id % 2 == 1 || vocab == 1).collect()));
        let third = Arc::new(TokenMask::new((0..vocab).map(|id| id % 3 == 0).collect()));
        let given = vocab as u32 - 1;
        let requests = [
            request(GREEDY, None),
            request(GREEDY, Some(&odd)),
            request(GREEDY, Some(&third)),
            ChoiceRequest { given: Some(given), ..request(GREEDY, Some(&third)) },
        ];
        let found = choose(&rows.concat(), vocab, &requests).unwrap();
        for ((request, row), found) in requests.iter().zip(&rows).zip(found) {
            let mut sampler = Sampler::new(GREEDY, request.given.map(|given| vec![given]));
            let expected = sampler.sample(row, request.allowed.map(|mask| &**mask)).unwrap();
            assert_eq!(found.id, expected.id);
            assert!(
                (found.log_probability - expected.log_probability).abs() < 1e-3,
                "{found:?} {expected:?}"
            );
        }
    }
}

#[test]
fn reports_nan_and_empty_masks() {
    let nothing = Arc::new(TokenMask::new(vec![]));
    let error = |logits: &[f32], request| choose(logits, logits.len(), &[request]).unwrap_err();
    assert!(error(&[1.0, 2.0], request(GREEDY, Some(&nothing))).contains("no token is allowed"));
    assert!(error(&[f32::NEG_INFINITY; 3], request(GREEDY, None)).contains("no token is allowed"));
    let random = Sampling::Random { temperature: 1.0, top_p: 0.9, top_k: None, seed: 1 };
    assert!(error(&[1.0, f32::NAN, 2.0], request(random, None)).contains("NaN"));
    assert!(error(&[1.0, 2.0], request(random, Some(&nothing))).contains("no token is allowed"));
}

#[test]
fn random_tokens_follow_the_expected_distribution() {
    let vocab = 90;
    let random = &mut Random::new(5);
    let logits = random.floats(vocab, 2.0);
    let mask = Arc::new(TokenMask::new((0..vocab).map(|id| id % 5 != 0).collect()));
    for (top_p, top_k) in [(1.0, Some(7)), (0.8, None), (0.9, Some(3))] {
        let sampling = Sampling::Random { temperature: 0.7, top_p, top_k, seed: 9 };
        let expected = expected(&logits, &mask, 0.7, top_p, top_k);
        // Every token is drawn about as often as its probability says.
        let draws = 120;
        let mut counts = vec![0usize; vocab];
        let mut requests = Vec::new();
        for generated in 0..draws {
            requests.push(ChoiceRequest { generated, ..request(sampling, Some(&mask)) });
        }
        for choice in choose(&logits.repeat(draws), vocab, &requests).unwrap() {
            counts[choice.id as usize] += 1;
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

/// Computes the probabilities of all tokens from the definition of top-k and top-p.
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
fn uploads_masks_once_and_removes_unused_ones() {
    let mask = |allowed: &[bool]| Arc::new(TokenMask::new(allowed.to_vec()));
    let (a, b) = (mask(&[true, false]), mask(&[true; 40]));
    let mut masks = UploadedMasks::default();
    assert!(!masks.update(&[request(GREEDY, None)]));
    assert!(masks.update(&[request(GREEDY, Some(&a))]));
    assert!(!masks.update(&[request(GREEDY, Some(&a)), request(GREEDY, None)]));
    assert!(masks.update(&[request(GREEDY, Some(&b)), request(GREEDY, Some(&a))]));
    assert_eq!(masks.to_bits(40), [1, 0, u32::MAX, 0xff]);
    drop(a);
    let c = mask(&[false, true]);
    assert!(masks.update(&[request(GREEDY, Some(&c))]));
    assert_eq!((masks.index(&b), masks.index(&c)), (0, 1));
}

#[test]
fn uniform_numbers_are_spread_and_reproducible() {
    let numbers: Vec<f32> = (0..1000).map(|index| uniform(3, index)).collect();
    assert!(numbers.iter().all(|n| (0.0..1.0).contains(n)));
    let mean = numbers.iter().sum::<f32>() / 1000.0;
    assert!((mean - 0.5).abs() < 0.05, "{mean}");
    assert_eq!(uniform(3, 7), numbers[7]);
    assert_ne!(uniform(4, 7), numbers[7]);
}
