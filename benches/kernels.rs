//! Criterion benchmarks of the CPU kernels, on the shapes of Qwen2.5-Coder-1.5B. Throughput is multiply-adds per second for
//! products and attention, and bytes per second for row operations.
//!
//! `cargo bench --bench kernels -- 'gemm/Q4_K'` runs some of them. Products cycle through 300 MB of weights, so that the
//! weights come from memory, as in a model.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use std::time::Duration;
use yizhai::kernels::{
    AttentionBatch, AttentionSequence, CpuFeatures, GgufMatrix, InstructionSet, KV_BLOCK_TOKENS, Kernels,
    KvShape, KvStore, KvType, LowRank, Product, QuantMatrix, QuantType, RopeStyle, RopeTable, RowUpdate,
    attention, matmul_group, rms_norm, silu_mul,
};

/// Returns the data of a valid tensor with arbitrary quants and small factors.
fn tensor(ty: QuantType, rows: usize, columns: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut data: Vec<u8> = (0..ty.row_bytes(columns).expect("whole blocks") * rows)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    let factors: &[usize] = match ty {
        QuantType::Q6_K => &[208],
        QuantType::Q4_1 | QuantType::Q5_1 | QuantType::Q4_K | QuantType::Q5_K => &[0, 2],
        _ => &[0],
    };
    for block in data.chunks_exact_mut(ty.block_bytes()) {
        for &at in factors {
            block[at + 1] = 0x1c; // an f16 of about 0.004
        }
    }
    data
}

fn floats(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 1000) as f32 * 0.002 - 1.0).collect()
}

/// Measures products of the model's largest matrix, by type, instruction set and number of rows.
fn gemm(c: &mut Criterion) {
    let (rows, columns) = (8960, 1536);
    for ty in [QuantType::Q4_K, QuantType::Q6_K, QuantType::Q5_0, QuantType::Q8_0, QuantType::F16] {
        let data = tensor(ty, rows, columns);
        let matrix = GgufMatrix { ty, rows, columns, data: &data };
        for cpu in CpuFeatures::available() {
            let kernels = Kernels::new(cpu, 0);
            let matrices: Vec<QuantMatrix> = (0..300_000_000usize.div_ceil(data.len()))
                .map(|_| QuantMatrix::from_gguf(&kernels, matrix).expect("a valid tensor"))
                .collect();
            let mut group = c.benchmark_group(format!("gemm/{ty:?}/{cpu}"));
            group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(2));
            let portable = cpu.instruction_set() == InstructionSet::Portable;
            for m in if portable { vec![1, 8] } else { vec![1, 8, 16, 256] } {
                let (x, mut out) = (floats(m * columns), vec![0.0; m * rows]);
                group.throughput(Throughput::Elements((m * rows * columns) as u64));
                let mut weights = matrices.iter().cycle();
                group.bench_function(BenchmarkId::from_parameter(m), |b| {
                    b.iter(|| weights.next().expect("endless").matmul(&kernels, &x, m, &mut out));
                });
            }
        }
    }
}

/// Measures the linear layers of one transformer layer with and without an adapter of rank 16 on all rows, by instruction set
/// and number of rows.
fn low_rank(c: &mut Criterion) {
    const RANK: usize = 16;
    /// The groups of matrices that share their input: `(columns, rows of each matrix)`.
    const GROUPS: [(usize, &[usize]); 4] =
        [(1536, &[1536, 256, 256]), (1536, &[1536]), (1536, &[8960, 8960]), (8960, &[1536])];
    let f16 = |rows: usize, columns: usize| -> Vec<u8> {
        floats(rows * columns).iter().flat_map(|x| half::f16::from_f32(x * 0.05).to_le_bytes()).collect()
    };
    for cpu in CpuFeatures::available() {
        if cpu.instruction_set() == InstructionSet::Portable {
            continue;
        }
        let kernels = Kernels::new(cpu, 0);
        // Several layers, so that the weights come from memory.
        let layers: Vec<Vec<Vec<(QuantMatrix, LowRank)>>> = (0..8)
            .map(|_| {
                let layer = GROUPS.iter().map(|&(columns, all_rows)| {
                    let group = all_rows.iter().map(|&rows| {
                        let ty = QuantType::Q4_K;
                        let data = tensor(ty, rows, columns);
                        let weights = GgufMatrix { ty, rows, columns, data: &data };
                        let ty = QuantType::F16;
                        let a = GgufMatrix { ty, rows: RANK, columns, data: &f16(RANK, columns) };
                        let b = GgufMatrix { ty, rows, columns: RANK, data: &f16(rows, RANK) };
                        let weights = QuantMatrix::from_gguf(&kernels, weights).expect("a valid tensor");
                        (weights, LowRank::from_gguf(a, b, 2.0).expect("valid tensors"))
                    });
                    group.collect()
                });
                layer.collect()
            })
            .collect();
        let mut group = c.benchmark_group(format!("low_rank/{cpu}"));
        group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(4));
        for m in [1, 8, 16, 256] {
            let all_rows: Vec<u32> = (0..m as u32).collect();
            for (name, rows) in [("base", &all_rows[..0]), ("adapter", &all_rows[..])] {
                let mut layers = layers.iter().cycle();
                let x = floats(m * 8960);
                let mut outs: Vec<Vec<f32>> = (0..3).map(|_| vec![0.0; m * 8960]).collect();
                group.bench_function(BenchmarkId::new(name, m), |b| {
                    b.iter(|| {
                        for (matrices, (columns, _)) in layers.next().expect("endless").iter().zip(GROUPS) {
                            let updates: Vec<[RowUpdate<'_>; 1]> =
                                matrices.iter().map(|(_, low_rank)| [RowUpdate { low_rank, rows }]).collect();
                            let mut products: Vec<Product<'_>> = matrices
                                .iter()
                                .zip(&mut outs)
                                .zip(&updates)
                                .map(|(((weights, _), out), updates)| Product {
                                    weights,
                                    out: &mut out[..m * weights.rows()],
                                    updates: if rows.is_empty() { &[] } else { updates },
                                })
                                .collect();
                            matmul_group(&kernels, &x[..m * columns], m, &mut products);
                        }
                    });
                });
            }
        }
    }
}

