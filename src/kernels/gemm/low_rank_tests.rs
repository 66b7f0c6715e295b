//! Tests of low-rank updates: compared with f64 arithmetic, and bit for bit across instruction sets, threads and batches.

use super::gguf_blocks::dequantize_row;
use super::{GgufMatrix, LowRank, Product, QuantMatrix, QuantType, RowUpdate, matmul_group};
use crate::kernels::testing::{Random, all_kernels, assert_close};
use crate::kernels::{KernelError, Kernels};
use proptest::prelude::*;

/// An adapter of one matrix, packed and in f32.
struct Adapter {
    low_rank: LowRank,
    /// `(rank, columns)`
    a: Vec<f32>,
    /// `(rows, rank)`
    b: Vec<f32>,
    scale: f32,
}

impl Adapter {
    fn new(random: &mut Random, ty: QuantType, rows: usize, columns: usize, rank: usize) -> Self {
        let (a, b) = (random.tensor(ty, rank, columns), random.tensor(ty, rows, rank));
        // Random quants are large; a small scale keeps the rounding errors of the sums within the tolerance.
        let scale = if ty.block_len() > 1 { 0.05 } else { 2.0 };
        let low_rank = LowRank::from_gguf(
            GgufMatrix { ty, rows: rank, columns, data: &a },
            GgufMatrix { ty, rows, columns: rank, data: &b },
            scale,
        )
        .expect("valid tensors");
        let dequantize = |rows: usize, columns: usize, data: &[u8]| {
            let mut out = vec![0.0; rows * columns];
            for (out, bytes) in out.chunks_exact_mut(columns).zip(data.chunks_exact(data.len() / rows)) {
                dequantize_row(ty, bytes, out);
            }
            out
        };
        Self { low_rank, a: dequantize(rank, columns, &a), b: dequantize(rows, rank, &b), scale }
    }

    /// Adds `scale · (x · Aᵀ) · Bᵀ` to one row of the output, in f64.
    fn add_to(&self, x: &[f32], out: &mut [f32]) {
        let dot = |a: &[f32], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * b).sum() };
        let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let projected: Vec<f64> = self.a.chunks_exact(x.len()).map(|a| dot(a, &x)).collect();
        for (out, b) in out.iter_mut().zip(self.b.chunks_exact(projected.len())) {
            *out = (f64::from(*out) + f64::from(self.scale) * dot(b, &projected)) as f32;
        }
    }
}

fn base_matrix(random: &mut Random, kernels: &Kernels, rows: usize, columns: usize) -> QuantMatrix {
    let ty = if columns.is_multiple_of(256) { QuantType::Q4_K } else { QuantType::F16 };
    let data = random.tensor(ty, rows, columns);
    QuantMatrix::from_gguf(kernels, GgufMatrix { ty, rows, columns, data: &data }).expect("a valid tensor")
}

