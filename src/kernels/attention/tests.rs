//! Tests of the KV store and attention: compared with a softmax in f64, across instruction sets, threads and chunked
//! prefills, and with blocks that contain the data of an earlier owner.

use super::{AttentionBatch, AttentionSequence, KV_BLOCK_TOKENS, KvShape, KvStore, KvType, attention};
use crate::kernels::testing::{Random, all_kernels, assert_close};
use crate::kernels::{Kernels, RopeStyle, RopeTable};

/// One sequence: its blocks, its tokens' keys and values `(context, kv_heads · dim)`.
struct TestSequence {
    blocks: Vec<u32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl TestSequence {
    /// Returns the block and the position of each token.
    fn places(&self, context: usize) -> Vec<(u32, u32)> {
        (0..context).map(|p| (self.blocks[p / KV_BLOCK_TOKENS], p as u32)).collect()
    }
}

struct AttentionCase {
    shape: KvShape,
    heads: usize,
    /// Maximum number of positions that a row attends to.
    window: usize,
    sequences: Vec<TestSequence>,
    store: KvStore,
}

impl AttentionCase {
    /// Creates sequences of the given lengths, in interleaved blocks of a store.
    fn new(shape: KvShape, heads: usize, ty: KvType, contexts: &[usize], random: &mut Random) -> Self {
        let blocks_of = |context: &usize| context.div_ceil(KV_BLOCK_TOKENS);
        let total: usize = contexts.iter().map(blocks_of).sum();
        let mut store = KvStore::new(shape, ty, total + 1).expect("a valid shape");
        let mut free: Vec<u32> = (0..=total as u32).collect();
        let width = shape.kv_heads * shape.head_dim;
        let sequences: Vec<TestSequence> = contexts
            .iter()
            .map(|&context| TestSequence {
                blocks: (0..blocks_of(&context))
                    .map(|_| free.swap_remove(random.below(free.len())))
                    .collect(),
                k: random.floats(context * width, 1.0),
                v: random.floats(context * width, 1.0),
            })
            .collect();
        // The data of an earlier owner, in the worst case NaN, must not have any effect.
        let kernels = all_kernels().remove(0);
        let slots: Vec<(u32, u32)> = (0..=total as u32)
            .flat_map(|block| (0..KV_BLOCK_TOKENS as u32).map(move |slot| (block, slot)))
            .collect();
        let nan = vec![f32::NAN; slots.len() * width];
        for layer in 0..shape.layers {
            store.write_rows(&kernels, layer, &slots, &nan, &nan);
            for s in &sequences {
                store.write_rows(&kernels, layer, &s.places(s.k.len() / width), &s.k, &s.v);
            }
        }
        Self { shape, heads, window: usize::MAX, sequences, store }
    }

    /// Computes the attention of the last `tokens` of each sequence; `q` is `(all rows, heads · dim)`.
    fn run(&self, kernels: &Kernels, tokens: &[usize], q: &[f32]) -> Vec<f32> {
        let width = self.shape.kv_heads * self.shape.head_dim;
        let mut first_row = 0;
        let sequences: Vec<AttentionSequence<'_>> = self
            .sequences
            .iter()
            .zip(tokens)
            .map(|(s, &tokens)| {
                first_row += tokens;
                AttentionSequence {
                    first_row: first_row - tokens,
                    tokens,
                    context: s.k.len() / width,
                    blocks: &s.blocks,
                }
            })
            .collect();
        let mut out = vec![f32::NAN; q.len()];
        let scale = 1.0 / (self.shape.head_dim as f32).sqrt();
        let batch =
            AttentionBatch { q, heads: self.heads, scale, window: self.window, sequences: &sequences };
        attention(kernels, &self.store, self.shape.layers - 1, &batch, &mut out);
        out
    }

