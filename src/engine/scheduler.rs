//! Iteration-level scheduling: decides which tokens of which sequences go into the next step.
//!
//! Pure bookkeeping over ids and counts, owned by the decoder worker and the encoder-decoder worker. It never sees a
//! token, a tensor or a clock, so that its rules can be tested as tables and with properties:
//!
//! 1. Sequences in decode go first, with one token each.
//! 2. The rest of the step's token budget goes to prefill, in chunks, first come first served.
//! 3. Sequences wait in queue order, those with the same order in the order of arrival. So a repair, which has the
//!    order of the chunk that it repairs, goes before work that started later.
//! 4. A waiting sequence is admitted if a slot is free and the KV cache can hold all of it. No sequence of the same
//!    class with a later order overtakes the head of the queue, so none starves for lack of memory.
//! 5. Interactive sequences are admitted before batch ones, but after [`BATCH_INTERVAL`] of them in a row a waiting
//!    batch sequence is admitted.

use std::collections::VecDeque;

use super::{Priority, QueueOrder};

/// After this many interactive admissions in a row, a waiting batch sequence is admitted.
const BATCH_INTERVAL: usize = 8;

/// Identifies a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SequenceId(pub(super) u64);

/// The limits that every plan respects.
#[derive(Debug, Clone, Copy)]
pub(super) struct SchedulerLimits {
    /// Maximum number of running sequences.
    pub(super) max_sequences: usize,
    /// Maximum number of tokens per step.
    pub(super) max_step_tokens: usize,
}

/// The share of one sequence in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StepShare {
    /// The sequence.
    pub(super) id: SequenceId,
    /// Number of its tokens that the step reads.
    pub(super) tokens: usize,
    /// `true` if the step reads its last known token, so that the next one can be sampled.
    pub(super) samples: bool,
}

#[derive(Debug)]
struct WaitingSequence {
    id: SequenceId,
    order: QueueOrder,
    prompt_tokens: usize,
    kv_tokens: usize,
}

#[derive(Debug)]
struct RunningSequence {
    id: SequenceId,
    /// Known tokens that have not been read: the rest of the prompt, later one per step.
    unread: usize,
}

/// The queue and the running set.
#[derive(Debug)]
pub(super) struct Scheduler {
    limits: SchedulerLimits,
    interactive: VecDeque<WaitingSequence>,
    batch: VecDeque<WaitingSequence>,
    running: Vec<RunningSequence>,
    interactive_in_a_row: usize,
}

impl Scheduler {
    /// Creates an empty scheduler.
    pub(super) fn new(limits: SchedulerLimits) -> Self {
        Self {
            limits,
            interactive: VecDeque::new(),
            batch: VecDeque::new(),
            running: Vec::new(),
            interactive_in_a_row: 0,
        }
    }

