//! The worker of decoder models: owns the model and the KV cache and runs step after step.
//!
//! Driven by [`super::run`] on the engine's thread. The scheduler decides what goes into a step, the block pool where
//! keys and values are stored, and the sampler which token comes next.

use std::{collections::HashMap, sync::Arc, time::Instant};

#[cfg(feature = "cuda")]
use candle_core::Tensor;
use candle_core::{Device, Storage};
use tokio::sync::mpsc;

use super::{EngineWorker, gauge};
use crate::{
    engine::{
        EngineConfig, EngineMetrics, FinishReason, GenerationEvent, Prompt,
        block_pool::{BlockPool, round_up_to_blocks, shared_prefix},
        draft::{self, draft},
        handle::Submission,
        metrics::TokenClock,
        sampler::{SampledToken, Sampler},
        scheduler::{Scheduler, SchedulerLimits, SequenceId, StepShare},
    },
    model::{Batch, KV_BLOCK_TOKENS, KvCache, Model, ModelError},
};

/// A prompt waits for one that is being read if that makes this many more of its tokens available in the prefix cache.
const MIN_SHARED_TOKENS: usize = 2 * KV_BLOCK_TOKENS;

/// A sequence, from its submission to its end.
struct Sequence {
    submission: Submission,
    sampler: Sampler,
    /// The prompt, the tokens generated so far, and the drafted tokens.
    tokens: Vec<u32>,
    /// Number of leading tokens whose keys and values are in the KV cache.
    read: usize,
    /// Number of trailing tokens that are drafted and not yet confirmed.
    drafted: usize,
    /// Its block table; empty while it waits.
    blocks: Arc<[u32]>,
    clock: TokenClock,
}

/// The worker of decoder models.
pub(in crate::engine) struct DecoderWorker {
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
    token_chooser: crate::engine::cuda::TokenChooser,
}

/// The model's output after one token.
#[derive(Clone, Copy)]
enum StepOutput<'a> {
    /// Logits in main memory, from which a token is sampled here.
    Logits(&'a [f32]),
    /// A token sampled on the device.
    #[cfg(feature = "cuda")]
    Token(SampledToken),
}

impl DecoderWorker {
    pub(in crate::engine) fn new(
        model: Box<dyn Model>,
        config: EngineConfig,
        kv_tokens: usize,
        inbox: mpsc::Receiver<Submission>,
        metrics: EngineMetrics,
    ) -> Result<Self, ModelError> {
        let blocks = kv_tokens / KV_BLOCK_TOKENS;
        let cache = model.new_cache(blocks)?;
        metrics.kv_tokens_total.set(gauge(blocks * KV_BLOCK_TOKENS));
        metrics.kv_bytes.set(gauge(cache.bytes()));
        Ok(Self {
            model,
            cache,
            blocks: BlockPool::new(blocks),
            scheduler: Scheduler::new(SchedulerLimits {
                max_sequences: config.max_sequences,
                max_step_tokens: config.max_step_tokens,
            }),
            sequences: HashMap::new(),
            inbox,
            metrics,
            next_id: 0,
            max_draft_rows: config.max_draft_rows,
            #[cfg(feature = "cuda")]
            token_chooser: Default::default(),
        })
    }