fn product(kernels: &Kernels, weights: &QuantMatrix, x: &[f32], updates: &[RowUpdate<'_>]) -> Vec<f32> {
    let m = x.len() / weights.columns();
    let mut out = vec![f32::NAN; m * weights.rows()];
    matmul_group(kernels, x, m, &mut [Product { weights, out: &mut out, updates }]);
    out
}

/// Compares a product with two adapters, whose rows are interleaved with rows of none, with f64 arithmetic; and the
/// instruction sets with each other.
fn check(ty: QuantType, rows: usize, columns: usize, ranks: [usize; 2], m: usize, seed: u64) {
    let mut random = Random::new(seed);
    let adapters = ranks.map(|rank| Adapter::new(&mut random, ty, rows, columns, rank));
    let x = random.floats(m * columns, 1.0);
    let weights = base_matrix(&mut random, &all_kernels()[0], rows, columns);
    let choices: Vec<usize> = (0..m).map(|_| random.below(3)).collect();
    let rows_of = [0, 1].map(|adapter| -> Vec<u32> {
        (0..m as u32).filter(|&row| choices[row as usize] == adapter).collect()
    });
    let updates = [0, 1].map(|i| RowUpdate { low_rank: &adapters[i].low_rank, rows: &rows_of[i] });
    let mut update_bits = None;
    for kernels in all_kernels() {
        let context = format!("{ty:?} {rows} x {columns}, ranks {ranks:?}, {m} rows, {kernels:?}");
        let base = product(&kernels, &weights, &x, &[]);
        let actual = product(&kernels, &weights, &x, &updates);
        let mut expected = base.clone();
        for (row, &choice) in choices.iter().enumerate() {
            let out = &mut expected[row * rows..][..rows];
            match adapters.get(choice) {
                Some(adapter) => adapter.add_to(&x[row * columns..][..columns], out),
                None => assert_eq!(actual[row * rows..][..rows], *out, "{context}: row {row} has no adapter"),
            }
        }
        assert_close(&actual, &expected, 2e-5, &context);
        // Float products may differ in the last bits, quantized ones and updates may not.
        if columns.is_multiple_of(256) {
            assert_eq!(*update_bits.get_or_insert(actual.clone()), actual, "{context}");
        }
    }
}

#[test]
fn updates_match_f64_arithmetic_and_are_the_same_on_every_instruction_set() {
    for (ty, rank) in
        [(QuantType::F16, 16), (QuantType::F32, 5), (QuantType::BF16, 40), (QuantType::Q8_0, 32)]
    {
        check(ty, 40, 256, [rank, 32], 30, 1);
    }
    check(QuantType::F16, 150, 2304, [16, 1], 19, 2); // several chunks of columns
    check(QuantType::F16, 17, 50, [16, 16], 70, 3); // several blocks of rows
}

#[test]
fn a_row_has_the_same_result_alone_and_in_a_batch() {
    let (rows, columns, m) = (40, 1280, 70);
    let mut random = Random::new(4);
    let adapter = Adapter::new(&mut random, QuantType::F16, rows, columns, 16);
    let x = random.floats(m * columns, 1.0);
    for kernels in all_kernels() {
        let weights = base_matrix(&mut random, &kernels, rows, columns);
        let even: Vec<u32> = (0..m as u32).step_by(2).collect();
        let update = |rows| RowUpdate { low_rank: &adapter.low_rank, rows };
        let batch = product(&kernels, &weights, &x, &[update(&even)]);
        for row in [0, 2, 14, 64, 68] {
            let alone = product(&kernels, &weights, &x[row * columns..][..columns], &[update(&[0])]);
            assert_eq!(alone, batch[row * rows..][..rows], "row {row} {kernels:?}");
        }
    }
}

#[test]
fn the_products_of_a_group_have_their_own_updates() {
    let (columns, m) = (256, 5);
    let mut random = Random::new(5);
    let x = random.floats(m * columns, 1.0);
    let adapters = [(16, 16), (48, 8)]
        .map(|(rows, rank)| Adapter::new(&mut random, QuantType::F16, rows, columns, rank));
    for kernels in all_kernels() {
        let matrices = [16, 32, 48].map(|rows| base_matrix(&mut random, &kernels, rows, columns));
        let [first, last] = [(0, &[0, 1, 4][..]), (1, &[2, 4][..])]
            .map(|(i, rows)| RowUpdate { low_rank: &adapters[i].low_rank, rows });
        let updates: [&[RowUpdate<'_>]; 3] = [&[first], &[], &[last, last]];
        let mut outs = matrices.each_ref().map(|weights| vec![0.0; m * weights.rows()]);
        let mut products: Vec<Product<'_>> = matrices
            .iter()
            .zip(&mut outs)
            .zip(updates)
            .map(|((weights, out), updates)| Product { weights, out, updates })
            .collect();
        matmul_group(&kernels, &x, m, &mut products);
        for ((weights, out), updates) in matrices.iter().zip(&outs).zip(updates) {
            assert_eq!(*out, product(&kernels, weights, &x, updates), "{kernels:?}");
        }
        let mut twice = product(&kernels, &matrices[2], &x, &[]);
        for row in [2, 4] {
            let (x, out) = (&x[row * columns..][..columns], &mut twice[row * 48..][..48]);
            (0..2).for_each(|_| adapters[1].add_to(x, out));
        }
        assert_close(&outs[2], &twice, 2e-5, &format!("{kernels:?}"));
    }
}

#[test]
fn f16_matrices_stay_f16_in_memory() {
    let adapter = |ty| Adapter::new(&mut Random::new(6), ty, 1536, 8960, 16).low_rank;
    assert_eq!(adapter(QuantType::F16).bytes(), (1536 + 8960) * 16 * 2);
    assert_eq!(adapter(QuantType::F32).bytes(), (1536 + 8960) * 16 * 4);
    let low_rank = adapter(QuantType::F16);
    assert_eq!((low_rank.rows(), low_rank.columns(), low_rank.rank()), (1536, 8960, 16));
}

#[test]
fn rejects_invalid_shapes() {
    let data = Random::new(7).tensor(QuantType::F32, 4, 16);
    let matrix =
        |rows, columns, bytes| GgufMatrix { ty: QuantType::F32, rows, columns, data: &data[..bytes] };
    let error = |a, b| LowRank::from_gguf(a, b, 1.0).map(|_| ()).unwrap_err();
    assert!(matches!(error(matrix(4, 16, 256), matrix(16, 3, 192)), KernelError::Shape(_)));
    assert!(matches!(error(matrix(0, 16, 0), matrix(16, 0, 0)), KernelError::Shape(_)));
    assert_eq!(
        error(matrix(4, 16, 255), matrix(16, 4, 256)),
        KernelError::DataLength { expected: 256, found: 255 }
    );
}

/// Applies an update to the given rows of 3.
fn update_rows(rows: &[u32]) {
    let (kernels, mut random) = (all_kernels().remove(0), Random::new(8));
    let adapter = Adapter::new(&mut random, QuantType::F16, 16, 256, 4);
    let weights = base_matrix(&mut random, &kernels, 16, 256);
    let x = random.floats(3 * 256, 1.0);
    product(&kernels, &weights, &x, &[RowUpdate { low_rank: &adapter.low_rank, rows }]);
}

#[test]
#[should_panic(expected = "rows of a low-rank update are out of range")]
fn rejects_rows_out_of_range() {
    update_rows(&[0, 3]);
}

#[test]
#[should_panic(expected = "rows of a low-rank update are not ascending")]
fn rejects_rows_that_are_not_ascending() {
    update_rows(&[1, 1]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 32 }, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_shapes_match_f64_arithmetic(
        rows in 1usize..70, columns in prop::sample::select(&[13usize, 256, 1536][..]),
        ranks in [1usize..40, 1usize..40], m in 1usize..40, seed: u64,
    ) {
        check(QuantType::F16, rows, columns, ranks, m, seed);
    }
}