    /// Computes the same in f64, directly from the definition.
    fn naive(&self, tokens: &[usize], q: &[f32]) -> Vec<f32> {
        let KvShape { kv_heads, head_dim: dim, .. } = self.shape;
        let mut out = Vec::new();
        let mut rows = q.chunks_exact(self.heads * dim);
        for (s, &tokens) in self.sequences.iter().zip(tokens) {
            let context = s.k.len() / (kv_heads * dim);
            for position in context - tokens..context {
                let q = rows.next().expect("a row of queries for each token");
                for head in 0..self.heads {
                    let at = |p: usize| (p * kv_heads + head / (self.heads / kv_heads)) * dim;
                    let q = &q[head * dim..][..dim];
                    let score = |p: usize| -> f64 {
                        let k = &s.k[at(p)..][..dim];
                        q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>()
                            / (dim as f64).sqrt()
                    };
                    let scores: Vec<f64> =
                        ((position + 1).saturating_sub(self.window)..=position).map(score).collect();
                    let most = scores.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
                    let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    for d in 0..dim {
                        let first = position + 1 - weights.len();
                        let sum: f64 =
                            (first..).zip(&weights).map(|(p, w)| w * f64::from(s.v[at(p) + d])).sum();
                        out.push((sum / total) as f32);
                    }
                }
            }
        }
        out
    }
}

fn shape(kv_heads: usize, head_dim: usize) -> KvShape {
    KvShape { layers: 2, kv_heads, head_dim }
}

#[test]
fn agrees_with_a_softmax_in_f64() {
    let cases: [(usize, KvShape, &[usize], &[usize]); 5] = [
        (4, shape(1, 256), &[60, 2], &[20, 2]),
        (6, shape(2, 32), &[1, 17, 40, 16], &[1, 1, 40, 3]),
        (4, shape(4, 48), &[33, 5], &[7, 5]),
        (12, shape(2, 128), &[70], &[25]),
        (14, shape(2, 64), &[3, 100], &[0, 1]),
    ];
    for (heads, shape, contexts, tokens) in cases {
        for ((ty, tolerance), window) in [(KvType::F16, 2e-3), (KvType::Int8, 2e-2)]
            .into_iter()
            .flat_map(|ty| [usize::MAX, 1, 15, 16, 33].map(|window| (ty, window)))
        {
            let mut random = Random::new(heads as u64);
            let case =
                AttentionCase { window, ..AttentionCase::new(shape, heads, ty, contexts, &mut random) };
            let q = random.floats(tokens.iter().sum::<usize>() * heads * shape.head_dim, 1.0);
            let want = case.naive(tokens, &q);
            let mut portable = None;
            for kernels in all_kernels() {
                let got = case.run(&kernels, tokens, &q);
                assert_close(
                    &got,
                    &want,
                    tolerance,
                    &format!("{ty:?} {shape:?} window {window} {kernels:?}"),
                );
                assert_close(
                    &got,
                    portable.get_or_insert_with(|| got.clone()),
                    1e-5,
                    &format!("{kernels:?} and portable"),
                );
            }
        }
    }
}

/// The result of a token must not depend on the other sequences, the threads, or the chunk of a prefill that it is in.
#[test]
fn a_token_has_the_same_result_alone_in_a_batch_and_in_a_chunked_prefill() {
    let (heads, shape) = (6, shape(2, 32));
    for (ty, window) in [(KvType::F16, usize::MAX), (KvType::Int8, usize::MAX), (KvType::F16, 18)] {
        let contexts = [53, 20, 31];
        let case =
            AttentionCase { window, ..AttentionCase::new(shape, heads, ty, &contexts, &mut Random::new(4)) };
        let q = Random::new(5).floats(contexts.iter().sum::<usize>() * heads * shape.head_dim, 1.0);
        let mut one_thread = None;
        for kernels in all_kernels() {
            let unchunked = case.run(&kernels, &contexts, &q);
            if kernels.pool().threads() == 1 {
                one_thread = Some(unchunked.clone());
            }
            assert_eq!(one_thread.as_ref(), Some(&unchunked), "{kernels:?}");
            let row = heads * shape.head_dim;
            let mut first = 0;
            for (s, &context) in case.sequences.iter().zip(&contexts) {
                // Chunks of a prefill with a growing context; the blocks already contain the later tokens.
                for (from, to) in [(0, 7), (7, 8), (8, context)] {
                    let q = &q[(first + from) * row..(first + to) * row];
                    let sequence =
                        AttentionSequence { first_row: 0, tokens: to - from, context: to, blocks: &s.blocks };
                    let scale = 1.0 / (shape.head_dim as f32).sqrt();
                    let batch = AttentionBatch { q, heads, scale, window, sequences: &[sequence] };
                    let mut out = vec![0.0; q.len()];
                    attention(&kernels, &case.store, 1, &batch, &mut out);
                    assert_eq!(
                        out,
                        unchunked[(first + from) * row..(first + to) * row],
                        "{ty:?} {from}..{to} {kernels:?}"
                    );
                }
                first += context;
            }
        }
    }
}

/// A bias far larger than the keys, as in Qwen2, must not reduce their precision.
#[test]
fn a_large_key_bias_does_not_reduce_the_precision_of_int8_keys() {
    let (dim, context) = (32, 40);
    for style in [RopeStyle::Halves, RopeStyle::Neighbors] {
        let rope = RopeTable::new(style, dim, dim, 10_000.0, &[], 48).expect("a valid shape");
        let mut random = Random::new(6);
        let mut case = AttentionCase::new(shape(2, dim), 2, KvType::Int8, &[context], &mut random);
        let mut bias = random.floats(2 * dim, 0.3);
        (bias[5], bias[dim + 30]) = (300.0, -150.0);
        case.store.set_key_bias(1, &bias, &rope);
        let kernels = all_kernels();
        let positions: Vec<u32> = (0..context as u32).collect();
        let sequence = &mut case.sequences[0];
        sequence.k.chunks_exact_mut(2 * dim).for_each(|k| k.iter_mut().zip(&bias).for_each(|(k, b)| *k += b));
        rope.rotate(&kernels[0], &mut sequence.k, &positions);
        case.store.write_rows(&kernels[0], 1, &sequence.places(context), &sequence.k, &sequence.v);
        // A query that almost ignores the channels of the bias, like those of a trained model.
        let mut q = random.floats(2 * dim, 1.0);
        for head in 0..2 {
            for channel in [5, 5 + dim / 2, 4, 30, 30 - dim / 2, 31] {
                q[head * dim + channel] *= 1e-3;
            }
        }
        let want = case.naive(&[1], &q);
        for kernels in kernels {
            assert_close(&case.run(&kernels, &[1], &q), &want, 2e-2, &format!("{style:?} {kernels:?}"));
        }
    }
}

#[test]
fn computes_sizes_and_rejects_invalid_shapes() {
    let shape = KvShape { layers: 28, kv_heads: 2, head_dim: 128 };
    assert_eq!(shape.bytes(KvType::F16, 16 * 2048), 939_524_096);
    assert_eq!(shape.bytes(KvType::Int8, 16 * 2048), 484_442_112);
    let store = KvStore::new(KvShape { layers: 1, ..shape }, KvType::Int8, 4).expect("a valid shape");
    assert_eq!(store.bytes(), 33_792);
    for shape in
        [KvShape { head_dim: 40, ..shape }, KvShape { head_dim: 0, ..shape }, KvShape { layers: 0, ..shape }]
    {
        assert!(KvStore::new(shape, KvType::F16, 4).is_err(), "{shape:?}");
    }
    assert!(KvStore::new(shape, KvType::F16, usize::MAX / 2).is_err());
}

#[test]
#[should_panic(expected = "rows of the sequences")]
fn rejects_overlapping_rows() {
    let case = AttentionCase::new(shape(1, 16), 1, KvType::F16, &[4, 4], &mut Random::new(1));
    let q = vec![0.0; 5 * 16];
    let rows = |first_row, i: usize| AttentionSequence {
        first_row,
        tokens: 3,
        context: 4,
        blocks: &case.sequences[i].blocks,
    };
    let batch = AttentionBatch {
        q: &q,
        heads: 1,
        scale: 1.0,
        window: usize::MAX,
        sequences: &[rows(0, 0), rows(2, 1)],
    };
    attention(&all_kernels()[0], &case.store, 0, &batch, &mut vec![0.0; 5 * 16]);
}
