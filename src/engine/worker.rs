//! The worker: one OS thread that owns the model and the KV cache and runs step after step.
//!
//! Started by [`super::Engine`]; its thread's life is [`thread`]'s.

use std::{collections::HashMap, sync::Arc, time::Instant};

use candle_core::{Device, Storage, Tensor};
use tokio::sync::mpsc;

use super::{
    EngineConfig, EngineMetrics, FinishReason, GenerationEvent, Scheduler, SchedulerLimits, SequenceId, Work,
    blocks::{self, BlockPool, whole_blocks},
    draft::{self, draft},
    handle::Submission,
    metrics::TokenClock,
    sampler::{Choice, Sampler},
    thread,
};
use crate::model::{Batch, KV_BLOCK_TOKENS, KvCache, Model, ModelError};

/// A prompt waits for another one to be read when they have so many tokens more in common than are known already.
const WORTH_WAITING_FOR: usize = 2 * KV_BLOCK_TOKENS;

/// A sequence from its submission to its end.
struct Sequence {
    submission: Submission,
    sampler: Sampler,
    /// The prompt and what was written so far.
    tokens: Vec<u32>,
    /// How many of the tokens the model has read.
    read: usize,
    /// How many of the last tokens are guesses that the model is just reading.
    guessed: usize,
    /// Its blocks of the KV cache; none while it waits.
    blocks: Arc<[u32]>,
    clock: TokenClock,
}

pub(super) struct Worker {
    model: Box<dyn Model>,
    cache: KvCache,
    blocks: BlockPool,
    scheduler: Scheduler,
    sequences: HashMap<SequenceId, Sequence>,
    inbox: mpsc::Receiver<Submission>,
    metrics: EngineMetrics,
    next_id: u64,
    max_draft_rows: usize,
    #[cfg(feature = "cuda")]
    chooser: super::cuda::Chooser,
}

/// What the model told after a token.
#[derive(Clone, Copy)]
enum Row<'a> {
    /// Its logits, to be chosen from here.
    Logits(&'a [f32]),
    /// What the device chose.
    #[cfg(feature = "cuda")]
    Chosen(Choice),
}

impl Worker {
    pub(super) fn new(
        model: Box<dyn Model>,
        config: EngineConfig,
        kv_tokens: usize,
        inbox: mpsc::Receiver<Submission>,
        metrics: EngineMetrics,
    ) -> Result<Self, ModelError> {
        let blocks = kv_tokens / KV_BLOCK_TOKENS;
        let cache = model.new_cache(blocks)?;
        let scheduler = Scheduler::new(SchedulerLimits {
            max_sequences: config.max_sequences,
            max_step_tokens: config.max_step_tokens,
        });
        metrics.kv_tokens_total.set(gauge(blocks * KV_BLOCK_TOKENS));
        metrics.kv_bytes.set(gauge(cache.bytes()));
        let blocks = BlockPool::new(blocks);
        let sequences = HashMap::new();
        let max_draft_rows = config.max_draft_rows;
        Ok(Self {
            model,
            cache,
            blocks,
            scheduler,
            sequences,
            inbox,
            metrics,
            next_id: 0,
            max_draft_rows,
            #[cfg(feature = "cuda")]
            chooser: Default::default(),
        })
    }

