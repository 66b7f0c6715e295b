//! The operations on this project's CPU kernels.
//!
//! The memory of activations is pooled: a step allocates hundreds of them, and the operating system would clear memory
//! that was returned to it page by page when it is allocated again (measured: a fifth of the time of prefill).

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};

use super::{AdapterUpdate, Backend, Heads, RopeParameters};
use crate::{
    kernels::{
        self, AttentionBatch, AttentionSequence, GgufMatrix, Kernels, KvStore, KvType, LowRank, Product,
        QuantMatrix, RopeTable, RowUpdate,
    },
    model::{
        Batch, GgufFile, KV_BLOCK_TOKENS, KvCache, KvShape, ModelError, ModelOptions, adapter::LowRankTensors,
    },
};

/// The kernels with their instruction set and threads.
pub(in crate::model) struct Cpu {
    kernels: Kernels,
    pool: Arc<BufferPool>,
    kv_type: KvType,
    max_positions: usize,
}

/// Unused buffers for activations; at most as many as were in use at the same time.
#[derive(Default)]
struct BufferPool(Mutex<Vec<Vec<f32>>>);

impl BufferPool {
    /// Returns `len` arbitrary values, in the smallest buffer with enough capacity or else in the largest one,
    /// enlarged.
    fn take(&self, len: usize) -> Vec<f32> {
        let mut vectors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |v: &Vec<f32>| (v.capacity() < len, v.capacity().abs_diff(len));
        let best = (0..vectors.len()).min_by_key(|&i| fits(&vectors[i]));
        let mut values = best.map(|i| vectors.swap_remove(i)).unwrap_or_default();
        drop(vectors);
        if values.capacity() < len {
            values = Vec::new(); // avoids copying the old contents
        }
        values.resize(len, 0.0);
        values
    }

    fn give_back(&self, values: Vec<f32>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(values);
    }
}

/// Activations, `(rows, width)` row-major.
pub(in crate::model) struct CpuRows {
    values: Vec<f32>,
    width: usize,
    pool: Arc<BufferPool>,
}

impl Drop for CpuRows {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.values));
    }
}

impl CpuRows {
    fn count(&self) -> usize {
        self.values.len() / self.width.max(1)
    }
}

impl Cpu {
    pub(in crate::model) fn new(options: &ModelOptions) -> Self {
        let kernels = Kernels::new(options.cpu_features, options.threads);
        tracing::info!(
            instruction_set = %kernels.cpu(),
            threads = kernels.pool().threads(),
            "the model runs on the CPU"
        );
        Self { kernels, pool: Arc::default(), kv_type: options.kv_type, max_positions: options.max_positions }
    }

    /// Allocates rows with arbitrary contents.
    fn rows(&self, rows: usize, width: usize) -> CpuRows {
        CpuRows { values: self.pool.take(rows * width), width, pool: self.pool.clone() }
    }
}

/// Converts the updates of a matrix for the kernels.
fn row_updates<'a>(updates: &[AdapterUpdate<'a, Cpu>]) -> Vec<RowUpdate<'a>> {
    updates.iter().map(|AdapterUpdate { low_rank, rows }| RowUpdate { low_rank, rows }).collect()
}

impl Backend for Cpu {
    type Rows = CpuRows;
    type Matrix = QuantMatrix;
    type Vector = Vec<f32>;
    type Rope = RopeTable;
    type LowRank = LowRank;
    type RowSet = Vec<u32>;
    /// The position of every token: `(total_tokens)`.
    type Step = Vec<u32>;

    fn matrix(
        &self,
        file: &GgufFile,
        name: &str,
        out: usize,
        input: usize,
    ) -> Result<QuantMatrix, ModelError> {
        let (quant_type, bytes) = file.tensor_bytes(name, &[out, input])?;
        let matrix = GgufMatrix { ty: quant_type, rows: out, columns: input, data: bytes };
        let packed = QuantMatrix::from_gguf(&self.kernels, matrix);
        // The kernels use the packed copy, so the pages of the file can be dropped.
        file.release(bytes);
        packed.map_err(|error| file.corrupt(format!("tensor {name}: {error}")))
    }

