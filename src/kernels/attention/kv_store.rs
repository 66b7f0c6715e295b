//! The storage of the KV cache: keys and values in blocks of 16 tokens, as f16 or int8. The engine decides which sequences
//! own a block; `attention` reads the blocks.
//!
//! A block contains, for each layer and KV head, the keys transposed, `(head_dim, 16 tokens)`, so that 16 scores are the
//! lanes of a register, and the values `(16 tokens, head_dim)`. int8 has an f32 scale for each token, KV head and key or
//! value. All memory is reserved at once, but the operating system provides it only when a block is first written.
//!
//! **Key biases.** Qwen2 models have key biases of up to several hundred in a few channels (354 in the first layer of
//! Qwen2.5-Coder-1.5B, where the median is 0.6). In an int8 key with one scale, they would leave no bits for the other
//! channels. [`KvStore::set_key_bias`] makes the store subtract the rotated bias of these channels when it writes a key;
//! `attention` adds it again, in f32, when it reads the key.

#![allow(unsafe_code)] // threads write the cells of different heads

use crate::kernels::math::round_ties_even;
use crate::kernels::pool::SharedMut;
use crate::kernels::{KernelError, Kernels, RopeTable};
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use std::{fmt, str::FromStr};

/// Tokens in a block.
pub const KV_BLOCK_TOKENS: usize = 16;

/// The number format of cached keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvType {
    /// 16-bit floats: two bytes per value.
    F16,
    /// 8-bit integers with a scale for each token and KV head: about one byte per value.
    Int8,
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::Int8 => "int8",
        })
    }
}

impl FromStr for KvType {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        [Self::F16, Self::Int8]
            .into_iter()
            .find(|ty| ty.to_string() == s)
            .ok_or_else(|| format!("unknown KV cache type `{s}`; expected f16 or int8"))
    }
}

/// The sizes of the keys and values that a model caches for each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Number of layers with attention.
    pub layers: usize,
    /// Number of key heads, which is also that of value heads.
    pub kv_heads: usize,
    /// Elements of a head; a multiple of 16.
    pub head_dim: usize,
}

/// Keys and values of many sequences, by block.
pub struct KvStore {
    layout: KvLayout,
    pub(super) cells: KvCells,
}

/// The shape of a store, and the key biases of its layers.
struct KvLayout {
    shape: KvShape,
    blocks: usize,
    key_biases: Vec<Option<KeyBias>>,
}

/// The cells, `[layer][block][KV head]`; a cell has the keys before the values.
pub(super) enum KvCells {
    F16(Vec<u16>),
    Int8 { quants: Vec<i8>, scales: Vec<f32> },
}

/// The channels of the rotated bias of one layer that are subtracted from its stored keys.
struct KeyBias {
    /// For each KV head: the number of channels, and `[block of positions][channel]` with the bias at 16 positions.
    heads: Vec<(usize, Vec<ChannelBias>)>,
}

/// A channel of a head and its rotated bias at the 16 positions of a block.
pub(super) type ChannelBias = (usize, [f32; KV_BLOCK_TOKENS]);

/// Pairs of channels with a bias of at least this size are subtracted from int8 keys. Smaller ones take fewer bits than
/// the keys themselves.
const LARGE_BIAS: f32 = 2.0;

impl KvShape {
    /// Returns the number of bytes of `tokens` tokens, rounded up to whole blocks.
    pub fn bytes(&self, ty: KvType, tokens: usize) -> usize {
        let heads = self.layers * self.kv_heads * tokens.div_ceil(KV_BLOCK_TOKENS) * KV_BLOCK_TOKENS * 2;
        heads
            * match ty {
                KvType::F16 => self.head_dim * 2,
                KvType::Int8 => self.head_dim + 4,
            }
    }
}

impl KvStore {
    /// Creates a store of `blocks` blocks.
    ///
    /// # Errors
    /// [`KernelError::Shape`] if `head_dim` is not a multiple of 16, a count is zero, or the size overflows.
    pub fn new(shape: KvShape, ty: KvType, blocks: usize) -> Result<Self, KernelError> {
        let KvShape { layers, kv_heads, head_dim } = shape;
        let error = |reason: &str| {
            Err(KernelError::Shape(format!("KV store of {shape:?} with {blocks} blocks: {reason}")))
        };
        if head_dim == 0 || !head_dim.is_multiple_of(16) {
            return error("head_dim must be a multiple of 16");
        }
        let heads = layers.checked_mul(kv_heads).and_then(|n| n.checked_mul(blocks));
        let Some(heads) = heads.filter(|&n| n > 0 && n < isize::MAX as usize / (64 * head_dim)) else {
            return error("it is empty or too large");
        };
        if u32::try_from(blocks).is_err() {
            return error("block numbers are limited to 32 bits");
        }
        let (values, rows) = (heads * 2 * KV_BLOCK_TOKENS * head_dim, heads * 2 * KV_BLOCK_TOKENS);
        let cells = match ty {
            KvType::F16 => KvCells::F16(vec![0; values]),
            KvType::Int8 => KvCells::Int8 { quants: vec![0; values], scales: vec![0.0; rows] },
        };
        let key_biases = (0..layers).map(|_| None).collect();
        Ok(Self { layout: KvLayout { shape, blocks, key_biases }, cells })
    }

