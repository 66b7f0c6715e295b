//! The operations on candle's tensors, for CPUs without own kernels and for GPUs, where [`super::cuda`] does rotation
//! and attention.

use std::sync::Arc;

use candle_core::{
    D, DType, Device, Module, Tensor,
    quantized::{QMatMul, QTensor},
};

use super::{
    AdapterUpdate, Backend, Heads, RopeParameters, RopeStyle,
    cuda::{DevicePlan, Gpu},
};
use crate::model::{
    Batch, GgufFile, KV_BLOCK_TOKENS, KvCache, KvShape, KvType, ModelError, ModelOptions, Segment,
    adapter::LowRankTensors,
};

/// A candle device.
pub(in crate::model) struct Candle {
    device: Device,
    /// The same device, if it is a GPU.
    gpu: Option<Gpu>,
    max_positions: usize,
}

/// A matrix for products and as an embedding table.
pub(in crate::model) struct CandleMatrix {
    table: Arc<QTensor>,
    product: QMatMul,
}

/// A low-rank update of a matrix.
pub(in crate::model) struct CandleLowRank {
    /// `(in, rank)`.
    down: Tensor,
    /// `(rank, out)`, multiplied by the scale of the update.
    up: Tensor,
}

/// The rows that an update applies to.
pub(in crate::model) enum CandleRowSet {
    All,
    /// The indices of the rows.
    Some(Tensor),
}

/// Cosines and sines of every position, `(positions, head_dim / 2)` each.
pub(in crate::model) struct Angles {
    pub(super) cos: Tensor,
    pub(super) sin: Tensor,
    pub(super) head_dim: usize,
    pub(super) style: RopeStyle,
}

/// The data of a step that all layers share.
pub(in crate::model) struct CandleStep {
    /// The position of every token: `(total_tokens)`.
    positions: Tensor,
    /// The layout of keys and values on a GPU.
    plan: Option<DevicePlan>,
}

impl Candle {
    pub(in crate::model) fn new(options: &ModelOptions) -> Result<Self, ModelError> {
        let device = options.device.open()?;
        if device.is_cuda() && options.kv_type != KvType::F16 {
            let detail = format!("its KV cache supports f16 only, not {}", options.kv_type);
            return Err(ModelError::Device { name: format!("device {}", options.device_name()), detail });
        }
        tracing::info!(?device, "the model runs on candle's operations");
        Ok(Self { gpu: Gpu::of(&device), device, max_positions: options.max_positions })
    }
}

impl Backend for Candle {
    type Rows = Tensor;
    type Matrix = CandleMatrix;
    type Vector = Tensor;
    type Rope = Angles;
    type LowRank = CandleLowRank;
    type RowSet = CandleRowSet;
    type Step = CandleStep;

    fn matrix(
        &self,
        file: &GgufFile,
        name: &str,
        out: usize,
        input: usize,
    ) -> Result<CandleMatrix, ModelError> {
        let table = Arc::new(file.qtensor(name, &[out, input], &self.device)?);
        Ok(CandleMatrix { product: QMatMul::from_arc(table.clone())?, table })
    }

    fn vector(&self, file: &GgufFile, name: &str, len: usize) -> Result<Tensor, ModelError> {
        file.tensor(name, &[len], &self.device)
    }

    fn low_rank(
        &self,
        tensors: &LowRankTensors<'_>,
        (out, input): (usize, usize),
    ) -> Result<CandleLowRank, ModelError> {
        let LowRankTensors { file, a, b, rank, scale } = tensors;
        let a = file.tensor(a, &[*rank, input], &self.device)?;
        let b = file.tensor(b, &[out, *rank], &self.device)?;
        let up = (b.t()?.contiguous()? * f64::from(*scale))?;
        Ok(CandleLowRank { down: a.t()?.contiguous()?, up })
    }

    fn row_set(&self, rows: Vec<u32>, total: usize) -> Result<CandleRowSet, ModelError> {
        Ok(match rows.len() == total {
            true => CandleRowSet::All,
            false => CandleRowSet::Some(Tensor::new(rows, &self.device)?),
        })
    }

    fn rope(&self, rope: &RopeParameters) -> Result<Angles, ModelError> {
        let RopeParameters { style, head_dim, base, .. } = *rope;
        let positions = rope.positions.min(self.max_positions);
        let mut frequencies: Vec<f32> =
            (0..head_dim).step_by(2).map(|i| 1.0 / base.powf(i as f32 / head_dim as f32)).collect();
        frequencies.iter_mut().zip(&rope.divisors).for_each(|(frequency, divisor)| *frequency /= divisor);
        let frequencies = Tensor::new(frequencies, &self.device)?.reshape((1, head_dim / 2))?;
        let column = Tensor::arange(0, positions as u32, &self.device)?.to_dtype(DType::F32)?;
        let angles = column.reshape((positions, 1))?.matmul(&frequencies)?;
        Ok(Angles { cos: angles.cos()?, sin: angles.sin()?, head_dim, style })
    }

    fn positions(&self, rope: &Angles) -> usize {
        rope.cos.dims()[0]
    }

