//! The operations on the project's own kernels.

use candle_core::{Device, Tensor};

use super::{Backend, Heads};
use crate::{
    kernels::{
        self, AttentionBatch, AttentionSequence, Kernels, KvStore, KvType, Product, QuantMatrix, RopeStyle,
        RopeTable,
    },
    model::{Batch, GgufFile, KV_BLOCK_TOKENS, KvCache, KvShape, ModelError, ModelOptions},
};

/// The kernels with their instruction set and threads.
pub(in crate::model) struct Cpu {
    kernels: Kernels,
    kv_type: KvType,
    max_positions: usize,
}

/// Activations, `(rows, width)` row-major.
pub(in crate::model) struct Rows {
    values: Vec<f32>,
    width: usize,
}

impl Rows {
    fn zeros(rows: usize, width: usize) -> Self {
        Self { values: vec![0.0; rows * width], width }
    }

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
        Self { kernels, kv_type: options.kv_type, max_positions: options.max_positions }
    }
}

impl Backend for Cpu {
    type Rows = Rows;
    type Matrix = QuantMatrix;
    type Vector = Vec<f32>;
    type Rope = RopeTable;

    fn matrix(
        &self,
        file: &GgufFile,
        name: &str,
        out: usize,
        input: usize,
    ) -> Result<QuantMatrix, ModelError> {
        let (quant_type, bytes) = file.tensor_bytes(name, &[out, input])?;
        let packed = QuantMatrix::from_gguf(&self.kernels, quant_type, out, input, bytes);
        // The packed copy is what is used from now on.
        file.release(bytes);
        packed.map_err(|error| file.corrupt(format!("tensor {name}: {error}")))
    }

    fn vector(&self, file: &GgufFile, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        Ok(file.tensor(name, &[len], &Device::Cpu)?.to_vec1()?)
    }

    fn rope(&self, head_dim: usize, base: f32, context_length: usize) -> Result<RopeTable, ModelError> {
        let positions = context_length.min(self.max_positions);
        Ok(RopeTable::new(RopeStyle::Halves, head_dim, head_dim, base, positions)?)
    }

    fn positions(&self, rope: &RopeTable) -> usize {
        rope.positions()
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
            "the KV cache is reserved"
        );
        Ok(KvCache::Cpu(store))
    }

    fn look_up(&self, table: &QuantMatrix, ids: &[u32]) -> Result<Rows, ModelError> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= table.rows()) {
            return Err(ModelError::step(format!(
                "token {id} is not among the {} of the model",
                table.rows()
            )));
        }
        let mut rows = Rows::zeros(ids.len(), table.columns());
        table.look_up(ids, &mut rows.values);
        Ok(rows)
    }

    fn rms_norm(&self, x: &Rows, weight: &Vec<f32>, epsilon: f32) -> Result<Rows, ModelError> {
        let mut out = Rows::zeros(x.count(), x.width);
        kernels::rms_norm(&self.kernels, &x.values, weight, epsilon, &mut out.values);
        Ok(out)
    }

    fn project<const N: usize>(
        &self,
        x: &Rows,
        matrices: [&QuantMatrix; N],
    ) -> Result<[Rows; N], ModelError> {
        let mut outs = matrices.map(|matrix| Rows::zeros(x.count(), matrix.rows()));
        let mut products: Vec<Product<'_>> = matrices
            .iter()
            .zip(&mut outs)
            .map(|(weights, out)| Product { weights, out: &mut out.values })
            .collect();
        kernels::matmul_group(&self.kernels, &x.values, x.count(), &mut products);
        Ok(outs)
    }

    fn add_bias(&self, x: &mut Rows, bias: &Vec<f32>) -> Result<(), ModelError> {
        kernels::add_bias(&self.kernels, &mut x.values, bias);
        Ok(())
    }

    fn rotate(&self, x: &mut Rows, rope: &RopeTable, positions: &[u32]) -> Result<(), ModelError> {
        rope.rotate(&self.kernels, &mut x.values, positions);
        Ok(())
    }

    fn attend(
        &self,
        heads: Heads,
        batch: &Batch,
        cache: &mut KvCache,
        [queries, keys, values]: [&Rows; 3],
    ) -> Result<Rows, ModelError> {
        let KvCache::Cpu(store) = cache else {
            return Err(ModelError::step("the KV cache belongs to another backend"));
        };
        let mut sequences = Vec::with_capacity(batch.segments.len());
        let mut row = 0;
        for segment in &batch.segments {
            sequences.push(AttentionSequence {
                first_row: row,
                tokens: segment.len,
                context: segment.start + segment.len,
                blocks: &segment.blocks,
            });
            for position in segment.start..segment.start + segment.len {
                let block = segment.blocks[position / KV_BLOCK_TOKENS];
                let part = row * keys.width..(row + 1) * keys.width;
                store.write(
                    heads.layer,
                    block,
                    position as u32,
                    &keys.values[part.clone()],
                    &values.values[part],
                );
                row += 1;
            }
        }
        let mut out = Rows::zeros(queries.count(), queries.width);
        let scale = 1.0 / (heads.head_dim as f32).sqrt();
        let attention =
            AttentionBatch { q: &queries.values, heads: heads.heads, scale, sequences: &sequences };
        kernels::attention(&self.kernels, store, heads.layer, &attention, &mut out.values);
        Ok(out)
    }

    fn silu_mul(&self, gate: &Rows, up: &Rows) -> Result<Rows, ModelError> {
        let mut out = Rows::zeros(gate.count(), gate.width);
        kernels::silu_mul(&self.kernels, &gate.values, &up.values, &mut out.values);
        Ok(out)
    }

    fn add(&self, x: &mut Rows, y: &Rows) -> Result<(), ModelError> {
        for (x, y) in x.values.iter_mut().zip(&y.values) {
            *x += y;
        }
        Ok(())
    }

    fn select(&self, x: &Rows, rows: &[u32]) -> Result<Rows, ModelError> {
        let chosen = rows.iter().flat_map(|&row| &x.values[row as usize * x.width..][..x.width]);
        Ok(Rows { values: chosen.copied().collect(), width: x.width })
    }

    fn to_tensor(&self, x: Rows, width: usize) -> Result<Tensor, ModelError> {
        let rows = x.values.len() / width;
        Ok(Tensor::from_vec(x.values, (rows, width), &Device::Cpu)?)
    }
}
