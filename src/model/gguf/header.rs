//! The header of a GGUF file: where its values and its tensors stand.
//!
//! Owns the only reader of a file that nobody has checked yet. It allocates for names and nothing else: values stay in
//! the file's bytes and are looked at when they are asked for, so no count or length of the header can make it take
//! memory. Called by [`super::GgufFile`]; never sees a path, never reads a weight.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little-endian.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use crate::kernels::QuantType;

/// The longest name of a key or a tensor, in bytes. The format allows keys of 65535 and tensors of 64.
const MAX_NAME_BYTES: usize = 65_535;
/// The most dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;
/// Where tensors begin, if the file does not say: at multiples of this, in bytes.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Alignments that are taken, in bytes: the least lets floats be read in place, the largest is beyond any reason for one.
const ALIGNMENTS: std::ops::RangeInclusive<u64> = 8..=1 << 20;
/// No file holds a longer dimension; below it, the arithmetic of sizes cannot overflow unseen.
const MAX_DIMENSION: usize = 1 << 40;

/// Why a header was refused; the text names the key, the tensor or the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// It breaks the format.
    Corrupt(String),
    /// It may be sound, and is of a kind that is not read here.
    Unsupported(String),
}

fn corrupt<T>(detail: impl Into<String>) -> Result<T, HeaderError> {
    Err(HeaderError::Corrupt(detail.into()))
}

/// A value of the metadata. Texts and lists are places in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Any of the unsigned types.
    Unsigned(u64),
    /// Any of the signed types.
    Signed(i64),
    /// Either of the float types.
    Float(f64),
    Bool(bool),
    /// The bytes of a text.
    Text(Range<usize>),
    /// `count` elements of one type, one after the other.
    List {
        element: Kind,
        count: usize,
        bytes: Range<usize>,
    },
}

/// The type of a value that is no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    U64,
    I64,
    F64,
}

impl Kind {
    /// The type of a number of the format; 9 is a list.
    fn of(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::Text,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// Bytes of a value; `None` for texts, each of which has its own length.
    fn bytes(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text => None,
        }
    }
}

/// The number of the format that stands for a list.
const LIST: u32 = 9;

/// A tensor: what it is and where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorInfo {
    /// Its type.
    pub(super) quant_type: QuantType,
    /// Its dimensions, the outermost first: `(rows, columns)` of a matrix. None is zero.
    pub(super) shape: Vec<usize>,
    /// Its bytes in the file, which holds them all.
    pub(super) bytes: Range<usize>,
}

/// What a header says. All ranges lie within the file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: HashMap<String, Value>,
    pub(super) tensors: HashMap<String, TensorInfo>,
}

impl Header {
    /// Reads the header at the beginning of `file`, which is all of the file.
    ///
    /// # Errors
    /// When anything in it is malformed, out of the file's bounds, or there twice.
    pub(super) fn read(file: &[u8]) -> Result<Self, HeaderError> {
        let mut cursor = Cursor { file, at: 0 };
        if cursor.take(4, "the magic number")? != b"GGUF" {
            return corrupt("it does not begin with GGUF");
        }
        match cursor.u32("the version")? {
            2 | 3 => {}
            version => {
                return Err(HeaderError::Unsupported(format!(
                    "GGUF version {version}; 2 and 3 are read, little-endian"
                )));
            }
        }
        let tensor_count = cursor.u64("the number of tensors")?;
        let metadata_count = cursor.u64("the number of metadata entries")?;
        // The loops end at the end of the file, whatever the counts say, and nothing is reserved by them.
        let mut metadata = HashMap::new();
        for index in 0..metadata_count {
            let key = cursor.name(&format!("metadata entry {index} of {metadata_count}"))?;
            let value = cursor.value(&format!("metadata {key}"))?;
            if metadata.insert(key.clone(), value).is_some() {
                return corrupt(format!("metadata {key} is there twice"));
            }
        }
        let mut declared = Vec::new();
        for index in 0..tensor_count {
            declared.push(cursor.tensor(&format!("tensor {index} of {tensor_count}"))?);
        }
        let alignment = alignment(&metadata)?;
        let data_start = (cursor.at as u64).next_multiple_of(alignment);
        let mut tensors = HashMap::new();
        for tensor in declared {
            let info = tensor.place(data_start, alignment, file.len())?;
            if tensors.insert(tensor.name.clone(), info).is_some() {
                return corrupt(format!("tensor {} is there twice", tensor.name));
            }
        }
        refuse_overlaps(&tensors)?;
        Ok(Self { metadata, tensors })
    }
}

