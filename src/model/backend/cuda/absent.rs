//! Stand-ins for the GPU types in a build without CUDA: uninhabited types, so that callers need no conditional code.

use candle_core::{Device, Tensor};

use crate::model::{
    Batch, KvShape, ModelError,
    backend::{Heads, candle::Angles},
};

/// A GPU.
pub(in crate::model::backend) enum Gpu {}

/// The layout of a batch on a GPU.
pub(in crate::model::backend) enum DevicePlan {}

/// The KV cache on a GPU.
pub enum CudaKv {}

impl Gpu {
    pub(in crate::model::backend) fn of(_device: &Device) -> Option<Self> {
        None
    }

    pub(in crate::model::backend) fn available_kv_tokens(
        &self,
        _shape: KvShape,
    ) -> Result<usize, ModelError> {
        match *self {}
    }

    pub(in crate::model::backend) fn cache(
        &self,
        _shape: KvShape,
        _blocks: usize,
    ) -> Result<CudaKv, ModelError> {
        match *self {}
    }

    pub(in crate::model::backend) fn plan(
        &self,
        _heads: Heads,
        _batch: &Batch,
    ) -> Result<DevicePlan, ModelError> {
        match *self {}
    }

    pub(in crate::model::backend) fn rotate(
        &self,
        _x: &Tensor,
        _rope: &Angles,
        _positions: &Tensor,
    ) -> Result<Tensor, ModelError> {
        match *self {}
    }
}

impl CudaKv {
    pub(in crate::model) fn bytes(&self) -> usize {
        match *self {}
    }

    pub(in crate::model::backend) fn attend(
        &mut self,
        _heads: Heads,
        _plan: &DevicePlan,
        _qkv: [&Tensor; 3],
    ) -> Result<Tensor, ModelError> {
        match *self {}
    }
}
