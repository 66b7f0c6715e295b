//! Tests of the KV store and attention: against a softmax in f64, across instruction sets, threads and ways to cut a
//! prefill, and against leftovers of a block's earlier owner.

use super::testing::{Random, all_kernels, close};
use super::{
    AttentionBatch, AttentionSequence, KV_BLOCK_TOKENS, Kernels, KvShape, KvStore, KvType, RopeStyle,
    RopeTable, attention,
};

/// One sequence: its blocks, its tokens' keys and values `(context, kv_heads · dim)`.
struct Sequence {
    blocks: Vec<u32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

struct Case {
    shape: KvShape,
    heads: usize,
    /// Positions that a row sees at most.
    window: usize,
    sequences: Vec<Sequence>,
    store: KvStore,
}

impl Case {
    /// Sequences of the given lengths in interleaved blocks of a store.
    fn new(shape: KvShape, heads: usize, ty: KvType, contexts: &[usize], random: &mut Random) -> Self {
        let blocks_of = |context: &usize| context.div_ceil(KV_BLOCK_TOKENS);
        let total: usize = contexts.iter().map(blocks_of).sum();
        let mut store = KvStore::new(shape, ty, total + 1).expect("a valid shape");
        let mut free: Vec<u32> = (0..=total as u32).collect();
        let width = shape.kv_heads * shape.head_dim;
        let sequences: Vec<Sequence> = contexts
            .iter()
            .map(|&context| Sequence {
                blocks: (0..blocks_of(&context))
                    .map(|_| free.swap_remove(random.below(free.len())))
                    .collect(),
                k: random.floats(context * width, 1.0),
                v: random.floats(context * width, 1.0),
            })
            .collect();
        // Whatever an earlier owner left, NaN at worst, must not be seen.
        for block in 0..=total as u32 {
            for slot in 0..KV_BLOCK_TOKENS as u32 {
                (0..shape.layers).for_each(|l| {
                    store.write(l, block, slot, &vec![f32::NAN; width], &vec![f32::NAN; width])
                });
            }
        }
        for s in &sequences {
            for (p, (k, v)) in s.k.chunks_exact(width).zip(s.v.chunks_exact(width)).enumerate() {
                (0..shape.layers)
                    .for_each(|layer| store.write(layer, s.blocks[p / KV_BLOCK_TOKENS], p as u32, k, v));
            }
        }
        Self { shape, heads, window: usize::MAX, sequences, store }
    }

    /// Attention of the last `tokens` of each sequence; `q` is `(all rows, heads · dim)`.
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

    /// The same in f64, straight from the definition.
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
            let case = Case { window, ..Case::new(shape, heads, ty, contexts, &mut random) };
            let q = random.floats(tokens.iter().sum::<usize>() * heads * shape.head_dim, 1.0);
            let want = case.naive(tokens, &q);
            let mut portable = None;
            for kernels in all_kernels() {
                let got = case.run(&kernels, tokens, &q);
                close(&got, &want, tolerance, &format!("{ty:?} {shape:?} window {window} {kernels:?}"));
                close(
                    &got,
                    portable.get_or_insert_with(|| got.clone()),
                    1e-5,
                    &format!("{kernels:?} and portable"),
                );
            }
        }
    }
}

/// A token's result must not depend on the other sequences, the threads, or the piece of a prefill that it came in.
#[test]
fn the_same_bits_alone_in_a_batch_and_in_pieces() {
    let (heads, shape) = (6, shape(2, 32));
    for (ty, window) in [(KvType::F16, usize::MAX), (KvType::Int8, usize::MAX), (KvType::F16, 18)] {
        let contexts = [53, 20, 31];
        let case = Case { window, ..Case::new(shape, heads, ty, &contexts, &mut Random::new(4)) };
        let q = Random::new(5).floats(contexts.iter().sum::<usize>() * heads * shape.head_dim, 1.0);
        let mut of_one_thread = None;
        for kernels in all_kernels() {
            let whole = case.run(&kernels, &contexts, &q);
            if kernels.pool().threads() == 1 {
                of_one_thread = Some(whole.clone());
            }
            assert_eq!(of_one_thread.as_ref(), Some(&whole), "{kernels:?}");
            let row = heads * shape.head_dim;
            let mut first = 0;
            for (s, &context) in case.sequences.iter().zip(&contexts) {
                // Pieces of a prefill, the context growing with them; blocks beyond it hold the later tokens already.
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
                        whole[(first + from) * row..(first + to) * row],
                        "{ty:?} {from}..{to} {kernels:?}"
                    );
                }
                first += context;
            }
        }
    }
}

