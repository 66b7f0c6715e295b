//! A run over many inputs: what is read, what is sent, what is written, and when it ends.
//!
//! ```text
//! reader (a thread) ─planned─▶ conductor ─work─▶ client::ServerPool ─events─▶ conductor ─▶ writer (a thread)
//!    │ asks the store what is done already                                                 │ Sink
//!    └──────────────────────── a permit for each item between reading and writing ◀────────┘
//! ```
//!
//! Called by `digest`. Everything between reading and writing is bounded by the permits, in bytes and in number, so
//! that neither many inputs nor large ones take more memory. Knows no format: that is the sink's.

pub(super) mod directory;
mod journal;
pub(super) mod progress;
mod report;
pub(super) mod store;
pub(super) mod stream;
pub(super) mod throughput;
mod writer;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::input::{Item, Sources, Unreadable};
use crate::{
    client::{ClientError, DigestItem, ItemFailure, PoolEvent, PoolSettings, ServerPool},
    pb, shutdown,
};
use progress::Progress;
use store::{Key, Known, Store};

/// What may stand between reading and writing, in units of a KiB.
const BUDGET_KIB: u32 = 64 << 10;
/// And in number: each item takes at least this share of the budget.
const MAX_ITEMS: u32 = 256;

/// An item without its text.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// From 0, in the order of the inputs.
    pub(super) index: u64,
    pub(super) name: String,
    pub(super) id: Option<serde_json::Value>,
    pub(super) place: PathBuf,
    /// Of the input.
    pub(super) bytes: u64,
    /// What its result is kept under; only with a store, and not for what could not be read.
    pub(super) key: Option<Key>,
}

/// What became of an item.
#[derive(Debug)]
pub(super) enum Outcome {
    Digest(Box<pb::DigestResponse>),
    Failed(ItemFailure),
}

/// An item that is through.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) entry: Entry,
    pub(super) outcome: Outcome,
    /// Made now, not found in the store.
    pub(super) fresh: bool,
}

/// What takes the results. Called on a thread of its own; may block.
pub(super) trait Sink: Send {
    /// Takes one result.
    fn take(&mut self, done: Done) -> anyhow::Result<()>;
    /// Ends the output, also when the run was broken off.
    fn finish(&mut self, tally: &Tally) -> anyhow::Result<()>;
}

/// How a run is to be done.
pub(super) struct Run {
    pub(super) sources: Sources,
    pub(super) balanced: ServerPool,
    pub(super) settings: PoolSettings,
    /// Where results are kept, with an output directory.
    pub(super) store: Option<Arc<Store>>,
    /// Take only what failed before.
    pub(super) retry_failed: bool,
    /// Write in the order of the inputs rather than as they are done.
    pub(super) in_order: bool,
    pub(super) sink: Box<dyn Sink>,
    pub(super) progress: Arc<Progress>,
}

/// How many items became what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Tally {
    /// Wholly done, now or before.
    pub(super) done: u64,
    /// Done but for some sections.
    pub(super) partial: u64,
    /// Not done.
    pub(super) failed: u64,
    /// Sections of the first two in which the checks found something.
    pub(super) findings: u64,
    /// Of the above: found in the store.
    pub(super) kept: u64,
    /// Read or not, these were not tried in this run.
    pub(super) left: u64,
    /// Whether the run was broken off, so that there may be more than `left`.
    pub(super) broken_off: bool,
}

/// From the reader to the conductor.
enum Planned {
    Send(Entry, Box<pb::Input>, OwnedSemaphorePermit),
    /// Its result is in the store, or will be: the same text is in flight.
    Known(Entry, OwnedSemaphorePermit),
    Unreadable(Entry, String, OwnedSemaphorePermit),
    /// Not to be tried in this run.
    Left,
}

