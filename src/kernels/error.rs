//! The errors of building what the kernels work on. The kernels themselves never fail: they panic if their caller
//! violates an invariant (for example the length of a slice), which the engine treats as its own failure.

/// An error from building a matrix or a KV store, or from selecting an instruction set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The name is not one of `auto`, `portable`, `avx2`, `avx512`, `amx`.
    #[error("unknown instruction set {0:?}; expected auto, portable, avx2, avx512 or amx")]
    UnknownInstructionSet(String),
    /// The instruction set is known, but this CPU does not support it.
    #[error("this CPU does not support {0}")]
    UnsupportedInstructionSet(&'static str),
    /// No kernel supports the tensor type; the number is ggml's.
    #[error("unsupported GGUF tensor type {0}")]
    UnsupportedType(u32),
    /// The row length is not a multiple of the type's block length.
    #[error("a row of {columns} values is not a whole number of {block}-value blocks")]
    RowLength {
        /// Values in a row.
        columns: usize,
        /// Values in a block of the type.
        block: usize,
    },
    /// The size of the tensor's data does not match its shape.
    #[error("the tensor has {found} bytes, but its shape requires {expected}")]
    DataLength {
        /// Bytes that the shape requires.
        expected: usize,
        /// Bytes of the data.
        found: usize,
    },
    /// The kernels do not support the shape; the text names the shape and the reason.
    #[error("unsupported shape: {0}")]
    Shape(String),
}
