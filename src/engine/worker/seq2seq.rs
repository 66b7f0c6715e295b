//! The worker of encoder-decoder models: encodes sources when they are admitted and decodes all running completions
//! together, step after step.
//!
//! Driven by [`super::run`] on the engine's thread. It uses the same scheduler as decoder models: a source is encoded
//! at once and counts as one token of a step; memory is reserved for the source and for every beam at its maximum
//! length.

use std::{collections::HashMap, time::Instant};

use candle_core::{Device, Error};
use tokio::sync::mpsc;

use super::{EngineWorker, gauge};
use crate::{
    engine::{
        EngineConfig, EngineMetrics, FinishReason, GenerationEvent, Sampling, TokenMask,
        beam::{BeamSearch, Hypothesis, SearchStep, repeated_ngram_ends},
        handle::Submission,
        metrics::TokenClock,
        sampler::{SampledToken, Sampler},
        scheduler::{Scheduler, SchedulerLimits, SequenceId},
    },
    model::{
        ModelError,
        seq2seq::{DecoderState, SearchSettings, Seq2Seq},
    },
};

/// A source and its completion in progress.
struct SourceSequence {
    submission: Submission,
    search: SearchMode,
    /// The decoder's state; `None` while the sequence waits.
    state: Option<DecoderState>,
    /// Number of tokens reserved for it; 0 while it waits.
    reserved: usize,
    /// The last token of every beam.
    last: Vec<u32>,
    clock: TokenClock,
}

/// The search for the completion.
enum SearchMode {
    Beams(BeamSearch),
    /// One token at a time; holds the tokens generated so far.
    Single(Sampler, Vec<u32>),
}

/// The worker of encoder-decoder models.
pub(in crate::engine) struct Seq2SeqWorker {
    model: Seq2Seq,
    scheduler: Scheduler,
    sequences: HashMap<SequenceId, SourceSequence>,
    inbox: mpsc::Receiver<Submission>,
    metrics: EngineMetrics,
    next_id: u64,
    /// Maximum number of tokens of the sources and beams of all running sequences.
    kv_tokens: usize,
}

