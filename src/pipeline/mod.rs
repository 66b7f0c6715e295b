//! The pipeline: turns one validated [`Job`] into the digests of its sections.
//!
//! ```text
//! Document ──▶ each section, several at a time:
//!                translate: paragraph ─frame, chunk, pretranslate─▶ prompts ─engine─▶ completions ─fidelity─▶ paragraph
//!                summarize: section ─prompt─▶ completion ─▶ complete sentences within the limit ─fidelity─▶ summary
//!              repaired while the checks find something; the remaining findings go into the ──▶ SectionDigest
//! ```
//!
//! Called by `server`. This is the only place where document, prompts, engine and checks meet; it knows nothing of gRPC.

mod chunk;
mod complete;
mod dateline;
mod digest;
mod job;
mod person;
mod pretranslate;
mod prompt;
mod summarize;
mod task_model;
mod translate;

use std::{path::Path, sync::Arc};

pub use digest::{SectionDigest, SectionOutcome, SourceSentence, Statistics, Timings};
pub use job::{DEFAULT_MAX_ATTEMPTS, DEFAULT_SUMMARY_CHARS, Job};
pub use prompt::{PromptError, Prompts};
pub use summarize::{Summary, SummarySentence};
pub use translate::{ParagraphTranslation, Translation};

use self::task_model::TaskModel;
use crate::{
    engine::{Engine, EngineConfig, StartError, SubmitError},
    fidelity::Finding,
    model::{ModelError, ModelOptions},
    task::{Task, Tasks},
    tokenizer::{Tokenizer, TokenizerError},
};

/// The identity of a model, and its tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The id of the model.
    pub id: String,
    /// SHA-256 of the weights, hexadecimal.
    pub weights_sha256: String,
    /// The tasks that the model supports.
    pub tasks: Tasks,
}

/// The models that produce the results of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelsUsed {
    /// The model of the translation, or of all results.
    pub model: Arc<ModelInfo>,
    /// The model of the summary if it is a different one.
    pub summary_model: Option<Arc<ModelInfo>>,
}

/// A finding and the result that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionFinding {
    /// The result.
    pub task: Task,
    /// The index of the paragraph in the section; `None` for the heading and for summaries.
    pub paragraph: Option<usize>,
    /// The finding; its spans are relative to the paragraph, the heading or the summary.
    pub finding: Finding,
}

/// An error that prevents a section from being digested or a pipeline from starting.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The model file cannot be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Text cannot be encoded or tokens cannot be decoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The engine rejected a prompt.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The engine failed during a generation.
    #[error("the engine failed: {0}")]
    Engine(String),
    /// The deadline passed.
    #[error("the deadline passed before the section was finished")]
    Deadline,
    /// The engine cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Running models and prompts, ready for jobs; cheap to clone.
///
/// Each task has a model; usually both use the same one.
#[derive(Clone)]
pub struct Pipeline {
    summary: Arc<TaskModel>,
    translation: Arc<TaskModel>,
    prompts: Arc<Prompts>,
}

impl Pipeline {
    /// Creates a pipeline that uses one decoder model for both tasks.
    pub fn new(engine: Engine, tokenizer: Tokenizer, model: ModelInfo) -> Self {
        Self::with_task_model(TaskModel::decoder(engine, tokenizer, model))
    }

    /// Loads the model at `path` (a GGUF file, or the directory of an encoder-decoder) and starts its engine. Blocks for
    /// seconds.
    ///
    /// # Errors
    /// If the model is missing, corrupt or of an unknown kind, or the device cannot be used.
    pub fn load(
        path: &Path,
        model: ModelInfo,
        options: &ModelOptions,
        config: EngineConfig,
    ) -> Result<Self, PipelineError> {
        TaskModel::load(path, model, options, config).map(Self::with_task_model)
    }

    fn with_task_model(model: TaskModel) -> Self {
        let model = Arc::new(model);
        Self { summary: model.clone(), translation: model, prompts: Arc::new(Prompts::builtin().clone()) }
    }

    /// Uses the summary model of another pipeline for summaries.
    #[must_use]
    pub fn with_summary_model(mut self, other: Self) -> Self {
        self.summary = other.summary;
        self
    }

    /// Replaces the prompts.
    #[must_use]
    pub fn with_prompts(mut self, prompts: Prompts) -> Self {
        self.prompts = Arc::new(prompts);
        self
    }

    /// Returns a pipeline that uses the model with this id for both tasks; `None` if there is no such model.
    pub fn restricted_to(&self, id: &str) -> Option<Self> {
        let model = self.task_models().into_iter().find(|model| model.info.id == id)?.clone();
        Some(Self { summary: model.clone(), translation: model, prompts: self.prompts.clone() })
    }

    /// Returns the models without duplicates, that of the translation first.
    fn task_models(&self) -> Vec<&Arc<TaskModel>> {
        let is_same = self.summary.info == self.translation.info;
        std::iter::once(&self.translation).chain((!is_same).then_some(&self.summary)).collect()
    }

    fn task_model(&self, task: Task) -> &TaskModel {
        match task {
            Task::Summary => &self.summary,
            Task::Translation => &self.translation,
        }
    }

    /// Returns the running models without duplicates, that of the translation first.
    pub fn models(&self) -> Vec<&ModelInfo> {
        self.task_models().into_iter().map(|model| model.info.as_ref()).collect()
    }

    /// Returns the models that would produce the results of these tasks.
    pub fn models_used(&self, tasks: Tasks) -> ModelsUsed {
        let main = if tasks.translation { &self.translation } else { &self.summary };
        let is_different = tasks.summary && self.summary.info != main.info;
        ModelsUsed {
            model: main.info.clone(),
            summary_model: is_different.then(|| self.summary.info.clone()),
        }
    }

    /// Returns the first of these tasks that its model does not support, together with that model.
    pub fn unsupported_task(&self, tasks: Tasks) -> Option<(Task, &ModelInfo)> {
        let requested = [(Task::Translation, tasks.translation), (Task::Summary, tasks.summary)];
        requested.into_iter().filter(|(_, is_requested)| *is_requested).find_map(|(task, _)| {
            let model = self.task_model(task).info.as_ref();
            (!model.tasks.contains(task)).then_some((task, model))
        })
    }

    /// Returns the engine of the translation's model.
    pub fn engine(&self) -> &Engine {
        &self.translation.engine
    }

    /// Returns the engines of [`Self::models`], in the same order.
    pub fn engines(&self) -> Vec<&Engine> {
        self.task_models().into_iter().map(|model| &model.engine).collect()
    }

    /// Returns the version of the prompts.
    pub fn prompt_version(&self) -> &str {
        self.prompts.version()
    }
}
