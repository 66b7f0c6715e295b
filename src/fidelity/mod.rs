//! Checks on what the model wrote: pure functions over two texts.
//!
//! Called by `pipeline`, which decides what to do about a finding. Knows no model, no prompt, no document.

mod digits;
mod han;
mod loops;
mod support;

pub use digits::numbers_not_in;
pub use han::{contains_han, first_han_run};
pub use loops::repeated_phrase;
pub use support::supporting_sentences;

/// What a check found in one output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The output was stopped at a limit of tokens or characters and is not whole.
    Truncated,
    /// The output is empty though the source is not.
    Empty,
    /// These Chinese characters were left in the English.
    HanInTranslation(String),
    /// The output repeats this phrase.
    Loop(String),
    /// The model's summary did not fit; sentences of the source stand in its place.
    SummaryExtracted,
    /// No whole sentence fits the limit, in characters; the summary is empty.
    SummaryLimitTooSmall(usize),
    /// The rendering of this term does not stand in the translation.
    TermMissing {
        /// The Chinese term.
        source: String,
        /// Its required rendering.
        target: String,
    },
    /// The summary holds this number and the source does not.
    NumberNotInSource(String),
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated => {
                f.write_str("the model was stopped at the limit; what it had written until then stands here")
            }
            Self::Empty => f.write_str("the model wrote nothing"),
            Self::HanInTranslation(run) => write!(f, "`{run}` was left in Chinese"),
            Self::Loop(phrase) => write!(f, "`{phrase}` is repeated over and over"),
            Self::SummaryExtracted => f.write_str(
                "the model's summary did not fit the limit; sentences of the source stand in its place",
            ),
            Self::SummaryLimitTooSmall(limit) => write!(f, "no whole sentence fits {limit} characters"),
            Self::TermMissing { source, target } => {
                write!(f, "`{source}` should be rendered as `{target}`, which is missing")
            }
            Self::NumberNotInSource(number) => write!(f, "the number {number} does not stand in the source"),
        }
    }
}