    /// Hands out the tokens that follow what a step read; `rows` is what the segments of the batch wanted.
    fn hand_out(&mut self, plan: &[Work], batch: &Batch, rows: &[Row<'_>]) -> Result<(), ModelError> {
        let mut rest = rows;
        for (work, segment) in plan.iter().zip(&batch.segments) {
            let (rows, after) = rest.split_at(segment.logits);
            rest = after;
            self.sample(work.id, rows)?;
        }
        self.show();
        Ok(())
    }

    /// Has the tokens chosen where the logits lie, if that is a device that can: a step's only wait for it.
    #[cfg(feature = "cuda")]
    fn choose_on_device(
        &mut self,
        plan: &[Work],
        batch: &Batch,
        logits: &Tensor,
    ) -> Result<Option<Vec<Choice>>, ModelError> {
        if !logits.device().is_cuda() {
            return Ok(None);
        }
        let Self { sequences, chooser, .. } = self;
        let rows = plan.iter().zip(&batch.segments).flat_map(|(work, segment)| {
            let sequence = &sequences[&work.id];
            let Submission { prompt, given, .. } = &sequence.submission;
            let written = sequence.tokens.len() - sequence.guessed - prompt.tokens.len();
            (written..written + segment.logits).map(move |written| super::cuda::Wanted {
                given: given.as_ref().map(|given| given[written]),
                sampling: prompt.sampling,
                allowed: prompt.allowed.as_ref(),
                written,
            })
        });
        Ok(Some(chooser.choose(logits, &rows.collect::<Vec<_>>())?))
    }

    /// Shows how full the engine is.
    fn show(&self) {
        self.metrics.running.set(gauge(self.scheduler.running()));
        self.metrics.waiting.set(gauge(self.scheduler.waiting()));
        self.metrics.kv_tokens_reserved.set(gauge(self.blocks.held() * KV_BLOCK_TOKENS));
    }

    /// Ends sequences whose receiver is gone or whose deadline has passed.
    fn drop_unwanted(&mut self) {
        let now = Instant::now();
        let unwanted = self.sequences.iter().filter(|(_, s)| s.submission.is_unwanted(now));
        let unwanted: Vec<_> = unwanted.map(|(&id, _)| id).collect();
        self.metrics.dropped.inc_by(unwanted.len() as u64);
        for id in unwanted {
            self.finish(id, FinishReason::Deadline);
        }
    }

    /// Asks the scheduler for the next step and gives new sequences their blocks of the cache.
    fn plan(&mut self) -> Vec<Work> {
        let Self { scheduler, sequences, blocks, metrics, .. } = self;
        // Prompts that are being read: what they have in common with the next one will be known in a step or two.
        let is_reading = |s: &Sequence| !s.blocks.is_empty() && s.read < s.submission.prompt.tokens.len();
        let mut reading: Vec<SequenceId> =
            sequences.iter().filter(|(_, s)| is_reading(s)).map(|(&id, _)| id).collect();
        scheduler.plan(|id, kv_tokens| {
            let prompt = &sequences.get(&id).expect("the scheduler knows the worker's sequences only").tokens;
            let worth_waiting_for = blocks.known(prompt) + WORTH_WAITING_FOR;
            let in_common = |other| blocks::in_common(prompt, &sequences[other].submission.prompt.tokens);
            if reading.iter().any(|other| in_common(other) >= worth_waiting_for) {
                return None;
            }
            let sequence = sequences.get_mut(&id)?;
            let lease = blocks.take(&sequence.tokens, kv_tokens)?;
            sequence.blocks = lease.blocks;
            sequence.read = lease.cached;
            reading.push(id);
            let (cached_tokens, at) = (lease.cached, Instant::now());
            metrics.queue_time_s.observe(at.duration_since(sequence.submission.at).as_secs_f64());
            metrics.prompt_tokens.inc_by((sequence.tokens.len() - cached_tokens) as u64);
            metrics.cached_tokens.inc_by(cached_tokens as u64);
            sequence.submission.emit(GenerationEvent::Started { at, cached_tokens });
            Some(lease.cached)
        })
    }

    /// Packs the planned tokens, and guesses after them while the step stays small.
    fn prepare(&mut self, plan: &[Work]) -> Batch {
        let mut batch = Batch::default();
        let planned: usize = plan.iter().map(|work| work.tokens).sum();
        let mut room = self.max_draft_rows.saturating_sub(planned);
        let mut given_room = draft::MOST_GIVEN;
        for work in plan {
            let sequence = self.sequences.get_mut(&work.id).expect("only the worker removes sequences");
            let (start, end) = (sequence.read, sequence.read + work.tokens);
            sequence.read = end;
            if work.samples {
                let room = if sequence.submission.given.is_some() { &mut given_room } else { &mut room };
                sequence.guess(*room);
                *room -= sequence.guessed;
            }
            let tokens = &sequence.tokens[start..end + sequence.guessed];
            let logits = if work.samples { 1 + sequence.guessed } else { 0 };
            batch.push(sequence.blocks.clone(), start, tokens, logits);
        }
        batch
    }

    /// Makes what was just read of prompts known, so that others need not read it again.
    fn file_prompts(&mut self, plan: &[Work]) {
        for work in plan {
            let Some(sequence) = self.sequences.get(&work.id) else { continue };
            let prompt = &sequence.submission.prompt.tokens;
            if sequence.read - work.tokens < prompt.len() {
                self.blocks.file(&prompt[..sequence.read.min(prompt.len())], &sequence.blocks);
            }
        }
    }

    /// Chooses the next token of a sequence, and those after it as far as they were guessed; hands them out, and ends
    /// the sequence when it is over.
    fn sample(&mut self, id: SequenceId, rows: &[Row<'_>]) -> Result<(), ModelError> {
        let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(()) };
        let guesses = sequence.tokens.split_off(sequence.tokens.len() - sequence.guessed);
        sequence.guessed = 0;
        let mut guesses = guesses.into_iter();
        for row in rows {
            let prompt = &sequence.submission.prompt;
            let Choice { token, log_probability } = match *row {
                Row::Logits(logits) => sequence.sampler.sample(logits, prompt.allowed.as_deref())?,
                #[cfg(feature = "cuda")]
                Row::Chosen(choice) => choice,
            };
            if prompt.stop_tokens.contains(&token) {
                self.finish(id, FinishReason::Stop);
                return Ok(());
            }
            sequence.tokens.push(token);
            sequence.clock.token(sequence.submission.at, &self.metrics);
            sequence.submission.emit(GenerationEvent::Token { id: token, log_probability });
            if sequence.tokens.len() - sequence.submission.prompt.tokens.len()
                >= sequence.submission.prompt.max_new_tokens
            {
                self.finish(id, FinishReason::Length);
                return Ok(());
            }
            if guesses.next() != Some(token) {
                self.scheduler.sampled(id);
                return Ok(());
            }
            // It was read already.
            sequence.read += 1;
        }
        Ok(())
    }

    /// Ends a sequence: its place and KV blocks are free at once.
    fn finish(&mut self, id: SequenceId, reason: FinishReason) {
        self.scheduler.remove(id);
        if let Some(sequence) = self.sequences.remove(&id) {
            self.blocks.give_back(&sequence.blocks);
            sequence.clock.end(&self.metrics);
            sequence.submission.emit(GenerationEvent::Finished(reason));
        }
    }
}

impl thread::Worker for Worker {
    fn inbox(&mut self) -> &mut mpsc::Receiver<Submission> {
        &mut self.inbox
    }

