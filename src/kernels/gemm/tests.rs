//! Tests of packed matrices and their products: packing compared with the layout of GGUF, the portable products with exact
//! arithmetic, every instruction set with the portable products, and the guarantees of `kernels`, bit for bit.

use super::gguf_blocks::dequantize_row;
use super::matrix::{Panels, with_panels};
use super::{GgufMatrix, Product, QuantMatrix, QuantType, matmul_group};
use crate::kernels::testing::{Random, all_kernels};
use crate::kernels::{CpuFeatures, InstructionSet, KernelError, Kernels};
use proptest::prelude::*;

const ALL_TYPES: [QuantType; 11] = [
    QuantType::F32,
    QuantType::F16,
    QuantType::BF16,
    QuantType::Q4_0,
    QuantType::Q4_1,
    QuantType::Q5_0,
    QuantType::Q5_1,
    QuantType::Q8_0,
    QuantType::Q4_K,
    QuantType::Q5_K,
    QuantType::Q6_K,
];

fn portable() -> Kernels {
    Kernels::new(CpuFeatures::request(InstructionSet::Portable).expect("always present"), 1)
}

fn pack(kernels: &Kernels, ty: QuantType, rows: usize, columns: usize, data: &[u8]) -> QuantMatrix {
    QuantMatrix::from_gguf(kernels, GgufMatrix { ty, rows, columns, data }).expect("a valid tensor")
}

/// Dequantizes a tensor without packing it.
fn reference(ty: QuantType, rows: usize, columns: usize, data: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; rows * columns];
    for (out, bytes) in out.chunks_exact_mut(columns).zip(data.chunks_exact(data.len() / rows)) {
        dequantize_row(ty, bytes, out);
    }
    out
}

/// Reads a packed matrix row by row.
fn unpack(weights: &QuantMatrix) -> Vec<f32> {
    let mut out = vec![0.0; weights.rows() * weights.columns()];
    weights.look_up(&(0..weights.rows() as u32).collect::<Vec<_>>(), &mut out);
    out
}

fn product(kernels: &Kernels, weights: &QuantMatrix, x: &[f32], m: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; m * weights.rows()];
    weights.matmul(kernels, x, m, &mut out);
    out
}

/// Returns numbers of columns with whole and partial column blocks.
fn columns_of(ty: QuantType) -> &'static [usize] {
    match ty.block_len() {
        1 => &[1, 15, 16, 50],
        32 => &[32, 64, 96, 160],
        _ => &[256, 512],
    }
}

#[test]
fn packing_is_lossless() {
    for ty in ALL_TYPES {
        for (rows, &columns) in [1, 15, 16, 35].into_iter().zip(columns_of(ty).iter().cycle()) {
            let data = Random::new(rows as u64).tensor(ty, rows, columns);
            let want = reference(ty, rows, columns, &data);
            let weights = pack(&portable(), ty, rows, columns, &data);
            assert_eq!(unpack(&weights), want, "{ty:?} {rows} x {columns}");
            let ids = [rows as u32 - 1, 0, rows as u32 / 2];
            let mut out = vec![0.0; 3 * columns];
            weights.look_up(&ids, &mut out);
            for (id, out) in ids.iter().zip(out.chunks_exact(columns)) {
                assert_eq!(out, &want[*id as usize * columns..][..columns], "{ty:?} row {id}");
            }
        }
    }
}

#[test]
fn packing_adds_at_most_2_8_percent() {
    for ty in ALL_TYPES {
        let data = Random::new(1).tensor(ty, 32, 512);
        let weights = pack(&portable(), ty, 32, 512, &data);
        let packed_bytes = with_panels!(weights, panels => size_of_val(panels.as_slice()));
        assert!(packed_bytes * 36 <= data.len() * 37, "{ty:?}: {packed_bytes} of {}", data.len());
    }
}

