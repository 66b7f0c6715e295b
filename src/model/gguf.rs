//! Reading of GGUF files: metadata, tensors, and the tokenizer that stands in them.
//!
//! Owns the memory map of the file. Called by the architectures of this module and by whoever needs the
//! tokenizer. Never keeps a second copy of the weights.

use std::{
    fs::File,
    io::Cursor,
    path::{Path, PathBuf},
};

use candle_core::{
    Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{Content, Value},
        tokenizer::TokenizerFromGguf,
    },
};
use memmap2::Mmap;
use tokenizers::Tokenizer;

use super::ModelError;
use crate::kernels::QuantType;

/// An open GGUF file.
pub struct GgufFile {
    path: PathBuf,
    content: Content,
    bytes: Mmap,
}

impl GgufFile {
    /// Maps the file and reads its header.
    ///
    /// # Errors
    /// When the file cannot be read, is no GGUF, or is shorter than its tensors.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let open_error = |source| ModelError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(open_error)?;
        #[allow(unsafe_code)]
        // SAFETY: the map is read-only and private. Model files are replaced by renaming, never written
        // in place, so the bytes under the map do not change while it lives.
        let bytes = unsafe { Mmap::map(&file) }.map_err(open_error)?;
        let content = Content::read(&mut Cursor::new(&bytes[..])).map_err(|e| corrupt(path, &e))?;
        let this = Self { path: path.to_owned(), content, bytes };
        this.check_length()?;
        Ok(this)
    }

    /// Refuses a file that ends before its last tensor does.
    fn check_length(&self) -> Result<(), ModelError> {
        for (name, info) in &self.content.tensor_infos {
            let blocks = info.shape.elem_count() / info.ggml_dtype.block_size();
            let size = (blocks as u64).saturating_mul(info.ggml_dtype.type_size() as u64);
            let start = self.content.tensor_data_offset.saturating_add(info.offset);
            let end = start.saturating_add(size);
            if end > self.bytes.len() as u64 {
                return Err(self
                    .corrupt(format!("tensor {name} ends at byte {end}, the file at {}", self.bytes.len())));
            }
        }
        Ok(())
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
        self.usize("tokenizer.ggml.eos_token_id").ok().and_then(|id| u32::try_from(id).ok())
    }

    /// Builds the tokenizer that stands in the file.
    ///
    /// # Errors
    /// When its kind is not supported.
    pub fn tokenizer(&self) -> Result<Tokenizer, ModelError> {
        Tokenizer::from_gguf(&self.content)
            .map_err(|e| self.unsupported(format!("its tokenizer: {}", one_line(&e))))
    }

    fn value(&self, key: &str) -> Result<&Value, ModelError> {
        self.content.metadata.get(key).ok_or_else(|| self.corrupt(format!("metadata {key} is missing")))
    }

    fn string(&self, key: &str) -> Result<&str, ModelError> {
        let text =
            self.value(key)?.to_string().map_err(|_| self.corrupt(format!("metadata {key} is no text")))?;
        Ok(text)
    }

    /// A whole number of the metadata.
    pub(super) fn usize(&self, key: &str) -> Result<usize, ModelError> {
        let value = self.value(key)?;
        value
            .to_u64()
            .or_else(|_| value.to_i32().map(|v| v.max(0) as u64))
            .ok()
            .and_then(|v| usize::try_from(v).ok())
            .ok_or_else(|| self.corrupt(format!("metadata {key} is no whole number")))
    }

    /// A fraction of the metadata.
    pub(super) fn f32(&self, key: &str) -> Result<f32, ModelError> {
        self.value(key)?.to_f32().map_err(|_| self.corrupt(format!("metadata {key} is no number")))
    }

    /// Number of tokens in the vocabulary.
    pub(super) fn vocab_size(&self) -> Result<usize, ModelError> {
        let tokens = self.value("tokenizer.ggml.tokens")?.to_vec();
        Ok(tokens.map_err(|_| self.corrupt("metadata tokenizer.ggml.tokens is no list".to_owned()))?.len())
    }

    /// Whether a tensor of this name stands in the file.
    pub(super) fn has_tensor(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// A tensor in its quantized form; its shape must be `shape`.
    pub(super) fn qtensor(
        &self,
        name: &str,
        shape: &[usize],
        device: &Device,
    ) -> Result<QTensor, ModelError> {
        let tensor = self
            .content
            .tensor(&mut Cursor::new(&self.bytes[..]), name, device)
            .map_err(|e| self.corrupt(format!("tensor {name}: {}", one_line(&e))))?;
        if tensor.shape().dims() != shape {
            let found = tensor.shape().dims();
            return Err(self.corrupt(format!("tensor {name} has the shape {found:?}, expected {shape:?}")));
        }
        Ok(tensor)
    }

    /// A tensor as f32; its shape must be `shape`.
    pub(super) fn tensor(&self, name: &str, shape: &[usize], device: &Device) -> Result<Tensor, ModelError> {
        Ok(self.qtensor(name, shape, device)?.dequantize(device)?)
    }

    /// The type and the bytes of a tensor as they stand in the file; its shape must be `shape`.
    pub(super) fn tensor_bytes(&self, name: &str, shape: &[usize]) -> Result<(QuantType, &[u8]), ModelError> {
        let info = self
            .content
            .tensor_infos
            .get(name)
            .ok_or_else(|| self.corrupt(format!("tensor {name} is missing")))?;
        if info.shape.dims() != shape {
            let found = info.shape.dims();
            return Err(self.corrupt(format!("tensor {name} has the shape {found:?}, expected {shape:?}")));
        }
        let quant_type = quant_type(info.ggml_dtype)
            .ok_or_else(|| self.unsupported(format!("tensor {name} is of the type {:?}", info.ggml_dtype)))?;
        // The end was checked against the file when it was opened.
        let start = (self.content.tensor_data_offset + info.offset) as usize;
        let blocks = info.shape.elem_count() / info.ggml_dtype.block_size();
        Ok((quant_type, &self.bytes[start..start + blocks * info.ggml_dtype.type_size()]))
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

fn corrupt(path: &Path, error: &candle_core::Error) -> ModelError {
    ModelError::Corrupt { path: path.to_owned(), detail: one_line(error) }
}

/// The first line of an error: candle appends backtraces to its messages.
fn one_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().trim().to_owned()
}

/// The kernels' name of a tensor type; `None` for types that they do not know.
fn quant_type(dtype: GgmlDType) -> Option<QuantType> {
    Some(match dtype {
        GgmlDType::F32 => QuantType::F32,
        GgmlDType::F16 => QuantType::F16,
        GgmlDType::BF16 => QuantType::BF16,
        GgmlDType::Q4_0 => QuantType::Q4_0,
        GgmlDType::Q4_1 => QuantType::Q4_1,
        GgmlDType::Q5_0 => QuantType::Q5_0,
        GgmlDType::Q5_1 => QuantType::Q5_1,
        GgmlDType::Q8_0 => QuantType::Q8_0,
        GgmlDType::Q4K => QuantType::Q4_K,
        GgmlDType::Q5K => QuantType::Q5_K,
        GgmlDType::Q6K => QuantType::Q6_K,
        _ => return None,
    })
}
