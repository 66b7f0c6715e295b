//! The writer's thread: stores results, gives them to the sink in the order that was asked for, and counts.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{Done, Entry, Outcome, Sink, Tally, progress::Progress, store::Store};
use crate::client::ItemFailure;

/// What the writer is told.
pub(super) enum Message {
    /// An item is through. Its second permit, if it was sent, is given back as soon as its result is stored.
    Done(Done, OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
    /// The result of an item is in the store by now.
    Known(Entry, OwnedSemaphorePermit),
    /// There will be no more.
    End(End),
}

/// How the run ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) left: u64,
    pub(super) broken_off: bool,
}

pub(super) struct Writer {
    pub(super) sink: Box<dyn Sink>,
    pub(super) store: Option<Arc<Store>>,
    pub(super) progress: Arc<Progress>,
    pub(super) in_order: bool,
}

impl Writer {
    /// Writes until the end. The permit of an item is given back when it is written.
    pub(super) fn write(mut self, mut messages: mpsc::Receiver<Message>) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        let mut early: BTreeMap<u64, (Done, OwnedSemaphorePermit)> = BTreeMap::new();
        let mut next = 0;
        while let Some(message) = messages.blocking_recv() {
            let (done, permit) = match message {
                Message::Done(done, permit, in_flight) => {
                    self.store(&done)?;
                    drop(in_flight);
                    (done, permit)
                }
                Message::Known(entry, permit) => (self.recall(entry)?, permit),
                Message::End(end) => {
                    (tally.left, tally.broken_off) = (end.left, end.broken_off);
                    break;
                }
            };
            if !self.in_order {
                self.take(done, &mut tally)?;
                continue;
            }
            early.insert(done.entry.index, (done, permit));
            while let Some((done, _permit)) = early.remove(&next) {
                next += 1;
                self.take(done, &mut tally)?;
            }
        }
        // After a run that was broken off there are gaps: what was done is written all the same.
        for (done, _permit) in early.into_values() {
            self.take(done, &mut tally)?;
        }
        self.sink.finish(&tally)?;
        self.progress.end(&tally);
        Ok(tally)
    }

    fn take(&mut self, done: Done, tally: &mut Tally) -> anyhow::Result<()> {
        match &done.outcome {
            Outcome::Digest(digest) if failed_sections(digest) > 0 => tally.partial += 1,
            Outcome::Digest(_) => tally.done += 1,
            Outcome::Failed(_) => tally.failed += 1,
        }
        tally.findings += sections_with_findings(&done.outcome);
        tally.kept += u64::from(!done.fresh);
        self.progress.done(&done);
        self.sink.take(done)
    }

    /// Stores a new result, and gives back the claim on its key.
    fn store(&self, done: &Done) -> anyhow::Result<()> {
        let (Some(store), Some(key)) = (&self.store, done.entry.key) else { return Ok(()) };
        match &done.outcome {
            Outcome::Digest(digest) => {
                let failed = failed_sections(digest);
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
                    store.forget_failure(key)?;
                }
            }
            Outcome::Failed(failure) => store.put_failure(key, failure)?,
        }
        store.give_back(key);
        Ok(())
    }

    /// The result of an item that was made before, in this run or another.
    fn recall(&self, entry: Entry) -> anyhow::Result<Done> {
        let found = match (&self.store, entry.key) {
            (Some(store), Some(key)) => store.get(key)?,
            _ => None,
        };
        let outcome = found.unwrap_or_else(|| {
            let message = "its result has vanished from the output directory; run again".to_owned();
            Outcome::Failed(ItemFailure { code: tonic::Code::DataLoss, message })
        });
        Ok(Done { entry, outcome, fresh: false })
    }
}

/// Sections in which the checks found something.
fn sections_with_findings(outcome: &Outcome) -> u64 {
    let Outcome::Digest(digest) = outcome else { return 0 };
    let found = |section: &&crate::pb::SectionDigest| section.verdict.as_ref().is_some_and(|v| !v.passed);
    digest.sections.iter().filter(found).count() as u64
}

/// Sections of a digest that carry an error.
pub(super) fn failed_sections(digest: &crate::pb::DigestResponse) -> usize {
    digest.sections.iter().filter(|section| section.error.is_some()).count()
}
