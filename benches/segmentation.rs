//! Measures the throughput of segmentation on one core.
//!
//! Run with `cargo bench --bench segmentation`. The inputs repeat a real page, and news in brief, which require the most
//! decisions per byte. The results for 1 MiB and 16 MiB show that the time is linear.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use yizhai::document::{InputFormat, Limits, parse, sentences};

const PAGE: &str = include_str!("../tests/data/people-daily-2025-12-06.txt");
const BRIEFS: &str = include_str!("../tests/data/document/briefs.txt");

/// Repeats `text` up to about `bytes` bytes.
fn repeated(text: &str, bytes: usize) -> String {
    format!("{text}\n\n").repeat(bytes.div_ceil(text.len() + 2))
}

fn segmentation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("segmentation");
    group.sample_size(10);
    for (name, text) in [("page", PAGE), ("briefs", BRIEFS)] {
        for megabytes in [1, 16] {
            let page = repeated(text, megabytes << 20);
            group.throughput(Throughput::Bytes(page.len() as u64));
            group.bench_with_input(
                BenchmarkId::new(name, format!("{megabytes} MiB")),
                &page,
                |bencher, page| {
                    bencher.iter(|| parse(black_box(page.as_bytes()), InputFormat::Text, &Limits::default()));
                },
            );
        }
    }
    let page = repeated(PAGE, 1 << 20);
    let bytes = encoding_rs::GB18030.encode(&page).0.into_owned();
    group.throughput(Throughput::Bytes(page.len() as u64));
    group.bench_function("page in GB18030/1 MiB", |bencher| {
        bencher.iter(|| parse(black_box(&bytes), InputFormat::Text, &Limits::default()));
    });
    group.bench_function("sentences/1 MiB", |bencher| bencher.iter(|| sentences(black_box(&page))));
    group.finish();
}

criterion_group!(benches, segmentation);
criterion_main!(benches);
