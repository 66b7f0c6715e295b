//! The header of a GGUF file: its metadata and the locations of its tensors.
//!
//! Called by [`super::GgufFile`]; never sees a path or a weight. The file is not trusted: this reader allocates memory
//! for names only and leaves values in the bytes of the file until they are requested, so no count or length in a
//! header can make it allocate much.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little-endian.

mod cursor;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::HashMap, ops::Range};

use crate::kernels::QuantType;
pub(super) use cursor::MetadataValue;
use cursor::{Cursor, ScalarType, TensorDeclaration};

/// The default alignment of tensors, in bytes.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Accepted alignments, in bytes: the smallest one allows reading floats in place, the largest one is beyond any real
/// file.
const ALIGNMENTS: std::ops::RangeInclusive<u64> = 8..=1 << 20;

/// Why a header was rejected, with the name of the key, tensor or field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// It violates the format.
    Corrupt(String),
    /// It may be valid, but this reader does not support it.
    Unsupported(String),
}

fn corrupt<T>(detail: impl Into<String>) -> Result<T, HeaderError> {
    Err(HeaderError::Corrupt(detail.into()))
}

/// The type, shape and location of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorInfo {
    /// Its type.
    pub(super) quant_type: QuantType,
    /// Its dimensions, the outermost first: `(rows, columns)` for a matrix. None is zero.
    pub(super) shape: Vec<usize>,
    /// Its bytes, which lie within the file.
    pub(super) bytes: Range<usize>,
}

/// A parsed header. All ranges lie within the file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: HashMap<String, MetadataValue>,
    pub(super) tensors: HashMap<String, TensorInfo>,
}

impl Header {
    /// Parses the header at the start of `file`, the bytes of the whole file.
    ///
    /// # Errors
    /// If any part is malformed, outside the file, or duplicated.
    pub(super) fn read(file: &[u8]) -> Result<Self, HeaderError> {
        let mut cursor = Cursor::new(file);
        if cursor.take(4, "the magic number")? != b"GGUF" {
            return corrupt("it does not begin with GGUF");
        }
        match cursor.u32("the version")? {
            2 | 3 => {}
            version => {
                return Err(HeaderError::Unsupported(format!(
                    "GGUF version {version}; supported: little-endian files of versions 2 and 3"
                )));
            }
        }
        let tensor_count = cursor.u64("the number of tensors")?;
        let metadata_count = cursor.u64("the number of metadata entries")?;
        // The loops stop at the end of the file, whatever the counts are, and reserve no memory for them.
        let mut metadata = HashMap::new();
        for index in 0..metadata_count {
            let key = cursor.name(&format!("metadata entry {index} of {metadata_count}"))?;
            let value = cursor.value(&format!("metadata {key}"))?;
            if metadata.insert(key.clone(), value).is_some() {
                return corrupt(format!("metadata {key} is duplicated"));
            }
        }
        let mut declarations = Vec::new();
        for index in 0..tensor_count {
            declarations.push(cursor.tensor(&format!("tensor {index} of {tensor_count}"))?);
        }
        let alignment = alignment(&metadata)?;
        let data_start = (cursor.position() as u64).next_multiple_of(alignment);
        let mut tensors = HashMap::new();
        for tensor in declarations {
            let info = locate(&tensor, data_start, alignment, file.len())?;
            if tensors.insert(tensor.name.clone(), info).is_some() {
                return corrupt(format!("tensor {} is duplicated", tensor.name));
            }
        }
        reject_overlaps(&tensors)?;
        Ok(Self { metadata, tensors })
    }
}

/// Returns the alignment of tensors, in bytes.
fn alignment(metadata: &HashMap<String, MetadataValue>) -> Result<u64, HeaderError> {
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&MetadataValue::Unsigned(n)) if n.is_power_of_two() && ALIGNMENTS.contains(&n) => Ok(n),
        Some(_) => corrupt("metadata general.alignment is not a power of two of at least 8"),
    }
}

/// Rejects tensors that share bytes, which no writer produces.
fn reject_overlaps(tensors: &HashMap<String, TensorInfo>) -> Result<(), HeaderError> {
    let mut ranges: Vec<_> = tensors.iter().map(|(name, info)| (info.bytes.clone(), name)).collect();
    ranges.sort_unstable_by_key(|(bytes, _)| bytes.start);
    for pair in ranges.windows(2) {
        let [(before, first), (after, second)] = pair else { continue };
        if after.start < before.end {
            return corrupt(format!("tensor {second} starts inside tensor {first}"));
        }
    }
    Ok(())
}

/// Computes the bytes of a tensor in a file of `file_len` bytes.
fn locate(
    tensor: &TensorDeclaration,
    data_start: u64,
    alignment: u64,
    file_len: usize,
) -> Result<TensorInfo, HeaderError> {
    let TensorDeclaration { name, quant_type, shape, offset } = tensor;
    if !offset.is_multiple_of(alignment) {
        return corrupt(format!("tensor {name} has the offset {offset}, not a multiple of {alignment}"));
    }
    let columns = shape.last().copied().unwrap_or(1);
    let rows = shape[..shape.len().saturating_sub(1)].iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let row_bytes = quant_type.row_bytes(columns).map_err(|e| {
        HeaderError::Corrupt(format!("tensor {name} of the type {quant_type:?} and shape {shape:?}: {e}"))
    })?;
    let bytes = rows.and_then(|rows| rows.checked_mul(row_bytes)).map(|bytes| bytes as u64);
    let start = data_start.checked_add(*offset);
    let end = start.zip(bytes).and_then(|(start, bytes)| start.checked_add(bytes));
    match (start, end) {
        (Some(start), Some(end)) if end <= file_len as u64 => Ok(TensorInfo {
            quant_type: *quant_type,
            shape: shape.clone(),
            bytes: start as usize..end as usize,
        }),
        (_, Some(end)) => {
            corrupt(format!("tensor {name} ends at byte {end}, but the file ends at byte {file_len}"))
        }
        _ => corrupt(format!(
            "tensor {name} of the shape {shape:?} at offset {offset} is larger than any file"
        )),
    }
}

/// Returns the strings of a list, with invalid UTF-8 replaced; `None` for a non-empty list of another type.
pub(super) fn strings<'a>(file: &'a [u8], value: &MetadataValue) -> Option<Vec<Cow<'a, str>>> {
    let MetadataValue::List { element, count, bytes } = value else { return None };
    if *count > 0 && *element != ScalarType::String {
        return None;
    }
    let mut cursor = Cursor::at(&file[..bytes.end], bytes.start);
    let string = |_| cursor.string("a string").ok().map(|range| String::from_utf8_lossy(&file[range]));
    (0..*count).map(string).collect()
}

/// Returns the numbers of a list of integers or floats; `None` for other lists.
pub(super) fn numbers(file: &[u8], value: &MetadataValue) -> Option<Vec<f64>> {
    let MetadataValue::List { element, count, bytes } = value else { return None };
    let mut cursor = Cursor::at(&file[..bytes.end], bytes.start);
    let number = |_| match cursor.scalar(*element, "a number").ok()? {
        MetadataValue::Unsigned(n) => Some(n as f64),
        MetadataValue::Signed(n) => Some(n as f64),
        MetadataValue::Float(n) => Some(n),
        _ => None,
    };
    (0..*count).map(number).collect()
}
