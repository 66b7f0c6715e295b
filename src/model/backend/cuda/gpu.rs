//! Kernel launches, and the device memory that they write.

#![allow(unsafe_code)] // kernel launches: a kernel relies on the sizes that it is passed

use std::ops::Range;

use candle_core::{
    CudaDevice, CudaStorage, Device, Error, Storage, StorageRef, Tensor,
    cuda::{
        CudaDType,
        cudarc::driver::{CudaFunction, CudaSlice, CudaView, LaunchConfig, PushKernelArg as _},
    },
    op::BackpropOp,
};
use half::f16;

use super::plan::{Plan, TILE_WORDS, WARPS, shared_bytes, tile_rows};
use crate::{
    kernels::{KvType, cuda::ATTENTION},
    model::{
        Batch, KV_BLOCK_TOKENS, KvShape, ModelError,
        backend::{Heads, RopeStyle, candle::Angles},
    },
};

/// Device memory that the KV cache leaves free for activations, logits and workspaces, in bytes.
const RESERVE_BYTES: usize = 1 << 30;

/// Threads per block in kernels that process one row.
const ROW_THREADS: u32 = 128;

/// A GPU.
pub(in crate::model::backend) struct Gpu(CudaDevice);

/// A [`Plan`] on the device.
pub(in crate::model::backend) struct DevicePlan {
    slots: CudaSlice<u32>,
    tiles: CudaSlice<u32>,
    table: CudaSlice<u32>,
    /// Number of query rows of the largest tile.
    tile_rows: usize,
    /// Number of blocks that the cache must have, at least.
    blocks: usize,
}

/// The KV cache on a GPU.
pub struct CudaKv {
    device: CudaDevice,
    shape: KvShape,
    blocks: usize,
    /// Keys and values of each layer, `(blocks * KV_BLOCK_TOKENS, kv_heads, head_dim)`.
    layers: Vec<[CudaSlice<f16>; 2]>,
}

impl Gpu {
    pub(in crate::model::backend) fn of(device: &Device) -> Option<Self> {
        match device {
            Device::Cuda(device) => Some(Self(device.clone())),
            _ => None,
        }
    }

    /// Returns the number of tokens that fit into the free memory, except for a reserve.
    pub(in crate::model::backend) fn available_kv_tokens(&self, shape: KvShape) -> Result<usize, ModelError> {
        let (free, total) = self.0.cuda_stream().context().mem_get_info().map_err(Error::wrap)?;
        let block_bytes = shape.bytes(KvType::F16, KV_BLOCK_TOKENS);
        let tokens = free.saturating_sub(RESERVE_BYTES) / block_bytes * KV_BLOCK_TOKENS;
        let (free, total) = (free >> 20, total >> 20);
        tracing::info!(free_mebibytes = free, total_mebibytes = total, tokens, "memory of the device");
        Ok(tokens)
    }

    /// Allocates a cache of `blocks` blocks.
    pub(in crate::model::backend) fn cache(
        &self,
        shape: KvShape,
        blocks: usize,
    ) -> Result<CudaKv, ModelError> {
        let (tokens, width) = (blocks * KV_BLOCK_TOKENS, shape.kv_heads * shape.head_dim);
        let empty = || self.0.alloc_zeros::<f16>(tokens * width);
        let layers = (0..shape.layers).map(|_| Ok([empty()?, empty()?]));
        let layers = layers.collect::<Result<_, Error>>()?;
        let mebibytes = shape.bytes(KvType::F16, tokens) >> 20;
        tracing::info!(tokens, kv_type = %KvType::F16, mebibytes, "reserved the KV cache on the device");
        Ok(CudaKv { device: self.0.clone(), shape, blocks, layers })
    }

    /// Uploads the layout of a batch for all layers.
    pub(in crate::model::backend) fn plan(
        &self,
        heads: Heads,
        batch: &Batch,
    ) -> Result<DevicePlan, ModelError> {
        let tile_rows = tile_rows(heads.head_dim);
        if tile_rows == 0 {
            return Err(ModelError::step(format!(
                "the attention kernel does not support heads of {} elements",
                heads.head_dim
            )));
        }
        let plan = Plan::new(batch, heads.heads / heads.kv_heads, tile_rows);
        let upload = |words: &[u32]| self.0.clone_htod(words);
        let (slots, tiles, table) = (upload(&plan.slots)?, upload(&plan.tiles)?, upload(&plan.table)?);
        let blocks = plan.table.iter().max().map_or(0, |block| *block as usize + 1);
        Ok(DevicePlan { slots, tiles, table, tile_rows, blocks })
    }

    /// Rotates the heads of `x` `(total_tokens, heads * head_dim)` by `positions` `(total_tokens)`.
    pub(in crate::model::backend) fn rotate(
        &self,
        x: &Tensor,
        rope: &Angles,
        positions: &Tensor,
    ) -> Result<Tensor, ModelError> {
        let device = &self.0;
        let (tokens, width) = x.dims2()?;
        let angles = rope.cos.dims();
        let (x, positions) =
            (LockedTensor::lock(x, &[tokens, width])?, LockedTensor::lock(positions, &[tokens])?);
        let (cos, sin) = (LockedTensor::lock(&rope.cos, angles)?, LockedTensor::lock(&rope.sin, angles)?);
        let (x, positions) = (x.view::<f32>()?, positions.view::<u32>()?);
        let (cos, sin) = (cos.view::<f32>()?, sin.view::<f32>()?);
        // SAFETY: `rotate` writes both elements of every pair.
        let mut out = unsafe { device.alloc::<f32>(tokens * width) }?;
        let [heads, head_dim] = [width / rope.head_dim, rope.head_dim].map(|n| n as u32);
        let neighbors = u32::from(rope.style == RopeStyle::Neighbors);
        let (stream, function) = (device.cuda_stream(), function(device, "rotate")?);
        let mut launch = stream.launch_builder(&function);
        launch.arg(&x).arg(&cos).arg(&sin).arg(&positions).arg(&mut out);
        launch.arg(&heads).arg(&head_dim).arg(&neighbors);
        // SAFETY: the shapes are those that were asked for above, and the engine runs no sequence beyond the positions
        // that the angles were made for.
        unsafe { launch.launch(one_block_per_row(tokens)) }.map_err(Error::wrap)?;
        Ok(tensor(device, out, (tokens, width)))
    }
}

