//! The problems that the checks report.

use std::{fmt, ops::Range};

/// A problem in one output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The kind of problem, with what was expected and found.
    pub kind: FindingKind,
    /// The bytes of the source that it is about, if it is about a particular place.
    pub source_span: Option<Range<usize>>,
    /// The bytes of the output that it is about, if it is about a particular place.
    pub output_span: Option<Range<usize>>,
}

/// The kind of a finding, with what was expected and what was found.
///
/// The `Display` form is a message for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FindingKind {
    /// Generation stopped at a token or character limit, so the output is incomplete.
    Truncated,
    /// The output is empty although the source is not.
    Empty,
    /// The English contains Chinese characters.
    HanInTranslation {
        /// The first run of them.
        found: String,
    },
    /// The output repeats itself.
    Loop {
        /// The repeated phrase.
        found: String,
    },
    /// The model's summary did not fit, so the summary consists of sentences of the source.
    SummaryExtracted,
    /// No complete sentence fits the limit, so the summary is empty.
    SummaryLimitTooSmall {
        /// The limit, in characters.
        limit: usize,
    },
    /// A glossary term of the source is not rendered as required.
    TermMissing {
        /// The Chinese term.
        source: String,
        /// Its required rendering.
        target: String,
    },
    /// A name of the source that the lexicon knows is not rendered.
    NameMissing {
        /// The Chinese name.
        source: String,
        /// Its English.
        target: String,
    },
    /// The output contains a number, date or amount that does not appear in the source.
    NumberNotInSource {
        /// The number, as the output writes it.
        found: String,
    },
    /// The translation lacks a number, date or amount of the source.
    NumberMissing {
        /// The number, as the source writes it.
        expected: String,
        /// The same number in English.
        english: String,
    },
    /// The output contains a name that does not appear in the source.
    NameNotInSource {
        /// The name.
        found: String,
    },
    /// The output comments on itself or on its task.
    Chatter {
        /// The first sentence that does.
        found: String,
    },
    /// The output repeats the source word for word.
    CopiedInput,
    /// The translation is so short that part of the source must be missing.
    TooShort,
    /// The translation is so long that something must have been added.
    TooLong,
    /// The translation has fewer list items than the source.
    ListItemsMissing {
        /// The number of items in the source.
        expected: usize,
        /// The number of items in the translation.
        found: usize,
    },
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the output is incomplete: generation stopped at the limit"),
            Self::Empty => f.write_str("the model returned an empty output"),
            Self::HanInTranslation { found } => write!(f, "`{found}` was left untranslated"),
            Self::Loop { found } => write!(f, "`{found}` is repeated over and over"),
            Self::SummaryExtracted => {
                f.write_str("the model's summary did not fit the limit; sentences of the source replace it")
            }
            Self::SummaryLimitTooSmall { limit } => {
                write!(f, "no complete sentence fits the limit of {limit} characters")
            }
            Self::TermMissing { source, target } => {
                write!(f, "`{source}` should be translated as `{target}`")
            }
            Self::NameMissing { source, target } => {
                write!(f, "the name `{source}` ({target}) is missing from the translation")
            }
            Self::NumberNotInSource { found } => {
                write!(f, "the number `{found}` does not appear in the source")
            }
            Self::NumberMissing { expected, english } => {
                write!(f, "the number `{expected}` ({english}) is missing from the translation")
            }
            Self::NameNotInSource { found } => write!(f, "the name `{found}` does not appear in the source"),
            Self::Chatter { found } => write!(f, "`{found}` comments on the task and is not in the source"),
            Self::CopiedInput => f.write_str("the output repeats the source word for word"),
            Self::TooShort => {
                f.write_str("the translation is too short to contain everything that the source says")
            }
            Self::TooLong => f.write_str("the translation is too long to contain only what the source says"),
            Self::ListItemsMissing { expected, found } => {
                write!(f, "the source lists {expected} items, the translation {found}")
            }
        }
    }
}