    /// Returns the shape.
    pub(super) fn shape(&self) -> KvShape {
        self.layout.shape
    }

    /// Returns the number format.
    fn kv_type(&self) -> KvType {
        match self.cells {
            KvCells::F16(_) => KvType::F16,
            KvCells::Int8 { .. } => KvType::Int8,
        }
    }

    /// Returns the number of bytes reserved.
    pub fn bytes(&self) -> usize {
        self.layout.shape.bytes(self.kv_type(), self.layout.blocks * KV_BLOCK_TOKENS)
    }

    /// Declares that the keys of `layer` contain `bias`, `(kv_heads · head_dim)`, added before their rotation by `rope`.
    /// An int8 store subtracts its large channels; an f16 store ignores it. Must be called before the first key of the
    /// layer is written. Afterwards, the layer's positions are limited to those of `rope`.
    ///
    /// # Panics
    /// If the lengths do not match the shape.
    pub fn set_key_bias(&mut self, layer: usize, bias: &[f32], rope: &RopeTable) {
        let dim = self.layout.shape.head_dim;
        assert_eq!(bias.len(), self.layout.shape.kv_heads * dim, "length of a key bias");
        assert_eq!(rope.head_dim(), dim, "head size of the rotary embedding");
        if self.kv_type() == KvType::F16 {
            return;
        }
        let heads = bias.chunks_exact(dim).map(|bias| {
            let large = |c: usize| bias[c].abs().max(bias[rope.partner(c)].abs()) >= LARGE_BIAS;
            let channels: Vec<usize> = (0..dim).filter(|&c| large(c)).collect();
            let mut table = Vec::new();
            if !channels.is_empty() {
                for first in (0..rope.positions()).step_by(KV_BLOCK_TOKENS) {
                    let rotated: Vec<Vec<f32>> = (first..first + KV_BLOCK_TOKENS)
                        .map(|position| {
                            let mut row = bias.to_vec();
                            rope.rotate_row(&mut row, position.min(rope.positions() - 1) as u32);
                            row
                        })
                        .collect();
                    table.extend(channels.iter().map(|&c| (c, std::array::from_fn(|slot| rotated[slot][c]))));
                }
            }
            (channels.len(), table)
        });
        self.layout.key_biases[layer] = Some(KeyBias { heads: heads.collect() });
    }

    /// Returns the bias that is subtracted from the keys of a head at the 16 positions from `16 · block` on.
    pub(super) fn key_bias(&self, layer: usize, head: usize, block: usize) -> &[ChannelBias] {
        self.layout.key_bias(layer, head, block)
    }

    /// Writes new tokens to `layer`. `places` has the block and the position of each row of `k` (rotated) and `v`,
    /// `(rows, kv_heads · head_dim)`; a row is written to the slot `position % 16` of its block. If a place appears twice,
    /// either row may win.
    ///
    /// # Panics
    /// If a length does not match the shape, or a number is out of range.
    pub fn write_rows(
        &mut self,
        kernels: &Kernels,
        layer: usize,
        places: &[(u32, u32)],
        k: &[f32],
        v: &[f32],
    ) {
        let KvShape { kv_heads, head_dim, .. } = self.layout.shape;
        let width = kv_heads * head_dim;
        assert!(k.len() == places.len() * width && v.len() == k.len(), "lengths of keys and values");
        let tokens = NewTokens { layout: &self.layout, layer, places, k, v };
        let cells = match &mut self.cells {
            KvCells::F16(data) => SharedKvCells::F16(SharedMut::new(data)),
            KvCells::Int8 { quants, scales } => {
                SharedKvCells::Int8 { quants: SharedMut::new(quants), scales: SharedMut::new(scales) }
            }
        };
        // SAFETY: each head has its own cells, and `run` passes each head to one thread, once.
        kernels.pool().run(kv_heads, &|head| unsafe { tokens.write_head(head, &cells) });
    }

    /// Returns the index of a cell: one block of one layer and head.
    pub(super) fn cell(&self, layer: usize, block: u32, head: usize) -> usize {
        self.layout.cell(layer, block, head)
    }
}