/// Measures the attention of one layer: one sequence in decode, 16 sequences in decode, and a prefill of 256 tokens.
fn attend(c: &mut Criterion) {
    let (heads, shape) = (12, KvShape { layers: 1, kv_heads: 2, head_dim: 128 });
    let width = shape.kv_heads * shape.head_dim;
    for ty in [KvType::F16, KvType::Int8] {
        for cpu in CpuFeatures::available() {
            let kernels = Kernels::new(cpu, 0);
            let mut group = c.benchmark_group(format!("attention/{ty:?}/{cpu}"));
            group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(2));
            for (name, count, tokens, context) in
                [("decode 1", 1, 1, 1024), ("decode 16", 16, 1, 1024), ("prefill 256", 1, 256, 256)]
            {
                let blocks = context / KV_BLOCK_TOKENS;
                let mut store = KvStore::new(shape, ty, count * blocks).expect("a valid shape");
                let tables: Vec<Vec<u32>> =
                    (0..count).map(|i| (0..blocks).map(|b| (i * blocks + b) as u32).collect()).collect();
                let rows = floats(context * width);
                for table in &tables {
                    let places: Vec<(u32, u32)> =
                        (0..context).map(|p| (table[p / KV_BLOCK_TOKENS], p as u32)).collect();
                    store.write_rows(&kernels, 0, &places, &rows, &rows);
                }
                let sequences: Vec<AttentionSequence<'_>> = tables
                    .iter()
                    .enumerate()
                    .map(|(i, blocks)| AttentionSequence { first_row: i * tokens, tokens, context, blocks })
                    .collect();
                let q = floats(count * tokens * heads * shape.head_dim);
                let mut out = vec![0.0; q.len()];
                let batch =
                    AttentionBatch { q: &q, heads, scale: 0.088, window: usize::MAX, sequences: &sequences };
                let seen: usize = (context - tokens + 1..=context).sum();
                group.throughput(Throughput::Elements((count * seen * heads * shape.head_dim * 2) as u64));
                group.bench_function(name, |b| b.iter(|| attention(&kernels, &store, 0, &batch, &mut out)));
            }
        }
    }
}

/// Measures the row operations on 256 rows, and the overhead of a job of the pool.
fn row_operations(c: &mut Criterion) {
    let (m, dim, inner) = (256, 1536, 8960);
    let rope = RopeTable::new(RopeStyle::Halves, 128, 128, 1e6, &[], 1024).expect("a valid shape");
    let positions: Vec<u32> = (0..m as u32).collect();
    for cpu in CpuFeatures::available() {
        let kernels = Kernels::new(cpu, 0);
        let mut group = c.benchmark_group(format!("rows/{cpu}"));
        group.sample_size(20).measurement_time(Duration::from_secs(1));
        let (x, weight, mut out) = (floats(m * dim), floats(dim), vec![0.0; m * dim]);
        group.throughput(Throughput::Bytes((m * dim * 8) as u64));
        group.bench_function("rms_norm", |b| b.iter(|| rms_norm(&kernels, &x, &weight, 1e-6, &mut out)));
        group.bench_function("rope", |b| b.iter(|| rope.rotate(&kernels, &mut out, &positions)));
        let (mut gate, up) = (floats(m * inner), floats(m * inner));
        group.throughput(Throughput::Bytes((m * inner * 12) as u64));
        group.bench_function("silu_mul", |b| b.iter(|| silu_mul(&kernels, &mut gate, &up)));
    }
    let kernels = Kernels::new(CpuFeatures::detect(), 0);
    c.bench_function("pool/empty job", |b| b.iter(|| kernels.pool().run(8, &|_| ())));
}

criterion_group!(benches, row_operations, attend, gemm, low_rank);
criterion_main!(benches);