impl Run {
    /// Does the run. Fails when results cannot be written or no server is left.
    pub(super) async fn go(self) -> anyhow::Result<Tally> {
        let Self { sources, balanced, settings, store, retry_failed, in_order, sink, progress } = self;
        let running = balanced.running().clone();
        let sources = Arc::new(sources);
        progress.begin(&sources);
        let stop = CancellationToken::new();
        let (planned, mut plans) = mpsc::channel(1);
        let reader = Reader {
            sources,
            keys: store.clone().map(|store| (store, store::Keys::new(&running, &settings.options))),
            retry_failed,
            budget: Arc::new(Semaphore::new(BUDGET_KIB as usize)),
            planned,
            stop: stop.clone(),
        };
        tokio::task::spawn_blocking(move || reader.read());
        let (written, to_write) = mpsc::channel(16);
        let writing = {
            let (store, progress) = (store, progress.clone());
            tokio::task::spawn_blocking(move || {
                writer::Writer { sink, store, progress, in_order }.write(to_write)
            })
        };
        let in_flight = settings.window * balanced.servers();
        let (work, mut events) = balanced.start(settings);
        let mut conductor = Conductor {
            in_flight: Arc::new(Semaphore::new(in_flight)),
            pending: HashMap::new(),
            waiting: HashMap::new(),
            written,
            left: 0,
        };
        let given_up = conductor.conduct(&mut plans, work, &mut events, &stop, &progress).await;
        let Conductor { written, left, .. } = conductor;
        let end = writer::End { left, broken_off: stop.is_cancelled() || given_up.is_some() };
        // The writer that is gone has an error to tell.
        let _ = written.send(writer::Message::End(end)).await;
        drop(written);
        let tally = writing.await??;
        match given_up {
            Some(error) if tally.done + tally.partial == 0 => Err(error.into()),
            Some(error) => {
                progress.error(&error.to_string());
                Ok(tally)
            }
            None => Ok(tally),
        }
    }
}

/// Reads the inputs and decides for each what is to be done.
struct Reader {
    sources: Arc<Sources>,
    keys: Option<(Arc<Store>, store::Keys)>,
    retry_failed: bool,
    budget: Arc<Semaphore>,
    planned: mpsc::Sender<Planned>,
    stop: CancellationToken,
}

impl Reader {
    fn read(self) {
        let runtime = tokio::runtime::Handle::current();
        let items = self.sources.list.iter().flat_map(|source| source.items());
        for (index, item) in (0..).zip(items) {
            let bytes = item.as_ref().map_or(0, |item| item.bytes);
            let kib =
                u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(BUDGET_KIB / MAX_ITEMS, BUDGET_KIB);
            let Ok(permit) = runtime.block_on(self.budget.clone().acquire_many_owned(kib)) else { return };
            if self.stop.is_cancelled() || self.planned.blocking_send(self.plan(index, item, permit)).is_err()
            {
                return;
            }
        }
    }

    fn plan(&self, index: u64, item: Result<Item, Unreadable>, permit: OwnedSemaphorePermit) -> Planned {
        let item = match item {
            Ok(item) => item,
            Err(Unreadable { name, place, bytes, error }) => {
                let entry = Entry { index, name, id: None, place, bytes, key: None };
                return Planned::Unreadable(entry, format!("{error:#}"), permit);
            }
        };
        let Item { name, id, place, bytes, input } = item;
        let entry = |key| Entry { index, name, id, place, bytes, key };
        let Some((store, keys)) = &self.keys else {
            return Planned::Send(entry(None), Box::new(input), permit);
        };
        let key = keys.of(&input);
        // Claimed first, looked up then: the writer stores first and gives the claim back then.
        if !store.claim(key) {
            return Planned::Known(entry(Some(key)), permit);
        }
        let known = store.known(key);
        let wanted = match known {
            Known::Failed | Known::Partly => self.retry_failed,
            Known::Nothing => !self.retry_failed,
            Known::Done => false,
        };
        if wanted {
            return Planned::Send(entry(Some(key)), Box::new(input), permit);
        }
        store.give_back(key);
        if known == Known::Nothing { Planned::Left } else { Planned::Known(entry(Some(key)), permit) }
    }
}

/// An item whose answer is waited for.
struct Pending {
    entry: Entry,
    room: OwnedSemaphorePermit,
    /// Once it is sent.
    in_flight: Option<OwnedSemaphorePermit>,
}

