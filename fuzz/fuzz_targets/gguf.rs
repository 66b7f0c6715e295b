//! Arbitrary bytes through the reader of GGUF headers: it must not panic, and whatever it takes must lie within the
//! bytes.
//!
//! The reader is compiled from its source, without the rest of the crate, so that the engine is not built with it.

#![no_main]

#[allow(dead_code, unreachable_pub)]
#[path = "../../src/kernels/gemm/gguf_blocks.rs"]
mod gguf_blocks;
#[allow(dead_code, unreachable_pub)]
#[path = "../../src/kernels/error.rs"]
mod error;

/// What the reader takes from the module `kernels`.
mod kernels {
    pub use super::error::KernelError;
    pub use super::gguf_blocks::QuantType;
}

#[allow(dead_code, unreachable_pub)]
#[path = "../../src/model/gguf/header.rs"]
mod header;

use header::{Header, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let Ok(Header { metadata, tensors }) = Header::read(file) else { return };
    for value in metadata.values() {
        if let Value::Text(range) | Value::List { bytes: range, .. } = value {
            assert!(file.get(range.clone()).is_some());
        }
        let _ = (header::texts(file, value), header::numbers(file, value));
    }
    for tensor in tensors.values() {
        let bytes = file.get(tensor.bytes.clone()).expect("a tensor lies within the file");
        let columns = tensor.shape.last().copied().unwrap_or(1);
        let rows: usize = tensor.shape.iter().rev().skip(1).product();
        assert_eq!(tensor.quant_type.row_bytes(columns).map(|row| row * rows), Ok(bytes.len()));
    }
});
