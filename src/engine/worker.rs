//! The worker: one OS thread that owns the model and the KV cache and runs step after step.
//!
//! Started by [`super::Engine`]. A failing or panicking step ends it: every sequence in flight is told
//! and the health turns, so that nobody waits for a silent death.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use tokio::sync::{mpsc, watch};

use super::{
    EngineConfig, FinishReason, GenerationEvent, Health, Scheduler, SchedulerLimits, SequenceId, Work,
    blocks::{BlockPool, whole_blocks},
    handle::{Gauges, Submission},
    sampler::Sampler,
};
use crate::model::{Batch, KV_BLOCK_TOKENS, KvCache, Model, ModelError};

/// A sequence from its submission to its end.
struct Sequence {
    submission: Submission,
    sampler: Sampler,
    /// The prompt and what was written so far.
    tokens: Vec<u32>,
    /// How many of the tokens the model has read.
    read: usize,
    /// Its blocks of the KV cache; none while it waits.
    blocks: Arc<[u32]>,
}

pub(super) struct Worker {
    model: Box<dyn Model>,
    cache: KvCache,
    blocks: BlockPool,
    scheduler: Scheduler,
    sequences: HashMap<SequenceId, Sequence>,
    inbox: mpsc::Receiver<Submission>,
    gauges: Arc<Gauges>,
    next_id: u64,
}

impl Worker {
    pub(super) fn new(
        model: Box<dyn Model>,
        config: EngineConfig,
        inbox: mpsc::Receiver<Submission>,
        gauges: Arc<Gauges>,
    ) -> Result<Self, ModelError> {
        let blocks = config.kv_tokens / KV_BLOCK_TOKENS;
        let cache = model.new_cache(blocks)?;
        let scheduler = Scheduler::new(SchedulerLimits {
            max_sequences: config.max_sequences,
            max_step_tokens: config.max_step_tokens,
            kv_tokens: blocks * KV_BLOCK_TOKENS,
        });
        let blocks = BlockPool::new(blocks);
        Ok(Self { model, cache, blocks, scheduler, sequences: HashMap::new(), inbox, gauges, next_id: 0 })
    }