    fn available_kv_tokens(&self, shape: KvShape) -> Result<Option<usize>, ModelError> {
        self.gpu.as_ref().map(|gpu| gpu.available_kv_tokens(shape)).transpose()
    }

    fn cache(
        &self,
        shape: KvShape,
        blocks: usize,
        _key_biases: &[Option<&Tensor>],
        _rope: &Angles,
    ) -> Result<KvCache, ModelError> {
        if let Some(gpu) = &self.gpu {
            return Ok(KvCache::Cuda(gpu.cache(shape, blocks)?));
        }
        let dims = (blocks * KV_BLOCK_TOKENS, shape.kv_heads, shape.head_dim);
        let empty = || Tensor::zeros(dims, DType::F32, &self.device);
        let layers = (0..shape.layers).map(|_| Ok((empty()?, empty()?)));
        Ok(KvCache::Candle(layers.collect::<Result<_, candle_core::Error>>()?))
    }

    fn step(&self, heads: Heads, batch: &Batch) -> Result<CandleStep, ModelError> {
        Ok(CandleStep {
            positions: Tensor::new(batch.positions(), &self.device)?,
            plan: self.gpu.as_ref().map(|gpu| gpu.plan(heads, batch)).transpose()?,
        })
    }

    fn look_up(&self, table: &CandleMatrix, ids: &[u32]) -> Result<Tensor, ModelError> {
        // A GPU would read out of bounds.
        let known = table.table.shape().dims()[0];
        if let Some(id) = ids.iter().find(|id| **id as usize >= known) {
            return Err(ModelError::step(format!(
                "token {id} is out of range: the model has {known} tokens"
            )));
        }
        Ok(table.table.embedding(&Tensor::new(ids, &self.device)?)?)
    }

