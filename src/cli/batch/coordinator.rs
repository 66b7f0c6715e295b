//! The coordinator: sends items to the servers and passes their results to the writer.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    BatchProgress, FinishedItem, ItemHeader, ItemOutcome, reader::Planned, store::ResultKey,
    writer::WriterMessage,
};
use crate::{
    client::{ClientError, DigestItem, ItemFailure, PoolEvent},
    pb, shutdown,
};

/// An item whose result is outstanding.
struct OutstandingItem {
    header: ItemHeader,
    /// The permit of the reader.
    budget: OwnedSemaphorePermit,
    /// The permit for being in flight; `None` until the item is sent.
    in_flight: Option<OwnedSemaphorePermit>,
}

pub(super) struct Coordinator {
    /// Holds a permit per item from when it is sent until its result is stored. So even if the disk is slow, a run
    /// that is killed loses at most this number of results.
    in_flight: Arc<Semaphore>,
    /// Items that are sent or about to be, by the id of their work.
    pending: HashMap<u64, OutstandingItem>,
    /// Items with the same content as a pending item.
    duplicates: HashMap<ResultKey, Vec<(ItemHeader, OwnedSemaphorePermit)>>,
    to_writer: mpsc::Sender<WriterMessage>,
    skipped: u64,
}

/// The writer has failed and takes no more messages.
struct WriterGone;

impl Coordinator {
    /// `in_flight` bounds the items that are sent but not yet stored.
    pub(super) fn new(in_flight: usize, to_writer: mpsc::Sender<WriterMessage>) -> Self {
        Self {
            in_flight: Arc::new(Semaphore::new(in_flight)),
            pending: HashMap::new(),
            duplicates: HashMap::new(),
            to_writer,
            skipped: 0,
        }
    }

    /// Returns the channel to the writer and the number of skipped items.
    pub(super) fn into_parts(self) -> (mpsc::Sender<WriterMessage>, u64) {
        (self.to_writer, self.skipped)
    }

    /// Runs until every result is passed to the writer, or until the writer or all servers are lost.
    ///
    /// Returns the error of the servers in the last case. On the first shutdown signal, sends no more items and waits
    /// for those in flight.
    pub(super) async fn coordinate(
        &mut self,
        plans: &mut mpsc::Receiver<Planned>,
        work: mpsc::Sender<DigestItem>,
        events: &mut mpsc::Receiver<PoolEvent>,
        stop: &CancellationToken,
        progress: &BatchProgress,
    ) -> Option<ClientError> {
        let mut work = Some(work);
        let mut next: Option<DigestItem> = None;
        let mut shutdown_requested = std::pin::pin!(shutdown::requested());
        while work.is_some() || !self.pending.is_empty() {
            let (sender, in_flight) = (work.clone(), self.in_flight.clone());
            let passed_on = tokio::select! {
                () = &mut shutdown_requested, if !stop.is_cancelled() => {
                    stop.cancel();
                    progress.note("stopping: finishing the inputs in flight; interrupt again to stop immediately");
                    if let Some(unsent) = next.take() {
                        self.pending.remove(&unsent.id);
                    }
                    work = None;
                    Ok(())
                }
                event = events.recv() => match event {
                    Some(PoolEvent::Done { id, result }) => self.finish(id, result).await,
                    Some(PoolEvent::Note(note)) => {
                        progress.note(&note);
                        Ok(())
                    }
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
                    Ok(())
                }
                plan = plans.recv(), if next.is_none() && work.is_some() => match plan {
                    Some(plan) => self.accept(plan).await.map(|work| next = work),
                    None => {
                        work = None;
                        Ok(())
                    }
                },
                () = self.to_writer.closed() => Err(WriterGone),
            };
            if passed_on.is_err() {
                return None;
            }
        }
        None
    }

    /// Takes an item from the reader. Returns the work to send, if any.
    async fn accept(&mut self, plan: Planned) -> Result<Option<DigestItem>, WriterGone> {
        match plan {
            Planned::Send(header, input, budget) => {
                let work = DigestItem { id: header.index, input: *input };
                self.pending.insert(header.index, OutstandingItem { header, budget, in_flight: None });
                return Ok(Some(work));
            }
            Planned::Stored(header, budget) => {
                let in_flight = self.pending.values().any(|other| other.header.key == header.key);
                match header.key.filter(|_| in_flight) {
                    Some(key) => self.duplicates.entry(key).or_default().push((header, budget)),
                    None => self.pass_on(WriterMessage::Stored(header, budget)).await?,
                }
            }
            Planned::Unreadable(header, message, budget) => {
                let outcome =
                    ItemOutcome::Failed(ItemFailure { code: tonic::Code::InvalidArgument, message });
                let item = FinishedItem { header, outcome, is_new: true };
                self.pass_on(WriterMessage::Finished { item, budget, in_flight: None }).await?;
            }
            Planned::Skipped => self.skipped += 1,
        }
        Ok(None)
    }

    /// Passes a result to the writer, and then its duplicates.
    async fn finish(
        &mut self,
        id: u64,
        result: Result<Box<pb::DigestResponse>, ItemFailure>,
    ) -> Result<(), WriterGone> {
        let Some(OutstandingItem { header, budget, in_flight }) = self.pending.remove(&id) else {
            return Ok(());
        };
        let duplicates = header.key.and_then(|key| self.duplicates.remove(&key)).unwrap_or_default();
        let outcome = result.map_or_else(ItemOutcome::Failed, ItemOutcome::Digest);
        let item = FinishedItem { header, outcome, is_new: true };
        self.pass_on(WriterMessage::Finished { item, budget, in_flight }).await?;
        for (header, budget) in duplicates {
            self.pass_on(WriterMessage::Stored(header, budget)).await?;
        }
        Ok(())
    }

    async fn pass_on(&mut self, message: WriterMessage) -> Result<(), WriterGone> {
        self.to_writer.send(message).await.map_err(|_| WriterGone)
    }
}
