//! One validated request, as `server` hands it to the pipeline.

use std::{collections::HashSet, sync::Arc, time::Instant};

use crate::{
    document::Document,
    engine::{Priority, Sampling},
    glossary::Glossary,
    lexicon::Lexicon,
    task::Tasks,
};

/// Default maximum length of a summary, in characters.
pub const DEFAULT_SUMMARY_CHARS: usize = 100;
/// Default maximum attempts at one text.
pub const DEFAULT_MAX_ATTEMPTS: usize = 3;

/// A parsed and validated request.
#[derive(Debug, Clone)]
pub struct Job {
    /// The document to digest.
    pub document: Arc<Document>,
    /// The results to produce.
    pub tasks: Tasks,
    /// Maximum length of a summary, in characters without whitespace.
    pub summary_max_chars: usize,
    /// The terms and the English required for them.
    pub glossary: Arc<Glossary>,
    /// The names that are known; terms of the glossary take precedence.
    pub lexicon: Arc<Lexicon>,
    /// Maximum attempts at one text, at least 1. Attempts after the first repair what the checks found.
    pub max_attempts: usize,
    /// The sampling parameters of the first attempt.
    pub sampling: Sampling,
    /// The priority in the engine's queue.
    pub priority: Priority,
    /// The time after which the client no longer wants the result.
    pub deadline: Option<Instant>,
    /// Sections to leave out because their results are known, as indices of article and section.
    pub skip: Arc<HashSet<(usize, usize)>>,
}

impl Job {
    /// Creates a job with the default options.
    pub fn new(document: Document) -> Self {
        Self {
            document: Arc::new(document),
            tasks: Tasks::default(),
            summary_max_chars: DEFAULT_SUMMARY_CHARS,
            glossary: Glossary::builtin(),
            lexicon: Lexicon::builtin(),
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            sampling: Sampling::Greedy,
            priority: Priority::Interactive,
            deadline: None,
            skip: Arc::default(),
        }
    }
}