    /// Delivers the tokens that follow a step. `outputs` holds the rows that the segments of the batch requested.
    fn deliver_tokens(
        &mut self,
        plan: &[StepShare],
        batch: &Batch,
        outputs: &[StepOutput<'_>],
    ) -> Result<(), ModelError> {
        let mut rest = outputs;
        for (share, segment) in plan.iter().zip(&batch.segments) {
            let (outputs, after) = rest.split_at(segment.logits);
            rest = after;
            self.append_tokens(share.id, outputs)?;
        }
        self.report_gauges();
        Ok(())
    }

    /// Samples the tokens on the device that holds the logits, if it can. Blocks until the step is complete.
    #[cfg(feature = "cuda")]
    fn sample_on_device(
        &mut self,
        plan: &[StepShare],
        batch: &Batch,
        logits: &Tensor,
    ) -> Result<Option<Vec<SampledToken>>, ModelError> {
        if !logits.device().is_cuda() {
            return Ok(None);
        }
        let Self { sequences, token_chooser, .. } = self;
        let requests = plan.iter().zip(&batch.segments).flat_map(|(share, segment)| {
            let sequence = &sequences[&share.id];
            let Submission { prompt, given, .. } = &sequence.submission;
            let generated = sequence.tokens.len() - sequence.drafted - prompt.tokens.len();
            (generated..generated + segment.logits).map(move |generated| crate::engine::cuda::ChoiceRequest {
                given: given.as_ref().map(|given| given[generated]),
                sampling: prompt.sampling,
                allowed: prompt.allowed.as_ref(),
                generated,
            })
        });
        Ok(Some(token_chooser.choose(logits, &requests.collect::<Vec<_>>())?))
    }

    /// Updates the gauges of queue, running set and KV cache.
    fn report_gauges(&self) {
        self.metrics.running.set(gauge(self.scheduler.running()));
        self.metrics.waiting.set(gauge(self.scheduler.waiting()));
        self.metrics.kv_tokens_reserved.set(gauge(self.blocks.in_use() * KV_BLOCK_TOKENS));
    }

    /// Ends sequences whose receiver was dropped or whose deadline has passed.
    fn drop_abandoned(&mut self) {
        let now = Instant::now();
        let abandoned = self.sequences.iter().filter(|(_, s)| s.submission.is_abandoned(now));
        let abandoned: Vec<_> = abandoned.map(|(&id, _)| id).collect();
        self.metrics.dropped.inc_by(abandoned.len() as u64);
        for id in abandoned {
            self.finish(id, FinishReason::Deadline);
        }
    }

    /// Lets the scheduler plan the next step and assigns KV blocks to the sequences it admits.
    fn plan(&mut self) -> Vec<StepShare> {
        let Self { scheduler, sequences, blocks, metrics, .. } = self;
        // Sequences in prefill: the prefix that they share with a waiting prompt will be in the cache in a step or two.
        let is_in_prefill = |s: &Sequence| !s.blocks.is_empty() && s.read < s.submission.prompt.tokens.len();
        let mut in_prefill: Vec<SequenceId> =
            sequences.iter().filter(|(_, s)| is_in_prefill(s)).map(|(&id, _)| id).collect();
        scheduler.plan(|id, kv_tokens| {
            let Sequence { tokens, submission, .. } =
                sequences.get(&id).expect("the scheduler knows the worker's sequences only");
            let adapter = submission.prompt.adapter;
            let worth_waiting = blocks.cached_prefix(tokens, adapter) + MIN_SHARED_TOKENS;
            let shared = |other| {
                let other = &sequences[other].submission.prompt;
                if other.adapter == adapter { shared_prefix(tokens, &other.tokens) } else { 0 }
            };
            if in_prefill.iter().any(|other| shared(other) >= worth_waiting) {
                return None;
            }
            let sequence = sequences.get_mut(&id)?;
            let lease = blocks.allocate(&sequence.tokens, adapter, kv_tokens)?;
            sequence.blocks = lease.blocks;
            sequence.read = lease.cached;
            in_prefill.push(id);
            let (cached_tokens, at) = (lease.cached, Instant::now());
            metrics.queue_time_s.observe(at.duration_since(sequence.submission.at).as_secs_f64());
            metrics.prompt_tokens.inc_by((sequence.tokens.len() - cached_tokens) as u64);
            metrics.cached_tokens.inc_by(cached_tokens as u64);
            sequence.submission.emit(GenerationEvent::Started { at, cached_tokens });
            Some(lease.cached)
        })
    }

    /// Packs the planned tokens into a batch, with drafted tokens after them while the step stays small.
    fn prepare(&mut self, plan: &[StepShare]) -> Batch {
        let mut batch = Batch::default();
        let planned: usize = plan.iter().map(|share| share.tokens).sum();
        let mut draft_budget = self.max_draft_rows.saturating_sub(planned);
        let mut given_budget = draft::MAX_GIVEN;
        for share in plan {
            let sequence = self.sequences.get_mut(&share.id).expect("only the worker removes sequences");
            let (start, end) = (sequence.read, sequence.read + share.tokens);
            sequence.read = end;
            if share.samples {
                let is_given = sequence.submission.given.is_some();
                let budget = if is_given { &mut given_budget } else { &mut draft_budget };
                sequence.append_draft(*budget);
                *budget -= sequence.drafted;
            }
            let tokens = &sequence.tokens[start..end + sequence.drafted];
            let logits = if share.samples { 1 + sequence.drafted } else { 0 };
            let adapter = sequence.submission.prompt.adapter;
            batch.push_with_adapter(sequence.blocks.clone(), start, tokens, logits, adapter);
        }
        batch
    }

    /// Registers the prompt blocks that this step completed in the prefix cache.
    fn register_prefixes(&mut self, plan: &[StepShare]) {
        for share in plan {
            let Some(sequence) = self.sequences.get(&share.id) else { continue };
            let Prompt { tokens, adapter, .. } = &sequence.submission.prompt;
            if sequence.read - share.tokens < tokens.len() {
                let read = &tokens[..sequence.read.min(tokens.len())];
                self.blocks.register(read, *adapter, &sequence.blocks);
            }
        }
    }

    /// Appends the next token of a sequence, and those after it as long as they confirm the draft; ends the sequence
    /// when it is complete.
    fn append_tokens(&mut self, id: SequenceId, outputs: &[StepOutput<'_>]) -> Result<(), ModelError> {
        let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(()) };
        let draft = sequence.tokens.split_off(sequence.tokens.len() - sequence.drafted);
        sequence.drafted = 0;
        let mut draft = draft.into_iter();
        for output in outputs {
            let prompt = &sequence.submission.prompt;
            let SampledToken { id: token, log_probability } = match *output {
                StepOutput::Logits(logits) => sequence.sampler.sample(logits, prompt.allowed.as_deref())?,
                #[cfg(feature = "cuda")]
                StepOutput::Token(token) => token,
            };
            if prompt.stop_tokens.contains(&token) {
                self.finish(id, FinishReason::Stop);
                return Ok(());
            }
            sequence.tokens.push(token);
            sequence.clock.record_token(sequence.submission.at, &self.metrics);
            sequence.submission.emit(GenerationEvent::Token { id: token, log_probability });
            let generated = sequence.tokens.len() - sequence.submission.prompt.tokens.len();
            if generated >= sequence.submission.prompt.max_new_tokens {
                self.finish(id, FinishReason::Length);
                return Ok(());
            }
            if draft.next() != Some(token) {
                self.scheduler.add_unread_token(id);
                return Ok(());
            }
            // This step has read the token as part of the draft.
            sequence.read += 1;
        }
        Ok(())
    }

    /// Ends a sequence and frees its slot and KV blocks.
    fn finish(&mut self, id: SequenceId, reason: FinishReason) {
        self.scheduler.remove(id);
        if let Some(sequence) = self.sequences.remove(&id) {
            self.blocks.release(&sequence.blocks);
            sequence.clock.record_end(&self.metrics);
            sequence.submission.emit(GenerationEvent::Finished(reason));
        }
    }
}

impl EngineWorker for DecoderWorker {
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
        let kv_tokens = round_up_to_blocks(prompt.tokens.len() + prompt.max_new_tokens);
        self.scheduler.enqueue(id, prompt.tokens.len(), kv_tokens, prompt.priority, prompt.order);
        let sequence = Sequence {
            sampler: Sampler::new(prompt.sampling, submission.given.clone()),
            tokens: prompt.tokens.clone(),
            read: 0,
            drafted: 0,
            blocks: Arc::new([]),
            clock: TokenClock::default(),
            submission,
        };
        self.sequences.insert(id, sequence);
    }

