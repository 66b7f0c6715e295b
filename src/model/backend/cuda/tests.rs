//! Compares the kernels of `attention.cu`, run by the emulator, with the CPU kernels.

use std::sync::Arc;

use super::plan::{Plan, TILE_WORDS, WARPS, tile_rows};
use crate::{
    kernels::{
        self, AttentionBatch, AttentionSequence, CpuFeatures, KV_BLOCK_TOKENS, Kernels, KvShape, KvStore,
        KvType, RopeStyle, RopeTable,
        cuda::emulator::{floats, run, to_floats, words},
        testing::{Random, assert_close},
    },
    model::Batch,
};

fn portable() -> Kernels {
    Kernels::new("portable".parse::<CpuFeatures>().unwrap(), 1)
}

/// Checks attention of sequences with the given contexts (cached tokens, new tokens) against the CPU.
fn check_attention(heads: usize, shape: KvShape, window: Option<usize>, contexts: &[(usize, usize)]) {
    let KvShape { kv_heads, head_dim, .. } = shape;
    let (random, kernels) = (&mut Random::new(7), portable());
    let width = kv_heads * head_dim;
    // The blocks of every sequence are scattered over the cache.
    let blocks_of = |&(start, len): &(usize, usize)| (start + len).div_ceil(KV_BLOCK_TOKENS);
    let blocks = contexts.iter().map(blocks_of).sum::<usize>() + 1;
    let mut free: Vec<u32> = (0..blocks as u32).collect();
    let (mut batch, mut slots) = (Batch::default(), Vec::new());
    for &(start, len) in contexts {
        let table: Arc<[u32]> =
            (0..blocks_of(&(start, len))).map(|_| free.swap_remove(random.below(free.len()))).collect();
        slots.extend((0..start + len).map(|p| (table[p / KV_BLOCK_TOKENS], p as u32)));
        batch.push(table, start, &vec![0; len], 1);
    }
    let (keys, values) = (random.floats(slots.len() * width, 1.0), random.floats(slots.len() * width, 1.0));
    let tokens = batch.tokens.len();
    let queries = random.floats(tokens * heads * head_dim, 1.0);

    let mut store = KvStore::new(shape, KvType::F16, blocks).unwrap();
    store.write_rows(&kernels, 0, &slots, &keys, &values);
    let mut first_row = 0;
    let mut sequences = Vec::new();
    for segment in &batch.segments {
        let context = segment.start + segment.len;
        sequences.push(AttentionSequence {
            first_row,
            tokens: segment.len,
            context,
            blocks: &segment.blocks,
        });
        first_row += segment.len;
    }
    let scale = 1.0 / (head_dim as f32).sqrt();
    let attention = AttentionBatch {
        q: &queries,
        heads,
        scale,
        window: window.unwrap_or(usize::MAX),
        sequences: &sequences,
    };
    let mut expected = vec![0.0; queries.len()];
    kernels::attention(&kernels, &store, 0, &attention, &mut expected);

    let slot_numbers: Vec<u32> =
        slots.iter().map(|(block, position)| block * 16 + position % KV_BLOCK_TOKENS as u32).collect();
    let cache = vec![0xff; blocks * KV_BLOCK_TOKENS * width * 2]; // NaN wherever nothing is written
    let mut arguments =
        [floats(&keys), floats(&values), words(&slot_numbers), cache.clone(), cache, words(&[width as u32])];
    run("store", (slots.len(), 1), 64, &mut arguments);
    let [_, _, _, cached_keys, cached_values, _] = arguments;

    let plan = Plan::new(&batch, heads / kv_heads, tile_rows(head_dim));
    let word = |n: usize| words(&[n as u32]);
    let mut arguments = [
        floats(&queries),
        cached_keys,
        cached_values,
        words(&plan.tiles),
        words(&plan.table),
        floats(&vec![f32::NAN; queries.len()]),
        word(heads),
        word(kv_heads),
        word(head_dim),
        floats(&[scale]),
        word(window.unwrap_or(u32::MAX as usize)),
    ];
    run("attend", (plan.tiles.len() / TILE_WORDS, kv_heads), WARPS * 32, &mut arguments);
    assert_close(&to_floats(&arguments[5]), &expected, 2e-5, "attention");
}

#[test]
fn attention_matches_the_cpu() {
    let shape = |kv_heads, head_dim| KvShape { layers: 1, kv_heads, head_dim };
    // Decode and prefill mixed; lengths around multiples of 16 (block), 32 (keys of a tile) and the query rows of a
    // tile.
    let contexts = [(0, 1), (15, 1), (16, 1), (70, 3), (0, 37), (31, 2), (95, 1), (33, 32)];
    check_attention(6, shape(2, 64), None, &contexts);
    check_attention(12, shape(2, 128), None, &contexts[..5]);
    check_attention(3, shape(3, 32), Some(20), &contexts);
    check_attention(4, shape(1, 256), Some(33), &contexts[3..]);
    check_attention(3, shape(1, 80), Some(1), &contexts);
}

#[test]
fn rotation_matches_the_cpu() {
    let (random, kernels) = (&mut Random::new(3), portable());
    let (heads, head_dim, positions) = (3, 48, [0u32, 1, 17, 99]);
    for style in [RopeStyle::Halves, RopeStyle::Neighbors] {
        let x = random.floats(positions.len() * heads * head_dim, 1.0);
        let table = RopeTable::new(style, head_dim, head_dim, 10_000.0, &[], 100).unwrap();
        let mut expected = x.clone();
        table.rotate(&kernels, &mut expected, &positions);
        let angles = (0..100u32).flat_map(|p| {
            (0..head_dim).step_by(2).map(move |i| f64::from(p) / 10_000f64.powf(i as f64 / head_dim as f64))
        });
        let angles: Vec<f64> = angles.collect();
        let table = |function: fn(f64) -> f64| {
            floats(&angles.iter().map(|&a| function(a) as f32).collect::<Vec<_>>())
        };
        let mut arguments = [
            floats(&x),
            table(f64::cos),
            table(f64::sin),
            words(&positions),
            floats(&vec![f32::NAN; x.len()]),
            words(&[heads as u32]),
            words(&[head_dim as u32]),
            words(&[u32::from(style == RopeStyle::Neighbors)]),
        ];
        run("rotate", (positions.len(), 1), 32, &mut arguments);
        assert_close(&to_floats(&arguments[4]), &expected, 1e-5, "rotation");
    }
}