/// Keeps work flowing to the servers and results to the writer.
struct Conductor {
    /// A permit for each item from its sending until its result is stored, so that a run that is killed loses no more
    /// than this, however slow the disk is.
    in_flight: Arc<Semaphore>,
    /// Sent or about to be, by the id of the work.
    pending: HashMap<u64, Pending>,
    /// Items whose text is in flight under another name.
    waiting: HashMap<Key, Vec<(Entry, OwnedSemaphorePermit)>>,
    written: mpsc::Sender<writer::Message>,
    left: u64,
}

impl Conductor {
    /// Ends when everything is written or on its way to the writer. Tells why no server was left, if so.
    async fn conduct(
        &mut self,
        plans: &mut mpsc::Receiver<Planned>,
        work: mpsc::Sender<DigestItem>,
        events: &mut mpsc::Receiver<PoolEvent>,
        stop: &CancellationToken,
        progress: &Progress,
    ) -> Option<ClientError> {
        let mut work = Some(work);
        let mut next: Option<DigestItem> = None;
        let mut asked_to_stop = std::pin::pin!(shutdown::requested());
        while work.is_some() || !self.pending.is_empty() {
            let (sender, in_flight) = (work.clone(), self.in_flight.clone());
            tokio::select! {
                () = &mut asked_to_stop, if !stop.is_cancelled() => {
                    stop.cancel();
                    progress.note("stopping: what is in flight is finished; once more stops at once");
                    if let Some(unsent) = next.take() {
                        self.pending.remove(&unsent.id);
                    }
                    work = None;
                }
                event = events.recv() => match event {
                    Some(PoolEvent::Done { id, result }) => self.done(id, result).await?,
                    Some(PoolEvent::Note(note)) => progress.note(&note),
                    Some(PoolEvent::GaveUp(error)) => return Some(error),
                    None => return None,
                },
                Some((permit, channel)) = async { match &sender {
                    Some(sender) => in_flight.acquire_owned().await.ok().zip(sender.reserve().await.ok()),
                    None => std::future::pending().await,
                } }, if next.is_some() => {
                    if let Some(next) = next.take() {
                        if let Some(pending) = self.pending.get_mut(&next.id) {
                            pending.in_flight = Some(permit);
                        }
                        channel.send(next);
                    }
                }
                plan = plans.recv(), if next.is_none() && work.is_some() => match plan {
                    Some(plan) => next = self.plan(plan).await?,
                    None => work = None,
                },
                // The writer cannot write: it says why when it is waited for.
                () = self.written.closed() => return None,
            }
        }
        None
    }

    /// `Some` holds what is to be sent, if anything; `None` means that the writer is gone.
    async fn plan(&mut self, plan: Planned) -> Option<Option<DigestItem>> {
        match plan {
            Planned::Send(entry, input, room) => {
                let work = DigestItem { id: entry.index, input: *input };
                self.pending.insert(entry.index, Pending { entry, room, in_flight: None });
                return Some(Some(work));
            }
            Planned::Known(entry, permit) => {
                let in_flight = self.pending.values().any(|other| other.entry.key == entry.key);
                match entry.key.filter(|_| in_flight) {
                    Some(key) => self.waiting.entry(key).or_default().push((entry, permit)),
                    None => self.write(writer::Message::Known(entry, permit)).await?,
                }
            }
            Planned::Unreadable(entry, message, permit) => {
                let outcome = Outcome::Failed(ItemFailure { code: tonic::Code::InvalidArgument, message });
                self.write(writer::Message::Done(Done { entry, outcome, fresh: true }, permit, None)).await?;
            }
            Planned::Left => self.left += 1,
        }
        Some(None)
    }

    async fn done(&mut self, id: u64, result: Result<Box<pb::DigestResponse>, ItemFailure>) -> Option<()> {
        let Some(Pending { entry, room, in_flight }) = self.pending.remove(&id) else { return Some(()) };
        let others = entry.key.and_then(|key| self.waiting.remove(&key)).unwrap_or_default();
        let outcome = result.map_or_else(Outcome::Failed, Outcome::Digest);
        self.write(writer::Message::Done(Done { entry, outcome, fresh: true }, room, in_flight)).await?;
        for (entry, permit) in others {
            self.write(writer::Message::Known(entry, permit)).await?;
        }
        Some(())
    }

    async fn write(&mut self, message: writer::Message) -> Option<()> {
        self.written.send(message).await.ok()
    }
}
