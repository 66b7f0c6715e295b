//! The operations on candle's tensors: for CPUs that the kernels do not know, and for CUDA, where rotation and attention
//! are those of [`super::cuda`].

use std::sync::Arc;

use candle_core::{
    D, DType, Device, Module, Tensor,
    quantized::{QMatMul, QTensor},
};

use super::{
    Backend, Heads, Rope, RopeStyle,
    cuda::{DevicePlan, Gpu},
};
use crate::model::{
    Batch, GgufFile, KV_BLOCK_TOKENS, KvCache, KvShape, KvType, ModelError, ModelOptions, Segment,
};

/// A device of candle's.
pub(in crate::model) struct Candle {
    device: Device,
    /// The same device if it is a GPU.
    gpu: Option<Gpu>,
    max_positions: usize,
}

/// A matrix that serves as a product and as an embedding.
pub(in crate::model) struct Matrix {
    table: Arc<QTensor>,
    product: QMatMul,
}

/// Cosines and sines of every position, `(positions, head_dim / 2)` each.
pub(in crate::model) struct Angles {
    pub(super) cos: Tensor,
    pub(super) sin: Tensor,
    pub(super) head_dim: usize,
    pub(super) style: RopeStyle,
}

/// What a step uploads beside its tokens.
pub(in crate::model) struct Step {
    /// The position of every token: `(total_tokens)`.
    positions: Tensor,
    /// Where a GPU finds and puts keys and values.
    plan: Option<DevicePlan>,
}

impl Candle {
    pub(in crate::model) fn new(options: &ModelOptions) -> Result<Self, ModelError> {
        let device = options.device.open()?;
        if device.is_cuda() && options.kv_type != KvType::F16 {
            let detail = format!("its KV cache is f16, not {}", options.kv_type);
            return Err(ModelError::Device { name: format!("device {}", options.device_name()), detail });
        }
        tracing::info!(?device, "the model runs on candle's operations");
        Ok(Self { gpu: Gpu::of(&device), device, max_positions: options.max_positions })
    }
}

impl Backend for Candle {
    type Rows = Tensor;
    type Matrix = Matrix;
    type Vector = Tensor;
    type Rope = Angles;
    type Step = Step;

    fn matrix(&self, file: &GgufFile, name: &str, out: usize, input: usize) -> Result<Matrix, ModelError> {
        let table = Arc::new(file.qtensor(name, &[out, input], &self.device)?);
        Ok(Matrix { product: QMatMul::from_arc(table.clone())?, table })
    }

    fn vector(&self, file: &GgufFile, name: &str, len: usize) -> Result<Tensor, ModelError> {
        file.tensor(name, &[len], &self.device)
    }

    fn rope(&self, rope: &Rope) -> Result<Angles, ModelError> {
        let Rope { style, head_dim, base, .. } = *rope;
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

    fn kv_room(&self, shape: KvShape) -> Result<Option<usize>, ModelError> {
        self.gpu.as_ref().map(|gpu| gpu.kv_room(shape)).transpose()
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

    fn step(&self, heads: Heads, batch: &Batch) -> Result<Step, ModelError> {
        Ok(Step {
            positions: Tensor::new(batch.positions(), &self.device)?,
            plan: self.gpu.as_ref().map(|gpu| gpu.plan(heads, batch)).transpose()?,
        })
    }

    fn look_up(&self, table: &Matrix, ids: &[u32]) -> Result<Tensor, ModelError> {
        // A GPU would read beyond the table.
        let known = table.table.shape().dims()[0];
        if let Some(id) = ids.iter().find(|id| **id as usize >= known) {
            return Err(ModelError::step(format!("token {id} is not among the {known} of the model")));
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

    fn project<const N: usize>(&self, x: &Tensor, matrices: [&Matrix; N]) -> Result<[Tensor; N], ModelError> {
        let mut outs = Vec::with_capacity(N);
        for matrix in matrices {
            outs.push(matrix.product.forward(x)?);
        }
        outs.try_into().map_err(|_| ModelError::step("as many outputs as matrices"))
    }

    fn add_bias(&self, x: &mut Tensor, bias: &Tensor) -> Result<(), ModelError> {
        *x = x.broadcast_add(bias)?;
        Ok(())
    }

    fn rotate(&self, x: &mut Tensor, rope: &Angles, step: &Step) -> Result<(), ModelError> {
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
        step: &Step,
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
            for (place, offset, len) in runs(segment) {
                cached_keys.slice_set(&keys.narrow(0, first + offset, len)?.contiguous()?, 0, place)?;
                cached_values.slice_set(&values.narrow(0, first + offset, len)?.contiguous()?, 0, place)?;
            }
            let places = Tensor::new(places(segment), &self.device)?;
            let queries = queries.narrow(0, first, segment.len)?;
            let keys = cached_keys.index_select(&places, 0)?;
            let values = cached_values.index_select(&places, 0)?;
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

/// `(total_tokens, heads * head_dim)` to `(heads, total_tokens, head_dim)`.
fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor, ModelError> {
    let (tokens, width) = x.dims2()?;
    Ok(x.reshape((tokens, heads, width / heads))?.transpose(0, 1)?)
}

/// Where position `position` of a sequence is kept.
fn place(segment: &Segment, position: usize) -> usize {
    segment.blocks[position / KV_BLOCK_TOKENS] as usize * KV_BLOCK_TOKENS + position % KV_BLOCK_TOKENS
}

/// Where all positions of a sequence up to the end of this step are kept.
fn places(segment: &Segment) -> Vec<u32> {
    (0..segment.start + segment.len).map(|position| place(segment, position) as u32).collect()
}

/// The new tokens of a segment as runs within a block: place in the cache, offset in the segment, length.
fn runs(segment: &Segment) -> Vec<(usize, usize, usize)> {
    let mut runs = Vec::new();
    let mut offset = 0;
    while offset < segment.len {
        let position = segment.start + offset;
        let len = (KV_BLOCK_TOKENS - position % KV_BLOCK_TOKENS).min(segment.len - offset);
        runs.push((place(segment, position), offset, len));
        offset += len;
    }
    runs
}

/// Attention of one sequence: `queries` `(len, heads * head_dim)` at positions `start..start + len`, `keys` and
/// `values` `(start + len, kv_heads, head_dim)`; the answer is `(len, heads * head_dim)`.
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
    // The heads of a group stand side by side, so they share their keys without being copied.
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

/// `(len, start + len)`: zero where a query may look, minus infinity after its own position and before its window.
fn mask(len: usize, start: usize, window: usize, device: &Device) -> Result<Tensor, ModelError> {
    let width = start + len;
    let value = |row: usize, column: usize| {
        let position = start + row;
        let is_seen = column <= position && position - column < window;
        if is_seen { 0.0 } else { f32::NEG_INFINITY }
    };
    let mask: Vec<f32> = (0..len).flat_map(|row| (0..width).map(move |column| value(row, column))).collect();
    Ok(Tensor::from_vec(mask, (len, width), device)?)
}