    fn step(&mut self) -> Result<(), ModelError> {
        self.drop_abandoned();
        let plan = self.plan();
        self.report_gauges();
        if plan.is_empty() {
            return Ok(());
        }
        let batch = self.prepare(&plan);
        let start = Instant::now();
        let logits = self.model.forward(&batch, &mut self.cache)?;
        #[cfg(feature = "cuda")]
        let sampled = self.sample_on_device(&plan, &batch, &logits)?;
        self.metrics.step_time_s.observe(start.elapsed().as_secs_f64());
        self.metrics.batch_size.observe(plan.len() as f64);
        self.register_prefixes(&plan);
        #[cfg(feature = "cuda")]
        if let Some(tokens) = sampled {
            let outputs: Vec<_> = tokens.into_iter().map(StepOutput::Token).collect();
            return self.deliver_tokens(&plan, &batch, &outputs);
        }
        let logits = logits.to_device(&Device::Cpu)?.contiguous()?;
        let (_, vocab_size) = logits.dims2()?;
        let (storage, layout) = logits.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            return Err(ModelError::step("the logits are not in main memory"));
        };
        let logits = &storage.as_slice::<f32>()?[layout.start_offset()..];
        let outputs: Vec<_> = logits.chunks_exact(vocab_size).map(StepOutput::Logits).collect();
        self.deliver_tokens(&plan, &batch, &outputs)
    }

    fn abandon(&mut self) -> Vec<Submission> {
        self.sequences.drain().map(|(_, sequence)| sequence.submission).collect()
    }
}

impl Sequence {
    /// Appends up to `limit` drafted tokens, or the next tokens of a given completion, within the maximum of new
    /// tokens.
    fn append_draft(&mut self, limit: usize) {
        let prompt = &self.submission.prompt;
        // The step yields one more token after the last drafted one.
        let generated = self.tokens.len() - prompt.tokens.len();
        let limit = limit.min(prompt.max_new_tokens - generated - 1);
        let draft = match &self.submission.given {
            Some(given) => given[generated..generated + limit].to_vec(),
            None => draft(&self.tokens, limit).to_vec(),
        };
        self.drafted = draft.len();
        self.tokens.extend(draft);
    }
}