impl CudaKv {
    /// Bytes reserved.
    pub(in crate::model) fn bytes(&self) -> usize {
        self.shape.bytes(KvType::F16, self.blocks * KV_BLOCK_TOKENS)
    }

    /// Writes keys and values to the cache and computes attention of every token to its own sequence in one launch.
    /// `queries` and the result are `(total_tokens, heads * head_dim)`, `keys` and `values` `(total_tokens, kv_heads *
    /// head_dim)`.
    pub(in crate::model::backend) fn attend(
        &mut self,
        heads: Heads,
        plan: &DevicePlan,
        [queries, keys, values]: [&Tensor; 3],
    ) -> Result<Tensor, ModelError> {
        let Self { device, shape, blocks, layers } = self;
        if plan.blocks > *blocks {
            return Err(ModelError::step(format!(
                "a block table needs {} blocks, but the cache has {blocks}",
                plan.blocks
            )));
        }
        let KvShape { kv_heads, head_dim, .. } = *shape;
        let [cached_keys, cached_values] = &mut layers[heads.layer];
        let (stream, tokens) = (device.cuda_stream(), plan.slots.len());
        let (width, query_width) = (kv_heads * head_dim, heads.heads * head_dim);
        let (keys, values) =
            (LockedTensor::lock(keys, &[tokens, width])?, LockedTensor::lock(values, &[tokens, width])?);
        let (keys, values, row_width) = (keys.view::<f32>()?, values.view::<f32>()?, width as u32);
        let function = function(device, "store")?;
        let mut launch = stream.launch_builder(&function);
        launch.arg(&keys).arg(&values).arg(&plan.slots);
        launch.arg(&mut *cached_keys).arg(&mut *cached_values).arg(&row_width);
        // SAFETY: the row width matches the tensors, checked above; the slots lie within the blocks of the cache.
        unsafe { launch.launch(one_block_per_row(tokens)) }.map_err(Error::wrap)?;

        let queries = LockedTensor::lock(queries, &[tokens, query_width])?;
        let queries = queries.view::<f32>()?;
        // SAFETY: `attend` writes every element: each head of each token is a query row of one tile.
        let mut out = unsafe { device.alloc::<f32>(tokens * query_width) }?;
        let [query_heads, kv_heads, dim] = [heads.heads, kv_heads, head_dim].map(|n| n as u32);
        let scale = 1.0 / (heads.score_divisor as f32).sqrt();
        let window = heads.window.map_or(u32::MAX, |window| window as u32);
        let function = self::function(device, "attend")?;
        let mut launch = stream.launch_builder(&function);
        launch
            .arg(&queries)
            .arg(&*cached_keys)
            .arg(&*cached_values)
            .arg(&plan.tiles)
            .arg(&plan.table)
            .arg(&mut out);
        launch.arg(&query_heads).arg(&kv_heads).arg(&dim).arg(&scale).arg(&window);
        let config = LaunchConfig {
            grid_dim: ((plan.tiles.len() / TILE_WORDS) as u32, kv_heads, 1),
            block_dim: (WARPS as u32 * 32, 1, 1),
            shared_mem_bytes: shared_bytes(plan.tile_rows, head_dim) as u32,
        };
        // SAFETY: the plan was made for these heads; its tiles and tables lie within the batch and the cache, and the
        // shared memory is large enough for the largest tile.
        unsafe { launch.launch(config) }.map_err(Error::wrap)?;
        Ok(tensor(device, out, (tokens, query_width)))
    }
}

/// A contiguous tensor on the device, locked for reading.
struct LockedTensor<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> LockedTensor<'a> {
    /// Locks a tensor, whose shape must be `dims`.
    fn lock(tensor: &'a Tensor, dims: &[usize]) -> Result<Self, ModelError> {
        let (storage, layout) = tensor.storage_and_layout();
        match layout.contiguous_offsets() {
            Some((start, end)) if tensor.dims() == dims => Ok(Self { storage, range: start..end }),
            _ => Err(ModelError::step(format!("a contiguous tensor {dims:?} was expected, not {layout:?}"))),
        }
    }

    fn view<T: CudaDType>(&self) -> Result<CudaView<'_, T>, ModelError> {
        match &*self.storage {
            Storage::Cuda(storage) => Ok(storage.as_cuda_slice::<T>()?.slice(self.range.clone())),
            _ => Err(ModelError::step("a tensor is not on the device")),
        }
    }
}

/// Returns a launch configuration with one block per row.
fn one_block_per_row(rows: usize) -> LaunchConfig {
    LaunchConfig { grid_dim: (rows as u32, 1, 1), block_dim: (ROW_THREADS, 1, 1), shared_mem_bytes: 0 }
}

fn function(device: &CudaDevice, name: &str) -> Result<CudaFunction, ModelError> {
    Ok(device.get_or_load_custom_func(name, "yizhai_attention", ATTENTION)?.into_cuda_function())
}

/// Wraps device memory in a tensor.
fn tensor(device: &CudaDevice, values: CudaSlice<f32>, shape: (usize, usize)) -> Tensor {
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(values, device.clone()));
    Tensor::from_storage(storage, shape, BackpropOp::none(), false)
}
