//! Passes arbitrary bytes to the reader of GGUF headers: it must not panic, and all ranges that it returns must lie
//! within the bytes.
//!
//! The reader is compiled from its source, so that the fuzz target does not have to build the engine.

#![no_main]

#[allow(dead_code, unreachable_pub)]
#[path = "../../src/kernels/gemm/gguf_blocks.rs"]
mod gguf_blocks;
#[allow(dead_code, unreachable_pub)]
#[path = "../../src/kernels/error.rs"]
mod error;

/// The items of the module `kernels` that the reader uses.
mod kernels {
    pub use super::error::KernelError;
    pub use super::gguf_blocks::QuantType;
}

#[allow(dead_code, unreachable_pub)]
#[path = "../../src/model/gguf/header/mod.rs"]
mod header;

use header::{Header, MetadataValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let Ok(Header { metadata, tensors }) = Header::read(file) else { return };
    for value in metadata.values() {
        if let MetadataValue::String(range) | MetadataValue::List { bytes: range, .. } = value {
            assert!(file.get(range.clone()).is_some());
        }
        let _ = (header::strings(file, value), header::numbers(file, value));
    }
    for tensor in tensors.values() {
        let bytes = file.get(tensor.bytes.clone()).expect("tensors lie within the file");
        let columns = tensor.shape.last().copied().unwrap_or(1);
        let rows: usize = tensor.shape.iter().rev().skip(1).product();
        assert_eq!(tensor.quant_type.row_bytes(columns).map(|row| row * rows), Ok(bytes.len()));
    }
});
