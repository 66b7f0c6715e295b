//! The KV cache's storage: keys and values in blocks of 16 tokens, f16 or int8. Plain data: which sequence owns which
//! block, what is shared and what is free is the engine's business; `attention` reads what is written here.
//!
//! A block holds, for each layer and KV head, the keys transposed, `(head_dim, 16 tokens)`, so that 16 scores are the
//! lanes of a register, and the values `(16 tokens, head_dim)`. int8 has one f32 scale for each token, KV head and
//! key or value. Memory is reserved at once and taken from the system when a block is first written.
//!
//! **Why a key bias is taken out.** Qwen2 models have key biases of up to several hundred in a few channels (354 in the
//! first layer of Qwen2.5-Coder-1.5B, where the median is 0.6). Inside an int8 key with one scale they would leave no
//! bits for the rest. [`KvStore::set_key_bias`] has the store subtract the rotated bias of the large channels when a
//! key is written and `attention` add it again, in f32, when it is read.

#![allow(unsafe_code)] // threads write the cells of different heads

use super::math::round_ties_even;
use super::pool::SharedMut;
use super::rope::RopeTable;
use super::{KernelError, Kernels};
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use std::{fmt, str::FromStr};

/// Tokens in a block.
pub const KV_BLOCK_TOKENS: usize = 16;

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvType {
    /// 16-bit floats: two bytes a value.
    F16,
    /// 8-bit integers with a scale for each token and KV head: about one byte a value.
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
            .ok_or_else(|| format!("`{s}` is no type of a KV cache; use f16 or int8"))
    }
}

/// What a model caches for each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Layers with attention.
    pub layers: usize,
    /// Heads of keys and of values.
    pub kv_heads: usize,
    /// Elements of a head; a multiple of 16.
    pub head_dim: usize,
}

/// Keys and values of many sequences, by block.
pub struct KvStore {
    map: Map,
    pub(super) cells: Cells,
}

/// Where things are.
struct Map {
    shape: KvShape,
    blocks: usize,
    bias: Vec<Option<KeyBias>>,
}

/// The values, indexed `[layer][block][KV head]` and then keys before values.
pub(super) enum Cells {
    F16(Vec<u16>),
    Int8 { quants: Vec<i8>, scales: Vec<f32> },
}

/// Channels of the rotated bias of one layer that are kept out of its stored keys.
struct KeyBias {
    /// For each KV head: channels, and `[block of positions][channel]` with the bias at 16 positions.
    heads: Vec<(usize, Vec<ChannelBias>)>,
}

/// A channel of a head and its rotated bias at the 16 positions of a block.
pub(super) type ChannelBias = (usize, [f32; KV_BLOCK_TOKENS]);

/// Pairs of channels with a bias of at least this size are kept out of int8 keys. Smaller ones cost fewer bits than
/// the values themselves.
const LARGE_BIAS: f32 = 2.0;

impl KvShape {
    /// Bytes that `tokens` take, rounded up to whole blocks.
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
    /// Room for `blocks` blocks.
    ///
    /// # Errors
    /// [`KernelError::Shape`] where `head_dim` is no multiple of 16, a count is zero, or the size overflows.
    pub fn new(shape: KvShape, ty: KvType, blocks: usize) -> Result<Self, KernelError> {
        let KvShape { layers, kv_heads, head_dim } = shape;
        let refuse =
            |why: &str| Err(KernelError::Shape(format!("KV store of {shape:?}, {blocks} blocks: {why}")));
        if head_dim == 0 || !head_dim.is_multiple_of(16) {
            return refuse("head_dim must be a multiple of 16");
        }
        let heads = layers.checked_mul(kv_heads).and_then(|n| n.checked_mul(blocks));
        let Some(heads) = heads.filter(|&n| n > 0 && n < isize::MAX as usize / (64 * head_dim)) else {
            return refuse("no room at all, or too much");
        };
        if u32::try_from(blocks).is_err() {
            return refuse("block numbers have 32 bits");
        }
        let (values, rows) = (heads * 2 * KV_BLOCK_TOKENS * head_dim, heads * 2 * KV_BLOCK_TOKENS);
        let cells = match ty {
            KvType::F16 => Cells::F16(vec![0; values]),
            KvType::Int8 => Cells::Int8 { quants: vec![0; values], scales: vec![0.0; rows] },
        };
        Ok(Self { map: Map { shape, blocks, bias: (0..layers).map(|_| None).collect() }, cells })
    }

    /// The shape.
    pub fn shape(&self) -> KvShape {
        self.map.shape
    }

    /// Blocks in the store, numbered from 0.
    pub fn blocks(&self) -> usize {
        self.map.blocks
    }

