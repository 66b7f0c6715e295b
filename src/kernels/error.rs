//! What can go wrong before a kernel runs. Kernels themselves do not fail: they panic on a broken invariant of their
//! caller (a slice of the wrong length), which the engine takes as its own failure.

/// Why a matrix, a store or an instruction set was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The name is none of `auto`, `portable`, `avx2`, `avx512`.
    #[error("unknown instruction set {0:?}; expected auto, portable, avx2 or avx512")]
    UnknownInstructionSet(String),
    /// The name is known, but this CPU does not have it.
    #[error("this CPU does not support {0}")]
    UnsupportedInstructionSet(&'static str),
    /// A tensor type that no kernel reads; the number is ggml's.
    #[error("unsupported GGUF tensor type {0}")]
    UnsupportedType(u32),
    /// The row length is no multiple of the type's block length.
    #[error("a row of {columns} values is not a whole number of {block}-value blocks")]
    RowLength {
        /// Values in a row.
        columns: usize,
        /// Values in a block of the type.
        block: usize,
    },
    /// The tensor's bytes do not match its shape.
    #[error("the tensor has {found} bytes, its shape needs {expected}")]
    DataLength {
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// A shape that the kernels cannot work on; the text says which and why.
    #[error("unsupported shape: {0}")]
    Shape(String),
}
