//! The launch, and the masks on the device.

#![allow(unsafe_code)] // a launch: the kernel believes the sizes that it is told

use candle_core::{
    Error, Storage, Tensor,
    cuda::cudarc::driver::{CudaSlice, LaunchConfig, PushKernelArg as _},
};

use super::{CHOICE_WORDS, Masks, Wanted, choices};
use crate::{engine::sampler::Choice, kernels::cuda::CHOOSE};

/// Threads that go through a row of logits together.
const THREADS: u32 = 512;

/// Chooses tokens on a GPU.
#[derive(Default)]
pub(in crate::engine) struct Chooser {
    masks: Masks,
    bits: Option<CudaSlice<u32>>,
}

impl Chooser {
    /// Chooses a token out of each row of `logits` `(rows, vocab_size)`, which lie on a GPU. Waits for it.
    ///
    /// # Errors
    /// When the logits are no numbers, no token is allowed, there is no such token as is given, or the device fails.
    pub(in crate::engine) fn choose(
        &mut self,
        logits: &Tensor,
        wanted: &[Wanted<'_>],
    ) -> Result<Vec<Choice>, Error> {
        let (rows, vocab) = logits.dims2()?;
        if rows != wanted.len() {
            return Err(Error::msg(format!("{rows} rows of logits, of which {} are wanted", wanted.len())));
        }
        if let Some(token) =
            wanted.iter().filter_map(|wanted| wanted.given).find(|token| *token as usize >= vocab)
        {
            return Err(Error::msg(format!("there is no token {token}")));
        }
        let logits = logits.contiguous()?;
        let (storage, layout) = logits.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            return Err(Error::msg("the logits are not on the device"));
        };
        let device = storage.device.clone();
        let is_new = self.masks.learn(wanted);
        let bits = match self.bits.take() {
            Some(bits) if !is_new => bits,
            _ => {
                let bits = self.masks.bits(vocab);
                // Without masks the kernel reads none, but an empty array has no address.
                device.clone_htod(if bits.is_empty() { &[0][..] } else { &bits })?
            }
        };
        let bits = self.bits.insert(bits);
        let words: Vec<u32> = wanted.iter().flat_map(|wanted| wanted.words(&self.masks)).collect();
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
        // SAFETY: a block a row, of which there are as many as rows of logits, of wishes and of answers; masks are known
        // by their index among the bits, and given tokens are within the vocabulary.
        unsafe { launch.launch(config) }.map_err(Error::wrap)?;
        choices(&device.clone_dtoh(&out)?)
    }
}