    /// Enqueues a sequence with `prompt_tokens` unread tokens that needs `kv_tokens` tokens of the KV cache, behind all
    /// sequences of the same or an earlier order.
    pub(super) fn enqueue(
        &mut self,
        id: SequenceId,
        prompt_tokens: usize,
        kv_tokens: usize,
        priority: Priority,
        order: QueueOrder,
    ) {
        let queue = match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Batch => &mut self.batch,
        };
        let index = queue.partition_point(|other| other.order <= order);
        queue.insert(index, WaitingSequence { id, order, prompt_tokens, kv_tokens });
    }

    /// Removes a waiting or running sequence. Ignores unknown ids.
    pub(super) fn remove(&mut self, id: SequenceId) {
        self.interactive.retain(|w| w.id != id);
        self.batch.retain(|w| w.id != id);
        self.running.retain(|r| r.id != id);
    }

    /// Records that a token was sampled for a running sequence, to be read by the next step.
    pub(super) fn add_unread_token(&mut self, id: SequenceId) {
        if let Some(sequence) = self.running.iter_mut().find(|r| r.id == id) {
            sequence.unread += 1;
        }
    }

    /// Returns the number of waiting sequences.
    pub(super) fn waiting(&self) -> usize {
        self.interactive.len() + self.batch.len()
    }

    /// Returns the number of running sequences.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Plans the next step, in packed order, and marks the planned tokens as read.
    ///
    /// `admit` is called with a sequence that could start now and the tokens of the KV cache that it needs. It returns
    /// the number of prompt tokens in the prefix cache, fewer than the prompt has, or `None` if the sequence has to
    /// keep waiting, either for memory or for a prefix that another one is reading. It must return `Some` if nothing
    /// else runs.
    pub(super) fn plan(
        &mut self,
        mut admit: impl FnMut(SequenceId, usize) -> Option<usize>,
    ) -> Vec<StepShare> {
        let mut shares = Vec::new();
        let mut budget = self.limits.max_step_tokens;
        // Sequences in decode have one unread token; prefill, even of a last single token, comes after them.
        for is_decode in [true, false] {
            for sequence in &mut self.running {
                if (sequence.unread == 1) == is_decode {
                    budget -= assign(sequence, budget, &mut shares);
                }
            }
        }
        while budget > 0 && self.running.len() < self.limits.max_sequences {
            let Some(mut sequence) = self.admit_next(&mut admit) else { break };
            budget -= assign(&mut sequence, budget, &mut shares);
            self.running.push(sequence);
        }
        shares
    }

    /// Removes the next sequence from its queue if `admit` accepts it.
    fn admit_next(
        &mut self,
        admit: &mut impl FnMut(SequenceId, usize) -> Option<usize>,
    ) -> Option<RunningSequence> {
        let is_batch_due = self.interactive_in_a_row >= BATCH_INTERVAL && !self.batch.is_empty();
        let from_batch = is_batch_due || self.interactive.is_empty();
        let queue = if from_batch { &mut self.batch } else { &mut self.interactive };
        let next = queue.front()?;
        let cached = admit(next.id, next.kv_tokens)?;
        let sequence = RunningSequence { id: next.id, unread: next.prompt_tokens - cached };
        queue.pop_front();
        self.interactive_in_a_row = if from_batch { 0 } else { self.interactive_in_a_row + 1 };
        Some(sequence)
    }
}

