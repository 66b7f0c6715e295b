//! The writer thread: stores results, puts them into order, passes them to the sink, and counts them.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{BatchProgress, FinishedItem, ItemHeader, ItemOutcome, ResultSink, ResultStore, RunTotals};
use crate::client::ItemFailure;

/// A message to the writer.
pub(super) enum WriterMessage {
    /// A new result. `budget` is released when it is written, `in_flight` as soon as it is stored.
    Finished { item: FinishedItem, budget: OwnedSemaphorePermit, in_flight: Option<OwnedSemaphorePermit> },
    /// An item whose result is in the store.
    Stored(ItemHeader, OwnedSemaphorePermit),
    /// The last message.
    End(RunEnd),
}

/// The end of a run, as the coordinator saw it.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunEnd {
    pub(super) skipped: u64,
    pub(super) interrupted: bool,
}

pub(super) struct ResultWriter {
    pub(super) sink: Box<dyn ResultSink>,
    pub(super) store: Option<Arc<ResultStore>>,
    pub(super) progress: Arc<BatchProgress>,
    pub(super) in_order: bool,
}

impl ResultWriter {
    /// Writes results until the last message.
    pub(super) fn write(mut self, mut messages: mpsc::Receiver<WriterMessage>) -> anyhow::Result<RunTotals> {
        let mut totals = RunTotals::default();
        let mut early: BTreeMap<u64, (FinishedItem, OwnedSemaphorePermit)> = BTreeMap::new();
        let mut next = 0;
        while let Some(message) = messages.blocking_recv() {
            let (item, budget) = match message {
                WriterMessage::Finished { item, budget, in_flight } => {
                    self.store(&item)?;
                    drop(in_flight);
                    (item, budget)
                }
                WriterMessage::Stored(header, budget) => (self.load(header)?, budget),
                WriterMessage::End(end) => {
                    (totals.skipped, totals.interrupted) = (end.skipped, end.interrupted);
                    break;
                }
            };
            if !self.in_order {
                self.write_item(item, &mut totals)?;
                continue;
            }
            early.insert(item.header.index, (item, budget));
            while let Some((item, _budget)) = early.remove(&next) {
                next += 1;
                self.write_item(item, &mut totals)?;
            }
        }
        // After an interrupted run there are gaps. Write what follows them.
        for (item, _budget) in early.into_values() {
            self.write_item(item, &mut totals)?;
        }
        self.sink.finish(&totals)?;
        self.progress.end(&totals);
        Ok(totals)
    }

    fn write_item(&mut self, item: FinishedItem, totals: &mut RunTotals) -> anyhow::Result<()> {
        let counts = item.outcome.counts();
        match &item.outcome {
            ItemOutcome::Digest(_) if counts.failed_sections > 0 => totals.partial += 1,
            ItemOutcome::Digest(_) => totals.done += 1,
            ItemOutcome::Failed(_) => totals.failed += 1,
        }
        totals.sections_with_findings += counts.sections_with_findings;
        totals.from_store += u64::from(!item.is_new);
        self.progress.item(&item, &counts);
        self.sink.write(item)
    }

    /// Stores a new result and releases the claim on its key.
    fn store(&self, item: &FinishedItem) -> anyhow::Result<()> {
        let (Some(store), Some(key)) = (&self.store, item.header.key) else { return Ok(()) };
        match &item.outcome {
            ItemOutcome::Digest(digest) => {
                let failed = digest.sections.iter().filter(|section| section.error.is_some()).count();
                if failed > 0 {
                    let first = digest.sections.iter().find_map(|section| section.error.as_ref());
                    let code = tonic::Code::from_i32(first.map_or(0, |error| error.code));
                    let message = format!(
                        "{failed} of {} sections failed: {}",
                        digest.sections.len(),
                        first.map_or("", |error| &error.message)
                    );
                    store.put_failure(key, &ItemFailure { code, message })?;
                }
                store.put(key, digest)?;
                if failed == 0 {
                    store.remove_failure(key)?;
                }
            }
            ItemOutcome::Failed(failure) => store.put_failure(key, failure)?,
        }
        store.release(key);
        Ok(())
    }

    /// Loads a result from the store.
    fn load(&self, header: ItemHeader) -> anyhow::Result<FinishedItem> {
        let stored = match (&self.store, header.key) {
            (Some(store), Some(key)) => store.get(key)?,
            _ => None,
        };
        let outcome = stored.unwrap_or_else(|| {
            let message =
                "its result was removed from the output directory during the run; run again".to_owned();
            ItemOutcome::Failed(ItemFailure { code: tonic::Code::DataLoss, message })
        });
        Ok(FinishedItem { header, outcome, is_new: false })
    }
}