    fn vector(&self, file: &GgufFile, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        Ok(file.tensor(name, &[len], &Device::Cpu)?.to_vec1()?)
    }

    fn low_rank(
        &self,
        tensors: &LowRankTensors<'_>,
        (out, input): (usize, usize),
    ) -> Result<LowRank, ModelError> {
        let LowRankTensors { file, a, b, rank, scale } = tensors;
        let matrix = |name: &str, rows, columns| {
            let (ty, data) = file.tensor_bytes(name, &[rows, columns])?;
            Ok::<_, ModelError>(GgufMatrix { ty, rows, columns, data })
        };
        let (matrix_a, matrix_b) = (matrix(a, *rank, input)?, matrix(b, out, *rank)?);
        let packed = LowRank::from_gguf(matrix_a, matrix_b, *scale);
        file.release(matrix_a.data);
        file.release(matrix_b.data);
        packed.map_err(|error| file.corrupt(format!("tensors {a} and {b}: {error}")))
    }

    fn row_set(&self, rows: Vec<u32>, _total: usize) -> Result<Vec<u32>, ModelError> {
        Ok(rows)
    }

    fn rope(&self, rope: &RopeParameters) -> Result<RopeTable, ModelError> {
        let RopeParameters { style, head_dim, base, divisors, .. } = rope;
        let positions = rope.positions.min(self.max_positions);
        Ok(RopeTable::new(*style, *head_dim, *head_dim, *base, divisors, positions)?)
    }

    fn positions(&self, rope: &RopeTable) -> usize {
        rope.positions()
    }

    fn available_kv_tokens(&self, _shape: KvShape) -> Result<Option<usize>, ModelError> {
        Ok(None)
    }

    fn cache(
        &self,
        shape: KvShape,
        blocks: usize,
        key_biases: &[Option<&Vec<f32>>],
        rope: &RopeTable,
    ) -> Result<KvCache, ModelError> {
        let mut store = KvStore::new(shape, self.kv_type, blocks)?;
        for (layer, bias) in key_biases.iter().enumerate() {
            if let Some(bias) = bias {
                store.set_key_bias(layer, bias, rope);
            }
        }
        tracing::info!(
            tokens = blocks * KV_BLOCK_TOKENS,
            kv_type = %self.kv_type,
            mebibytes = store.bytes() >> 20,
            "reserved the KV cache"
        );
        Ok(KvCache::Cpu(store))
    }

    fn step(&self, _heads: Heads, batch: &Batch) -> Result<Vec<u32>, ModelError> {
        Ok(batch.positions())
    }

