//! Tests of the header reader with headers written by hand.

use super::*;

/// Builds the bytes of a file, which may be invalid in any way.
#[derive(Clone)]
struct FileBuilder(Vec<u8>);

impl FileBuilder {
    /// Starts a file with this many tensors and metadata entries.
    fn new(tensors: u64, entries: u64) -> Self {
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

    fn string(mut self, text: &str) -> Self {
        self = self.u64(text.len() as u64);
        self.0.extend(text.as_bytes());
        self
    }

    /// Declares a tensor of f32.
    fn tensor(self, name: &str, shape: &[u64], offset: u64) -> Self {
        let declaration = self.string(name).u32(shape.len() as u32);
        shape.iter().fold(declaration, |bytes, &d| bytes.u64(d)).u32(0).u64(offset)
    }

    /// Pads the file to a multiple of 32 bytes and appends `len` bytes of tensor data.
    fn data(mut self, len: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + len, 0);
        self
    }

    fn error(&self) -> String {
        match Header::read(&self.0).expect_err("the header is invalid") {
            HeaderError::Corrupt(detail) | HeaderError::Unsupported(detail) => detail,
        }
    }
}

const HUGE: [u64; 4] = [u64::MAX, i64::MAX as u64, 1 << 62, 1 << 40];

#[test]
fn reads_a_valid_header() {
    let file = FileBuilder::new(2, 4)
        .string("a.number")
        .u32(4)
        .u32(7)
        .string("a.text")
        .u32(8)
        .string("文")
        .string("a.list")
        .u32(9)
        .u32(8)
        .u64(2)
        .string("x")
        .string("yz")
        .string("general.alignment")
        .u32(4)
        .u32(32)
        .tensor("first", &[4, 3], 0)
        .tensor("second", &[8], 64)
        .data(96);
    let header = Header::read(&file.0).expect("the header is valid");
    assert_eq!(header.metadata["a.number"], MetadataValue::Unsigned(7));
    assert!(
        matches!(&header.metadata["a.text"], MetadataValue::String(at) if file.0[at.clone()] == *"文".as_bytes())
    );
    assert_eq!(strings(&file.0, &header.metadata["a.list"]), Some(vec!["x".into(), "yz".into()]));
    assert_eq!(strings(&file.0, &header.metadata["a.number"]), None);
    assert_eq!(numbers(&file.0, &header.metadata["a.list"]), None);
    let first = &header.tensors["first"];
    assert_eq!((first.shape.as_slice(), first.bytes.len()), ([3, 4].as_slice(), 48));
    assert_eq!(header.tensors["second"].bytes, file.0.len() - 32..file.0.len());
}

/// Every case is an invalid header and a part of the expected error.
#[test]
fn rejects_malicious_headers_with_the_name_of_the_culprit() {
    let start = |tensors, entries| FileBuilder::new(tensors, entries);
    let key = || start(0, 1).string("the.key");
    let mut cases = vec![
        (FileBuilder(b"GGML".to_vec()).u32(3), "begin with GGUF"),
        (FileBuilder(b"GGUF".to_vec()).u32(1), "version 1"),
        (FileBuilder(b"GGUF".to_vec()).u32(3 << 24), "version 50331648"),
        (key().u32(77).u64(0), "the.key has the unknown type 77"),
        (key().u32(7).u32(9), "the.key has the invalid boolean value 9"),
        (key().u32(9).u32(9).u64(1).u32(9).u64(1), "the.key is a list of the unsupported type 9"),
        (key().u32(9).u32(99).u64(1), "the.key is a list of the unsupported type 99"),
        (key().u32(4), "metadata the.key is truncated: expected 4 bytes"),
        (start(0, 2).string("k").u32(4).u32(1).string("k").u32(4).u32(1), "metadata k is duplicated"),
        (start(0, 1).string("general.alignment").u32(4).u32(0), "general.alignment"),
        (start(0, 1).string("general.alignment").u32(4).u32(3), "general.alignment"),
        (start(0, 1).string("general.alignment").u32(10).u64(1 << 63), "general.alignment"),
        (start(1, 0).tensor("t", &[4, 0], 0).data(32), "tensor t has the impossible shape"),
        (start(1, 0).tensor("t", &[1, 1, 1, 1, 1], 0).data(32), "tensor t has 5 dimensions"),
        (start(1, 0).string("t").u32(u32::MAX), "tensor t has 4294967295 dimensions"),
        (start(1, 0).tensor("t", &[1 << 40, 1 << 40, 1 << 40], 0).data(32), "tensor t of the shape"),
        (start(1, 0).tensor("t", &[4], 16).data(64), "tensor t has the offset 16"),
        (start(1, 0).tensor("t", &[4], 32).data(32), "tensor t ends at byte"),
        (start(1, 0).tensor("t", &[4], -32i64 as u64).data(32), "tensor t"),
        (
            start(1, 0).string("t").u32(1).u64(32).u32(99).u64(0).data(64),
            "tensor t has the unsupported ggml type 99",
        ),
        (start(1, 0).string("t").u32(1).u64(31).u32(2).u64(0).data(64), "tensor t of the type Q4_0"),
        (start(2, 0).tensor("t", &[4], 0).tensor("t", &[4], 32).data(64), "tensor t is duplicated"),
        (start(2, 0).tensor("t", &[16], 0).tensor("u", &[4], 32).data(64), "tensor u starts inside tensor t"),
    ];
    for huge in HUGE {
        cases.extend([
            (start(0, huge), "metadata entry 0"),
            (start(huge, 0), "tensor 0 of"),
            (start(0, 1).u64(huge), "metadata entry 0 of 1"),
            (key().u32(8).u64(huge), "metadata the.key"),
            (key().u32(9).u32(8).u64(huge), "metadata the.key"),
            (key().u32(9).u32(0).u64(huge), "metadata the.key"),
            (key().u32(9).u32(12).u64(huge), "metadata the.key"),
            (start(1, 0).tensor("t", &[huge], 0).data(32), "tensor t"),
            (start(1, 0).tensor("t", &[4, huge], 0).data(32), "tensor t"),
            (start(1, 0).tensor("t", &[4], huge & !31).data(32), "tensor t"),
        ]);
    }
    for (number, (file, expected)) in cases.iter().enumerate() {
        let error = file.error();
        assert!(error.contains(expected), "case {number}: {error:?} does not contain {expected:?}");
    }
}
