//! Grouped-query attention of packed tokens over the cached keys and values of their sequences.

use candle_core::{D, Device, Tensor};

use crate::model::{Batch, KvCache, ModelError};

/// The shape of an attention layer.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct AttentionShape {
    /// Number of query heads; a multiple of `kv_heads`.
    pub(in crate::model) heads: usize,
    /// Number of key and value heads.
    pub(in crate::model) kv_heads: usize,
    /// Size of a head.
    pub(in crate::model) head_dim: usize,
}

/// Appends the step's keys and values to the cache and lets every token attend to its own sequence.
///
/// `queries` is `(heads, total_tokens, head_dim)`, `keys` and `values` are
/// `(kv_heads, total_tokens, head_dim)`; the answer is `(total_tokens, heads * head_dim)`.
pub(in crate::model) fn attend(
    shape: AttentionShape,
    layer: usize,
    batch: &Batch,
    cache: &mut KvCache,
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
) -> Result<Tensor, ModelError> {
    let mut outputs = Vec::with_capacity(batch.segments.len());
    let mut first = 0;
    for segment in &batch.segments {
        let keys = keys.narrow(1, first, segment.len)?.contiguous()?;
        let values = values.narrow(1, first, segment.len)?.contiguous()?;
        let (keys, values) = cache.append(segment.slot, layer, segment.start, &keys, &values)?;
        let queries = queries.narrow(1, first, segment.len)?.contiguous()?;
        outputs.push(attend_sequence(shape, segment.start, &queries, &keys, &values)?);
        first += segment.len;
    }
    Ok(Tensor::cat(&outputs, 0)?)
}

/// Attention of one sequence: `queries` `(heads, len, head_dim)` at positions `start..start + len`,
/// `keys` and `values` `(kv_heads, start + len, head_dim)`; the answer is `(len, heads * head_dim)`.
fn attend_sequence(
    shape: AttentionShape,
    start: usize,
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
) -> Result<Tensor, ModelError> {
    let AttentionShape { heads, kv_heads, head_dim } = shape;
    let len = queries.dim(1)?;
    let group = heads / kv_heads;
    // The heads of a group stand side by side, so they share their keys without being copied.
    let queries = queries.reshape((kv_heads, group * len, head_dim))?;
    let scores = (queries.matmul(&keys.t()?)? / (head_dim as f64).sqrt())?;
    let scores = if len == 1 {
        scores
    } else {
        let mask = causal_mask(len, start, queries.device())?;
        let by_head = scores.reshape((heads, len, start + len))?;
        by_head.broadcast_add(&mask)?.reshape((kv_heads, group * len, start + len))?
    };
    let weights = candle_nn::ops::softmax_last_dim(&scores)?;
    let output = weights.matmul(&values.contiguous()?)?;
    Ok(output.reshape((heads, len, head_dim))?.transpose(0, 1)?.flatten_from(D::Minus2)?)
}

/// `(len, start + len)`: zero where a query may look, minus infinity after its own position.
fn causal_mask(len: usize, start: usize, device: &Device) -> Result<Tensor, ModelError> {
    let width = start + len;
    let mask: Vec<f32> = (0..len)
        .flat_map(|row| {
            (0..width).map(move |column| if column > start + row { f32::NEG_INFINITY } else { 0.0 })
        })
        .collect();
    Ok(Tensor::from_vec(mask, (len, width), device)?)
}