impl KvLayout {
    fn cell(&self, layer: usize, block: u32, head: usize) -> usize {
        let (block, KvShape { layers, kv_heads, .. }) = (block as usize, self.shape);
        assert!(
            layer < layers && block < self.blocks && head < kv_heads,
            "layer {layer}, block {block}, head {head} is out of range"
        );
        (layer * self.blocks + block) * kv_heads + head
    }

    fn key_bias(&self, layer: usize, head: usize, block: usize) -> &[ChannelBias] {
        match &self.key_biases[layer] {
            Some(KeyBias { heads }) if heads[head].0 > 0 => {
                let (channels, table) = &heads[head];
                &table[block * channels..(block + 1) * channels]
            }
            _ => &[],
        }
    }
}

/// Keys and values to be written to a layer.
struct NewTokens<'a> {
    layout: &'a KvLayout,
    layer: usize,
    /// Block and position of each row.
    places: &'a [(u32, u32)],
    k: &'a [f32],
    v: &'a [f32],
}

/// [`KvCells`] while several threads write to them.
enum SharedKvCells<'a> {
    F16(SharedMut<'a, u16>),
    Int8 { quants: SharedMut<'a, i8>, scales: SharedMut<'a, f32> },
}

impl NewTokens<'_> {
    /// Writes one head of all rows.
    ///
    /// # Safety
    /// No other thread writes this head of this layer.
    unsafe fn write_head(&self, head: usize, cells: &SharedKvCells<'_>) {
        let KvShape { kv_heads, head_dim, .. } = self.layout.shape;
        let len = KV_BLOCK_TOKENS * head_dim;
        let mut key = Vec::with_capacity(head_dim);
        let mut half = vec![f16::ZERO; head_dim];
        for (row, &(block, position)) in self.places.iter().enumerate() {
            let (position_block, slot) =
                (position as usize / KV_BLOCK_TOKENS, position as usize % KV_BLOCK_TOKENS);
            let cell = self.layout.cell(self.layer, block, head);
            let start = (row * kv_heads + head) * head_dim;
            let value = &self.v[start..start + head_dim];
            key.clear();
            key.extend_from_slice(&self.k[start..start + head_dim]);
            for (channel, bias) in self.layout.key_bias(self.layer, head, position_block) {
                key[*channel] -= bias[slot];
            }
            match cells {
                SharedKvCells::F16(data) => {
                    // SAFETY: the cell belongs to the head, and the head to this thread.
                    let (keys, values) = unsafe { data.slice(2 * cell * len, 2 * len) }.split_at_mut(len);
                    half.convert_from_f32_slice(&key);
                    for (keys, half) in keys.chunks_exact_mut(KV_BLOCK_TOKENS).zip(&half) {
                        keys[slot] = half.to_bits();
                    }
                    values[slot * head_dim..][..head_dim]
                        .reinterpret_cast_mut::<f16>()
                        .convert_from_f32_slice(value);
                }
                SharedKvCells::Int8 { quants, scales } => {
                    // SAFETY: as above.
                    let (keys, values) = unsafe { quants.slice(2 * cell * len, 2 * len) }.split_at_mut(len);
                    // SAFETY: as above.
                    let scales = unsafe { scales.slice(2 * cell * KV_BLOCK_TOKENS, 2 * KV_BLOCK_TOKENS) };
                    let (step, inverse) = quantization_step(&key);
                    scales[slot] = step;
                    for (keys, k) in keys.chunks_exact_mut(KV_BLOCK_TOKENS).zip(&key) {
                        keys[slot] = round_ties_even(k * inverse) as i8;
                    }
                    let (step, inverse) = quantization_step(value);
                    scales[KV_BLOCK_TOKENS + slot] = step;
                    for (cell, v) in values[slot * head_dim..][..head_dim].iter_mut().zip(value) {
                        *cell = round_ties_even(v * inverse) as i8;
                    }
                }
            }
        }
    }
}

/// Returns the step of an int8 row and its inverse. The step is NaN if the row is not finite, so that it propagates.
fn quantization_step(x: &[f32]) -> (f32, f32) {
    // `nan` is 0 for finite rows.
    let (largest, nan) =
        x.iter().fold((0.0f32, 0.0f32), |(largest, nan), x| (largest.max(x.abs()), nan + x * 0.0));
    let inverse = if largest > 1e-30 && largest.is_finite() { 127.0 / largest } else { 0.0 };
    (largest / 127.0 + nan, inverse)
}

impl std::fmt::Debug for KvStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KvStore({:?}, {:?}, {} blocks)", self.kv_type(), self.layout.shape, self.layout.blocks)
    }
}