    fn is_idle(&self) -> bool {
        self.sequences.is_empty()
    }

    fn accept(&mut self, submission: Submission) {
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        let prompt = &submission.prompt;
        let kv_tokens = whole_blocks(prompt.tokens.len() + prompt.max_new_tokens);
        self.scheduler.enqueue(id, prompt.tokens.len(), kv_tokens, prompt.priority, prompt.turn);
        let sequence = Sequence {
            sampler: Sampler::new(prompt.sampling, submission.given.clone()),
            tokens: prompt.tokens.clone(),
            read: 0,
            guessed: 0,
            blocks: Arc::new([]),
            clock: TokenClock::default(),
            submission,
        };
        self.sequences.insert(id, sequence);
    }

    fn step(&mut self) -> Result<(), ModelError> {
        self.drop_unwanted();
        let plan = self.plan();
        self.show();
        if plan.is_empty() {
            return Ok(());
        }
        let batch = self.prepare(&plan);
        let began = Instant::now();
        let logits = self.model.forward(&batch, &mut self.cache)?;
        #[cfg(feature = "cuda")]
        let chosen = self.choose_on_device(&plan, &batch, &logits)?;
        self.metrics.step_time_s.observe(began.elapsed().as_secs_f64());
        self.metrics.batch_size.observe(plan.len() as f64);
        self.file_prompts(&plan);
        #[cfg(feature = "cuda")]
        if let Some(chosen) = chosen {
            let rows: Vec<_> = chosen.into_iter().map(Row::Chosen).collect();
            return self.hand_out(&plan, &batch, &rows);
        }
        let logits = on_cpu(&logits)?;
        let (_, width) = logits.dims2()?;
        let (storage, layout) = logits.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            return Err(ModelError::step("the logits are not where they were copied to"));
        };
        let logits = &storage.as_slice::<f32>()?[layout.start_offset()..];
        let rows: Vec<_> = logits.chunks_exact(width).map(Row::Logits).collect();
        self.hand_out(&plan, &batch, &rows)
    }

    fn abandon(&mut self) -> Vec<Submission> {
        self.sequences.drain().map(|(_, sequence)| sequence.submission).collect()
    }
}

impl Sequence {
    /// Appends guesses of what comes next, or what is given, at most `most` and no more than may be written.
    fn guess(&mut self, most: usize) {
        let prompt = &self.submission.prompt;
        // The model will write one token after the last guess.
        let written = self.tokens.len() - prompt.tokens.len();
        let most = most.min(prompt.max_new_tokens - written - 1);
        let draft = match &self.submission.given {
            Some(given) => given[written..written + most].to_vec(),
            None => draft(&self.tokens, most).to_vec(),
        };
        self.guessed = draft.len();
        self.tokens.extend(draft);
    }
}

pub(super) fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Logits where they can be read, row after row.
fn on_cpu(logits: &Tensor) -> Result<Tensor, ModelError> {
    Ok(logits.to_device(&Device::Cpu)?.contiguous()?)
}
