//! The errors of parsing a page, and the limit on its size.
//!
//! `server` and `cli` convert a [`DocumentError`] into their own errors. Each message is one line that names the limit,
//! the byte or the line, and says what to do.

/// The reason why an input could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The input contains nothing but white space and invisible characters.
    #[error("the page is empty: give some text to segment")]
    Empty,
    /// The input is larger than [`Limits::max_bytes`].
    #[error(
        "the page has {bytes} bytes and the limit is {limit_bytes}: split it into pages or raise the limit"
    )]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
        /// The size of the input.
        bytes: usize,
    },
    /// The input is damaged or its encoding is not supported.
    #[error("byte {offset} is not valid {encoding}: repair the file or convert it to UTF-8")]
    Undecodable {
        /// The position of the first invalid byte.
        offset: usize,
        /// The encoding that fits the preceding bytes best, as `encoding_rs` names it.
        encoding: &'static str,
    },
    /// A line of JSON Lines is not a valid record.
    #[error("line {line} is not a valid record: {reason}")]
    InvalidRecord {
        /// The line number, starting at 1.
        line: usize,
        /// The problem.
        reason: String,
    },
}

/// The limits on an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The maximum size of an input in bytes.
    pub max_bytes: usize,
}

impl Default for Limits {
    /// Returns a limit of 32 MiB, a few hundred times the text of a thick newspaper.
    fn default() -> Self {
        Self { max_bytes: 32 << 20 }
    }
}

impl Limits {
    /// Returns an error if an input of `bytes` bytes is over the limit.
    pub(super) fn check(&self, bytes: usize) -> Result<(), DocumentError> {
        if bytes > self.max_bytes {
            return Err(DocumentError::TooLarge { limit_bytes: self.max_bytes, bytes });
        }
        Ok(())
    }
}