impl Seq2SeqWorker {
    pub(in crate::engine) fn new(
        model: Seq2Seq,
        config: EngineConfig,
        kv_tokens: usize,
        inbox: mpsc::Receiver<Submission>,
        metrics: EngineMetrics,
    ) -> Self {
        metrics.kv_tokens_total.set(gauge(kv_tokens));
        let scheduler = Scheduler::new(SchedulerLimits {
            max_sequences: config.max_sequences,
            max_step_tokens: config.max_step_tokens,
        });
        Self { model, scheduler, sequences: HashMap::new(), inbox, metrics, next_id: 0, kv_tokens }
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

    /// Lets the scheduler plan the next step, and encodes the sources of newly admitted sequences.
    fn plan(&mut self) -> Result<Vec<SequenceId>, ModelError> {
        let mut admitted = Vec::new();
        let mut reserved = self.reserved();
        let Self { scheduler, sequences, kv_tokens, .. } = self;
        let plan = scheduler.plan(|id, required| {
            if reserved + required > *kv_tokens {
                return None;
            }
            reserved += required;
            sequences.get_mut(&id).expect("the scheduler knows the worker's sequences only").reserved =
                required;
            admitted.push(id);
            Some(0)
        });
        let at = Instant::now();
        for id in &admitted {
            let Submission { prompt, at: submitted, .. } = &self.sequences[id].submission;
            self.metrics.queue_time_s.observe(at.duration_since(*submitted).as_secs_f64());
            self.metrics.prompt_tokens.inc_by(prompt.tokens.len() as u64);
            self.sequences[id].submission.emit(GenerationEvent::Started { at, cached_tokens: 0 });
        }
        if !admitted.is_empty() {
            let sources: Vec<&[u32]> =
                admitted.iter().map(|id| self.sequences[id].submission.prompt.tokens.as_slice()).collect();
            let states = self.model.encode(&sources)?;
            for (id, state) in admitted.iter().zip(states) {
                self.sequences.get_mut(id).expect("only the worker removes sequences").state = Some(state);
            }
        }
        Ok(plan.into_iter().map(|share| share.id).collect())
    }

    /// Extends a sequence, given the logits after its beams, `(beams, vocab_size)`; ends it when it is complete.
    fn advance<'a>(
        &mut self,
        id: SequenceId,
        rows: impl Iterator<Item = &'a [f32]>,
    ) -> Result<(), ModelError> {
        let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(()) };
        let Submission { prompt, at, .. } = &sequence.submission;
        let allowed = prompt.allowed.as_deref();
        match &mut sequence.search {
            SearchMode::Beams(search) => match search.advance(rows, allowed)? {
                SearchStep::Continue { beams, tokens } => {
                    let state = sequence.state.as_mut().expect("a planned sequence has been encoded");
                    state.select_beams(&beams)?;
                    sequence.last = tokens;
                    self.scheduler.add_unread_token(id);
                }
                SearchStep::Done(hypotheses) => {
                    let mut hypotheses = hypotheses.into_iter();
                    let best =
                        hypotheses.next().ok_or_else(|| Error::msg("the beam search found no completion"))?;
                    for (&id, &log_probability) in best.tokens.iter().zip(&best.log_probabilities) {
                        sequence.clock.record_token(*at, &self.metrics);
                        sequence.submission.emit(GenerationEvent::Token { id, log_probability });
                    }
                    for Hypothesis { tokens, log_probabilities, complete, .. } in hypotheses {
                        sequence.submission.emit(GenerationEvent::Alternative {
                            tokens,
                            log_probabilities,
                            complete,
                        });
                    }
                    let reason = if best.complete { FinishReason::Stop } else { FinishReason::Length };
                    self.finish(id, reason);
                }
            },
            SearchMode::Single(sampler, generated) => {
                let logits = rows.into_iter().next().ok_or_else(|| Error::msg("the step has no logits"))?;
                let settings = self.model.search_settings();
                let mask = next_token_mask(settings, generated, logits.len(), allowed);
                let SampledToken { id: token, log_probability } = sampler.sample(logits, Some(&mask))?;
                if prompt.stop_tokens.contains(&token) {
                    self.finish(id, FinishReason::Stop);
                    return Ok(());
                }
                generated.push(token);
                let is_last = generated.len() >= prompt.max_new_tokens;
                sequence.clock.record_token(*at, &self.metrics);
                sequence.last = vec![token];
                sequence.submission.emit(GenerationEvent::Token { id: token, log_probability });
                match is_last {
                    true => self.finish(id, FinishReason::Length),
                    false => self.scheduler.add_unread_token(id),
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, id: SequenceId, reason: FinishReason) {
        self.scheduler.remove(id);
        if let Some(sequence) = self.sequences.remove(&id) {
            sequence.clock.record_end(&self.metrics);
            sequence.submission.emit(GenerationEvent::Finished(reason));
        }
    }

    fn reserved(&self) -> usize {
        self.sequences.values().map(|sequence| sequence.reserved).sum()
    }

    fn report_gauges(&self) {
        self.metrics.running.set(gauge(self.scheduler.running()));
        self.metrics.waiting.set(gauge(self.scheduler.waiting()));
        self.metrics.kv_tokens_reserved.set(gauge(self.reserved()));
    }
}

impl EngineWorker for Seq2SeqWorker {
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
        let settings = self.model.search_settings();
        let is_single =
            submission.given.is_some() || settings.beams == 1 || prompt.sampling != Sampling::Greedy;
        let (search, beams) = match is_single {
            true => {
                let sampler = Sampler::new(prompt.sampling, submission.given.clone());
                (SearchMode::Single(sampler, Vec::new()), 1)
            }
            false => {
                let search = BeamSearch::new(settings, prompt.max_new_tokens, prompt.stop_tokens.clone());
                (SearchMode::Beams(search), settings.beams)
            }
        };
        let kv_tokens = prompt.tokens.len() + beams * prompt.max_new_tokens;
        self.scheduler.enqueue(id, 1, kv_tokens, prompt.priority, prompt.order);
        let last = vec![self.model.start_token()];
        let clock = TokenClock::default();
        self.sequences
            .insert(id, SourceSequence { submission, search, state: None, reserved: 0, last, clock });
    }

    fn step(&mut self) -> Result<(), ModelError> {
        self.drop_abandoned();
        let plan = self.plan()?;
        self.report_gauges();
        if plan.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        // The states are moved out of the map, so that several can be borrowed mutably at once.
        let mut states: Vec<(DecoderState, Vec<u32>)> = Vec::with_capacity(plan.len());
        for id in &plan {
            let sequence =
                self.sequences.get_mut(id).expect("the scheduler knows the worker's sequences only");
            let state = sequence.state.take().expect("a planned sequence has been encoded");
            states.push((state, sequence.last.clone()));
        }
        let mut beams: Vec<(&mut DecoderState, &[u32])> =
            states.iter_mut().map(|(state, last)| (state, last.as_slice())).collect();
        let logits = self.model.step(&mut beams)?.to_device(&Device::Cpu)?;
        let (_, vocab_size) = logits.dims2()?;
        let logits = logits.flatten_all()?.to_vec1::<f32>()?;
        self.metrics.step_time_s.observe(start.elapsed().as_secs_f64());
        self.metrics.batch_size.observe(plan.len() as f64);
        let mut rest = logits.as_slice();
        for (id, (state, last)) in plan.into_iter().zip(states) {
            let (rows, after) = rest.split_at(last.len() * vocab_size);
            rest = after;
            if let Some(sequence) = self.sequences.get_mut(&id) {
                sequence.state = Some(state);
            }
            self.advance(id, rows.chunks_exact(vocab_size))?;
        }
        self.report_gauges();
        Ok(())
    }

    fn abandon(&mut self) -> Vec<Submission> {
        self.sequences.drain().map(|(_, sequence)| sequence.submission).collect()
    }
}

/// Returns the tokens that may follow `generated` when it is decoded without beams.
fn next_token_mask(
    settings: &SearchSettings,
    generated: &[u32],
    vocab_size: usize,
    allowed: Option<&TokenMask>,
) -> TokenMask {
    let mut mask: Vec<bool> =
        (0..vocab_size).map(|id| allowed.is_none_or(|allowed| allowed.allows(id))).collect();
    let repeated = repeated_ngram_ends(generated, settings.no_repeat_ngram);
    for id in settings.suppressed.iter().copied().chain(repeated) {
        if let Some(is_allowed) = mask.get_mut(id as usize) {
            *is_allowed = false;
        }
    }
    TokenMask::new(mask)
}