    /// How values are kept.
    pub fn kv_type(&self) -> KvType {
        match self.cells {
            Cells::F16(_) => KvType::F16,
            Cells::Int8 { .. } => KvType::Int8,
        }
    }

    /// Bytes reserved.
    pub fn bytes(&self) -> usize {
        self.map.shape.bytes(self.kv_type(), self.map.blocks * KV_BLOCK_TOKENS)
    }

    /// Says that the keys of `layer` contain `bias`, `(kv_heads · head_dim)`, added before their rotation by `rope`.
    /// An int8 store takes its large channels out; an f16 store ignores it. To be called before the first key of the
    /// layer is written; positions are then bounded by those of `rope`.
    ///
    /// # Panics
    /// Where the lengths do not fit the shape.
    pub fn set_key_bias(&mut self, layer: usize, bias: &[f32], rope: &RopeTable) {
        let dim = self.map.shape.head_dim;
        assert_eq!(bias.len(), self.map.shape.kv_heads * dim, "length of a key bias");
        assert_eq!(rope.head_dim(), dim, "head of a rotation");
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
        self.map.bias[layer] = Some(KeyBias { heads: heads.collect() });
    }

    /// What was taken out of the keys of a head at the positions `16 · block` and on.
    pub(super) fn key_bias(&self, layer: usize, head: usize, block: usize) -> &[ChannelBias] {
        self.map.key_bias(layer, head, block)
    }

    /// Stores one token of `layer` at `position` of its sequence: it goes to the slot `position % 16` of `block`.
    /// `k` (rotated) and `v` are `(kv_heads · head_dim)`.
    ///
    /// # Panics
    /// Where a length or a number is out of range.
    pub fn write(&mut self, layer: usize, block: u32, position: u32, k: &[f32], v: &[f32]) {
        let place = [(block, position)];
        let (rows, cells) = self.rows(layer, &place, k, v);
        for head in 0..rows.map.shape.kv_heads {
            // SAFETY: one thread, one head after the other.
            unsafe { rows.write_head(head, &cells) };
        }
    }

    /// Stores many tokens as [`Self::write`] does one, by the pool's threads: `places` has block and position of each
    /// row of `k` and `v`, `(rows, kv_heads · head_dim)`. No place may stand there twice, or either row may win.
    ///
    /// # Panics
    /// Where a length or a number is out of range.
    pub fn write_rows(
        &mut self,
        kernels: &Kernels,
        layer: usize,
        places: &[(u32, u32)],
        k: &[f32],
        v: &[f32],
    ) {
        let (rows, cells) = self.rows(layer, places, k, v);
        // SAFETY: a head has cells of its own, and `run` hands each head to one thread, once.
        kernels.pool().run(rows.map.shape.kv_heads, &|head| unsafe { rows.write_head(head, &cells) });
    }

    fn rows<'a>(
        &'a mut self,
        layer: usize,
        places: &'a [(u32, u32)],
        k: &'a [f32],
        v: &'a [f32],
    ) -> (Rows<'a>, SharedCells<'a>) {
        let width = self.map.shape.kv_heads * self.map.shape.head_dim;
        assert!(k.len() == places.len() * width && v.len() == k.len(), "lengths of keys and values");
        let cells = match &mut self.cells {
            Cells::F16(data) => SharedCells::F16(SharedMut::new(data)),
            Cells::Int8 { quants, scales } => {
                SharedCells::Int8 { quants: SharedMut::new(quants), scales: SharedMut::new(scales) }
            }
        };
        (Rows { map: &self.map, layer, places, k, v }, cells)
    }

    /// Copies a block with all of its layers: for a sequence that goes on from a prefix which ends inside the block.
    ///
    /// # Panics
    /// Where a block does not exist.
    pub fn copy_block(&mut self, from: u32, to: u32) {
        let KvShape { layers, kv_heads, head_dim } = self.map.shape;
        for layer in 0..layers {
            let (from, to) = (self.cell(layer, from, 0), self.cell(layer, to, 0));
            let part = |cell: usize, len: usize| cell * len..(cell + kv_heads) * len;
            let (values, rows) = (2 * KV_BLOCK_TOKENS * head_dim, 2 * KV_BLOCK_TOKENS);
            match &mut self.cells {
                Cells::F16(data) => data.copy_within(part(from, values), to * values),
                Cells::Int8 { quants, scales } => {
                    quants.copy_within(part(from, values), to * values);
                    scales.copy_within(part(from, rows), to * rows);
                }
            }
        }
    }

    /// The index of a cell: one block of one layer and head.
    pub(super) fn cell(&self, layer: usize, block: u32, head: usize) -> usize {
        self.map.cell(layer, block, head)
    }
}

