//! The error type of this module.

use std::path::PathBuf;

/// An error while a model is loaded or run. Every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file could not be opened or mapped.
    #[error("cannot read the model file {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is not GGUF, is truncated, or lacks a tensor.
    #[error(
        "the model file {path} is corrupt or not a GGUF file ({detail}); pull it again with `yizhai models pull`, \
         or check it with `yizhai models verify`"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The reason, with the key or tensor.
        detail: String,
    },
    /// The directory of an encoder-decoder model cannot be used.
    #[error("the model directory {path} cannot be used: {detail}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The reason, with the file and the setting or tensor.
        detail: String,
    },
    /// An adapter cannot be used, or not with this model.
    #[error("the adapter {path} cannot be used: {detail}")]
    Adapter {
        /// The file.
        path: PathBuf,
        /// The reason, with the key or tensor.
        detail: String,
    },
    /// The file is valid, but this program does not support it.
    #[error("the model file {path} is not supported: {detail}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The unsupported feature.
        detail: String,
    },
    /// The device is missing, or this build does not support it.
    #[error("{name} cannot be used: {detail}")]
    Device {
        /// The device.
        name: String,
        /// The reason.
        detail: String,
    },
    /// The KV cache could not be allocated.
    #[error("cannot allocate the KV cache: {0}")]
    Cache(#[from] crate::kernels::KernelError),
    /// A step failed.
    #[error("the model failed: {0}")]
    Compute(#[from] candle_core::Error),
}

impl ModelError {
    /// Creates the error of a step with invalid input.
    pub(crate) fn step(detail: impl Into<String>) -> Self {
        Self::Compute(candle_core::Error::msg(detail.into()))
    }
}

/// Returns the first line of an error, because candle appends backtraces to its messages.
pub(super) fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().trim().to_owned()
}
