//! The handle to the engine that the rest of the program holds: it submits prompts and receives their tokens.
//!
//! [`Engine::start`] spawns the worker thread; everything else here only sends messages to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::{mpsc, watch};

use super::{EngineConfig, EngineMetrics, FinishReason, Prompt, QueueOrder, worker};
use crate::model::{AdapterInfo, Model, ModelError, seq2seq::Seq2Seq};

/// Space that a tokenizer may need around a source for its prefix and end token, in tokens.
const SOURCE_MARGIN: usize = 8;

/// The state of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// The engine accepts prompts.
    Ready,
    /// The engine has stopped permanently, for this reason.
    Failed(String),
}

/// Why a prompt was rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Prompt and completion together exceed the maximum length of a sequence.
    #[error("the prompt has {prompt} tokens and up to {completion} new ones; the limit is {limit} in total")]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Maximum number of new tokens.
        completion: usize,
        /// Maximum length of a sequence.
        limit: usize,
    },
    /// The source or the completion of an encoder-decoder is too long.
    #[error(
        "the source has {source_tokens} tokens and up to {completion} new ones; the limit is {limit} for each"
    )]
    SourceTooLong {
        /// Tokens of the source.
        source_tokens: usize,
        /// Maximum number of new tokens.
        completion: usize,
        /// Maximum length of each.
        limit: usize,
    },
    /// The prompt is empty, or asks for no new tokens.
    #[error("a prompt needs at least one token and at least one new token")]
    Empty,
    /// The prompt uses an adapter that the model does not have.
    #[error("the model has no such adapter")]
    UnknownAdapter,
    /// The engine has stopped.
    #[error("the engine has stopped: {0}")]
    Stopped(String),
}

/// Why an engine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The KV cache could not be allocated.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The operating system could not create the thread.
    #[error("cannot start the engine's thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// An event of a sequence, in the order in which it reaches the receiver.
#[derive(Debug, Clone, PartialEq)]
pub enum GenerationEvent {
    /// The step that is about to run reads the first tokens of the prompt.
    Started {
        /// The time of this event.
        at: Instant,
        /// Tokens of the prompt that come from the prefix cache.
        cached_tokens: usize,
    },
    /// The next token of the completion.
    Token {
        /// The token id.
        id: u32,
        /// Natural logarithm of its probability among all tokens.
        log_probability: f32,
    },
    /// A further completion found by a beam search, less likely than the one before it.
    Alternative {
        /// Its tokens.
        tokens: Vec<u32>,
        /// The log-probability of each token.
        log_probabilities: Vec<f32>,
        /// `true` if the model ended it, `false` if it reached the token limit.
        complete: bool,
    },
    /// The completion has ended.
    Finished(FinishReason),
    /// The engine failed.
    Failed(String),
}

/// The completion of one prompt, token by token. Dropping it cancels the sequence at the next step.
#[derive(Debug)]
pub struct Generation {
    pub(super) events: mpsc::Receiver<GenerationEvent>,
}

impl Generation {
    /// Waits for the next event; returns `None` after `Finished` or `Failed`.
    pub async fn next(&mut self) -> Option<GenerationEvent> {
        self.events.recv().await
    }
}

/// A prompt on its way to the worker.
pub(super) struct Submission {
    pub(super) prompt: Prompt,
    /// A given completion to be scored instead of generated.
    pub(super) given: Option<Vec<u32>>,
    pub(super) events: mpsc::Sender<GenerationEvent>,
    /// The time of submission.
    pub(super) at: Instant,
}

