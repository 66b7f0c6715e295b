//! The worker of an encoder-decoder: one OS thread that owns the model, reads sources as they are admitted, and writes the
//! answers of all running ones together, step after step.
//!
//! Started by [`super::Engine`]. The scheduler is the decoder models': a source is read at once and counts as one token of a
//! step; room is reserved for the source and for every beam at its full length.

use std::{collections::HashMap, time::Instant};

use candle_core::{Device, Error};
use tokio::sync::mpsc;

use super::{
    EngineConfig, EngineMetrics, FinishReason, GenerationEvent, Sampling, Scheduler, SchedulerLimits,
    SequenceId, TokenMask,
    beam::{Advance, Answer, BeamSearch, repeats},
    handle::Submission,
    metrics::TokenClock,
    sampler::{Choice, Sampler},
    thread,
    worker::gauge,
};
use crate::model::{
    ModelError,
    seq2seq::{Decoding, Seq2Seq, Writing},
};

/// An answer in the making.
struct Sequence {
    submission: Submission,
    search: Search,
    /// What the decoder remembers; nothing while the sequence waits.
    writing: Option<Writing>,
    /// How many tokens are reserved for it; none while it waits.
    room: usize,
    /// The last token of every beam.
    last: Vec<u32>,
    clock: TokenClock,
}

/// How the answer is looked for.
enum Search {
    Beams(BeamSearch),
    /// Token by token.
    Line(Sampler, Vec<u32>),
}

pub(super) struct Worker {
    model: Seq2Seq,
    scheduler: Scheduler,
    sequences: HashMap<SequenceId, Sequence>,
    inbox: mpsc::Receiver<Submission>,
    metrics: EngineMetrics,
    next_id: u64,
    /// The most tokens that sources and beams of all running sequences may have.
    kv_tokens: usize,
}

