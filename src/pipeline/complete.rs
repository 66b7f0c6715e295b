//! One model call: a prompt goes to the engine, its events become a completion.
//!
//! Called by `translate` and `summarize`.

use std::time::Instant;

use super::{Job, Pipeline, PipelineError, TaskModel, prompt::PromptRequest};
use crate::engine::{FinishReason, Generation, GenerationEvent, Prompt, QueueOrder, Sampling};

/// The completion of one prompt.
#[derive(Debug, Clone)]
pub(super) struct Completion {
    /// The text, trimmed.
    pub(super) text: String,
    /// True if the model ended by itself, false if it was stopped at a limit of tokens or characters.
    pub(super) complete: bool,
    /// The mean log-probability of the tokens.
    pub(super) confidence: f64,
    pub(super) usage: Usage,
    /// The other results of a beam search, the likeliest first. Their usage is zero.
    pub(super) other_beams: Vec<Completion>,
}

/// The tokens and the start time of one or more completions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) prompt_tokens: usize,
    pub(super) cached_tokens: usize,
    pub(super) completion_tokens: usize,
    /// The time at which the engine started on the first of them.
    pub(super) started: Option<Instant>,
}

impl Usage {
    /// Returns the sum of two usages.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            cached_tokens: self.cached_tokens + other.cached_tokens,
            completion_tokens: self.completion_tokens + other.completion_tokens,
            started: self.started.into_iter().chain(other.started).min(),
        }
    }
}

impl Pipeline {
    /// Prompts the model and waits for its completion of at most `max_new_tokens` tokens.
    pub(super) async fn complete(
        &self,
        job: &Job,
        request: PromptRequest<'_>,
        sampling: Sampling,
        max_new_tokens: usize,
        queue_order: QueueOrder,
    ) -> Result<Completion, PipelineError> {
        let model = self.task_model(request.task());
        let tokens = self.prompts.tokens(request, &model.tokenizer)?;
        // An encoder-decoder limits its output by itself.
        let max_new_tokens = match model.tokenizer.takes_sources() {
            true => max_new_tokens.min(model.engine.max_completion(tokens.len())),
            false => max_new_tokens,
        };
        let mut usage = Usage { prompt_tokens: tokens.len(), ..Usage::default() };
        let mut other_beams = Vec::new();
        let mut generation = model
            .engine
            .submit(Prompt {
                sampling,
                allowed: request.is_english().then(|| model.english.clone()),
                ..model.greedy_prompt(job, tokens, max_new_tokens, queue_order)
            })
            .await?;
        let mut text = model.tokenizer.detokenizer(request.stop_strings());
        let mut log_probability_sum = 0.0;
        let complete = loop {
            match next_event(&mut generation, &mut usage).await? {
                CompletionEvent::Token { id, log_probability } => {
                    usage.completion_tokens += 1;
                    log_probability_sum += log_probability;
                    if text.push(id)? {
                        break true;
                    }
                    if request.is_overlong(text.text()) {
                        break false;
                    }
                }
                CompletionEvent::OtherBeam { tokens, log_probabilities, complete } => {
                    let mut text = model.tokenizer.detokenizer(request.stop_strings());
                    for token in &tokens {
                        text.push(*token)?;
                    }
                    let sum: f64 = log_probabilities.iter().copied().map(f64::from).sum();
                    other_beams.push(Completion {
                        text: text.text().trim().to_owned(),
                        complete,
                        confidence: sum / tokens.len().max(1) as f64,
                        usage: Usage::default(),
                        other_beams: Vec::new(),
                    });
                }
                CompletionEvent::End { complete } => break complete,
            }
        };
        let confidence = log_probability_sum / usage.completion_tokens.max(1) as f64;
        Ok(Completion { text: text.text().trim().to_owned(), complete, confidence, usage, other_beams })
    }

    /// Returns the mean log-probability of a given text as the completion of a prompt.
    pub(super) async fn likelihood(
        &self,
        job: &Job,
        request: PromptRequest<'_>,
        completion: &str,
        queue_order: QueueOrder,
    ) -> Result<(f64, Usage), PipelineError> {
        let model = self.task_model(request.task());
        let tokens = self.prompts.tokens(request, &model.tokenizer)?;
        let completion = model.tokenizer.encode(completion)?;
        let count = completion.len();
        let mut usage = Usage { prompt_tokens: tokens.len() + count, ..Usage::default() };
        let prompt = model.greedy_prompt(job, tokens, count, queue_order);
        let mut generation = model.engine.score(prompt, completion).await?;
        let mut sum = 0.0;
        while let CompletionEvent::Token { log_probability, .. } =
            next_event(&mut generation, &mut usage).await?
        {
            sum += log_probability;
        }
        Ok((sum / count.max(1) as f64, usage))
    }
}

/// An event of a generation that did not fail.
enum CompletionEvent {
    Token {
        id: u32,
        log_probability: f64,
    },
    /// Another result of a beam search.
    OtherBeam {
        tokens: Vec<u32>,
        log_probabilities: Vec<f32>,
        complete: bool,
    },
    /// The end: by the model itself if `complete`, otherwise at the token limit.
    End {
        complete: bool,
    },
}

/// Waits for the next event and records in `usage` when the engine started.
async fn next_event(
    generation: &mut Generation,
    usage: &mut Usage,
) -> Result<CompletionEvent, PipelineError> {
    loop {
        return match generation.next().await {
            Some(GenerationEvent::Started { at, cached_tokens }) => {
                usage.started = Some(at);
                usage.cached_tokens = cached_tokens;
                continue;
            }
            Some(GenerationEvent::Token { id, log_probability }) => {
                Ok(CompletionEvent::Token { id, log_probability: log_probability.into() })
            }
            Some(GenerationEvent::Alternative { tokens, log_probabilities, complete }) => {
                Ok(CompletionEvent::OtherBeam { tokens, log_probabilities, complete })
            }
            Some(GenerationEvent::Finished(FinishReason::Stop)) => {
                Ok(CompletionEvent::End { complete: true })
            }
            Some(GenerationEvent::Finished(FinishReason::Length)) => {
                Ok(CompletionEvent::End { complete: false })
            }
            Some(GenerationEvent::Finished(FinishReason::Deadline)) => Err(PipelineError::Deadline),
            Some(GenerationEvent::Failed(reason)) => Err(PipelineError::Engine(reason)),
            None => Err(PipelineError::Engine("the stream closed unexpectedly".to_owned())),
        };
    }
}

impl TaskModel {
    /// Builds a prompt with greedy decoding over the whole vocabulary.
    fn greedy_prompt(
        &self,
        job: &Job,
        tokens: Vec<u32>,
        max_new_tokens: usize,
        queue_order: QueueOrder,
    ) -> Prompt {
        Prompt {
            tokens,
            max_new_tokens,
            stop_tokens: self.tokenizer.stop_tokens().to_vec(),
            sampling: Sampling::Greedy,
            allowed: None,
            adapter: None,
            priority: job.priority,
            order: queue_order,
            deadline: job.deadline,
        }
    }
}