/// Where tensors begin, in bytes.
fn alignment(metadata: &HashMap<String, Value>) -> Result<u64, HeaderError> {
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&Value::Unsigned(n)) if n.is_power_of_two() && ALIGNMENTS.contains(&n) => Ok(n),
        Some(_) => corrupt("metadata general.alignment is no power of two from 8 on"),
    }
}

/// Two tensors of the same bytes would be read twice; no writer makes such a file.
fn refuse_overlaps(tensors: &HashMap<String, TensorInfo>) -> Result<(), HeaderError> {
    let mut places: Vec<_> = tensors.iter().map(|(name, info)| (info.bytes.clone(), name)).collect();
    places.sort_unstable_by_key(|(bytes, _)| bytes.start);
    for pair in places.windows(2) {
        let [(before, first), (after, second)] = pair else { continue };
        if after.start < before.end {
            return corrupt(format!("tensor {second} begins within tensor {first}"));
        }
    }
    Ok(())
}

/// A tensor as the header declares it.
struct Declared {
    name: String,
    quant_type: QuantType,
    shape: Vec<usize>,
    /// From the beginning of the tensors on.
    offset: u64,
}

impl Declared {
    /// Finds its bytes in a file of `file_len` bytes, or says why they cannot be there.
    fn place(&self, data_start: u64, alignment: u64, file_len: usize) -> Result<TensorInfo, HeaderError> {
        let Self { name, quant_type, shape, offset } = self;
        if !offset.is_multiple_of(alignment) {
            return corrupt(format!("tensor {name} has the offset {offset}, no multiple of {alignment}"));
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
            (_, Some(end)) => corrupt(format!("tensor {name} ends at byte {end}, the file at {file_len}")),
            _ => corrupt(format!(
                "tensor {name} of the shape {shape:?} at offset {offset} is larger than any file"
            )),
        }
    }
}

/// A place in the file, for reading on.
struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next `len` bytes; `what` they are is told when the file ends before them.
    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], HeaderError> {
        let rest = &self.file[self.at..];
        match rest.get(..len) {
            Some(bytes) => {
                self.at += len;
                Ok(bytes)
            }
            None => corrupt(format!("{what}: {len} bytes are wanted where the file has {} left", rest.len())),
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], HeaderError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, what)?);
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32, HeaderError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, HeaderError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count or a length.
    fn length(&mut self, what: &str) -> Result<usize, HeaderError> {
        let length = self.u64(what)?;
        usize::try_from(length).or_else(|_| corrupt(format!("{what}: the length {length}")))
    }

    /// A text: its length, then its bytes.
    fn text(&mut self, what: &str) -> Result<Range<usize>, HeaderError> {
        let len = self.length(what)?;
        self.take(len, what)?;
        Ok(self.at - len..self.at)
    }

    /// The name of a key or a tensor.
    fn name(&mut self, what: &str) -> Result<String, HeaderError> {
        let range = self.text(what)?;
        if range.len() > MAX_NAME_BYTES {
            return corrupt(format!("{what}: a name of {} bytes", range.len()));
        }
        match std::str::from_utf8(&self.file[range]) {
            Ok(name) => Ok(name.to_owned()),
            Err(_) => corrupt(format!("{what}: its name is no UTF-8")),
        }
    }

    /// The type of a value, then the value.
    fn value(&mut self, what: &str) -> Result<Value, HeaderError> {
        let id = self.u32(what)?;
        match Kind::of(id) {
            Some(kind) => self.scalar(kind, what),
            None if id == LIST => self.list(what),
            None => corrupt(format!("{what} is of the unknown type {id}")),
        }
    }

    fn scalar(&mut self, kind: Kind, what: &str) -> Result<Value, HeaderError> {
        Ok(match kind {
            Kind::U8 => Value::Unsigned(u8::from_le_bytes(self.array(what)?).into()),
            Kind::U16 => Value::Unsigned(u16::from_le_bytes(self.array(what)?).into()),
            Kind::U32 => Value::Unsigned(self.u32(what)?.into()),
            Kind::U64 => Value::Unsigned(self.u64(what)?),
            Kind::I8 => Value::Signed(i8::from_le_bytes(self.array(what)?).into()),
            Kind::I16 => Value::Signed(i16::from_le_bytes(self.array(what)?).into()),
            Kind::I32 => Value::Signed(i32::from_le_bytes(self.array(what)?).into()),
            Kind::I64 => Value::Signed(i64::from_le_bytes(self.array(what)?)),
            Kind::F32 => Value::Float(f32::from_le_bytes(self.array(what)?).into()),
            Kind::F64 => Value::Float(f64::from_le_bytes(self.array(what)?)),
            Kind::Text => Value::Text(self.text(what)?),
            Kind::Bool => match self.array(what)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return corrupt(format!("{what} is the truth value {other}")),
            },
        })
    }

    fn list(&mut self, what: &str) -> Result<Value, HeaderError> {
        let id = self.u32(what)?;
        // A list of lists is allowed by the format; nobody writes one, and nothing here would read it.
        let Some(element) = Kind::of(id) else {
            return corrupt(format!("{what} is a list of the type {id}"));
        };
        let count = self.length(what)?;
        let start = self.at;
        match element.bytes() {
            Some(bytes) => {
                let Some(len) = count.checked_mul(bytes) else {
                    return corrupt(format!("{what} has {count} elements"));
                };
                self.take(len, what)?;
            }
            None => {
                for _ in 0..count {
                    self.text(what)?;
                }
            }
        }
        Ok(Value::List { element, count, bytes: start..self.at })
    }

    fn tensor(&mut self, what: &str) -> Result<Declared, HeaderError> {
        let name = self.name(what)?;
        let what = format!("tensor {name}");
        let dimensions = self.u32(&what)?;
        if dimensions > MAX_DIMENSIONS {
            return corrupt(format!("{what} has {dimensions} dimensions"));
        }
        // The file has the innermost dimension first.
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
            .map_err(|_| HeaderError::Unsupported(format!("{what} is of the type {id} of ggml")))?;
        Ok(Declared { name, quant_type, shape, offset: self.u64(&what)? })
    }
}

