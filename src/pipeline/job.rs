//! One validated request.

use std::{collections::HashSet, sync::Arc, time::Instant};

use crate::{
    document::Document,
    engine::{Priority, Sampling},
    glossary::Glossary,
    task::Tasks,
};

/// The longest summary when nothing else is asked for, in characters.
pub const DEFAULT_SUMMARY_CHARS: usize = 100;
/// How often the model is asked for one text at most, when nothing else is asked for.
pub const DEFAULT_MAX_ATTEMPTS: usize = 3;

/// One request, parsed and checked.
#[derive(Debug, Clone)]
pub struct Job {
    /// What is to be digested.
    pub document: Arc<Document>,
    /// Which results to make.
    pub tasks: Tasks,
    /// The longest summary, in characters without white space.
    pub summary_max_chars: usize,
    /// The terms and the English that they must become.
    pub glossary: Arc<Glossary>,
    /// How often the model is asked for one text at most, at least 1: again when the checks object.
    pub max_attempts: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Who waits.
    pub priority: Priority,
    /// When the answer is worth nothing any more.
    pub deadline: Option<Instant>,
    /// Sections, as indices of article and section, that are known already and left out.
    pub skip: Arc<HashSet<(usize, usize)>>,
}

impl Job {
    /// A job with the default options.
    pub fn new(document: Document) -> Self {
        Self {
            document: Arc::new(document),
            tasks: Tasks::default(),
            summary_max_chars: DEFAULT_SUMMARY_CHARS,
            glossary: Glossary::builtin(),
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            sampling: Sampling::Greedy,
            priority: Priority::Interactive,
            deadline: None,
            skip: Arc::default(),
        }
    }
}
