//! The worker thread: receives prompts, runs step after step, and reports a failure to every waiting sequence.
//!
//! Spawned by [`super::Engine`] with a [`DecoderWorker`] or a [`Seq2SeqWorker`].

mod decoder;
mod seq2seq;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::{mpsc, watch};

pub(super) use decoder::DecoderWorker;
pub(super) use seq2seq::Seq2SeqWorker;

use super::{GenerationEvent, Health, handle::Submission};
use crate::model::ModelError;

/// The operations of a worker that [`run`] calls in turn.
pub(super) trait EngineWorker {
    /// Returns the channel on which prompts arrive.
    fn inbox(&mut self) -> &mut mpsc::Receiver<Submission>;

    /// Returns `true` if there are no sequences.
    fn is_idle(&self) -> bool;

    /// Queues a prompt.
    fn accept(&mut self, submission: Submission);

    /// Runs one step.
    fn step(&mut self) -> Result<(), ModelError>;

    /// Removes and returns all sequences, so that a failure can be reported to their receivers.
    fn abandon(&mut self) -> Vec<Submission>;
}

/// Runs steps until the last handle is dropped or a step fails.
pub(super) fn run(mut worker: impl EngineWorker, health: &watch::Sender<Health>) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        while receive(&mut worker) {
            worker.step()?;
        }
        Ok::<(), ModelError>(())
    }));
    let reason = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string().lines().next().unwrap_or_default().to_owned(),
        Err(panic) => format!("the engine panicked: {}", panic_message(&*panic)),
    };
    tracing::error!(reason, "the engine has failed");
    health.send_replace(Health::Failed(reason.clone()));
    worker.inbox().close();
    let queued: Vec<_> = std::iter::from_fn(|| worker.inbox().try_recv().ok()).collect();
    for submission in queued.into_iter().chain(worker.abandon()) {
        submission.emit(GenerationEvent::Failed(reason.clone()));
    }
}

/// Accepts all prompts that have arrived; blocks while the worker is idle. Returns `false` when the last handle is
/// gone.
fn receive(worker: &mut impl EngineWorker) -> bool {
    if worker.is_idle() {
        match worker.inbox().blocking_recv() {
            Some(submission) => worker.accept(submission),
            None => return false,
        }
    }
    while let Ok(submission) = worker.inbox().try_recv() {
        worker.accept(submission);
    }
    true
}

/// Converts a count to the value of a gauge.
fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