impl Map {
    fn cell(&self, layer: usize, block: u32, head: usize) -> usize {
        let (block, KvShape { layers, kv_heads, .. }) = (block as usize, self.shape);
        assert!(
            layer < layers && block < self.blocks && head < kv_heads,
            "layer {layer}, block {block}, head {head}"
        );
        (layer * self.blocks + block) * kv_heads + head
    }

    fn key_bias(&self, layer: usize, head: usize, block: usize) -> &[ChannelBias] {
        match &self.bias[layer] {
            Some(KeyBias { heads }) if heads[head].0 > 0 => {
                let (channels, table) = &heads[head];
                &table[block * channels..(block + 1) * channels]
            }
            _ => &[],
        }
    }
}

/// Keys and values on their way into a layer.
struct Rows<'a> {
    map: &'a Map,
    layer: usize,
    /// Block and position of each row.
    places: &'a [(u32, u32)],
    k: &'a [f32],
    v: &'a [f32],
}

/// [`Cells`] that several threads write.
enum SharedCells<'a> {
    F16(SharedMut<'a, u16>),
    Int8 { quants: SharedMut<'a, i8>, scales: SharedMut<'a, f32> },
}

impl Rows<'_> {
    /// Writes what the rows have of a head.
    ///
    /// # Safety
    /// No other thread writes this head of this layer.
    unsafe fn write_head(&self, head: usize, cells: &SharedCells<'_>) {
        let KvShape { kv_heads, head_dim, .. } = self.map.shape;
        let len = KV_BLOCK_TOKENS * head_dim;
        let mut key = Vec::with_capacity(head_dim);
        let mut half = vec![f16::ZERO; head_dim];
        for (row, &(block, position)) in self.places.iter().enumerate() {
            let (position_block, slot) =
                (position as usize / KV_BLOCK_TOKENS, position as usize % KV_BLOCK_TOKENS);
            let cell = self.map.cell(self.layer, block, head);
            let start = (row * kv_heads + head) * head_dim;
            let value = &self.v[start..start + head_dim];
            key.clear();
            key.extend_from_slice(&self.k[start..start + head_dim]);
            for (channel, bias) in self.map.key_bias(self.layer, head, position_block) {
                key[*channel] -= bias[slot];
            }
            match cells {
                SharedCells::F16(data) => {
                    // SAFETY: this cell belongs to the head, and the head to this thread.
                    let (keys, values) = unsafe { data.slice(2 * cell * len, 2 * len) }.split_at_mut(len);
                    half.convert_from_f32_slice(&key);
                    for (keys, half) in keys.chunks_exact_mut(KV_BLOCK_TOKENS).zip(&half) {
                        keys[slot] = half.to_bits();
                    }
                    values[slot * head_dim..][..head_dim]
                        .reinterpret_cast_mut::<f16>()
                        .convert_from_f32_slice(value);
                }
                SharedCells::Int8 { quants, scales } => {
                    // SAFETY: as above.
                    let (keys, values) = unsafe { quants.slice(2 * cell * len, 2 * len) }.split_at_mut(len);
                    // SAFETY: as above.
                    let scales = unsafe { scales.slice(2 * cell * KV_BLOCK_TOKENS, 2 * KV_BLOCK_TOKENS) };
                    let (step, inverse) = scale(&key);
                    scales[slot] = step;
                    for (keys, k) in keys.chunks_exact_mut(KV_BLOCK_TOKENS).zip(&key) {
                        keys[slot] = round_ties_even(k * inverse) as i8;
                    }
                    let (step, inverse) = scale(value);
                    scales[KV_BLOCK_TOKENS + slot] = step;
                    for (cell, v) in values[slot * head_dim..][..head_dim].iter_mut().zip(value) {
                        *cell = round_ties_even(v * inverse) as i8;
                    }
                }
            }
        }
    }
}

/// The step of an int8 row and its inverse; NaN where the row is not finite, so that the failure is seen.
fn scale(x: &[f32]) -> (f32, f32) {
    let (largest, poison) =
        x.iter().fold((0.0f32, 0.0f32), |(most, poison), x| (most.max(x.abs()), poison + x * 0.0));
    let inverse = if largest > 1e-30 && largest.is_finite() { 127.0 / largest } else { 0.0 };
    (largest / 127.0 + poison, inverse)
}

impl std::fmt::Debug for KvStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KvStore({:?}, {:?}, {} blocks)", self.kv_type(), self.map.shape, self.map.blocks)
    }
}
