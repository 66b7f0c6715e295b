//! One request to the model and its completion.

use std::time::Instant;

use super::{Job, Pipeline, PipelineError, prompt::Request};
use crate::engine::{FinishReason, GenerationEvent, Prompt, Sampling};

/// What the model made of one prompt.
#[derive(Debug, Clone)]
pub(super) struct Completion {
    /// The text, without white space around it.
    pub(super) text: String,
    /// True when the model ended by itself, false when it was stopped at a limit of tokens or characters.
    pub(super) whole: bool,
    pub(super) usage: Usage,
}

/// What completions cost, summed up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) prompt_tokens: usize,
    pub(super) cached_tokens: usize,
    pub(super) completion_tokens: usize,
    /// When the engine began with the first of them.
    pub(super) started: Option<Instant>,
}

impl Usage {
    /// The sum of two.
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
    /// Asks the model and waits for the end of its answer of at most `max_new_tokens` tokens.
    pub(super) async fn complete(
        &self,
        job: &Job,
        request: Request<'_>,
        sampling: Sampling,
        max_new_tokens: usize,
    ) -> Result<Completion, PipelineError> {
        let writer = self.writer(request.task());
        let tokens = self.prompts.tokens(request, &writer.tokenizer)?;
        let mut usage = Usage { prompt_tokens: tokens.len(), ..Usage::default() };
        let mut generation = writer
            .engine
            .submit(Prompt {
                tokens,
                max_new_tokens,
                stop_tokens: writer.tokenizer.stop_tokens().to_vec(),
                sampling,
                allowed: request.is_english().then(|| writer.english.clone()),
                priority: job.priority,
                deadline: job.deadline,
            })
            .await?;
        let mut text = writer.tokenizer.detokenizer(request.stop_strings());
        let whole = loop {
            match generation.next().await {
                Some(GenerationEvent::Started { at, cached_tokens }) => {
                    usage.started = Some(at);
                    usage.cached_tokens = cached_tokens;
                }
                Some(GenerationEvent::Token(token)) => {
                    usage.completion_tokens += 1;
                    if text.push(token)? {
                        break true;
                    }
                    if request.is_overlong(text.text()) {
                        break false;
                    }
                }
                Some(GenerationEvent::Finished(FinishReason::Stop)) => break true,
                Some(GenerationEvent::Finished(FinishReason::Length)) => break false,
                Some(GenerationEvent::Finished(FinishReason::Deadline)) => {
                    return Err(PipelineError::Deadline);
                }
                Some(GenerationEvent::Failed(reason)) => return Err(PipelineError::Engine(reason)),
                None => return Err(PipelineError::Engine("it stopped without a word".to_owned())),
            }
        };
        Ok(Completion { text: text.text().trim().to_owned(), whole, usage })
    }
}