/// Checks the bound that [`QuantMatrix::matmul`] states, using f64 arithmetic on the dequantized weights.
#[test]
fn portable_products_are_within_the_documented_error_bound() {
    let kernels = portable();
    for ty in ALL_TYPES {
        for &columns in columns_of(ty) {
            let (rows, m) = (19, 3);
            let mut random = Random::new(columns as u64);
            let data = random.tensor(ty, rows, columns);
            let w = reference(ty, rows, columns, &data);
            let mut x = random.floats(m * columns, 1.0);
            x[columns / 2] = 30.0; // activations of real models have outliers
            let weights = pack(&kernels, ty, rows, columns, &data);
            let got = product(&kernels, &weights, &x, m);
            for i in 0..m {
                for r in 0..rows {
                    let (w, x) = (&w[r * columns..][..columns], &x[i * columns..][..columns]);
                    let (mut want, mut bound) = (0.0f64, 0.0f64);
                    let block = if ty.block_len() == 1 { columns } else { ty.block_len() };
                    for (w, x) in w.chunks(block).zip(x.chunks(block)) {
                        let step = f64::from(x.iter().fold(0.0f32, |a, x| a.max(x.abs()))) / 127.0;
                        for (w, x) in w.iter().zip(x) {
                            let (w, x) = (f64::from(*w), f64::from(*x));
                            want += w * x;
                            bound += 1e-5 * (w * x).abs();
                            bound += if ty.block_len() == 1 { 0.0 } else { w.abs() * step * 0.5001 };
                        }
                    }
                    let error = (f64::from(got[i * rows + r]) - want).abs();
                    assert!(error <= bound + 1e-6, "{ty:?} {columns} columns: error {error} over {bound}");
                }
            }
        }
    }
}

/// Compares every instruction set and thread count with the portable products: equal bits for quantized types, equal up to
/// rounding of the sums for float types.
fn check_against_portable(ty: QuantType, rows: usize, columns: usize, m: usize, seed: u64) {
    let mut random = Random::new(seed);
    let data = random.tensor(ty, rows, columns);
    let x = random.floats(m * columns, 2.0);
    let oracle = portable();
    let weights = pack(&oracle, ty, rows, columns, &data);
    let want = product(&oracle, &weights, &x, m);
    for kernels in all_kernels() {
        let got = product(&kernels, &weights, &x, m);
        if ty.block_len() > 1 {
            let same = got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{ty:?} {rows} x {columns}, {m} rows, {kernels:?}: expected {want:?}, got {got:?}");
            continue;
        }
        let w = reference(ty, rows, columns, &data);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let (w, x) = (&w[i % rows * columns..][..columns], &x[i / rows * columns..][..columns]);
            let size: f32 = w.iter().zip(x).map(|(w, x)| (w * x).abs()).sum();
            assert!(
                (got - want).abs() <= 1e-5 * size,
                "{ty:?} {rows} x {columns}, {kernels:?}: expected {want}, got {got}"
            );
        }
    }
}

#[test]
fn every_number_of_rows_agrees_with_portable() {
    for ty in ALL_TYPES {
        let columns = columns_of(ty)[1];
        // All tiles of up to 8 rows, and the limits of tiles of 16 and 32 and of blocks of 64 and 256.
        for m in (1..=9).chain([12, 16, 17, 31, 32, 33, 64, 65, 73, 256, 257, 300]) {
            check_against_portable(ty, 17, columns, m, m as u64);
        }
    }
}

/// Extreme quants and scales reach the limits of the integer sums.
#[test]
fn extreme_quants_do_not_overflow() {
    for ty in ALL_TYPES.into_iter().filter(|ty| ty.block_len() > 1) {
        for fill in [0x00u8, 0x7f, 0x80, 0xff] {
            let mut data = Random::new(3).tensor(ty, 16, 512);
            let factors = Random::new(3).tensor(ty, 16, 512);
            data.fill(fill);
            for (block, factors) in
                data.chunks_exact_mut(ty.block_bytes()).zip(factors.chunks_exact(ty.block_bytes()))
            {
                let at = if ty == QuantType::Q6_K { 208 } else { 0 };
                let len =
                    if matches!(ty, QuantType::Q4_K | QuantType::Q5_K | QuantType::Q4_1 | QuantType::Q5_1) {
                        4
                    } else {
                        2
                    };
                block[at..at + len].copy_from_slice(&factors[at..at + len]);
            }
            let oracle = portable();
            let weights = pack(&oracle, ty, 16, 512, &data);
            let mut x = vec![1.0f32; 3 * 512];
            x[512..1024].fill(-1.0);
            x[1024..].iter_mut().enumerate().for_each(|(i, x)| *x = if i % 2 == 0 { 1.0 } else { -1.0 });
            let want = product(&oracle, &weights, &x, 3);
            let w = unpack(&weights);
            for kernels in all_kernels() {
                assert_eq!(product(&kernels, &weights, &x, 3), want, "{ty:?} {fill:#x} {kernels:?}");
            }
            for (i, want) in want.iter().enumerate() {
                let (w, x) = (&w[i % 16 * 512..][..512], &x[i / 16 * 512..][..512]);
                let exact: f64 = w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                let size: f64 = w.iter().map(|w| f64::from(w.abs())).sum();
                assert!(
                    (f64::from(*want) - exact).abs() <= 1e-5 * size + 1e-6,
                    "{ty:?} {fill:#x}: expected {exact}, got {want}"
                );
            }
        }
    }
}