impl Submission {
    /// Returns `true` if the receiver was dropped or the deadline has passed.
    pub(super) fn is_abandoned(&self, now: Instant) -> bool {
        self.events.is_closed() || self.prompt.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Sends an event. The channel has capacity for all events of a sequence; a closed one is noticed at the next step.
    pub(super) fn emit(&self, event: GenerationEvent) {
        let _ = self.events.try_send(event);
    }
}

/// A handle to the engine; cheap to clone. The worker ends when the last handle is dropped.
#[derive(Clone)]
pub struct Engine {
    submissions: mpsc::Sender<Submission>,
    health: watch::Receiver<Health>,
    metrics: EngineMetrics,
    config: EngineConfig,
    length_limit: LengthLimit,
    adapters: Arc<[AdapterInfo]>,
    /// Completions that a beam search returns at most.
    beams: usize,
    /// The next value of [`QueueOrder`].
    orders: Arc<AtomicU64>,
}

/// The maximum length of a prompt and its completion, in tokens.
#[derive(Clone, Copy)]
enum LengthLimit {
    /// For both together.
    Total(usize),
    /// For each of them.
    Each(usize),
}

impl Engine {
    /// Starts the worker thread that owns `model`, with the adapters that were added to it.
    ///
    /// # Errors
    /// If the KV cache does not fit into memory, or the operating system cannot create a thread.
    pub fn start(model: Box<dyn Model>, config: EngineConfig) -> Result<Self, StartError> {
        let max_model_len = config.max_model_len.min(model.max_positions());
        let available = if config.kv_tokens.is_none() { model.available_kv_tokens()? } else { None };
        let kv_tokens = EngineConfig { max_model_len, ..config }.kv_tokens_for(available);
        let config = EngineConfig {
            max_model_len: max_model_len.min(kv_tokens),
            kv_tokens: Some(kv_tokens),
            ..config
        };
        let limit = LengthLimit::Total(config.max_model_len);
        let adapters = model.adapters().into();
        let new_worker =
            |inbox, metrics| worker::DecoderWorker::new(model, config, kv_tokens, inbox, metrics);
        Self::spawn(config, limit, adapters, 1, new_worker)
    }

    /// Starts the worker thread that owns an encoder-decoder.
    ///
    /// # Errors
    /// If the operating system cannot create a thread.
    pub fn start_seq2seq(model: Seq2Seq, config: EngineConfig) -> Result<Self, StartError> {
        let beams = model.search_settings().beams;
        // A source and all its beams fit into the KV cache at their maximum length.
        let kv_tokens = config.kv_tokens_for(None);
        let longest = model.max_positions().min(config.max_model_len).min(kv_tokens / (1 + beams));
        let config = EngineConfig { max_model_len: longest, kv_tokens: Some(kv_tokens), ..config };
        let new_worker =
            |inbox, metrics| Ok(worker::Seq2SeqWorker::new(model, config, kv_tokens, inbox, metrics));
        Self::spawn(config, LengthLimit::Each(longest), Arc::new([]), beams, new_worker)
    }