impl Worker {
    pub(super) fn new(
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

    /// Asks the scheduler who runs, and reads the sources of those who begin now.
    fn plan(&mut self) -> Result<Vec<SequenceId>, ModelError> {
        let mut begun = Vec::new();
        let mut reserved = self.reserved();
        let Self { scheduler, sequences, kv_tokens, .. } = self;
        let plan = scheduler.plan(|id, wanted| {
            if reserved + wanted > *kv_tokens {
                return None;
            }
            reserved += wanted;
            sequences.get_mut(&id).expect("the scheduler knows the worker's sequences only").room = wanted;
            begun.push(id);
            Some(0)
        });
        let at = Instant::now();
        for id in &begun {
            let Submission { prompt, at: arrived, .. } = &self.sequences[id].submission;
            self.metrics.queue_time_s.observe(at.duration_since(*arrived).as_secs_f64());
            self.metrics.prompt_tokens.inc_by(prompt.tokens.len() as u64);
            self.sequences[id].submission.emit(GenerationEvent::Started { at, cached_tokens: 0 });
        }
        if !begun.is_empty() {
            let sources: Vec<&[u32]> =
                begun.iter().map(|id| self.sequences[id].submission.prompt.tokens.as_slice()).collect();
            let writings = self.model.encode(&sources)?;
            for (id, writing) in begun.iter().zip(writings) {
                self.sequences.get_mut(id).expect("it was just there").writing = Some(writing);
            }
        }
        Ok(plan.into_iter().map(|work| work.id).collect())
    }

    /// Takes the logits after a sequence's beams, `(beams, vocab_size)`, and goes on or ends.
    fn advance<'a>(
        &mut self,
        id: SequenceId,
        rows: impl Iterator<Item = &'a [f32]>,
    ) -> Result<(), ModelError> {
        let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(()) };
        let Submission { prompt, at, .. } = &sequence.submission;
        let allowed = prompt.allowed.as_deref();
        match &mut sequence.search {
            Search::Beams(search) => match search.advance(rows, allowed)? {
                Advance::Next { beams, tokens } => {
                    let writing = sequence.writing.as_mut().expect("what is written was read");
                    writing.keep(&beams)?;
                    sequence.last = tokens;
                    self.scheduler.sampled(id);
                }
                Advance::Done(answers) => {
                    let mut answers = answers.into_iter();
                    let best = answers.next().ok_or_else(|| Error::msg("the search found no answer"))?;
                    for (token, log_probability) in best.tokens.iter().zip(&best.log_probabilities) {
                        sequence.clock.token(*at, &self.metrics);
                        sequence
                            .submission
                            .emit(GenerationEvent::Token { id: *token, log_probability: *log_probability });
                    }
                    for Answer { tokens, log_probabilities, whole, .. } in answers {
                        sequence.submission.emit(GenerationEvent::Alternative {
                            tokens,
                            log_probabilities,
                            whole,
                        });
                    }
                    let reason = if best.whole { FinishReason::Stop } else { FinishReason::Length };
                    self.finish(id, reason);
                }
            },
            Search::Line(sampler, written) => {
                let logits = rows.into_iter().next().ok_or_else(|| Error::msg("there are no logits"))?;
                let decoding = self.model.decoding();
                let masked = without(decoding, written, logits, allowed);
                let Choice { token, log_probability } = sampler.sample(logits, Some(&masked))?;
                if prompt.stop_tokens.contains(&token) {
                    self.finish(id, FinishReason::Stop);
                    return Ok(());
                }
                written.push(token);
                let is_over = written.len() >= prompt.max_new_tokens;
                sequence.clock.token(*at, &self.metrics);
                sequence.last = vec![token];
                sequence.submission.emit(GenerationEvent::Token { id: token, log_probability });
                match is_over {
                    true => self.finish(id, FinishReason::Length),
                    false => self.scheduler.sampled(id),
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, id: SequenceId, reason: FinishReason) {
        self.scheduler.remove(id);
        if let Some(sequence) = self.sequences.remove(&id) {
            sequence.clock.end(&self.metrics);
            sequence.submission.emit(GenerationEvent::Finished(reason));
        }
    }

    fn reserved(&self) -> usize {
        self.sequences.values().map(|sequence| sequence.room).sum()
    }

    fn show(&self) {
        self.metrics.running.set(gauge(self.scheduler.running()));
        self.metrics.waiting.set(gauge(self.scheduler.waiting()));
        self.metrics.kv_tokens_reserved.set(gauge(self.reserved()));
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
        let decoding = self.model.decoding();
        let is_line =
            submission.given.is_some() || decoding.beams == 1 || prompt.sampling != Sampling::Greedy;
        let (search, beams) = match is_line {
            true => (Search::Line(Sampler::new(prompt.sampling, submission.given.clone()), Vec::new()), 1),
            false => {
                let search = BeamSearch::new(decoding, prompt.max_new_tokens, prompt.stop_tokens.clone());
                (Search::Beams(search), decoding.beams)
            }
        };
        let kv_tokens = prompt.tokens.len() + beams * prompt.max_new_tokens;
        self.scheduler.enqueue(id, 1, kv_tokens, prompt.priority, prompt.turn);
        let last = vec![self.model.start_token()];
        let clock = TokenClock::default();
        self.sequences.insert(id, Sequence { submission, search, writing: None, room: 0, last, clock });
    }

    fn step(&mut self) -> Result<(), ModelError> {
        self.drop_unwanted();
        let plan = self.plan()?;
        self.show();
        if plan.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        // Out of the map, so that several can be written to at once.
        let mut taken: Vec<(Writing, Vec<u32>)> = Vec::with_capacity(plan.len());
        for id in &plan {
            let sequence =
                self.sequences.get_mut(id).expect("the scheduler knows the worker's sequences only");
            let writing = sequence.writing.take().expect("what is planned was read");
            taken.push((writing, sequence.last.clone()));
        }
        let mut answers: Vec<(&mut Writing, &[u32])> =
            taken.iter_mut().map(|(writing, last)| (writing, last.as_slice())).collect();
        let logits = self.model.step(&mut answers)?.to_device(&Device::Cpu)?;
        let (_, width) = logits.dims2()?;
        let logits = logits.flatten_all()?.to_vec1::<f32>()?;
        self.metrics.step_time_s.observe(began.elapsed().as_secs_f64());
        self.metrics.batch_size.observe(plan.len() as f64);
        let mut rest = logits.as_slice();
        for (id, (writing, last)) in plan.into_iter().zip(taken) {
            let (rows, after) = rest.split_at(last.len() * width);
            rest = after;
            if let Some(sequence) = self.sequences.get_mut(&id) {
                sequence.writing = Some(writing);
            }
            self.advance(id, rows.chunks_exact(width))?;
        }
        self.show();
        Ok(())
    }

    fn abandon(&mut self) -> Vec<Submission> {
        self.sequences.drain().map(|(_, sequence)| sequence.submission).collect()
    }
}

/// Which tokens may come next, of a line.
fn without(decoding: &Decoding, written: &[u32], logits: &[f32], allowed: Option<&TokenMask>) -> TokenMask {
    let mut may_be: Vec<bool> =
        (0..logits.len()).map(|id| allowed.is_none_or(|allowed| allowed.allows(id))).collect();
    for id in decoding.suppressed.iter().copied().chain(repeats(written, decoding.no_repeat)) {
        if let Some(may_be) = may_be.get_mut(id as usize) {
            *may_be = false;
        }
    }
    TokenMask::new(may_be)
}
