//! A run over many inputs.
//!
//! ```text
//! reader (a thread) ─planned─▶ coordinator ─work─▶ client::ServerPool ─events─▶ coordinator ─▶ writer (a thread)
//!    │ looks results up in the store                                                          │ ResultSink
//!    └───────────────────── a permit per item, from reading to writing ◀──────────────────────┘
//! ```
//!
//! Called by `yizhai digest`. The permits bound the number and the bytes of the items between reader and writer, so
//! memory use depends neither on the number nor on the size of the inputs. The sink knows the output format.

mod coordinator;
mod directory;
mod journal;
mod progress;
mod reader;
mod report;
mod store;
mod stream_sink;
mod throughput;
mod writer;

use std::{path::PathBuf, sync::Arc};

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub(super) use directory::OutputDirectory;
pub(super) use progress::{BatchProgress, ProgressMode};
pub(super) use store::ResultStore;
pub(super) use stream_sink::StreamSink;
pub(super) use throughput::Throughput;

use super::{input::InputSources, output::DigestCounts};
use crate::{
    client::{ItemFailure, PoolSettings, ServerPool},
    pb,
};
use coordinator::Coordinator;
use reader::BatchReader;
use store::ResultKey;
use writer::{ResultWriter, RunEnd, WriterMessage};

/// An item without its content.
#[derive(Debug, Clone)]
struct ItemHeader {
    /// Position of the item in the order of the inputs, from 0.
    index: u64,
    name: String,
    /// The id of a JSONL record.
    id: Option<serde_json::Value>,
    /// Path of the result below an output directory, without the extension of the format.
    path: PathBuf,
    /// Size of the input.
    bytes: u64,
    /// Key of the result in the store. `None` without a store and for unreadable items.
    key: Option<ResultKey>,
}

/// The outcome of an item.
#[derive(Debug)]
enum ItemOutcome {
    /// The digest; some of its sections may have failed.
    Digest(Box<pb::DigestResponse>),
    Failed(ItemFailure),
}

impl ItemOutcome {
    /// Returns `done`, `partial` or `failed`.
    fn label(&self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::Digest(_) if self.counts().failed_sections > 0 => "partial",
            Self::Digest(_) => "done",
        }
    }

    /// Returns the counts of the digest, or zeros for a failure.
    fn counts(&self) -> DigestCounts {
        match self {
            Self::Digest(digest) => DigestCounts::new(digest),
            Self::Failed(_) => DigestCounts::default(),
        }
    }

    /// Returns the error message of a failure.
    fn error(&self) -> Option<&str> {
        match self {
            Self::Digest(_) => None,
            Self::Failed(failure) => Some(&failure.message),
        }
    }
}

/// An item with its outcome.
#[derive(Debug)]
pub(super) struct FinishedItem {
    header: ItemHeader,
    outcome: ItemOutcome,
    /// The outcome is from this run, and not from the store.
    is_new: bool,
}

/// The destination of results. Called on its own thread; may block.
pub(super) trait ResultSink: Send {
    /// Writes one result.
    fn write(&mut self, item: FinishedItem) -> anyhow::Result<()>;
    /// Completes the output, even if the run was interrupted.
    fn finish(&mut self, totals: &RunTotals) -> anyhow::Result<()>;
}

/// The configuration of a run.
pub(super) struct BatchRun {
    pub(super) sources: InputSources,
    pub(super) balanced: ServerPool,
    pub(super) settings: PoolSettings,
    /// The store of the output directory, if there is one.
    pub(super) store: Option<Arc<ResultStore>>,
    /// Process only items that failed in an earlier run.
    pub(super) retry_failed: bool,
    /// Write results in the order of the inputs instead of the order of completion.
    pub(super) in_order: bool,
    pub(super) sink: Box<dyn ResultSink>,
    pub(super) progress: Arc<BatchProgress>,
}

/// Totals over the items of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct RunTotals {
    /// Items whose sections all succeeded.
    pub(super) done: u64,
    /// Items of which some sections failed.
    pub(super) partial: u64,
    /// Items that failed as a whole.
    pub(super) failed: u64,
    /// Sections with findings.
    pub(super) sections_with_findings: u64,
    /// Items, of those above, whose outcome came from the store.
    pub(super) from_store: u64,
    /// Items that `--retry-failed` skipped because they have never been processed.
    pub(super) skipped: u64,
    /// The run was interrupted; items may be missing.
    pub(super) interrupted: bool,
}

impl BatchRun {
    /// Processes all items.
    ///
    /// # Errors
    /// Returns an error if results cannot be written, or if all servers are lost before anything has succeeded.
    pub(super) async fn run(self) -> anyhow::Result<RunTotals> {
        let Self { sources, balanced, settings, store, retry_failed, in_order, sink, progress } = self;
        let provenance = balanced.running().clone();
        let sources = Arc::new(sources);
        progress.begin(&sources);
        let stop = CancellationToken::new();
        let (planned, mut plans) = mpsc::channel(1);
        let reader = BatchReader {
            sources,
            keys: store.clone().map(|store| (store, store::Keys::new(&provenance, &settings.options))),
            retry_failed,
            budget: Arc::new(Semaphore::new(reader::BUDGET_KIB as usize)),
            planned,
            stop: stop.clone(),
        };
        tokio::task::spawn_blocking(move || reader.read());
        let (to_writer, messages) = mpsc::channel(16);
        let writing = {
            let progress = progress.clone();
            tokio::task::spawn_blocking(move || {
                ResultWriter { sink, store, progress, in_order }.write(messages)
            })
        };
        let in_flight = settings.window * balanced.servers();
        let (work, mut events) = balanced.start(settings);
        let mut coordinator = Coordinator::new(in_flight, to_writer);
        let all_servers_lost = coordinator.coordinate(&mut plans, work, &mut events, &stop, &progress).await;
        let interrupted = stop.is_cancelled() || all_servers_lost.is_some();
        let (to_writer, skipped) = coordinator.into_parts();
        // If the writer has failed, it returns its error below.
        let _ = to_writer.send(WriterMessage::End(RunEnd { skipped, interrupted })).await;
        drop(to_writer);
        let totals = writing.await??;
        match all_servers_lost {
            Some(error) if totals.done + totals.partial == 0 => Err(error.into()),
            Some(error) => {
                progress.error(&error.to_string());
                Ok(totals)
            }
            None => Ok(totals),
        }
    }
}
