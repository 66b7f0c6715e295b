//! Launches the sampling kernel and keeps the masks on the device.

#![allow(unsafe_code)] // a kernel launch: the kernel relies on the sizes that it is passed

use candle_core::{
    Error, Storage, Tensor,
    cuda::cudarc::driver::{CudaSlice, LaunchConfig, PushKernelArg as _},
};

use super::{CHOICE_WORDS, ChoiceRequest, UploadedMasks, decode_results};
use crate::{engine::sampler::SampledToken, kernels::cuda::CHOOSE};

/// Threads per row of logits.
const THREADS: u32 = 512;

/// Samples tokens on a GPU.
#[derive(Default)]
pub(in crate::engine) struct TokenChooser {
    masks: UploadedMasks,
    bits: Option<CudaSlice<u32>>,
}

impl TokenChooser {
    /// Samples a token from each row of `logits` `(rows, vocab_size)`, which are on a GPU. Blocks until it is done.
    ///
    /// # Errors
    /// If the logits contain NaN, no token is allowed, a given token is out of range, or the device fails.
    pub(in crate::engine) fn choose(
        &mut self,
        logits: &Tensor,
        requests: &[ChoiceRequest<'_>],
    ) -> Result<Vec<SampledToken>, Error> {
        let (rows, vocab) = logits.dims2()?;
        if rows != requests.len() {
            return Err(Error::msg(format!("{rows} rows of logits for {} requests", requests.len())));
        }
        if let Some(token) =
            requests.iter().filter_map(|request| request.given).find(|token| *token as usize >= vocab)
        {
            return Err(Error::msg(format!("token {token} is out of range")));
        }
        let logits = logits.contiguous()?;
        let (storage, layout) = logits.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            return Err(Error::msg("the logits are not on the device"));
        };
        let device = storage.device.clone();
        let is_new = self.masks.update(requests);
        let bits = match self.bits.take() {
            Some(bits) if !is_new => bits,
            _ => {
                let bits = self.masks.to_bits(vocab);
                // The kernel reads nothing without masks, but an empty array has no address.
                device.clone_htod(if bits.is_empty() { &[0][..] } else { &bits })?
            }
        };
        let bits = self.bits.insert(bits);
        let words: Vec<u32> = requests.iter().flat_map(|request| request.to_words(&self.masks)).collect();
        let words = device.clone_htod(&words)?;
        let values = storage.as_cuda_slice::<f32>()?.slice(layout.start_offset()..);
        let mut out = device.alloc_zeros::<u32>(rows * CHOICE_WORDS)?;
        let function =
            device.get_or_load_custom_func("choose", "yizhai_choose", CHOOSE)?.into_cuda_function();
        let (stream, vocab) = (device.cuda_stream(), vocab as u32);
        let mut launch = stream.launch_builder(&function);
        launch.arg(&values).arg(&*bits).arg(&words).arg(&mut out).arg(&vocab);
        let config = LaunchConfig {
            grid_dim: (rows as u32, 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: THREADS * 4,
        };
        // SAFETY: one block per row; logits, requests and results have the same number of rows. Mask indices are within
        // the uploaded bits, and given tokens are within the vocabulary.
        unsafe { launch.launch(config) }.map_err(Error::wrap)?;
        decode_results(&device.clone_dtoh(&out)?)
    }
}