    /// Runs until the last handle is dropped or a step fails.
    pub(super) fn run(mut self, health: &watch::Sender<Health>) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            while self.receive() {
                self.step()?;
            }
            Ok::<(), ModelError>(())
        }));
        let reason = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string().lines().next().unwrap_or_default().to_owned(),
            Err(panic) => format!("the engine panicked: {}", panic_message(&*panic)),
        };
        tracing::error!(reason, "the engine has failed");
        health.send_replace(Health::Failed(reason.clone()));
        self.inbox.close();
        let queued = std::iter::from_fn(|| self.inbox.try_recv().ok());
        for submission in queued.chain(self.sequences.into_values().map(|s| s.submission)) {
            // The receiver may be gone; then nobody needs to be told.
            let _ = submission.events.try_send(GenerationEvent::Failed(reason.clone()));
        }
    }

    /// Takes all that has arrived; sleeps while there is nothing to do. False when it is time to end.
    fn receive(&mut self) -> bool {
        if self.sequences.is_empty() {
            match self.inbox.blocking_recv() {
                Some(submission) => self.accept(submission),
                None => return false,
            }
        }
        while let Ok(submission) = self.inbox.try_recv() {
            self.accept(submission);
        }
        true
    }

    fn accept(&mut self, submission: Submission) {
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        let prompt = &submission.prompt;
        let kv_tokens = whole_blocks(prompt.tokens.len() + prompt.max_new_tokens);
        self.scheduler.enqueue(id, prompt.tokens.len(), kv_tokens, prompt.priority);
        let sequence = Sequence {
            sampler: Sampler::new(prompt.sampling),
            tokens: prompt.tokens.clone(),
            read: 0,
            blocks: Arc::new([]),
            submission,
        };
        self.sequences.insert(id, sequence);
    }

    fn step(&mut self) -> Result<(), ModelError> {
        self.drop_unwanted();
        let plan = self.plan();
        self.gauges.running.store(self.scheduler.running(), Ordering::Relaxed);
        self.gauges.waiting.store(self.scheduler.waiting(), Ordering::Relaxed);
        if plan.is_empty() {
            return Ok(());
        }
        let batch = self.prepare(&plan);
        let logits = self.model.forward(&batch, &mut self.cache)?;
        self.file_prompts(&plan);
        for (row, work) in plan.iter().filter(|work| work.samples).enumerate() {
            self.sample(work.id, &logits.get(row)?)?;
        }
        self.gauges.running.store(self.scheduler.running(), Ordering::Relaxed);
        Ok(())
    }

    /// Ends sequences whose receiver is gone or whose deadline has passed.
    fn drop_unwanted(&mut self) {
        let now = Instant::now();
        let overdue = |s: &Sequence| s.submission.prompt.deadline.is_some_and(|deadline| deadline <= now);
        let unwanted: Vec<_> = self
            .sequences
            .iter()
            .filter(|(_, s)| s.submission.events.is_closed() || overdue(s))
            .map(|(&id, _)| id)
            .collect();
        for id in unwanted {
            self.finish(id, FinishReason::Deadline);
        }
    }

    /// Asks the scheduler for the next step and gives new sequences their blocks of the cache.
    fn plan(&mut self) -> Vec<Work> {
        let Self { scheduler, sequences, blocks, .. } = self;
        scheduler.plan(|id, kv_tokens| {
            let sequence = sequences.get_mut(&id).expect("the scheduler knows the worker's sequences only");
            let lease = blocks.take(&sequence.tokens, kv_tokens).expect("what is admitted has room");
            sequence.blocks = lease.blocks;
            sequence.read = lease.cached;
            let cached_tokens = lease.cached;
            sequence.emit(GenerationEvent::Started { at: Instant::now(), cached_tokens });
            lease.cached
        })
    }

    /// Packs the planned tokens.
    fn prepare(&mut self, plan: &[Work]) -> Batch {
        let mut batch = Batch::default();
        for work in plan {
            let Some(sequence) = self.sequences.get_mut(&work.id) else { continue };
            let end = sequence.read + work.tokens;
            let tokens = &sequence.tokens[sequence.read..end];
            batch.push(sequence.blocks.clone(), sequence.read, tokens, work.samples);
            sequence.read = end;
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

    /// Chooses the next token of a sequence, hands it out, and ends the sequence when it is over.
    fn sample(&mut self, id: SequenceId, logits: &candle_core::Tensor) -> Result<(), ModelError> {
        let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(()) };
        let token = sequence.sampler.sample(logits, sequence.submission.prompt.allowed.as_deref())?;
        if sequence.submission.prompt.stop_tokens.contains(&token) {
            self.finish(id, FinishReason::Stop);
            return Ok(());
        }
        sequence.tokens.push(token);
        sequence.emit(GenerationEvent::Token(token));
        let prompt = &sequence.submission.prompt;
        if sequence.tokens.len() - prompt.tokens.len() >= prompt.max_new_tokens {
            self.finish(id, FinishReason::Length);
        } else {
            self.scheduler.sampled(id);
        }
        Ok(())
    }

    /// Ends a sequence: its place and KV blocks are free at once.
    fn finish(&mut self, id: SequenceId, reason: FinishReason) {
        self.scheduler.remove(id);
        if let Some(sequence) = self.sequences.remove(&id) {
            self.blocks.give_back(&sequence.blocks);
            sequence.emit(GenerationEvent::Finished(reason));
        }
    }
}

impl Sequence {
    fn emit(&self, event: GenerationEvent) {
        // The channel has room for every event; a closed one is noticed at the next step.
        let _ = self.submission.events.try_send(event);
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}