/// The texts of a list; `None` for a list of anything else, unless it is empty. What is no UTF-8 is replaced.
pub(super) fn texts<'a>(file: &'a [u8], value: &Value) -> Option<Vec<Cow<'a, str>>> {
    let Value::List { element, count, bytes } = value else { return None };
    if *count > 0 && *element != Kind::Text {
        return None;
    }
    let mut cursor = Cursor { file: &file[..bytes.end], at: bytes.start };
    let text = |_| cursor.text("a text").ok().map(|range| String::from_utf8_lossy(&file[range]));
    (0..*count).map(text).collect()
}

/// The numbers of a list of any type of integers or floats; `None` for other lists.
pub(super) fn numbers(file: &[u8], value: &Value) -> Option<Vec<f64>> {
    let Value::List { element, count, bytes } = value else { return None };
    let mut cursor = Cursor { file: &file[..bytes.end], at: bytes.start };
    let number = |_| match cursor.scalar(*element, "a number").ok()? {
        Value::Unsigned(n) => Some(n as f64),
        Value::Signed(n) => Some(n as f64),
        Value::Float(n) => Some(n),
        _ => None,
    };
    (0..*count).map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a header by hand, so that it can be wrong in any way.
    #[derive(Clone)]
    struct Bytes(Vec<u8>);

    impl Bytes {
        /// A file of this many tensors and entries of the metadata.
        fn begin(tensors: u64, entries: u64) -> Self {
            Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(entries)
        }

        fn u32(mut self, n: u32) -> Self {
            self.0.extend(n.to_le_bytes());
            self
        }

        fn u64(mut self, n: u64) -> Self {
            self.0.extend(n.to_le_bytes());
            self
        }

        fn text(mut self, text: &str) -> Self {
            self = self.u64(text.len() as u64);
            self.0.extend(text.as_bytes());
            self
        }

        /// A tensor of f32.
        fn tensor(self, name: &str, shape: &[u64], offset: u64) -> Self {
            let declared = self.text(name).u32(shape.len() as u32);
            shape.iter().fold(declared, |bytes, &d| bytes.u64(d)).u32(0).u64(offset)
        }

        /// Fills up to the next multiple of 32, and `len` bytes of tensors after it.
        fn data(mut self, len: usize) -> Self {
            self.0.resize(self.0.len().next_multiple_of(32) + len, 0);
            self
        }

        fn error(&self) -> String {
            match Header::read(&self.0).expect_err("a broken header") {
                HeaderError::Corrupt(detail) | HeaderError::Unsupported(detail) => detail,
            }
        }
    }

    const HUGE: [u64; 4] = [u64::MAX, i64::MAX as u64, 1 << 62, 1 << 40];

    #[test]
    fn a_sound_header_is_read() {
        let file = Bytes::begin(2, 4)
            .text("a.number")
            .u32(4)
            .u32(7)
            .text("a.text")
            .u32(8)
            .text("文")
            .text("a.list")
            .u32(9)
            .u32(8)
            .u64(2)
            .text("x")
            .text("yz")
            .text("general.alignment")
            .u32(4)
            .u32(32)
            .tensor("first", &[4, 3], 0)
            .tensor("second", &[8], 64)
            .data(96);
        let header = Header::read(&file.0).expect("a sound header");
        assert_eq!(header.metadata["a.number"], Value::Unsigned(7));
        assert!(
            matches!(&header.metadata["a.text"], Value::Text(at) if file.0[at.clone()] == *"文".as_bytes())
        );
        assert_eq!(texts(&file.0, &header.metadata["a.list"]), Some(vec!["x".into(), "yz".into()]));
        assert_eq!(texts(&file.0, &header.metadata["a.number"]), None);
        assert_eq!(numbers(&file.0, &header.metadata["a.list"]), None);
        let first = &header.tensors["first"];
        assert_eq!((first.shape.as_slice(), first.bytes.len()), ([3, 4].as_slice(), 48));
        assert_eq!(header.tensors["second"].bytes, file.0.len() - 32..file.0.len());
    }

    /// What is wrong, and what the error must name.
    #[test]
    fn a_hostile_header_is_refused_by_name() {
        let one = |tensors, entries| Bytes::begin(tensors, entries);
        let key = || one(0, 1).text("the.key");
        let mut cases = vec![
            (Bytes(b"GGML".to_vec()).u32(3), "begin with GGUF"),
            (Bytes(b"GGUF".to_vec()).u32(1), "version 1"),
            (Bytes(b"GGUF".to_vec()).u32(3 << 24), "version 50331648"),
            (key().u32(77).u64(0), "the.key is of the unknown type 77"),
            (key().u32(7).u32(9), "the.key is the truth value 9"),
            (key().u32(9).u32(9).u64(1).u32(9).u64(1), "the.key is a list of the type 9"),
            (key().u32(9).u32(99).u64(1), "the.key is a list of the type 99"),
            (key().u32(4), "metadata the.key: 4 bytes are wanted"),
            (one(0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1), "metadata k is there twice"),
            (one(0, 1).text("general.alignment").u32(4).u32(0), "general.alignment"),
            (one(0, 1).text("general.alignment").u32(4).u32(3), "general.alignment"),
            (one(0, 1).text("general.alignment").u32(10).u64(1 << 63), "general.alignment"),
            (one(1, 0).tensor("t", &[4, 0], 0).data(32), "tensor t has the impossible shape"),
            (one(1, 0).tensor("t", &[1, 1, 1, 1, 1], 0).data(32), "tensor t has 5 dimensions"),
            (one(1, 0).text("t").u32(u32::MAX), "tensor t has 4294967295 dimensions"),
            (one(1, 0).tensor("t", &[1 << 40, 1 << 40, 1 << 40], 0).data(32), "tensor t of the shape"),
            (one(1, 0).tensor("t", &[4], 16).data(64), "tensor t has the offset 16"),
            (one(1, 0).tensor("t", &[4], 32).data(32), "tensor t ends at byte"),
            (one(1, 0).tensor("t", &[4], -32i64 as u64).data(32), "tensor t"),
            (one(1, 0).text("t").u32(1).u64(32).u32(99).u64(0).data(64), "tensor t is of the type 99"),
            (one(1, 0).text("t").u32(1).u64(31).u32(2).u64(0).data(64), "tensor t of the type Q4_0"),
            (one(2, 0).tensor("t", &[4], 0).tensor("t", &[4], 32).data(64), "tensor t is there twice"),
            (
                one(2, 0).tensor("t", &[16], 0).tensor("u", &[4], 32).data(64),
                "tensor u begins within tensor t",
            ),
        ];
        for huge in HUGE {
            cases.extend([
                (one(0, huge), "metadata entry 0"),
                (one(huge, 0), "tensor 0 of"),
                (one(0, 1).u64(huge), "metadata entry 0 of 1"),
                (key().u32(8).u64(huge), "metadata the.key"),
                (key().u32(9).u32(8).u64(huge), "metadata the.key"),
                (key().u32(9).u32(0).u64(huge), "metadata the.key"),
                (key().u32(9).u32(12).u64(huge), "metadata the.key"),
                (one(1, 0).tensor("t", &[huge], 0).data(32), "tensor t"),
                (one(1, 0).tensor("t", &[4, huge], 0).data(32), "tensor t"),
                (one(1, 0).tensor("t", &[4], huge & !31).data(32), "tensor t"),
            ]);
        }
        for (number, (bytes, named)) in cases.iter().enumerate() {
            let error = bytes.error();
            assert!(error.contains(named), "case {number}: {error:?} does not name {named:?}");
        }
    }
}
