//! What the rest of the program holds of the engine: a handle to send prompts, and the tokens that
//! come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::{mpsc, watch};

use super::{EngineConfig, EngineMetrics, FinishReason, Prompt, Turn, seq2seq, thread, worker};
use crate::model::{Model, ModelError, seq2seq::Seq2Seq};

/// Whether the engine can work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It takes prompts.
    Ready,
    /// It stopped for good, and this is why.
    Failed(String),
}

/// Why a prompt was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Prompt and answer together are longer than a sequence may be.
    #[error("the prompt has {prompt} tokens and {answer} are to be written; the limit is {limit} together")]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens to be written.
        answer: usize,
        /// The limit.
        limit: usize,
    },
    /// A source or an answer of an encoder-decoder is longer than it may be.
    #[error(
        "the source has {source_tokens} tokens and {answer} are to be written; the limit is {limit} each"
    )]
    SourceTooLong {
        /// Tokens of the source.
        source_tokens: usize,
        /// Tokens to be written.
        answer: usize,
        /// The limit.
        limit: usize,
    },
    /// A prompt without tokens, or an answer of none.
    #[error("a prompt needs at least one token and at least one new token")]
    Empty,
    /// The engine is gone.
    #[error("the engine has stopped: {0}")]
    Stopped(String),
}

/// Why an engine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no room for the KV cache.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The system gave no thread.
    #[error("the engine's thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// What comes back of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum GenerationEvent {
    /// The first tokens of the prompt go into the step that begins now.
    Started {
        /// Now.
        at: Instant,
        /// Tokens of the prompt that are not read, because a prompt before it began with the same ones.
        cached_tokens: usize,
    },
    /// The next token of the answer.
    Token {
        /// Which.
        id: u32,
        /// How likely the model found it, as the natural logarithm of its probability among all tokens.
        log_probability: f32,
    },
    /// Another answer that a beam search found, less likely than the one that was handed out; the likelier first.
    Alternative {
        /// Its tokens.
        tokens: Vec<u32>,
        /// How likely the model found each.
        log_probabilities: Vec<f32>,
        /// Whether the model ended it, or the limit of tokens.
        whole: bool,
    },
    /// The answer is over.
    Finished(FinishReason),
    /// The engine failed.
    Failed(String),
}

/// The answer to one prompt, token by token. Dropping it cancels the work at the next step.
#[derive(Debug)]
pub struct Generation {
    pub(super) events: mpsc::Receiver<GenerationEvent>,
}

impl Generation {
    /// The next event; after `Finished` or `Failed` there is none.
    pub async fn next(&mut self) -> Option<GenerationEvent> {
        self.events.recv().await
    }
}

/// A prompt on its way to the worker.
pub(super) struct Submission {
    pub(super) prompt: Prompt,
    /// The answer, when it is given and only its likelihood is wanted.
    pub(super) given: Option<Vec<u32>>,
    pub(super) events: mpsc::Sender<GenerationEvent>,
    /// When it was sent.
    pub(super) at: Instant,
}

impl Submission {
    /// Whether its receiver is gone or its deadline has passed.
    pub(super) fn is_unwanted(&self, now: Instant) -> bool {
        self.events.is_closed() || self.prompt.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Tells the receiver. The channel has room for every event; a closed one is noticed at the next step.
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
    lengths: Lengths,
    /// How many answers are followed at once; those that are not handed out are alternatives.
    beams: usize,
    /// The turns that were handed out.
    turns: Arc<AtomicU64>,
}

/// What a prompt and its answer may be long.
#[derive(Clone, Copy)]
enum Lengths {
    /// Together.
    Together(usize),
    /// Each.
    Apart(usize),
}

impl Engine {
    /// Starts the worker thread that owns `model`.
    ///
    /// # Errors
    /// When there is no room for the KV cache, or the system gives no thread.
    pub fn start(model: Box<dyn Model>, config: EngineConfig) -> Result<Self, StartError> {
        let max_model_len = config.max_model_len.min(model.max_positions());
        let room = if config.kv_tokens.is_none() { model.kv_room()? } else { None };
        let kv_tokens = EngineConfig { max_model_len, ..config }.kv_tokens_in(room);
        let config = EngineConfig {
            max_model_len: max_model_len.min(kv_tokens),
            kv_tokens: Some(kv_tokens),
            ..config
        };
        let lengths = Lengths::Together(config.max_model_len);
        let make = |inbox, metrics| worker::Worker::new(model, config, kv_tokens, inbox, metrics);
        Self::spawn(config, lengths, 1, make)
    }

    /// Starts the worker thread that owns an encoder-decoder.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start_seq2seq(model: Seq2Seq, config: EngineConfig) -> Result<Self, StartError> {
        let beams = model.decoding().beams;
        // A source and every beam at its longest fit the room that there is.
        let kv_tokens = config.kv_tokens_in(None);
        let longest = model.max_positions().min(config.max_model_len).min(kv_tokens / (1 + beams));
        let config = EngineConfig { max_model_len: longest, kv_tokens: Some(kv_tokens), ..config };
        let make = |inbox, metrics| Ok(seq2seq::Worker::new(model, config, kv_tokens, inbox, metrics));
        Self::spawn(config, Lengths::Apart(longest), beams, make)
    }