    fn look_up(&self, table: &QuantMatrix, ids: &[u32]) -> Result<CpuRows, ModelError> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= table.rows()) {
            return Err(ModelError::step(format!(
                "token {id} is out of range: the model has {} tokens",
                table.rows()
            )));
        }
        let mut rows = self.rows(ids.len(), table.columns());
        table.look_up(ids, &mut rows.values);
        Ok(rows)
    }

    fn scale(&self, x: &mut CpuRows, factor: f32) -> Result<(), ModelError> {
        kernels::scale(&self.kernels, &mut x.values, factor);
        Ok(())
    }

    fn rms_norm(&self, x: &CpuRows, weight: &Vec<f32>, epsilon: f32) -> Result<CpuRows, ModelError> {
        let mut out = self.rows(x.count(), x.width);
        kernels::rms_norm(&self.kernels, &x.values, weight, epsilon, &mut out.values);
        Ok(out)
    }

    fn add_rms_norm(
        &self,
        x: &mut CpuRows,
        y: &CpuRows,
        weight: &Vec<f32>,
        epsilon: f32,
    ) -> Result<CpuRows, ModelError> {
        let mut out = self.rows(x.count(), x.width);
        kernels::add_rms_norm(&self.kernels, &mut x.values, &y.values, weight, epsilon, &mut out.values);
        Ok(out)
    }

    fn project<const N: usize>(
        &self,
        x: &CpuRows,
        matrices: [&QuantMatrix; N],
        updates: [&[AdapterUpdate<'_, Self>]; N],
    ) -> Result<[CpuRows; N], ModelError> {
        let updates = updates.map(row_updates);
        let mut outs = matrices.map(|matrix| self.rows(x.count(), matrix.rows()));
        let mut products: Vec<Product<'_>> = matrices
            .iter()
            .zip(&mut outs)
            .zip(&updates)
            .map(|((weights, out), updates)| Product { weights, out: &mut out.values, updates })
            .collect();
        kernels::matmul_group(&self.kernels, &x.values, x.count(), &mut products);
        Ok(outs)
    }

    fn add_bias(&self, x: &mut CpuRows, bias: &Vec<f32>) -> Result<(), ModelError> {
        kernels::add_bias(&self.kernels, &mut x.values, bias);
        Ok(())
    }

    fn rotate(&self, x: &mut CpuRows, rope: &RopeTable, positions: &Vec<u32>) -> Result<(), ModelError> {
        rope.rotate(&self.kernels, &mut x.values, positions);
        Ok(())
    }

    fn attend(
        &self,
        heads: Heads,
        batch: &Batch,
        _positions: &Vec<u32>,
        cache: &mut KvCache,
        [queries, keys, values]: [&CpuRows; 3],
    ) -> Result<CpuRows, ModelError> {
        let KvCache::Cpu(store) = cache else {
            return Err(ModelError::step("the KV cache belongs to another backend"));
        };
        let mut sequences = Vec::with_capacity(batch.segments.len());
        let mut slots = Vec::with_capacity(batch.tokens.len());
        let mut row = 0;
        for segment in &batch.segments {
            sequences.push(AttentionSequence {
                first_row: row,
                tokens: segment.len,
                context: segment.start + segment.len,
                blocks: &segment.blocks,
            });
            for position in segment.start..segment.start + segment.len {
                slots.push((segment.blocks[position / KV_BLOCK_TOKENS], position as u32));
            }
            row += segment.len;
        }
        store.write_rows(&self.kernels, heads.layer, &slots, &keys.values, &values.values);
        let mut out = self.rows(queries.count(), queries.width);
        let attention = AttentionBatch {
            q: &queries.values,
            heads: heads.heads,
            scale: 1.0 / (heads.score_divisor as f32).sqrt(),
            window: heads.window.unwrap_or(usize::MAX),
            sequences: &sequences,
        };
        kernels::attention(&self.kernels, store, heads.layer, &attention, &mut out.values);
        Ok(out)
    }

    fn silu_mul(&self, mut gate: CpuRows, up: &CpuRows) -> Result<CpuRows, ModelError> {
        kernels::silu_mul(&self.kernels, &mut gate.values, &up.values);
        Ok(gate)
    }

    fn gelu_mul(&self, mut gate: CpuRows, up: &CpuRows) -> Result<CpuRows, ModelError> {
        kernels::gelu_mul(&self.kernels, &mut gate.values, &up.values);
        Ok(gate)
    }

    fn select(&self, x: &CpuRows, rows: &[u32]) -> Result<CpuRows, ModelError> {
        let mut chosen = self.rows(rows.len(), x.width);
        for (&row, chosen) in rows.iter().zip(chosen.values.chunks_exact_mut(x.width)) {
            chosen.copy_from_slice(&x.values[row as usize * x.width..][..x.width]);
        }
        Ok(chosen)
    }

    fn to_tensor(&self, mut x: CpuRows, width: usize) -> Result<Tensor, ModelError> {
        let rows = x.values.len() / width;
        Ok(Tensor::from_vec(std::mem::take(&mut x.values), (rows, width), &Device::Cpu)?)
    }
}