/// Assigns as much of the budget to a sequence as it can use; returns the number of tokens.
fn assign(sequence: &mut RunningSequence, budget: usize, shares: &mut Vec<StepShare>) -> usize {
    let tokens = sequence.unread.min(budget);
    if tokens > 0 {
        sequence.unread -= tokens;
        shares.push(StepShare { id: sequence.id, tokens, samples: sequence.unread == 0 });
    }
    tokens
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const LIMITS: SchedulerLimits = SchedulerLimits { max_sequences: 2, max_step_tokens: 8 };

    fn scheduler(sequences: &[(u64, usize, Priority)]) -> Scheduler {
        let mut scheduler = Scheduler::new(LIMITS);
        for &(id, prompt, priority) in sequences {
            scheduler.enqueue(SequenceId(id), prompt, prompt + 4, priority, QueueOrder(0));
        }
        scheduler
    }

    /// Plans the next step with an empty prefix cache.
    fn next(scheduler: &mut Scheduler) -> Vec<(u64, usize, bool)> {
        scheduler.plan(|_, _| Some(0)).iter().map(|w| (w.id.0, w.tokens, w.samples)).collect()
    }

    #[test]
    fn mixes_chunked_prefill_with_decode() {
        let mut s = scheduler(&[(1, 3, Priority::Interactive), (2, 12, Priority::Interactive)]);
        assert_eq!(next(&mut s), [(1, 3, true), (2, 5, false)]);
        s.add_unread_token(SequenceId(1));
        assert_eq!(next(&mut s), [(1, 1, true), (2, 7, true)]);
        s.add_unread_token(SequenceId(1));
        s.add_unread_token(SequenceId(2));
        assert_eq!(next(&mut s), [(1, 1, true), (2, 1, true)]);
    }

    #[test]
    fn skips_cached_prompt_tokens() {
        let mut s = scheduler(&[(1, 12, Priority::Interactive), (2, 5, Priority::Interactive)]);
        let plan = s.plan(|id, _| Some(if id.0 == 1 { 11 } else { 0 }));
        assert_eq!(
            plan.iter().map(|w| (w.id.0, w.tokens, w.samples)).collect::<Vec<_>>(),
            [(1, 1, true), (2, 5, true)]
        );
    }

    #[test]
    fn admits_interactive_before_batch_and_in_order_of_arrival_within_a_class() {
        let mut s = scheduler(&[
            (1, 1, Priority::Batch),
            (2, 1, Priority::Interactive),
            (3, 1, Priority::Interactive),
            (4, 1, Priority::Batch),
        ]);
        assert_eq!(next(&mut s), [(2, 1, true), (3, 1, true)]);
        s.remove(SequenceId(2));
        s.remove(SequenceId(3));
        assert_eq!(next(&mut s), [(1, 1, true), (4, 1, true)]);
    }

    #[test]
    fn admits_in_queue_order_regardless_of_arrival() {
        let mut s = Scheduler::new(SchedulerLimits { max_sequences: 1, ..LIMITS });
        for (id, order) in [(1, 5), (2, 7), (3, 5), (4, 6)] {
            s.enqueue(SequenceId(id), 1, 2, Priority::Interactive, QueueOrder(order));
        }
        for expected in [1, 3, 4, 2] {
            assert_eq!(next(&mut s), [(expected, 1, true)]);
            s.remove(SequenceId(expected));
        }
    }

    #[test]
    fn does_not_admit_a_small_sequence_before_the_head_of_the_queue() {
        let mut s = scheduler(&[
            (1, 20, Priority::Interactive),
            (2, 20, Priority::Interactive),
            (3, 1, Priority::Interactive),
        ]);
        // Beside the first sequence there is memory for a short one only.
        let mut candidates = Vec::new();
        for step in 0..3 {
            let plan = s.plan(|id, kv_tokens| {
                candidates.push(id.0);
                (step == 0 && id.0 == 1 || kv_tokens < 20).then_some(0)
            });
            assert!(plan.iter().all(|share| share.id == SequenceId(1)));
        }
        assert_eq!(candidates, [1, 2]);
        s.remove(SequenceId(1));
        assert_eq!(next(&mut s), [(2, 8, false)]);
    }

    #[test]
    fn interactive_sequences_do_not_starve_batch_ones() {
        let mut s = Scheduler::new(SchedulerLimits { max_sequences: 1, ..LIMITS });
        s.enqueue(SequenceId(0), 1, 2, Priority::Batch, QueueOrder(0));
        let mut admitted = Vec::new();
        for id in 1..=2 * BATCH_INTERVAL as u64 {
            s.enqueue(SequenceId(id), 1, 2, Priority::Interactive, QueueOrder(0));
            s.plan(|id, _| {
                admitted.push(id);
                Some(0)
            });
            s.remove(admitted[id as usize - 1]);
        }
        assert_eq!(admitted.iter().position(|&id| id == SequenceId(0)), Some(BATCH_INTERVAL));
    }

    #[derive(Debug, Clone)]
    enum SchedulerEvent {
        Arrive { prompt: usize, completion: usize, batch: bool, order: u64 },
        Step,
        Cancel(usize),
    }

    fn scheduler_event() -> impl Strategy<Value = SchedulerEvent> {
        prop_oneof![
            1 => (1usize..20, 1usize..6, any::<bool>(), 0u64..4)
                .prop_map(|(prompt, completion, batch, order)| SchedulerEvent::Arrive { prompt, completion, batch, order }),
            3 => Just(SchedulerEvent::Step),
            1 => (0usize..50).prop_map(SchedulerEvent::Cancel),
        ]
    }

    /// Capacity of the driver's KV cache in tokens; any single sequence fits into it.
    const KV_TOKENS: usize = 40;

    /// Drives a scheduler like the worker does and checks every plan.
    struct Driver {
        scheduler: Scheduler,
        limits: SchedulerLimits,
        /// Waiting and running sequences: unread prompt tokens, completion tokens left to sample, tokens of KV cache.
        active: BTreeMap<SequenceId, (usize, usize, usize)>,
        running: BTreeSet<SequenceId>,
        finished: usize,
    }

    impl Driver {
        fn step(&mut self) -> usize {
            let plan = self.scheduler.plan(|id, kv| {
                if self.running.iter().map(|id| self.active[id].2).sum::<usize>() + kv > KV_TOKENS {
                    return None;
                }
                let (unread, _, required) = self.active.get_mut(&id).unwrap();
                assert_eq!(*required, kv);
                assert!(self.running.insert(id), "{id:?} was admitted twice");
                // A part of every prompt is cached; of some prompts, all but one token is.
                let cached = (id.0 as usize * 3).min(*unread - 1);
                *unread -= cached;
                Some(cached)
            });
            assert!(self.running.len() <= self.limits.max_sequences);
            assert!(plan.iter().map(|w| w.tokens).sum::<usize>() <= self.limits.max_step_tokens);
            let ids: BTreeSet<_> = plan.iter().map(|w| w.id).collect();
            assert_eq!(ids.len(), plan.len(), "a plan contains a sequence twice");
            for share in &plan {
                assert!(self.running.contains(&share.id) && share.tokens > 0);
                let (unread, completion, _) = self.active.get_mut(&share.id).unwrap();
                *unread -= share.tokens;
                assert_eq!(share.samples, *unread == 0);
                if share.samples {
                    *completion -= 1;
                    if *completion == 0 {
                        self.end(share.id);
                        self.finished += 1;
                    } else {
                        *unread = 1;
                        self.scheduler.add_unread_token(share.id);
                    }
                }
            }
            assert_eq!(self.scheduler.running() + self.scheduler.waiting(), self.active.len());
            plan.len()
        }

        fn end(&mut self, id: SequenceId) {
            self.scheduler.remove(id);
            self.active.remove(&id);
            self.running.remove(&id);
        }
    }

    proptest! {
        #[test]
        fn plans_respect_the_limits_and_every_sequence_ends(
            events in prop::collection::vec(scheduler_event(), 1..120),
            max_sequences in 1usize..5,
            max_step_tokens in 1usize..12,
        ) {
            let limits = SchedulerLimits { max_sequences, max_step_tokens };
            let mut driver = Driver {
                scheduler: Scheduler::new(limits), limits, active: BTreeMap::new(), running: BTreeSet::new(), finished: 0,
            };
            let (mut arrived, mut cancelled) = (0u64, 0);
            for event in events {
                match event {
                    SchedulerEvent::Arrive { prompt, completion, batch, order } => {
                        let id = SequenceId(arrived);
                        arrived += 1;
                        driver.active.insert(id, (prompt, completion, prompt + completion));
                        let priority = if batch { Priority::Batch } else { Priority::Interactive };
                        driver.scheduler.enqueue(id, prompt, prompt + completion, priority, QueueOrder(order));
                    }
                    SchedulerEvent::Step => { driver.step(); }
                    SchedulerEvent::Cancel(nth) => {
                        if let Some(&id) = driver.active.keys().nth(nth) {
                            driver.end(id);
                            cancelled += 1;
                        }
                    }
                }
            }
            while !driver.active.is_empty() {
                prop_assert!(driver.step() > 0, "the plan is empty although sequences are waiting or running");
            }
            prop_assert_eq!(driver.finished + cancelled, arrived as usize);
        }
    }
}