    fn spawn<W: thread::Worker + Send + 'static>(
        config: EngineConfig,
        lengths: Lengths,
        beams: usize,
        make: impl FnOnce(mpsc::Receiver<Submission>, EngineMetrics) -> Result<W, ModelError>,
    ) -> Result<Self, StartError> {
        let (submissions, inbox) = mpsc::channel(config.queue_len);
        let (health_sender, health) = watch::channel(Health::Ready);
        let metrics = EngineMetrics::default();
        let worker = make(inbox, metrics.clone())?;
        // It ends by itself when the channel closes with the last handle; nobody waits for it, because that
        // handle may be dropped on a runtime's thread in the middle of a step.
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || thread::run(worker, &health_sender))?;
        Ok(Self { submissions, health, metrics, config, lengths, beams, turns: Arc::default() })
    }

    /// The turn of a piece of work that begins now; every prompt that it needs is sent with it.
    pub fn turn(&self) -> Turn {
        Turn(self.turns.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a prompt; waits while the queue is full.
    ///
    /// # Errors
    /// When the prompt can never run, or the engine has stopped.
    pub async fn submit(&self, prompt: Prompt) -> Result<Generation, SubmitError> {
        self.send(prompt, None).await
    }

    /// Has the model read a given answer: what comes back are the answer's tokens with the likelihood of each. Of the
    /// prompt, `sampling`, `allowed`, `stop_tokens` and `max_new_tokens` do not count.
    ///
    /// # Errors
    /// When the two can never run, or the engine has stopped.
    pub async fn rate(&self, prompt: Prompt, answer: Vec<u32>) -> Result<Generation, SubmitError> {
        let (max_new_tokens, stop_tokens) = (answer.len(), Vec::new());
        self.send(Prompt { max_new_tokens, stop_tokens, ..prompt }, Some(answer)).await
    }

    async fn send(&self, prompt: Prompt, given: Option<Vec<u32>>) -> Result<Generation, SubmitError> {
        if prompt.tokens.is_empty() || prompt.max_new_tokens == 0 {
            return Err(SubmitError::Empty);
        }
        let (source_tokens, answer) = (prompt.tokens.len(), prompt.max_new_tokens);
        match self.lengths {
            Lengths::Together(limit) if source_tokens + answer > limit => {
                return Err(SubmitError::TooLong { prompt: source_tokens, answer, limit });
            }
            Lengths::Apart(limit) if source_tokens.max(answer) > limit => {
                return Err(SubmitError::SourceTooLong { source_tokens, answer, limit });
            }
            Lengths::Together(_) | Lengths::Apart(_) => {}
        }
        // Room for every event of the sequence, so that the worker never waits for a slow reader.
        let (events, receiver) = mpsc::channel(prompt.max_new_tokens + 2 + self.beams);
        let sent = self.submissions.send(Submission { prompt, given, events, at: Instant::now() }).await;
        sent.map_err(|_| SubmitError::Stopped(self.failure()))?;
        Ok(Generation { events: receiver })
    }

    /// The longest sequence, prompt and answer, in tokens.
    pub fn max_model_len(&self) -> usize {
        self.config.max_model_len
    }

    /// The longest answer to a prompt of some length, in tokens.
    pub fn max_answer(&self, prompt_tokens: usize) -> usize {
        match self.lengths {
            Lengths::Together(limit) => limit.saturating_sub(prompt_tokens),
            Lengths::Apart(limit) => limit,
        }
    }

    /// The longest prompt that leaves room for an answer of the same length, in tokens.
    pub fn max_prompt(&self) -> usize {
        match self.lengths {
            Lengths::Together(limit) => limit / 2,
            // The text alone; something may stand before and after it.
            Lengths::Apart(limit) => limit - limit.min(8),
        }
    }

    /// The most sequences that are decoded together.
    pub fn max_sequences(&self) -> usize {
        self.config.max_sequences
    }

    /// Watches whether the engine can work.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Sequences that are being decoded now.
    pub fn running(&self) -> usize {
        usize::try_from(self.metrics.running.get()).unwrap_or_default()
    }

    /// Sequences that wait in the scheduler.
    pub fn waiting(&self) -> usize {
        usize::try_from(self.metrics.waiting.get()).unwrap_or_default()
    }

    /// What it counts of its work.
    pub fn metrics(&self) -> &EngineMetrics {
        &self.metrics
    }

    fn failure(&self) -> String {
        match &*self.health.borrow() {
            Health::Ready => "its worker is gone".to_owned(),
            Health::Failed(reason) => reason.clone(),
        }
    }
}