#[test]
fn a_copied_block_continues_the_prefix() {
    for ty in [KvType::F16, KvType::Int8] {
        let mut case = Case::new(shape(2, 32), 2, ty, &[20], &mut Random::new(8));
        let q = Random::new(9).floats(64, 1.0);
        let kernels = all_kernels().remove(0);
        let want = case.run(&kernels, &[1], &q);
        let (from, to) =
            (case.sequences[0].blocks[1], (0..3).find(|b| !case.sequences[0].blocks.contains(b)));
        let to = to.expect("one block is free");
        case.store.copy_block(from, to);
        case.sequences[0].blocks[1] = to;
        assert_eq!(case.run(&kernels, &[1], &q), want, "{ty:?}");
    }
}

/// A bias far larger than the keys, as Qwen2 has it, must not cost the keys their precision.
#[test]
fn a_large_key_bias_does_not_drown_int8_keys() {
    let (dim, context) = (32, 40);
    for style in [RopeStyle::Halves, RopeStyle::Neighbours] {
        let rope = RopeTable::new(style, dim, dim, 10_000.0, &[], 48).expect("a valid shape");
        let mut random = Random::new(6);
        let mut case = Case::new(shape(2, dim), 2, KvType::Int8, &[context], &mut random);
        let mut bias = random.floats(2 * dim, 0.3);
        (bias[5], bias[dim + 30]) = (300.0, -150.0);
        case.store.set_key_bias(1, &bias, &rope);
        let kernels = all_kernels();
        let positions: Vec<u32> = (0..context as u32).collect();
        let sequence = &mut case.sequences[0];
        sequence.k.chunks_exact_mut(2 * dim).for_each(|k| k.iter_mut().zip(&bias).for_each(|(k, b)| *k += b));
        rope.rotate(&kernels[0], &mut sequence.k, &positions);
        for (p, (k, v)) in sequence.k.chunks_exact(2 * dim).zip(sequence.v.chunks_exact(2 * dim)).enumerate()
        {
            case.store.write(1, sequence.blocks[p / KV_BLOCK_TOKENS], p as u32, k, v);
        }
        // A query that hardly looks at the channels of the bias, as a trained one.
        let mut q = random.floats(2 * dim, 1.0);
        for head in 0..2 {
            for channel in [5, 5 + dim / 2, 4, 30, 30 - dim / 2, 31] {
                q[head * dim + channel] *= 1e-3;
            }
        }
        let want = case.naive(&[1], &q);
        for kernels in kernels {
            close(&case.run(&kernels, &[1], &q), &want, 2e-2, &format!("{style:?} {kernels:?}"));
        }
    }
}

#[test]
fn sizes_and_bad_shapes() {
    let shape = KvShape { layers: 28, kv_heads: 2, head_dim: 128 };
    assert_eq!(shape.bytes(KvType::F16, 16 * 2048), 939_524_096);
    assert_eq!(shape.bytes(KvType::Int8, 16 * 2048), 484_442_112);
    let store = KvStore::new(KvShape { layers: 1, ..shape }, KvType::Int8, 4).expect("a valid shape");
    assert_eq!((store.bytes(), store.blocks(), store.kv_type()), (33_792, 4, KvType::Int8));
    for shape in
        [KvShape { head_dim: 40, ..shape }, KvShape { head_dim: 0, ..shape }, KvShape { layers: 0, ..shape }]
    {
        assert!(KvStore::new(shape, KvType::F16, 4).is_err(), "{shape:?}");
    }
    assert!(KvStore::new(shape, KvType::F16, usize::MAX / 2).is_err());
}

#[test]
#[should_panic(expected = "rows of the sequences")]
fn overlapping_rows_are_refused() {
    let case = Case::new(shape(1, 16), 1, KvType::F16, &[4, 4], &mut Random::new(1));
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
