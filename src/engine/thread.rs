//! The life of a worker's thread, whatever its model: it takes what arrives, makes step after step, and when one fails or
//! panics tells everybody who waits, so that nobody waits for a silent death.
//!
//! Called by [`super::Engine`], with a worker of either kind.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::{mpsc, watch};

use super::{GenerationEvent, Health, handle::Submission};
use crate::model::ModelError;

/// What a worker does between two looks at what has arrived.
pub(super) trait Worker {
    /// Where prompts arrive.
    fn inbox(&mut self) -> &mut mpsc::Receiver<Submission>;

    /// Whether there is nothing to do.
    fn is_idle(&self) -> bool;

    /// Takes a prompt on.
    fn accept(&mut self, submission: Submission);

    /// Makes a step.
    fn step(&mut self) -> Result<(), ModelError>;

    /// What is in flight, to be told that it ends here.
    fn abandon(&mut self) -> Vec<Submission>;
}

/// Runs until the last handle is dropped or a step fails.
pub(super) fn run(mut worker: impl Worker, health: &watch::Sender<Health>) {
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
        // The receiver may be gone; then nobody needs to be told.
        let _ = submission.events.try_send(GenerationEvent::Failed(reason.clone()));
    }
}

/// Takes all that has arrived; sleeps while there is nothing to do. False when it is time to end.
fn receive(worker: &mut impl Worker) -> bool {
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

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}
