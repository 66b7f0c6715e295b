//! The pipeline: one validated [`Job`] becomes the digests of its sections.
//!
//! ```text
//! Document ──▶ every section, several at a time:
//!                 translate: paragraph ─frame, chunk, settle─▶ prompts ─engine─▶ answers ─fidelity─▶ paragraph
//!                 summarize: section ─prompt─▶ answer ─▶ whole sentences within the limit ─fidelity─▶ summary
//!              while the checks object: again, in better ways; what remains is found ──▶ SectionDigest
//! ```
//!
//! Called by `server`. The only place where document, prompts, engine and checks meet; knows no gRPC.

mod chunk;
mod complete;
mod dateline;
mod digest;
mod job;
mod person;
mod prompt;
mod settle;
mod summarize;
mod translate;

use std::{path::Path, sync::Arc};

pub use digest::{SectionDigest, SectionOutcome, SourceSentence, Statistics, Timings};
pub use job::{DEFAULT_MAX_ATTEMPTS, DEFAULT_SUMMARY_CHARS, Job, Tasks};
pub use prompt::{PromptError, Prompts};
pub use summarize::{Summary, SummarySentence};
pub use translate::{ParagraphTranslation, Translation};

use crate::{
    engine::{Engine, EngineConfig, StartError, SubmitError, TokenMask},
    model::{self, ModelError, ModelOptions},
    tokenizer::{Tokenizer, TokenizerError},
};

/// What made a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The id of the model.
    pub id: String,
    /// SHA-256 of the weights, hexadecimal.
    pub weights_sha256: String,
}

/// A finding and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// In which result.
    pub task: Task,
    /// In which paragraph of the section; `None` for the heading and for summaries.
    pub paragraph: Option<usize>,
    /// What was found, and where in the paragraph, the heading or the summary.
    pub found: crate::fidelity::Found,
}

/// One of the two results that can be made of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A Chinese summary.
    Summary,
    /// An English translation.
    Translation,
}

/// Why a section could not be done, or a pipeline not be started.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The model's file cannot be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Text could not be turned into tokens or back.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A prompt was not taken.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The engine failed in the middle.
    #[error("the engine failed: {0}")]
    Engine(String),
    /// The deadline passed.
    #[error("the deadline passed before the section was done")]
    Deadline,
    /// The engine could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A running model with everything that turns jobs into digests; cheap to clone.
#[derive(Clone)]
pub struct Pipeline {
    engine: Engine,
    tokenizer: Arc<Tokenizer>,
    /// The tokens that may stand in English.
    english: Arc<TokenMask>,
    prompts: Arc<Prompts>,
    model: Arc<ModelInfo>,
}

impl Pipeline {
    /// Puts a pipeline together out of its parts.
    pub fn new(engine: Engine, tokenizer: Tokenizer, model: ModelInfo) -> Self {
        let english = Arc::new(TokenMask::new(tokenizer.without_chinese()));
        let prompts = Arc::new(Prompts::builtin().clone());
        Self { engine, tokenizer: Arc::new(tokenizer), english, prompts, model: Arc::new(model) }
    }

    /// Sets the prompts.
    #[must_use]
    pub fn with_prompts(mut self, prompts: Prompts) -> Self {
        self.prompts = Arc::new(prompts);
        self
    }

    /// Loads the model at `path` and starts its engine. Takes seconds and blocks.
    ///
    /// # Errors
    /// When the file is missing, corrupt or of a kind that is not known, or the device cannot be used.
    pub fn load(
        path: &Path,
        model: ModelInfo,
        options: &ModelOptions,
        config: EngineConfig,
    ) -> Result<Self, PipelineError> {
        let (file, weights) = model::load_path(path, options)?;
        let tokenizer = Tokenizer::new(file.tokenizer()?, file.chat_template(), file.eos_token_id())?;
        let engine = Engine::start(weights, config)?;
        Ok(Self::new(engine, tokenizer, model))
    }

    /// The model that it runs.
    pub fn model(&self) -> &ModelInfo {
        &self.model
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The version of the prompts.
    pub fn prompt_version(&self) -> &str {
        self.prompts.version()
    }
}
