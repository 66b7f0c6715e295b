//! The pipeline: one validated [`Job`] becomes the digests of its sections.
//!
//! ```text
//! Document ──▶ every section, several at a time:
//!                 translate: paragraph ─frame, chunk, settle─▶ prompts ─engine─▶ answers ─fidelity─▶ paragraph
//!                 summarize: section ─prompt─▶ answer ─▶ whole sentences within the limit ─fidelity─▶ summary
//!              while the checks object: again, in better ways; what remains is found ──▶ SectionDigest
//! ```
//!
//! Each task is done by its model; both may be one. Called by `server`. The only place where document, prompts, engine and checks meet; knows no gRPC.

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
pub use job::{DEFAULT_MAX_ATTEMPTS, DEFAULT_SUMMARY_CHARS, Job};
pub use prompt::{PromptError, Prompts};
pub use summarize::{Summary, SummarySentence};
pub use translate::{ParagraphTranslation, Translation};

use crate::{
    engine::{Engine, EngineConfig, StartError, SubmitError, TokenMask},
    model::{
        self, ModelError, ModelOptions,
        seq2seq::{ModelDirectory, Seq2Seq},
    },
    task::{Task, Tasks},
    tokenizer::{SourceVocabulary, Tokenizer, TokenizerError},
};

/// What made a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The id of the model.
    pub id: String,
    /// SHA-256 of the weights, hexadecimal.
    pub weights_sha256: String,
    /// What it can be asked for.
    pub tasks: Tasks,
}

/// The models that make the results of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Makers {
    /// The model of the translation, or of everything.
    pub model: Arc<ModelInfo>,
    /// The model of the summary where it is another.
    pub summary_model: Option<Arc<ModelInfo>>,
}

/// A finding in one of the results of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionFinding {
    /// The result that it is in.
    pub task: Task,
    /// The paragraph of the section that it is in; `None` for the heading and for summaries.
    pub paragraph: Option<usize>,
    /// The finding; its spans are relative to the paragraph, the heading or the summary.
    pub finding: crate::fidelity::Finding,
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

/// Running models with everything that turns jobs into digests; cheap to clone.
///
/// Each task has its model; mostly it is one and the same.
#[derive(Clone)]
pub struct Pipeline {
    summary: Arc<Writer>,
    translation: Arc<Writer>,
    prompts: Arc<Prompts>,
}

/// A running model and what stands between text and its tokens.
struct Writer {
    engine: Engine,
    tokenizer: Tokenizer,
    /// The tokens that may stand in English.
    english: Arc<TokenMask>,
    /// Whether terms and quantities are written in English into what it translates.
    settles: bool,
    model: Arc<ModelInfo>,
}

impl Pipeline {
    /// Puts a pipeline together out of its parts: one model for both tasks.
    pub fn new(engine: Engine, tokenizer: Tokenizer, model: ModelInfo) -> Self {
        let english = Arc::new(TokenMask::new(tokenizer.tokens_without_chinese()));
        Self::of_writer(Writer { engine, tokenizer, english, settles: true, model: Arc::new(model) })
    }

    fn of_writer(writer: Writer) -> Self {
        let writer = Arc::new(writer);
        Self { summary: writer.clone(), translation: writer, prompts: Arc::new(Prompts::builtin().clone()) }
    }

    /// The same, with the summaries of another one's model.
    #[must_use]
    pub fn with_summaries_of(mut self, other: Self) -> Self {
        self.summary = other.summary;
        self
    }

    /// The same with one of its models, the one of this id, for both tasks; `None` when there is no such model.
    pub fn only(&self, id: &str) -> Option<Self> {
        let writer = self.writers().into_iter().find(|writer| writer.model.id == id)?.clone();
        Some(Self { summary: writer.clone(), translation: writer, prompts: self.prompts.clone() })
    }

    /// Sets the prompts.
    #[must_use]
    pub fn with_prompts(mut self, prompts: Prompts) -> Self {
        self.prompts = Arc::new(prompts);
        self
    }

