//! GGUF files: metadata, tensors, and the embedded tokenizer.
//!
//! Owns the memory map of the file. Called by the decoder and its backends, and by `pipeline` for the tokenizer. Never
//! keeps a second copy of the weights.

mod header;
mod tokenizer;

use std::{
    borrow::Cow,
    fs::File,
    path::{Path, PathBuf},
};

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor, ggml_file::qtensor_from_ggml},
};
use memmap2::Mmap;

use super::{ModelError, error::first_line};
use crate::kernels::QuantType;
use header::{Header, HeaderError, MetadataValue, TensorInfo};

/// Maximum value of a size in the metadata (layers, heads, features, positions): far above any real model, and small
/// enough that the product of two does not overflow.
const MAX_SIZE: usize = 1 << 24;

/// An open GGUF file.
pub struct GgufFile {
    path: PathBuf,
    header: Header,
    bytes: Mmap,
}

impl GgufFile {
    /// Maps a file into memory and reads its header.
    ///
    /// # Errors
    /// If the file cannot be read, is not a GGUF file, is shorter than its tensors, or has an inconsistent header.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let open_error = |source| ModelError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(open_error)?;
        #[allow(unsafe_code)]
        // SAFETY: the map is read-only and private. Model files are replaced by renaming, never written in place, so
        // the mapped bytes do not change.
        let bytes = unsafe { Mmap::map(&file) }.map_err(open_error)?;
        let header = Header::read(&bytes).map_err(|error| match error {
            HeaderError::Corrupt(detail) => ModelError::Corrupt { path: path.to_owned(), detail },
            HeaderError::Unsupported(detail) => ModelError::Unsupported { path: path.to_owned(), detail },
        })?;
        Ok(Self { path: path.to_owned(), header, bytes })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the name of the architecture.
    ///
    /// # Errors
    /// If the metadata does not contain it.
    pub fn architecture(&self) -> Result<&str, ModelError> {
        self.string("general.architecture")
    }

    /// Returns the chat template, if the file has one.
    pub fn chat_template(&self) -> Option<&str> {
        self.string("tokenizer.chat_template").ok()
    }

    /// Returns the id of the token that ends a completion, if the file has one.
    pub fn eos_token_id(&self) -> Option<u32> {
        self.token_id("tokenizer.ggml.eos_token_id")
    }

    /// Builds the embedded tokenizer.
    ///
    /// # Errors
    /// If its type is not supported, or its parts are inconsistent.
    pub fn tokenizer(&self) -> Result<tokenizers::Tokenizer, ModelError> {
        tokenizer::tokenizer(self)
    }

    fn value(&self, key: &str) -> Result<&MetadataValue, ModelError> {
        self.header.metadata.get(key).ok_or_else(|| self.corrupt(format!("metadata {key} is missing")))
    }

