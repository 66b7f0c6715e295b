//! One request to the model and its completion.

use std::time::Instant;

use super::{Job, Pipeline, PipelineError, Writer, prompt::Request};
use crate::engine::{FinishReason, Generation, GenerationEvent, Prompt, QueueOrder, Sampling};

/// What the model made of one prompt.
#[derive(Debug, Clone)]
pub(super) struct Completion {
    /// The text, without white space around it.
    pub(super) text: String,
    /// True when the model ended by itself, false when it was stopped at a limit of tokens or characters.
    pub(super) whole: bool,
    /// How likely the model found what it wrote: the mean of its tokens' log-probabilities.
    pub(super) confidence: f64,
    pub(super) usage: Usage,
    /// What a beam search found besides, the likelier first; they cost nothing more.
    pub(super) others: Vec<Completion>,
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
        order: QueueOrder,
    ) -> Result<Completion, PipelineError> {
        let writer = self.writer(request.task());
        let tokens = self.prompts.tokens(request, &writer.tokenizer)?;
        // The answers of an encoder-decoder have an end of their own.
        let max_new_tokens = match writer.tokenizer.takes_sources() {
            true => max_new_tokens.min(writer.engine.max_completion(tokens.len())),
            false => max_new_tokens,
        };
        let mut usage = Usage { prompt_tokens: tokens.len(), ..Usage::default() };
        let mut others = Vec::new();
        let mut generation = writer
            .engine
            .submit(Prompt {
                sampling,
                allowed: request.is_english().then(|| writer.english.clone()),
                ..writer.prompt(job, tokens, max_new_tokens, order)
            })
            .await?;
        let mut text = writer.tokenizer.detokenizer(request.stop_strings());
        let mut likelihood = 0.0;
        let whole = loop {
            match next(&mut generation, &mut usage).await? {
                Next::Token { id, log_probability } => {
                    usage.completion_tokens += 1;
                    likelihood += log_probability;
                    if text.push(id)? {
                        break true;
                    }
                    if request.is_overlong(text.text()) {
                        break false;
                    }
                }
                Next::Alternative { tokens, log_probabilities, whole } => {
                    let mut text = writer.tokenizer.detokenizer(request.stop_strings());
                    for token in &tokens {
                        text.push(*token)?;
                    }
                    let likelihood: f64 = log_probabilities.iter().copied().map(f64::from).sum();
                    let confidence = likelihood / tokens.len().max(1) as f64;
                    let text = text.text().trim().to_owned();
                    let (usage, others_of_it) = (Usage::default(), Vec::new());
                    others.push(Completion { text, whole, confidence, usage, others: others_of_it });
                }
                Next::End { stopped } => break stopped,
            }
        };
        let confidence = likelihood / usage.completion_tokens.max(1) as f64;
        Ok(Completion { text: text.text().trim().to_owned(), whole, confidence, usage, others })
    }

    /// How likely the model finds a text as the answer to a request: the mean of its tokens' log-probabilities.
    pub(super) async fn likelihood(
        &self,
        job: &Job,
        request: Request<'_>,
        answer: &str,
        order: QueueOrder,
    ) -> Result<(f64, Usage), PipelineError> {
        let writer = self.writer(request.task());
        let tokens = self.prompts.tokens(request, &writer.tokenizer)?;
        let answer = writer.tokenizer.encode(answer)?;
        let count = answer.len();
        let mut usage = Usage { prompt_tokens: tokens.len() + count, ..Usage::default() };
        let mut generation = writer.engine.score(writer.prompt(job, tokens, count, order), answer).await?;
        let mut likelihood = 0.0;
        while let Next::Token { log_probability, .. } = next(&mut generation, &mut usage).await? {
            likelihood += log_probability;
        }
        Ok((likelihood / count.max(1) as f64, usage))
    }
}

/// What comes next of a generation.
enum Next {
    Token {
        id: u32,
        log_probability: f64,
    },
    /// Another answer, of a beam search.
    Alternative {
        tokens: Vec<u32>,
        log_probabilities: Vec<f32>,
        whole: bool,
    },
    /// It is over: the model stopped by itself, or at the limit of tokens.
    End {
        stopped: bool,
    },
}

/// Waits for the next token; notes when the engine began.
async fn next(generation: &mut Generation, usage: &mut Usage) -> Result<Next, PipelineError> {
    loop {
        return match generation.next().await {
            Some(GenerationEvent::Started { at, cached_tokens }) => {
                usage.started = Some(at);
                usage.cached_tokens = cached_tokens;
                continue;
            }
            Some(GenerationEvent::Token { id, log_probability }) => {
                Ok(Next::Token { id, log_probability: log_probability.into() })
            }
            Some(GenerationEvent::Alternative { tokens, log_probabilities, complete: whole }) => {
                Ok(Next::Alternative { tokens, log_probabilities, whole })
            }
            Some(GenerationEvent::Finished(FinishReason::Stop)) => Ok(Next::End { stopped: true }),
            Some(GenerationEvent::Finished(FinishReason::Length)) => Ok(Next::End { stopped: false }),
            Some(GenerationEvent::Finished(FinishReason::Deadline)) => Err(PipelineError::Deadline),
            Some(GenerationEvent::Failed(reason)) => Err(PipelineError::Engine(reason)),
            None => Err(PipelineError::Engine("it stopped without a word".to_owned())),
        };
    }
}

impl Writer {
    /// A prompt whose tokens are chosen greedily among all.
    fn prompt(&self, job: &Job, tokens: Vec<u32>, max_new_tokens: usize, order: QueueOrder) -> Prompt {
        Prompt {
            tokens,
            max_new_tokens,
            stop_tokens: self.tokenizer.stop_tokens().to_vec(),
            sampling: Sampling::Greedy,
            allowed: None,
            priority: job.priority,
            order,
            deadline: job.deadline,
        }
    }
}