    /// Loads the model at `path`, a file or the directory of an encoder-decoder, and starts its engine. Takes seconds and
    /// blocks.
    ///
    /// # Errors
    /// When the file is missing, corrupt or of a kind that is not known, or the device cannot be used.
    pub fn load(
        path: &Path,
        model: ModelInfo,
        options: &ModelOptions,
        config: EngineConfig,
    ) -> Result<Self, PipelineError> {
        if path.is_dir() {
            return Self::load_directory(path, model, options, config);
        }
        let (file, weights) = model::load_path(path, options)?;
        let tokenizer = Tokenizer::new(file.tokenizer()?, file.chat_template(), file.eos_token_id())?;
        let engine = Engine::start(weights, config)?;
        Ok(Self::new(engine, tokenizer, model))
    }

    fn load_directory(
        path: &Path,
        model: ModelInfo,
        options: &ModelOptions,
        config: EngineConfig,
    ) -> Result<Self, PipelineError> {
        let directory = ModelDirectory::open(path)?;
        let weights = Seq2Seq::load(&directory, options)?;
        // Marian has pieces of its sources and ids of its own; of the others the numbers of the pieces are the ids.
        let (name, ids) = match directory.has_file("source.spm") {
            true => ("source.spm", Some(directory.vocabulary_file("vocab.json")?)),
            false => ("spiece.model", None),
        };
        let pieces = directory.vocabulary_file(name)?;
        let tokenizer = Tokenizer::for_sources(&SourceVocabulary {
            pieces: (name, &pieces),
            ids: ids.as_deref(),
            prefix: &directory.settings().prefix,
            end: weights.end_token(),
        })?;
        let (known, tokens) = (tokenizer.tokens_without_chinese(), weights.vocab_size());
        if known.len() > tokens {
            let detail = format!(
                "{name} and its ids have {} pieces, config.json: `vocab_size` is {tokens}",
                known.len()
            );
            return Err(directory.unusable(detail).into());
        }
        let settles = directory.settings().accepts_pretranslated;
        let engine = Engine::start_seq2seq(weights, config)?;
        let english = Arc::new(TokenMask::new(known));
        Ok(Self::of_writer(Writer { engine, tokenizer, english, settles, model: Arc::new(model) }))
    }

    /// Its models, that of the translation first, each once.
    fn writers(&self) -> Vec<&Arc<Writer>> {
        let is_one = self.summary.model == self.translation.model;
        std::iter::once(&self.translation).chain((!is_one).then_some(&self.summary)).collect()
    }

    /// The model that does a task.
    fn writer(&self, task: Task) -> &Writer {
        match task {
            Task::Summary => &self.summary,
            Task::Translation => &self.translation,
        }
    }

    /// The models that it runs, that of the translation first, each once.
    pub fn models(&self) -> Vec<&ModelInfo> {
        self.writers().into_iter().map(|writer| writer.model.as_ref()).collect()
    }

    /// The models that make the results of these tasks.
    pub fn makers(&self, tasks: Tasks) -> Makers {
        let main = if tasks.translation { &self.translation } else { &self.summary };
        let is_another = tasks.summary && self.summary.model != main.model;
        Makers { model: main.model.clone(), summary_model: is_another.then(|| self.summary.model.clone()) }
    }

    /// The first of these tasks that its model cannot be asked for, and that model.
    pub fn cannot(&self, tasks: Tasks) -> Option<(Task, &ModelInfo)> {
        let asked = [(Task::Translation, tasks.translation), (Task::Summary, tasks.summary)];
        asked.into_iter().filter(|(_, is_asked)| *is_asked).find_map(|(task, _)| {
            let model = self.writer(task).model.as_ref();
            (!model.tasks.contains(task)).then_some((task, model))
        })
    }

    /// The engine of the translation's model.
    pub fn engine(&self) -> &Engine {
        &self.translation.engine
    }

    /// The engines of its models, in their order.
    pub fn engines(&self) -> Vec<&Engine> {
        self.writers().into_iter().map(|writer| &writer.engine).collect()
    }

    /// The version of the prompts.
    pub fn prompt_version(&self) -> &str {
        self.prompts.version()
    }
}