#[test]
fn a_row_has_the_same_result_alone_and_in_a_batch() {
    for ty in ALL_TYPES {
        let (rows, columns, m) = (17, columns_of(ty)[1], 70);
        let mut random = Random::new(11);
        let data = random.tensor(ty, rows, columns);
        let x = random.floats(m * columns, 1.0);
        for kernels in all_kernels() {
            let weights = pack(&kernels, ty, rows, columns, &data);
            let batch = product(&kernels, &weights, &x, m);
            for i in [0, 3, 7, 8, 62, 63, 64, 69] {
                let alone = product(&kernels, &weights, &x[i * columns..(i + 1) * columns], 1);
                assert_eq!(alone, batch[i * rows..(i + 1) * rows], "{ty:?} row {i} {kernels:?}");
            }
        }
    }
}

#[test]
fn a_group_equals_its_separate_products() {
    let types = [QuantType::Q4_K, QuantType::Q6_K, QuantType::Q8_0, QuantType::F16];
    let (columns, m) = (256, 5);
    let mut random = Random::new(5);
    let x = random.floats(m * columns, 1.0);
    for kernels in all_kernels() {
        let matrices: Vec<QuantMatrix> = types
            .iter()
            .zip([16, 40, 7, 129])
            .map(|(&ty, rows)| {
                let data = random.tensor(ty, rows, columns);
                pack(&kernels, ty, rows, columns, &data)
            })
            .collect();
        let mut outs: Vec<Vec<f32>> = matrices.iter().map(|w| vec![0.0; m * w.rows()]).collect();
        let mut products: Vec<Product<'_>> = matrices
            .iter()
            .zip(&mut outs)
            .map(|(weights, out)| Product { weights, out, updates: &[] })
            .collect();
        matmul_group(&kernels, &x, m, &mut products);
        for (weights, out) in matrices.iter().zip(&outs) {
            assert_eq!(*out, product(&kernels, weights, &x, m));
        }
    }
}

#[test]
fn accepts_no_rows_and_rejects_invalid_shapes() {
    let kernels = portable();
    let data = Random::new(1).tensor(QuantType::Q4_K, 2, 256);
    let new = |rows, columns, data: &[u8]| {
        QuantMatrix::from_gguf(&kernels, GgufMatrix { ty: QuantType::Q4_K, rows, columns, data })
    };
    let weights = new(2, 256, &data).expect("a valid tensor");
    weights.matmul(&kernels, &[], 0, &mut []);
    matmul_group(&kernels, &[], 3, &mut []);
    let length = Err(KernelError::DataLength { expected: 288, found: 287 });
    assert_eq!(new(2, 256, &data[1..]).map(|_| ()), length);
    assert_eq!(new(2, 100, &data).map(|_| ()), Err(KernelError::RowLength { columns: 100, block: 256 }));
    assert_eq!(new(2, 0, &[]).map(|_| ()), Err(KernelError::RowLength { columns: 0, block: 256 }));
    assert!(matches!(new(0, 256, &[]), Err(KernelError::Shape(_))));
    assert!(matches!(new(usize::MAX, 256, &[]), Err(KernelError::Shape(_))));
}

/// Non-finite activations must not be hidden by a finite result.
#[test]
fn nan_propagates_to_the_output() {
    for ty in ALL_TYPES {
        let columns = columns_of(ty)[1];
        let data = Random::new(2).tensor(ty, 16, columns);
        for kernels in all_kernels() {
            let weights = pack(&kernels, ty, 16, columns, &data);
            let mut x = vec![1.0; 2 * columns];
            x[columns + 3] = f32::NAN;
            let out = product(&kernels, &weights, &x, 2);
            assert!(
                out[..16].iter().all(|x| x.is_finite()) && out[16..].iter().all(|x| x.is_nan()),
                "{ty:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 48 }, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_shapes_agree_with_portable(
        ty in prop::sample::select(&ALL_TYPES[..]), rows in 1usize..70, blocks in 1usize..4, m in 1usize..70, seed: u64,
    ) {
        let columns = blocks * if ty.block_len() == 1 { 13 } else { ty.block_len() };
        check_against_portable(ty, rows, columns, m, seed);
    }
}
