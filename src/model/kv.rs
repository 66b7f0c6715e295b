//! The KV cache: the keys and values of every running sequence, kept outside the layers.
//!
//! A sequence owns a slot, reserved whole when it is admitted, so that no step can run out of room.
//! Owned by the engine's worker; written and read by the attention layer.

use candle_core::{DType, Device, Tensor};

use super::ModelError;

/// The shape of what a model caches for one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Number of layers.
    pub layers: usize,
    /// Number of key and value heads of a layer.
    pub kv_heads: usize,
    /// Size of a head.
    pub head_dim: usize,
}

impl KvShape {
    /// Bytes that one token takes, keys and values over all layers.
    pub fn bytes_per_token(&self) -> usize {
        2 * self.layers * self.kv_heads * self.head_dim * size_of::<f32>()
    }
}

/// Names a slot of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotId(pub usize);

/// Keys and values of one layer of one sequence, `(kv_heads, capacity, head_dim)` each.
struct LayerCache {
    keys: Tensor,
    values: Tensor,
}

struct Slot {
    capacity: usize,
    layers: Vec<LayerCache>,
}

/// The keys and values of the running sequences.
pub struct KvCache {
    shape: KvShape,
    device: Device,
    slots: Vec<Option<Slot>>,
}

impl KvCache {
    /// An empty cache with room for `slots` sequences.
    pub fn new(shape: KvShape, slots: usize, device: &Device) -> Self {
        Self { shape, device: device.clone(), slots: (0..slots).map(|_| None).collect() }
    }

    /// The device that the cache lives on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Reserves a free slot for a sequence of at most `capacity` tokens; `None` when all are taken.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn reserve(&mut self, capacity: usize) -> Result<Option<SlotId>, ModelError> {
        let Some(free) = self.slots.iter().position(Option::is_none) else {
            return Ok(None);
        };
        let dims = (self.shape.kv_heads, capacity, self.shape.head_dim);
        let empty = || Tensor::zeros(dims, DType::F32, &self.device);
        let layers = (0..self.shape.layers)
            .map(|_| Ok(LayerCache { keys: empty()?, values: empty()? }))
            .collect::<Result<_, candle_core::Error>>()?;
        self.slots[free] = Some(Slot { capacity, layers });
        Ok(Some(SlotId(free)))
    }

    /// Frees a slot and its memory.
    pub fn release(&mut self, slot: SlotId) {
        self.slots[slot.0] = None;
    }

    /// Number of slots in use.
    pub fn slots_in_use(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Writes keys and values `(kv_heads, len, head_dim)` at positions `start..start + len` of a slot
    /// and returns all that it holds up to there, `(kv_heads, start + len, head_dim)` each.
    pub(super) fn append(
        &mut self,
        slot: SlotId,
        layer: usize,
        start: usize,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<(Tensor, Tensor), ModelError> {
        let end = start + keys.dim(1)?;
        let entry = self.slots[slot.0]
            .as_ref()
            .ok_or_else(|| candle_core::Error::msg(format!("KV slot {} is not reserved", slot.0)))?;
        if end > entry.capacity {
            let detail = format!("KV slot {} holds {} tokens, {end} are needed", slot.0, entry.capacity);
            return Err(candle_core::Error::msg(detail).into());
        }
        let cache = &entry.layers[layer];
        cache.keys.slice_set(keys, 1, start)?;
        cache.values.slice_set(values, 1, start)?;
        Ok((cache.keys.narrow(1, 0, end)?, cache.values.narrow(1, 0, end)?))
    }
}
