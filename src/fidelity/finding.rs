//! What the checks can find in an output.

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
    /// The output holds this number, date or amount and the source does not.
    NumberNotInSource(String),
    /// The source holds this number, date or amount and the translation does not.
    NumberMissing(String),
    /// The output holds this name and the source does not.
    NameNotInSource(String),
    /// In this sentence the output speaks about itself or its task.
    Chatter(String),
    /// The output is the source again, word for word.
    CopiedInput,
    /// The translation is so short that something must have been dropped.
    TooShort,
    /// The translation is so long that something must have been added.
    TooLong,
    /// The source lists so many items and the translation fewer.
    ListItemsMissing {
        /// Items of the source.
        expected: usize,
        /// Items of the translation.
        found: usize,
    },
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
            Self::NumberMissing(number) => write!(f, "the number {number} of the source is missing"),
            Self::NameNotInSource(name) => write!(f, "the name {name} does not stand in the source"),
            Self::Chatter(sentence) => write!(f, "`{sentence}` is about the task and not of the source"),
            Self::CopiedInput => f.write_str("the output repeats the source word for word"),
            Self::TooShort => f.write_str("the translation is too short to hold all of the source"),
            Self::TooLong => f.write_str("the translation is too long to hold only what the source says"),
            Self::ListItemsMissing { expected, found } => {
                write!(f, "the source lists {expected} items, the translation {found}")
            }
        }
    }
}
