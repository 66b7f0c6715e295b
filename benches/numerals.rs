//! Measures how fast quantities are read, compared and rewritten and outputs are checked, in bytes of Chinese per
//! second on one core.
//!
//! Run with `cargo bench --bench numerals`. The text is the real page in `tests/data`; a section of it has about 1 KB.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use yizhai::fidelity::{
    check_translation,
    numerals::{QuantityRewrite, compare, read_zh, rewrite_quantities},
};

const PAGE: &str = include_str!("../tests/data/people-daily-2025-12-06.txt");
const PAIRS: &str = include_str!("../tests/planted_errors/pairs.tsv");

fn numerals(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("numerals");
    group.throughput(Throughput::Bytes(PAGE.len() as u64));
    group.bench_function("read_zh/page", |b| b.iter(|| read_zh(black_box(PAGE))));
    group.bench_function("rewrite_quantities/page", |b| {
        b.iter(|| rewrite_quantities(black_box(PAGE), QuantityRewrite::ALL))
    });
    let (source, translation): (String, String) = PAIRS
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .fold(Default::default(), |(zh, en), (z, e)| (zh + z, format!("{en} {e}")));
    group.throughput(Throughput::Bytes(source.len() as u64));
    group
        .bench_function("compare/pairs", |b| b.iter(|| compare(black_box(&source), black_box(&translation))));
    group.bench_function("check_translation/pairs", |b| {
        b.iter(|| check_translation(black_box(&source), &[], black_box(&translation), true));
    });
    group.finish();
}

criterion_group!(benches, numerals);
criterion_main!(benches);