    /// Returns `true` if the metadata contains this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.header.metadata.contains_key(key)
    }

    /// Returns a string of the metadata.
    pub(super) fn string(&self, key: &str) -> Result<&str, ModelError> {
        let MetadataValue::String(range) = self.value(key)? else {
            return Err(self.corrupt(format!("metadata {key} is not a string")));
        };
        std::str::from_utf8(&self.bytes[range.clone()])
            .map_err(|_| self.corrupt(format!("metadata {key} is not valid UTF-8")))
    }

    /// Returns a non-negative integer of the metadata.
    fn unsigned(&self, key: &str) -> Result<u64, ModelError> {
        match *self.value(key)? {
            MetadataValue::Unsigned(n) => Some(n),
            MetadataValue::Signed(n) => u64::try_from(n).ok(),
            _ => None,
        }
        .ok_or_else(|| self.corrupt(format!("metadata {key} is not a non-negative integer")))
    }

    /// Returns a size of the metadata (a number of layers, heads, features or positions), at least 1.
    pub(super) fn size(&self, key: &str) -> Result<usize, ModelError> {
        let size = self.unsigned(key)?;
        usize::try_from(size)
            .ok()
            .filter(|size| (1..=MAX_SIZE).contains(size))
            .ok_or_else(|| self.corrupt(format!("metadata {key} is {size}; expected 1 to {MAX_SIZE}")))
    }

    /// Returns a token id of the metadata, if it is present and valid.
    pub(super) fn token_id(&self, key: &str) -> Option<u32> {
        self.unsigned(key).ok().and_then(|id| u32::try_from(id).ok())
    }

    /// Returns a positive finite number of the metadata.
    pub(super) fn f32(&self, key: &str) -> Result<f32, ModelError> {
        let MetadataValue::Float(value) = *self.value(key)? else {
            return Err(self.corrupt(format!("metadata {key} is not a float")));
        };
        let value = value as f32;
        if value > 0.0 && value.is_finite() {
            Ok(value)
        } else {
            Err(self.corrupt(format!("metadata {key} is {value}; expected a positive number")))
        }
    }

    /// Returns a boolean of the metadata, if it is present.
    pub(super) fn bool(&self, key: &str) -> Option<bool> {
        match self.header.metadata.get(key) {
            Some(MetadataValue::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    /// Returns a list of strings of the metadata.
    fn strings(&self, key: &str) -> Result<Vec<Cow<'_, str>>, ModelError> {
        header::strings(&self.bytes, self.value(key)?)
            .ok_or_else(|| self.corrupt(format!("metadata {key} is not a list of strings")))
    }

    /// Returns a list of numbers of the metadata.
    fn numbers(&self, key: &str) -> Result<Vec<f64>, ModelError> {
        header::numbers(&self.bytes, self.value(key)?)
            .ok_or_else(|| self.corrupt(format!("metadata {key} is not a list of numbers")))
    }

    /// Returns the number of tokens in the vocabulary, at least 1.
    pub(super) fn vocab_size(&self) -> Result<usize, ModelError> {
        const KEY: &str = "tokenizer.ggml.tokens";
        match *self.value(KEY)? {
            MetadataValue::List { count, .. } if (1..=MAX_SIZE).contains(&count) => Ok(count),
            MetadataValue::List { count, .. } => {
                Err(self.corrupt(format!("metadata {KEY} has {count} elements")))
            }
            _ => Err(self.corrupt(format!("metadata {KEY} is not a list"))),
        }
    }

    /// Returns `true` if the file contains a tensor of this name.
    pub(super) fn has_tensor(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    /// Returns the names of all tensors, in arbitrary order.
    pub(super) fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
    }

    /// Returns the shape of a tensor, the outermost dimension first, if the file contains it.
    pub(super) fn tensor_shape(&self, name: &str) -> Option<&[usize]> {
        self.header.tensors.get(name).map(|info| info.shape.as_slice())
    }

    /// Returns the entry of a tensor, whose shape must be `shape`.
    fn tensor_info(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo, ModelError> {
        let info =
            self.header.tensors.get(name).ok_or_else(|| self.corrupt(format!("tensor {name} is missing")))?;
        if info.shape != shape {
            let found = &info.shape;
            return Err(self.corrupt(format!("tensor {name} has the shape {found:?}; expected {shape:?}")));
        }
        Ok(info)
    }

    /// Returns the type and the raw bytes of a tensor, whose shape must be `shape`.
    pub(super) fn tensor_bytes(&self, name: &str, shape: &[usize]) -> Result<(QuantType, &[u8]), ModelError> {
        let info = self.tensor_info(name, shape)?;
        Ok((info.quant_type, &self.bytes[info.bytes.clone()]))
    }

    /// Loads a tensor in its quantized form; its shape must be `shape`.
    pub(super) fn qtensor(
        &self,
        name: &str,
        shape: &[usize],
        device: &Device,
    ) -> Result<QTensor, ModelError> {
        let (quant_type, bytes) = self.tensor_bytes(name, shape)?;
        qtensor_from_ggml(dtype(quant_type), bytes, shape.to_vec(), device)
            .map_err(|e| self.corrupt(format!("tensor {name}: {}", first_line(&e))))
    }

    /// Loads a tensor as f32; its shape must be `shape`.
    pub(super) fn tensor(&self, name: &str, shape: &[usize], device: &Device) -> Result<Tensor, ModelError> {
        Ok(self.qtensor(name, shape, device)?.dequantize(device)?)
    }

    /// Lets the operating system reclaim the pages of bytes that are no longer needed; an access reads them from the
    /// file again.
    pub(super) fn release(&self, bytes: &[u8]) {
        #[cfg(unix)]
        {
            let offset = bytes.as_ptr() as usize - self.bytes.as_ptr() as usize;
            #[allow(unsafe_code)]
            // SAFETY: the map is private, read-only and backed by the file, so dropped pages are reloaded with the same
            // contents. The range lies within the map because `bytes` is a part of it.
            let advised = unsafe {
                self.bytes.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, bytes.len())
            };
            if let Err(error) = advised {
                tracing::debug!(%error, "could not release the pages of a tensor");
            }
        }
    }

    pub(super) fn corrupt(&self, detail: String) -> ModelError {
        ModelError::Corrupt { path: self.path.clone(), detail }
    }

    pub(super) fn unsupported(&self, detail: String) -> ModelError {
        ModelError::Unsupported { path: self.path.clone(), detail }
    }
}

/// Converts a tensor type to candle's.
fn dtype(quant_type: QuantType) -> GgmlDType {
    match quant_type {
        QuantType::F32 => GgmlDType::F32,
        QuantType::F16 => GgmlDType::F16,
        QuantType::BF16 => GgmlDType::BF16,
        QuantType::Q4_0 => GgmlDType::Q4_0,
        QuantType::Q4_1 => GgmlDType::Q4_1,
        QuantType::Q5_0 => GgmlDType::Q5_0,
        QuantType::Q5_1 => GgmlDType::Q5_1,
        QuantType::Q8_0 => GgmlDType::Q8_0,
        QuantType::Q4_K => GgmlDType::Q4K,
        QuantType::Q5_K => GgmlDType::Q5K,
        QuantType::Q6_K => GgmlDType::Q6K,
    }
}
