//! The matrices of the decoder's layers with the updates of the adapters, and the products with them.
//!
//! Used by the decoder only. The weights stay quantized; an update is computed for the rows of its sequences.

use crate::model::{
    AdapterId, Batch, GgufFile, ModelError, Segment,
    adapter::AdapterFile,
    backend::{AdapterUpdate, Backend},
};

/// A weight matrix with the updates of all adapters.
pub(super) struct Linear<B: Backend> {
    /// The name of the tensor.
    name: String,
    /// `(out, input)`.
    shape: (usize, usize),
    weights: B::Matrix,
    /// Per adapter; `None` if it does not update this matrix.
    updates: Vec<Option<B::LowRank>>,
}

impl<B: Backend> Linear<B> {
    /// Loads a matrix without adapters.
    pub(super) fn load(
        backend: &B,
        file: &GgufFile,
        name: String,
        (out, input): (usize, usize),
    ) -> Result<Self, ModelError> {
        let weights = backend.matrix(file, &name, out, input)?;
        Ok(Self { name, shape: (out, input), weights, updates: Vec::new() })
    }

    /// Returns the name and the shape `(out, input)`.
    pub(super) fn description(&self) -> (&str, (usize, usize)) {
        (&self.name, self.shape)
    }

    /// Loads the update of this matrix by an adapter, if it has one. The shapes must have been checked.
    pub(super) fn load_update(
        &self,
        backend: &B,
        adapter: &AdapterFile,
    ) -> Result<Option<B::LowRank>, ModelError> {
        adapter.update(&self.name).map(|tensors| backend.low_rank(&tensors, self.shape)).transpose()
    }

    /// Appends the update by the next adapter.
    pub(super) fn push_update(&mut self, update: Option<B::LowRank>) {
        self.updates.push(update);
    }
}

/// The rows of a step that use adapters.
pub(super) struct AdapterRows<B: Backend>(Vec<(AdapterId, B::RowSet)>);

impl<B: Backend> AdapterRows<B> {
    /// Groups all rows of a step by adapter.
    pub(super) fn of_tokens(backend: &B, batch: &Batch) -> Result<Self, ModelError> {
        Self::new(backend, batch, |segment| segment.len)
    }

    /// Groups the rows with logits by adapter, numbered among themselves.
    pub(super) fn of_logits(backend: &B, batch: &Batch) -> Result<Self, ModelError> {
        Self::new(backend, batch, |segment| segment.logits)
    }

    fn new(backend: &B, batch: &Batch, rows_of: impl Fn(&Segment) -> usize) -> Result<Self, ModelError> {
        let mut groups: Vec<(AdapterId, Vec<u32>)> = Vec::new();
        let mut end = 0;
        for segment in &batch.segments {
            let start = end;
            end += rows_of(segment) as u32;
            let Some(adapter) = segment.adapter else { continue };
            match groups.iter_mut().find(|(id, _)| *id == adapter) {
                Some((_, rows)) => rows.extend(start..end),
                None => groups.push((adapter, (start..end).collect())),
            }
        }
        let groups = groups.into_iter().filter(|(_, rows)| !rows.is_empty());
        let row_sets = groups.map(|(adapter, rows)| Ok((adapter, backend.row_set(rows, end as usize)?)));
        Ok(Self(row_sets.collect::<Result<_, ModelError>>()?))
    }
}

/// Computes `x Wᵀ` for several matrices, with the updates of the adapters for their rows.
pub(super) fn project<B: Backend, const N: usize>(
    backend: &B,
    x: &B::Rows,
    matrices: [&Linear<B>; N],
    rows: &AdapterRows<B>,
) -> Result<[B::Rows; N], ModelError> {
    let updates = matrices.map(|matrix| {
        rows.0
            .iter()
            .filter_map(|(adapter, rows)| {
                let low_rank = matrix.updates.get(adapter.index())?.as_ref()?;
                Some(AdapterUpdate { low_rank, rows })
            })
            .collect::<Vec<_>>()
    });
    backend.project(x, matrices.map(|matrix| &matrix.weights), updates.each_ref().map(Vec::as_slice))
}
