//! What can go wrong between bytes and a [`Document`](super::Document), and the bounds on the input.
//!
//! Every function of this module that fails returns a [`DocumentError`]; `server` and `cli` turn it into their own
//! errors. The messages are one line each, name the limit or the byte, and say what to do.

/// Why no [`Document`](super::Document) could be made of an input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// There is nothing in the input but white space and control characters.
    #[error("the page is empty: give some text to segment")]
    Empty,
    /// The input is larger than [`Limits::max_bytes`].
    #[error(
        "the page has {bytes} bytes and the limit is {limit_bytes}: split it into pages or raise the limit"
    )]
    TooLarge {
        /// The most bytes that are accepted.
        limit_bytes: usize,
        /// How many there were.
        bytes: usize,
    },
    /// The input is in no encoding that is known here, or broken.
    #[error("byte {offset} does not belong to {encoding} text: repair the file or convert it to UTF-8")]
    Undecodable {
        /// The first byte that cannot be read.
        offset: usize,
        /// The encoding that fits the bytes before it best, as `encoding_rs` names it.
        encoding: &'static str,
    },
    /// A line of JSON Lines is not JSON, or not of a known form.
    #[error("line {line} is no article: {reason}")]
    Record {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// The bounds that an input must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of one input.
    pub max_bytes: usize,
}

impl Default for Limits {
    /// 32 MiB, a few hundred times the text of a thick newspaper.
    fn default() -> Self {
        Self { max_bytes: 32 << 20 }
    }
}

impl Limits {
    /// Refuses an input that is over the limit, before any work is done on it.
    pub(super) fn check(&self, bytes: usize) -> Result<(), DocumentError> {
        if bytes > self.max_bytes {
            return Err(DocumentError::TooLarge { limit_bytes: self.max_bytes, bytes });
        }
        Ok(())
    }
}