    fn scale(&self, x: &mut Tensor, factor: f32) -> Result<(), ModelError> {
        *x = (&*x * f64::from(factor))?;
        Ok(())
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor, ModelError> {
        let parts = x.contiguous()?.reshape(((), weight.dim(0)?))?;
        Ok(candle_nn::ops::rms_norm(&parts, weight, epsilon)?.reshape(x.dims())?)
    }

    fn add_rms_norm(
        &self,
        x: &mut Tensor,
        y: &Tensor,
        weight: &Tensor,
        epsilon: f32,
    ) -> Result<Tensor, ModelError> {
        *x = (&*x + y)?;
        self.rms_norm(x, weight, epsilon)
    }

    fn project<const N: usize>(
        &self,
        x: &Tensor,
        matrices: [&CandleMatrix; N],
        updates: [&[AdapterUpdate<'_, Self>]; N],
    ) -> Result<[Tensor; N], ModelError> {
        let mut outs = Vec::with_capacity(N);
        for (matrix, updates) in matrices.into_iter().zip(updates) {
            let mut out = matrix.product.forward(x)?;
            for AdapterUpdate { low_rank: CandleLowRank { down, up }, rows } in updates {
                out = match rows {
                    CandleRowSet::All => (out + x.matmul(down)?.matmul(up)?)?,
                    CandleRowSet::Some(rows) => {
                        let update = x.index_select(rows, 0)?.matmul(down)?.matmul(up)?;
                        out.index_add(rows, &update, 0)?
                    }
                };
            }
            outs.push(out);
        }
        outs.try_into()
            .map_err(|_| ModelError::step("the number of outputs differs from the number of matrices"))
    }

    fn add_bias(&self, x: &mut Tensor, bias: &Tensor) -> Result<(), ModelError> {
        *x = x.broadcast_add(bias)?;
        Ok(())
    }

    fn rotate(&self, x: &mut Tensor, rope: &Angles, step: &CandleStep) -> Result<(), ModelError> {
        if let Some(gpu) = &self.gpu {
            *x = gpu.rotate(x, rope, &step.positions)?;
            return Ok(());
        }
        let positions = &step.positions;
        let (cos, sin) = (rope.cos.index_select(positions, 0)?, rope.sin.index_select(positions, 0)?);
        let heads = x.dim(1)? / rope.head_dim;
        let by_head = split_heads(x, heads)?.unsqueeze(0)?.contiguous()?; // (1, heads, total_tokens, head_dim)
        let rotated = match rope.style {
            RopeStyle::Halves => candle_nn::rotary_emb::rope(&by_head, &cos, &sin)?,
            RopeStyle::Neighbors => candle_nn::rotary_emb::rope_i(&by_head, &cos, &sin)?,
        };
        *x = rotated.squeeze(0)?.transpose(0, 1)?.flatten_from(1)?;
        Ok(())
    }

    fn attend(
        &self,
        heads: Heads,
        batch: &Batch,
        step: &CandleStep,
        cache: &mut KvCache,
        [queries, keys, values]: [&Tensor; 3],
    ) -> Result<Tensor, ModelError> {
        if let (KvCache::Cuda(cache), Some(plan)) = (&mut *cache, &step.plan) {
            return cache.attend(heads, plan, [queries, keys, values]);
        }
        let KvCache::Candle(layers) = cache else {
            return Err(ModelError::step("the KV cache belongs to another backend"));
        };
        let (cached_keys, cached_values) = &layers[heads.layer];
        let by_head = |x: &Tensor| x.reshape(((), heads.kv_heads, heads.head_dim));
        let (keys, values) = (by_head(keys)?.contiguous()?, by_head(values)?.contiguous()?);
        let mut outputs = Vec::with_capacity(batch.segments.len());
        let mut first = 0;
        for segment in &batch.segments {
            for (slot, offset, len) in contiguous_runs(segment) {
                cached_keys.slice_set(&keys.narrow(0, first + offset, len)?.contiguous()?, 0, slot)?;
                cached_values.slice_set(&values.narrow(0, first + offset, len)?.contiguous()?, 0, slot)?;
            }
            let slots = Tensor::new(slots(segment), &self.device)?;
            let queries = queries.narrow(0, first, segment.len)?;
            let keys = cached_keys.index_select(&slots, 0)?;
            let values = cached_values.index_select(&slots, 0)?;
            outputs.push(attend_sequence(heads, segment.start, &queries, &keys, &values)?);
            first += segment.len;
        }
        Ok(Tensor::cat(&outputs, 0)?)
    }

    fn silu_mul(&self, gate: Tensor, up: &Tensor) -> Result<Tensor, ModelError> {
        Ok((candle_nn::ops::silu(&gate)? * up)?)
    }

    fn gelu_mul(&self, gate: Tensor, up: &Tensor) -> Result<Tensor, ModelError> {
        Ok((gate.gelu()? * up)?)
    }

    fn select(&self, x: &Tensor, rows: &[u32]) -> Result<Tensor, ModelError> {
        Ok(x.index_select(&Tensor::new(rows, &self.device)?, 0)?)
    }

    fn to_tensor(&self, x: Tensor, _width: usize) -> Result<Tensor, ModelError> {
        Ok(x)
    }
}

/// Reshapes `(total_tokens, heads * head_dim)` to `(heads, total_tokens, head_dim)`.
fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor, ModelError> {
    let (tokens, width) = x.dims2()?;
    Ok(x.reshape((tokens, heads, width / heads))?.transpose(0, 1)?)
}

/// Returns the slot of a position in the cache.
fn slot(segment: &Segment, position: usize) -> usize {
    segment.blocks[position / KV_BLOCK_TOKENS] as usize * KV_BLOCK_TOKENS + position % KV_BLOCK_TOKENS
}

/// Returns the slots of all positions up to the end of this step.
fn slots(segment: &Segment) -> Vec<u32> {
    (0..segment.start + segment.len).map(|position| slot(segment, position) as u32).collect()
}

/// Splits the new tokens of a segment into runs with contiguous slots: first slot, offset in the segment, length.
fn contiguous_runs(segment: &Segment) -> Vec<(usize, usize, usize)> {
    let mut runs = Vec::new();
    let mut offset = 0;
    while offset < segment.len {
        let position = segment.start + offset;
        let len = (KV_BLOCK_TOKENS - position % KV_BLOCK_TOKENS).min(segment.len - offset);
        runs.push((slot(segment, position), offset, len));
        offset += len;
    }
    runs
}

/// Computes attention of one sequence: `queries` `(len, heads * head_dim)` at positions `start..start + len`, `keys`
/// and `values` `(start + len, kv_heads, head_dim)`; the result is `(len, heads * head_dim)`.
fn attend_sequence(
    shape: Heads,
    start: usize,
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
) -> Result<Tensor, ModelError> {
    let Heads { heads, kv_heads, head_dim, score_divisor, window, .. } = shape;
    let window = window.unwrap_or(usize::MAX);
    let len = queries.dim(0)?;
    let group = heads / kv_heads;
    let keys = keys.transpose(0, 1)?.contiguous()?;
    let values = values.transpose(0, 1)?.contiguous()?;
    // The heads of a group are adjacent, so they share their keys without a copy.
    let queries = split_heads(queries, heads)?.contiguous()?.reshape((kv_heads, group * len, head_dim))?;
    let scores = (queries.matmul(&keys.t()?)? / (score_divisor as f64).sqrt())?;
    let scores = if len == 1 && start < window {
        scores
    } else {
        let mask = mask(len, start, window, queries.device())?;
        let by_head = scores.reshape((heads, len, start + len))?;
        by_head.broadcast_add(&mask)?.reshape((kv_heads, group * len, start + len))?
    };
    let output = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&values)?;
    Ok(output.reshape((heads, len, head_dim))?.transpose(0, 1)?.flatten_from(D::Minus2)?)
}

/// Returns the attention mask `(len, start + len)`: 0 inside the causal window, -∞ elsewhere.
fn mask(len: usize, start: usize, window: usize, device: &Device) -> Result<Tensor, ModelError> {
    let width = start + len;
    let value = |row: usize, column: usize| {
        let position = start + row;
        let is_visible = column <= position && position - column < window;
        if is_visible { 0.0 } else { f32::NEG_INFINITY }
    };
    let mask: Vec<f32> = (0..len).flat_map(|row| (0..width).map(move |column| value(row, column))).collect();
    Ok(Tensor::from_vec(mask, (len, width), device)?)
}
