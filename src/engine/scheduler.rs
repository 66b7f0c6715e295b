//! Which tokens of which sequences go into the next step: iteration-level scheduling.
//!
//! Pure bookkeeping over ids and counts; owned and driven by the worker. It never sees a token, a
//! tensor or a clock, so that its rules can be tested as tables and with properties:
//!
//! 1. Sequences that are being decoded go first, one token each.
//! 2. What is left of the step's token budget goes to prompts, in chunks, first come first served.
//! 3. Sequences wait in the order of their turns, those of one turn in the order in which they came; so what belongs to
//!    work that began early (a repair of its answer) goes before what began later.
//! 4. A waiting sequence is admitted when a place is free and the owner of the KV cache has room for the whole of it; the
//!    head of the queue is never overtaken by a later turn of its class, so nothing starves for want of space.
//! 5. Interactive sequences are admitted before batch ones, but after [`BATCH_TURN`] of them in a row
//!    a waiting batch sequence has its turn.

use std::collections::VecDeque;

use super::{Priority, Turn};

/// After this many interactive admissions in a row, a waiting batch sequence is admitted.
const BATCH_TURN: usize = 8;

/// Names a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// The bounds that every plan keeps.
#[derive(Debug, Clone, Copy)]
pub struct SchedulerLimits {
    /// The most running sequences.
    pub max_sequences: usize,
    /// The most tokens of one step.
    pub max_step_tokens: usize,
}

/// One sequence's share of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// The sequence.
    pub id: SequenceId,
    /// How many of its tokens are read.
    pub tokens: usize,
    /// Whether its last known token is among them, so that the next one can be sampled.
    pub samples: bool,
}

#[derive(Debug)]
struct Waiting {
    id: SequenceId,
    turn: Turn,
    prompt_tokens: usize,
    kv_tokens: usize,
}

#[derive(Debug)]
struct Running {
    id: SequenceId,
    /// Tokens known but not read yet: the rest of the prompt, then one a step.
    unread: usize,
}

/// The queue and the running set.
#[derive(Debug)]
pub struct Scheduler {
    limits: SchedulerLimits,
    interactive: VecDeque<Waiting>,
    batch: VecDeque<Waiting>,
    running: Vec<Running>,
    interactive_in_a_row: usize,
}

impl Scheduler {
    /// An empty scheduler.
    pub fn new(limits: SchedulerLimits) -> Self {
        Self {
            limits,
            interactive: VecDeque::new(),
            batch: VecDeque::new(),
            running: Vec::new(),
            interactive_in_a_row: 0,
        }
    }

    /// Puts a sequence into its queue, behind all of its turn and of earlier ones: `prompt_tokens` to be read, room for
    /// `kv_tokens` wanted.
    pub fn enqueue(
        &mut self,
        id: SequenceId,
        prompt_tokens: usize,
        kv_tokens: usize,
        priority: Priority,
        turn: Turn,
    ) {
        let queue = match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Batch => &mut self.batch,
        };
        let place = queue.partition_point(|other| other.turn <= turn);
        queue.insert(place, Waiting { id, turn, prompt_tokens, kv_tokens });
    }

    /// Forgets a sequence, waiting or running. Unknown ids are ignored.
    pub fn remove(&mut self, id: SequenceId) {
        self.interactive.retain(|w| w.id != id);
        self.batch.retain(|w| w.id != id);
        self.running.retain(|r| r.id != id);
    }

    /// A token was sampled for a running sequence: it is to be read in the next step.
    pub fn sampled(&mut self, id: SequenceId) {
        if let Some(sequence) = self.running.iter_mut().find(|r| r.id == id) {
            sequence.unread += 1;
        }
    }

    /// Number of sequences that wait.
    pub fn waiting(&self) -> usize {
        self.interactive.len() + self.batch.len()
    }

    /// Number of sequences that run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Decides the work of the next step, in packed order, and takes the planned tokens as read.
    ///
    /// `admit` is called with a sequence that could start to run now and the KV space that it wants, in tokens. It
    /// returns how many tokens of the prompt need not be read, fewer than the prompt has, or `None` when it has to wait
    /// still, for room or for what another one is reading; that always becomes `Some` when nothing else runs.
    pub fn plan(&mut self, mut admit: impl FnMut(SequenceId, usize) -> Option<usize>) -> Vec<Work> {
        let mut work = Vec::new();
        let mut budget = self.limits.max_step_tokens;
        // Decoding sequences have one unread token; prompts, even their last one, come after them.
        for decoding in [true, false] {
            for sequence in &mut self.running {
                if (sequence.unread == 1) == decoding {
                    budget -= take(sequence, budget, &mut work);
                }
            }
        }
        while budget > 0 && self.running.len() < self.limits.max_sequences {
            let Some(mut sequence) = self.admit_next(&mut admit) else { break };
            budget -= take(&mut sequence, budget, &mut work);
            self.running.push(sequence);
        }
        work
    }

    /// Takes the next waiting sequence out of its queue, if there is KV space for it.
    fn admit_next(&mut self, admit: &mut impl FnMut(SequenceId, usize) -> Option<usize>) -> Option<Running> {
        let batch_turn = self.interactive_in_a_row >= BATCH_TURN && !self.batch.is_empty();
        let from_batch = batch_turn || self.interactive.is_empty();
        let queue = if from_batch { &mut self.batch } else { &mut self.interactive };
        let next = queue.front()?;
        let cached = admit(next.id, next.kv_tokens)?;
        let sequence = Running { id: next.id, unread: next.prompt_tokens - cached };
        queue.pop_front();
        self.interactive_in_a_row = if from_batch { 0 } else { self.interactive_in_a_row + 1 };
        Some(sequence)
    }
}

