//! Reads the elements of a GGUF header one after another: numbers, strings, metadata values and tensor declarations.
//!
//! Called by [`super::Header`]. Every read is checked against the end of the file; nothing is copied except names.

use std::ops::Range;

use super::{HeaderError, corrupt};
use crate::kernels::QuantType;

/// Maximum length of the name of a key or tensor, in bytes. The format allows 65,535 for keys and 64 for tensors.
const MAX_NAME_BYTES: usize = 65_535;
/// Maximum number of dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;
/// Maximum size of a dimension, larger than any real one and small enough that sizes do not overflow unnoticed.
const MAX_DIMENSION: usize = 1 << 40;
/// The type id of lists.
const LIST: u32 = 9;

/// A metadata value. Strings and lists are ranges of the file.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum MetadataValue {
    /// A value of any unsigned type.
    Unsigned(u64),
    /// A value of any signed type.
    Signed(i64),
    /// A value of either float type.
    Float(f64),
    Bool(bool),
    /// The bytes of a string.
    String(Range<usize>),
    /// `count` consecutive elements of one type.
    List {
        element: ScalarType,
        count: usize,
        bytes: Range<usize>,
    },
}

/// The type of a value that is not a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum ScalarType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    U64,
    I64,
    F64,
}

impl ScalarType {
    /// Returns the type with this id; `None` for lists and unknown types.
    fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::String,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// Returns the size of a value in bytes; `None` for strings, whose lengths vary.
    fn bytes(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String => None,
        }
    }
}

/// A tensor as the header declares it.
pub(super) struct TensorDeclaration {
    pub(super) name: String,
    pub(super) quant_type: QuantType,
    /// The outermost dimension first.
    pub(super) shape: Vec<usize>,
    /// Relative to the start of the tensor data.
    pub(super) offset: u64,
}

/// A read position in the file. Parameters named `what` describe the element for error messages.
pub(super) struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Creates a cursor at the start of a file.
    pub(super) fn new(file: &'a [u8]) -> Self {
        Self { file, at: 0 }
    }

    /// Creates a cursor at a position in a file.
    pub(super) fn at(file: &'a [u8], at: usize) -> Self {
        Self { file, at }
    }

    /// Returns the current position.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Reads `len` bytes.
    pub(super) fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], HeaderError> {
        let rest = &self.file[self.at..];
        match rest.get(..len) {
            Some(bytes) => {
                self.at += len;
                Ok(bytes)
            }
            None => corrupt(format!(
                "{what} is truncated: expected {len} bytes, but only {} are left",
                rest.len()
            )),
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], HeaderError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, what)?);
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, HeaderError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, HeaderError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Reads a count or length.
    fn length(&mut self, what: &str) -> Result<usize, HeaderError> {
        let length = self.u64(what)?;
        usize::try_from(length).or_else(|_| corrupt(format!("{what} has the impossible length {length}")))
    }

    /// Reads a string, a length followed by bytes, and returns the range of its bytes.
    pub(super) fn string(&mut self, what: &str) -> Result<Range<usize>, HeaderError> {
        let len = self.length(what)?;
        self.take(len, what)?;
        Ok(self.at - len..self.at)
    }

    /// Reads the name of a key or tensor.
    pub(super) fn name(&mut self, what: &str) -> Result<String, HeaderError> {
        let range = self.string(what)?;
        if range.len() > MAX_NAME_BYTES {
            return corrupt(format!("{what} has a name of {} bytes", range.len()));
        }
        match std::str::from_utf8(&self.file[range]) {
            Ok(name) => Ok(name.to_owned()),
            Err(_) => corrupt(format!("{what} has a name that is not UTF-8")),
        }
    }

    /// Reads a value, preceded by its type.
    pub(super) fn value(&mut self, what: &str) -> Result<MetadataValue, HeaderError> {
        let id = self.u32(what)?;
        match ScalarType::from_id(id) {
            Some(scalar) => self.scalar(scalar, what),
            None if id == LIST => self.list(what),
            None => corrupt(format!("{what} has the unknown type {id}")),
        }
    }

    /// Reads a value of a known type.
    pub(super) fn scalar(&mut self, scalar: ScalarType, what: &str) -> Result<MetadataValue, HeaderError> {
        Ok(match scalar {
            ScalarType::U8 => MetadataValue::Unsigned(u8::from_le_bytes(self.array(what)?).into()),
            ScalarType::U16 => MetadataValue::Unsigned(u16::from_le_bytes(self.array(what)?).into()),
            ScalarType::U32 => MetadataValue::Unsigned(self.u32(what)?.into()),
            ScalarType::U64 => MetadataValue::Unsigned(self.u64(what)?),
            ScalarType::I8 => MetadataValue::Signed(i8::from_le_bytes(self.array(what)?).into()),
            ScalarType::I16 => MetadataValue::Signed(i16::from_le_bytes(self.array(what)?).into()),
            ScalarType::I32 => MetadataValue::Signed(i32::from_le_bytes(self.array(what)?).into()),
            ScalarType::I64 => MetadataValue::Signed(i64::from_le_bytes(self.array(what)?)),
            ScalarType::F32 => MetadataValue::Float(f32::from_le_bytes(self.array(what)?).into()),
            ScalarType::F64 => MetadataValue::Float(f64::from_le_bytes(self.array(what)?)),
            ScalarType::String => MetadataValue::String(self.string(what)?),
            ScalarType::Bool => match self.array(what)? {
                [0] => MetadataValue::Bool(false),
                [1] => MetadataValue::Bool(true),
                [other] => return corrupt(format!("{what} has the invalid boolean value {other}")),
            },
        })
    }

    fn list(&mut self, what: &str) -> Result<MetadataValue, HeaderError> {
        let id = self.u32(what)?;
        // The format allows nested lists, but no writer produces them and nothing here would use them.
        let Some(element) = ScalarType::from_id(id) else {
            return corrupt(format!("{what} is a list of the unsupported type {id}"));
        };
        let count = self.length(what)?;
        let start = self.at;
        match element.bytes() {
            Some(bytes) => {
                let Some(len) = count.checked_mul(bytes) else {
                    return corrupt(format!("{what} has {count} elements, more than any file can hold"));
                };
                self.take(len, what)?;
            }
            None => {
                for _ in 0..count {
                    self.string(what)?;
                }
            }
        }
        Ok(MetadataValue::List { element, count, bytes: start..self.at })
    }

    /// Reads the declaration of a tensor.
    pub(super) fn tensor(&mut self, what: &str) -> Result<TensorDeclaration, HeaderError> {
        let name = self.name(what)?;
        let what = format!("tensor {name}");
        let dimensions = self.u32(&what)?;
        if dimensions > MAX_DIMENSIONS {
            return corrupt(format!("{what} has {dimensions} dimensions"));
        }
        // The file lists the innermost dimension first.
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.length(&what)?);
        }
        shape.reverse();
        if shape.iter().any(|&d| d == 0 || d > MAX_DIMENSION) {
            return corrupt(format!("{what} has the impossible shape {shape:?}"));
        }
        let id = self.u32(&what)?;
        let quant_type = QuantType::from_ggml(id)
            .map_err(|_| HeaderError::Unsupported(format!("{what} has the unsupported ggml type {id}")))?;
        Ok(TensorDeclaration { name, quant_type, shape, offset: self.u64(&what)? })
    }
}
