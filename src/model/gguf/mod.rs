//! Reading of GGUF files: metadata, tensors, and the tokenizer that stands in them.
//!
//! Owns the memory map of the file. Called by the architectures of this module and by whoever needs the
//! tokenizer. Never keeps a second copy of the weights.

mod header;
mod vocabulary;

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

use super::{ModelError, one_line};
use crate::kernels::QuantType;
use header::{Header, HeaderError, TensorInfo, Value};

/// The largest size that a file may state (layers, heads, features, positions): far above any model's, and small enough
/// that two of them can be multiplied.
const MAX_SIZE: usize = 1 << 24;

/// An open GGUF file.
pub struct GgufFile {
    path: PathBuf,
    header: Header,
    bytes: Mmap,
}

impl GgufFile {
    /// Maps the file and reads its header.
    ///
    /// # Errors
    /// When the file cannot be read, is no GGUF, is shorter than its tensors, or its header contradicts itself.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let open_error = |source| ModelError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(open_error)?;
        #[allow(unsafe_code)]
        // SAFETY: the map is read-only and private. Model files are replaced by renaming, never written
        // in place, so the bytes under the map do not change while it lives.
        let bytes = unsafe { Mmap::map(&file) }.map_err(open_error)?;
        let header = Header::read(&bytes).map_err(|error| match error {
            HeaderError::Corrupt(detail) => ModelError::Corrupt { path: path.to_owned(), detail },
            HeaderError::Unsupported(detail) => ModelError::Unsupported { path: path.to_owned(), detail },
        })?;
        Ok(Self { path: path.to_owned(), header, bytes })
    }

    /// The path that it was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The architecture, as GGUF names it.
    ///
    /// # Errors
    /// When the file does not say.
    pub fn architecture(&self) -> Result<&str, ModelError> {
        self.string("general.architecture")
    }

    /// The chat template of the file, if it has one.
    pub fn chat_template(&self) -> Option<&str> {
        self.string("tokenizer.chat_template").ok()
    }

    /// The id of the token that ends an answer, if the file says.
    pub fn eos_token_id(&self) -> Option<u32> {
        self.token_id("tokenizer.ggml.eos_token_id")
    }

    /// The tokenizer that stands in the file.
    ///
    /// # Errors
    /// When its kind is not known, or its parts do not fit together.
    pub fn tokenizer(&self) -> Result<tokenizers::Tokenizer, ModelError> {
        vocabulary::tokenizer(self)
    }

    fn value(&self, key: &str) -> Result<&Value, ModelError> {
        self.header.metadata.get(key).ok_or_else(|| self.corrupt(format!("metadata {key} is missing")))
    }

    /// Whether the metadata has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.header.metadata.contains_key(key)
    }

    /// A text of the metadata.
    pub(super) fn string(&self, key: &str) -> Result<&str, ModelError> {
        let Value::Text(range) = self.value(key)? else {
            return Err(self.corrupt(format!("metadata {key} is no text")));
        };
        std::str::from_utf8(&self.bytes[range.clone()])
            .map_err(|_| self.corrupt(format!("metadata {key} is no UTF-8")))
    }

    /// A whole number of the metadata that is not below zero.
    fn whole(&self, key: &str) -> Result<u64, ModelError> {
        match *self.value(key)? {
            Value::Unsigned(n) => Some(n),
            Value::Signed(n) => u64::try_from(n).ok(),
            _ => None,
        }
        .ok_or_else(|| self.corrupt(format!("metadata {key} is no whole number")))
    }

    /// A size of the metadata (a number of layers, heads, features or positions): at least 1.
    pub(super) fn size(&self, key: &str) -> Result<usize, ModelError> {
        let size = self.whole(key)?;
        usize::try_from(size)
            .ok()
            .filter(|size| (1..=MAX_SIZE).contains(size))
            .ok_or_else(|| self.corrupt(format!("metadata {key} is {size}, not 1 to {MAX_SIZE}")))
    }

    /// A token id of the metadata, if there is one.
    pub(super) fn token_id(&self, key: &str) -> Option<u32> {
        self.whole(key).ok().and_then(|id| u32::try_from(id).ok())
    }

    /// A positive finite number of the metadata.
    pub(super) fn f32(&self, key: &str) -> Result<f32, ModelError> {
        let Value::Float(value) = *self.value(key)? else {
            return Err(self.corrupt(format!("metadata {key} is no number")));
        };
        let value = value as f32;
        if value > 0.0 && value.is_finite() {
            Ok(value)
        } else {
            Err(self.corrupt(format!("metadata {key} is {value}, which is not above 0")))
        }
    }

    /// A truth value of the metadata, if there is one.
    pub(super) fn bool(&self, key: &str) -> Option<bool> {
        match self.header.metadata.get(key) {
            Some(Value::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    /// A list of texts of the metadata.
    fn texts(&self, key: &str) -> Result<Vec<Cow<'_, str>>, ModelError> {
        header::texts(&self.bytes, self.value(key)?)
            .ok_or_else(|| self.corrupt(format!("metadata {key} is no list of texts")))
    }

    /// A list of numbers of the metadata.
    fn numbers(&self, key: &str) -> Result<Vec<f64>, ModelError> {
        header::numbers(&self.bytes, self.value(key)?)
            .ok_or_else(|| self.corrupt(format!("metadata {key} is no list of numbers")))
    }

    /// Number of tokens in the vocabulary, at least 1.
    pub(super) fn vocab_size(&self) -> Result<usize, ModelError> {
        const KEY: &str = "tokenizer.ggml.tokens";
        match *self.value(KEY)? {
            Value::List { count, .. } if (1..=MAX_SIZE).contains(&count) => Ok(count),
            Value::List { count, .. } => Err(self.corrupt(format!("metadata {KEY} has {count} elements"))),
            _ => Err(self.corrupt(format!("metadata {KEY} is no list"))),
        }
    }

    /// Whether a tensor of this name stands in the file.
    pub(super) fn has_tensor(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    /// A tensor; its shape must be `shape`.
    fn tensor_info(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo, ModelError> {
        let info =
            self.header.tensors.get(name).ok_or_else(|| self.corrupt(format!("tensor {name} is missing")))?;
        if info.shape != shape {
            let found = &info.shape;
            return Err(self.corrupt(format!("tensor {name} has the shape {found:?}, expected {shape:?}")));
        }
        Ok(info)
    }

    /// The type and the bytes of a tensor as they stand in the file; its shape must be `shape`.
    pub(super) fn tensor_bytes(&self, name: &str, shape: &[usize]) -> Result<(QuantType, &[u8]), ModelError> {
        let info = self.tensor_info(name, shape)?;
        Ok((info.quant_type, &self.bytes[info.bytes.clone()]))
    }

    /// A tensor in its quantized form; its shape must be `shape`.
    pub(super) fn qtensor(
        &self,
        name: &str,
        shape: &[usize],
        device: &Device,
    ) -> Result<QTensor, ModelError> {
        let (quant_type, bytes) = self.tensor_bytes(name, shape)?;
        qtensor_from_ggml(dtype(quant_type), bytes, shape.to_vec(), device)
            .map_err(|e| self.corrupt(format!("tensor {name}: {}", one_line(&e))))
    }

    /// A tensor as f32; its shape must be `shape`.
    pub(super) fn tensor(&self, name: &str, shape: &[usize], device: &Device) -> Result<Tensor, ModelError> {
        Ok(self.qtensor(name, shape, device)?.dequantize(device)?)
    }

    /// Lets the system take back the memory behind bytes of this file that are not needed any more; they
    /// are read again from the file if they are touched.
    pub(super) fn release(&self, bytes: &[u8]) {
        #[cfg(unix)]
        {
            let offset = bytes.as_ptr() as usize - self.bytes.as_ptr() as usize;
            #[allow(unsafe_code)]
            // SAFETY: the map is private, read-only and backed by the file, so dropped pages come back
            // with the same content. The range lies within the map because `bytes` is a part of it.
            let advised = unsafe {
                self.bytes.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, bytes.len())
            };
            if let Err(error) = advised {
                tracing::debug!(%error, "the pages of a tensor could not be released");
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

/// candle's name of a tensor type.
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