/// Gives a sequence as much of the budget as it can use and returns how much that is.
fn take(sequence: &mut Running, budget: usize, work: &mut Vec<Work>) -> usize {
    let tokens = sequence.unread.min(budget);
    if tokens > 0 {
        sequence.unread -= tokens;
        work.push(Work { id: sequence.id, tokens, samples: sequence.unread == 0 });
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
            scheduler.enqueue(SequenceId(id), prompt, prompt + 4, priority, Turn(0));
        }
        scheduler
    }

    /// The next step when nothing is cached.
    fn next(scheduler: &mut Scheduler) -> Vec<(u64, usize, bool)> {
        scheduler.plan(|_, _| Some(0)).iter().map(|w| (w.id.0, w.tokens, w.samples)).collect()
    }

    #[test]
    fn prompts_are_read_in_chunks_beside_decoding_sequences() {
        let mut s = scheduler(&[(1, 3, Priority::Interactive), (2, 12, Priority::Interactive)]);
        assert_eq!(next(&mut s), [(1, 3, true), (2, 5, false)]);
        s.sampled(SequenceId(1));
        assert_eq!(next(&mut s), [(1, 1, true), (2, 7, true)]);
        s.sampled(SequenceId(1));
        s.sampled(SequenceId(2));
        assert_eq!(next(&mut s), [(1, 1, true), (2, 1, true)]);
    }

    #[test]
    fn what_is_cached_of_a_prompt_is_not_read() {
        let mut s = scheduler(&[(1, 12, Priority::Interactive), (2, 5, Priority::Interactive)]);
        let plan = s.plan(|id, _| Some(if id.0 == 1 { 11 } else { 0 }));
        assert_eq!(
            plan.iter().map(|w| (w.id.0, w.tokens, w.samples)).collect::<Vec<_>>(),
            [(1, 1, true), (2, 5, true)]
        );
    }

    #[test]
    fn interactive_comes_before_batch_and_first_come_first_served_within_a_class() {
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
    fn what_belongs_to_earlier_work_goes_first_whenever_it_comes() {
        let mut s = Scheduler::new(SchedulerLimits { max_sequences: 1, ..LIMITS });
        for (id, turn) in [(1, 5), (2, 7), (3, 5), (4, 6)] {
            s.enqueue(SequenceId(id), 1, 2, Priority::Interactive, Turn(turn));
        }
        for expected in [1, 3, 4, 2] {
            assert_eq!(next(&mut s), [(expected, 1, true)]);
            s.remove(SequenceId(expected));
        }
    }

    #[test]
    fn the_head_of_the_queue_is_not_overtaken_by_what_would_fit() {
        let mut s = scheduler(&[
            (1, 20, Priority::Interactive),
            (2, 20, Priority::Interactive),
            (3, 1, Priority::Interactive),
        ]);
        // There is room for a short one beside the first only.
        let mut asked = Vec::new();
        for step in 0..3 {
            let plan = s.plan(|id, kv_tokens| {
                asked.push(id.0);
                (step == 0 && id.0 == 1 || kv_tokens < 20).then_some(0)
            });
            assert!(plan.iter().all(|work| work.id == SequenceId(1)));
        }
        assert_eq!(asked, [1, 2]);
        s.remove(SequenceId(1));
        assert_eq!(next(&mut s), [(2, 8, false)]);
    }

    #[test]
    fn batch_sequences_are_not_starved_by_a_stream_of_interactive_ones() {
        let mut s = Scheduler::new(SchedulerLimits { max_sequences: 1, ..LIMITS });
        s.enqueue(SequenceId(0), 1, 2, Priority::Batch, Turn(0));
        let mut admitted = Vec::new();
        for id in 1..=2 * BATCH_TURN as u64 {
            s.enqueue(SequenceId(id), 1, 2, Priority::Interactive, Turn(0));
            s.plan(|id, _| {
                admitted.push(id);
                Some(0)
            });
            s.remove(admitted[id as usize - 1]);
        }
        assert_eq!(admitted.iter().position(|&id| id == SequenceId(0)), Some(BATCH_TURN));
    }

    #[derive(Debug, Clone)]
    enum Event {
        Arrive { prompt: usize, answer: usize, batch: bool, turn: u64 },
        Step,
        Cancel(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            1 => (1usize..20, 1usize..6, any::<bool>(), 0u64..4)
                .prop_map(|(prompt, answer, batch, turn)| Event::Arrive { prompt, answer, batch, turn }),
            3 => Just(Event::Step),
            1 => (0usize..50).prop_map(Event::Cancel),
        ]
    }

    /// The KV space of the driver's cache; every sequence fits into it alone.
    const KV_TOKENS: usize = 40;

    /// Drives a scheduler the way the worker does and checks every plan.
    struct Driver {
        scheduler: Scheduler,
        limits: SchedulerLimits,
        /// Alive sequences: prompt tokens still to be read, answer tokens still to be sampled, KV.
        alive: BTreeMap<SequenceId, (usize, usize, usize)>,
        running: BTreeSet<SequenceId>,
        finished: usize,
    }

    impl Driver {
        fn step(&mut self) -> usize {
            let plan = self.scheduler.plan(|id, kv| {
                if self.running.iter().map(|id| self.alive[id].2).sum::<usize>() + kv > KV_TOKENS {
                    return None;
                }
                let (unread, _, wanted) = self.alive.get_mut(&id).unwrap();
                assert_eq!(*wanted, kv);
                assert!(self.running.insert(id), "{id:?} was admitted twice");
                // Of every prompt some is cached, of one or the other all but a token.
                let cached = (id.0 as usize * 3).min(*unread - 1);
                *unread -= cached;
                Some(cached)
            });
            assert!(self.running.len() <= self.limits.max_sequences);
            assert!(plan.iter().map(|w| w.tokens).sum::<usize>() <= self.limits.max_step_tokens);
            let ids: BTreeSet<_> = plan.iter().map(|w| w.id).collect();
            assert_eq!(ids.len(), plan.len(), "a sequence stands twice in a plan");
            for work in &plan {
                assert!(self.running.contains(&work.id) && work.tokens > 0);
                let (unread, answer, _) = self.alive.get_mut(&work.id).unwrap();
                *unread -= work.tokens;
                assert_eq!(work.samples, *unread == 0);
                if work.samples {
                    *answer -= 1;
                    if *answer == 0 {
                        self.end(work.id);
                        self.finished += 1;
                    } else {
                        *unread = 1;
                        self.scheduler.sampled(work.id);
                    }
                }
            }
            assert_eq!(self.scheduler.running() + self.scheduler.waiting(), self.alive.len());
            plan.len()
        }

        fn end(&mut self, id: SequenceId) {
            self.scheduler.remove(id);
            self.alive.remove(&id);
            self.running.remove(&id);
        }
    }

    proptest! {
        #[test]
        fn no_plan_breaks_a_bound_and_every_sequence_ends(
            events in prop::collection::vec(event(), 1..120),
            max_sequences in 1usize..5,
            max_step_tokens in 1usize..12,
        ) {
            let limits = SchedulerLimits { max_sequences, max_step_tokens };
            let mut driver = Driver {
                scheduler: Scheduler::new(limits), limits, alive: BTreeMap::new(), running: BTreeSet::new(), finished: 0,
            };
            let (mut arrived, mut cancelled) = (0u64, 0);
            for event in events {
                match event {
                    Event::Arrive { prompt, answer, batch, turn } => {
                        let id = SequenceId(arrived);
                        arrived += 1;
                        driver.alive.insert(id, (prompt, answer, prompt + answer));
                        let priority = if batch { Priority::Batch } else { Priority::Interactive };
                        driver.scheduler.enqueue(id, prompt, prompt + answer, priority, Turn(turn));
                    }
                    Event::Step => { driver.step(); }
                    Event::Cancel(nth) => {
                        if let Some(&id) = driver.alive.keys().nth(nth) {
                            driver.end(id);
                            cancelled += 1;
                        }
                    }
                }
            }
            while !driver.alive.is_empty() {
                prop_assert!(driver.step() > 0, "sequences are alive and nothing is planned");
            }
            prop_assert_eq!(driver.finished + cancelled, arrived as usize);
        }
    }
}