    fn spawn<W: worker::EngineWorker + Send + 'static>(
        config: EngineConfig,
        length_limit: LengthLimit,
        adapters: Arc<[AdapterInfo]>,
        beams: usize,
        new_worker: impl FnOnce(mpsc::Receiver<Submission>, EngineMetrics) -> Result<W, ModelError>,
    ) -> Result<Self, StartError> {
        let (submissions, inbox) = mpsc::channel(config.queue_len);
        let (health_sender, health) = watch::channel(Health::Ready);
        let metrics = EngineMetrics::default();
        let worker = new_worker(inbox, metrics.clone())?;
        // The thread ends by itself when the last handle closes the channel. Nothing joins it, because that handle may
        // be dropped on a runtime thread in the middle of a step.
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || worker::run(worker, &health_sender))?;
        Ok(Self {
            submissions,
            health,
            metrics,
            config,
            length_limit,
            adapters,
            beams,
            orders: Arc::default(),
        })
    }

    /// Returns the queue order for a unit of work that starts now. Submit all of its prompts with this order.
    pub fn next_order(&self) -> QueueOrder {
        QueueOrder(self.orders.fetch_add(1, Ordering::Relaxed))
    }

    /// Submits a prompt; waits while the queue is full.
    ///
    /// # Errors
    /// If the prompt exceeds a limit or uses an unknown adapter, or the engine has stopped.
    pub async fn submit(&self, prompt: Prompt) -> Result<Generation, SubmitError> {
        self.send(prompt, None).await
    }

    /// Scores a given completion: the generation yields its tokens with the log-probability of each. The `sampling`,
    /// `allowed`, `stop_tokens` and `max_new_tokens` of the prompt are ignored.
    ///
    /// # Errors
    /// If prompt and completion exceed a limit, or the engine has stopped.
    pub async fn score(&self, prompt: Prompt, completion: Vec<u32>) -> Result<Generation, SubmitError> {
        let (max_new_tokens, stop_tokens) = (completion.len(), Vec::new());
        self.send(Prompt { max_new_tokens, stop_tokens, ..prompt }, Some(completion)).await
    }

    async fn send(&self, prompt: Prompt, given: Option<Vec<u32>>) -> Result<Generation, SubmitError> {
        if prompt.tokens.is_empty() || prompt.max_new_tokens == 0 {
            return Err(SubmitError::Empty);
        }
        if prompt.adapter.is_some_and(|adapter| adapter.index() >= self.adapters.len()) {
            return Err(SubmitError::UnknownAdapter);
        }
        let (prompt_tokens, completion) = (prompt.tokens.len(), prompt.max_new_tokens);
        match self.length_limit {
            LengthLimit::Total(limit) if prompt_tokens + completion > limit => {
                return Err(SubmitError::TooLong { prompt: prompt_tokens, completion, limit });
            }
            LengthLimit::Each(limit) if prompt_tokens.max(completion) > limit => {
                return Err(SubmitError::SourceTooLong { source_tokens: prompt_tokens, completion, limit });
            }
            LengthLimit::Total(_) | LengthLimit::Each(_) => {}
        }
        // Capacity for every event of the sequence, so that the worker never waits for a slow reader.
        let (events, receiver) = mpsc::channel(prompt.max_new_tokens + 2 + self.beams);
        let sent = self.submissions.send(Submission { prompt, given, events, at: Instant::now() }).await;
        sent.map_err(|_| SubmitError::Stopped(self.failure()))?;
        Ok(Generation { events: receiver })
    }

    /// Returns the maximum length of a sequence, prompt and completion together, in tokens.
    pub fn max_model_len(&self) -> usize {
        self.config.max_model_len
    }

    /// Returns the maximum length of a completion of a prompt with `prompt_tokens` tokens.
    pub fn max_completion(&self, prompt_tokens: usize) -> usize {
        match self.length_limit {
            LengthLimit::Total(limit) => limit.saturating_sub(prompt_tokens),
            LengthLimit::Each(limit) => limit,
        }
    }

    /// Returns the maximum length of a prompt that leaves space for a completion of the same length, in tokens.
    pub fn max_prompt(&self) -> usize {
        match self.length_limit {
            LengthLimit::Total(limit) => limit / 2,
            LengthLimit::Each(limit) => limit - limit.min(SOURCE_MARGIN),
        }
    }

    /// Returns the adapters that prompts can use; the index of an [`AdapterId`](crate::model::AdapterId) refers to
    /// them.
    pub fn adapters(&self) -> &[AdapterInfo] {
        &self.adapters
    }

    /// Returns the maximum number of sequences decoded together.
    pub fn max_sequences(&self) -> usize {
        self.config.max_sequences
    }

    /// Returns a receiver that observes changes of the engine's health.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Returns the number of running sequences.
    pub fn running(&self) -> usize {
        usize::try_from(self.metrics.running.get()).unwrap_or_default()
    }

    /// Returns the number of sequences that wait in the scheduler.
    pub fn waiting(&self) -> usize {
        usize::try_from(self.metrics.waiting.get()).unwrap_or_default()
    }

    /// Returns the metrics of this engine.
    pub fn metrics(&self) -> &EngineMetrics {
        &self.metrics
    }

    fn failure(&self) -> String {
        match &*self.health.borrow() {
            Health::Ready => "its worker thread has ended".to_owned(),
            Health::Failed(reason) => reason.clone(),
        }
    }
}
