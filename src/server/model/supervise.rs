//! Keeps a model in the slot: loads it, asks it something, and starts it again when its engine fails.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::StreamExt as _;
use tokio::time::Instant;

use super::{ModelSlot, Readiness};
use crate::{
    document::{self, InputFormat},
    pipeline::{Job, Pipeline},
    server::observe::Metrics,
    task::Tasks,
};

/// What the model is asked before anybody else may ask it.
const PROBE: &str = "今天天气很好。";
/// A model that ran this long before it failed has all its tries again.
const LONG_ENOUGH: Duration = Duration::from_secs(600);

/// How often, and how soon, an engine is started again.
#[derive(Debug, Clone, Copy)]
pub struct RestartPolicy {
    /// The most tries in a row.
    pub max_restarts: u32,
    /// The pause before the first of them; it doubles each time.
    pub first_backoff: Duration,
    /// How long the model may take to answer the probe.
    pub probe_timeout: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            max_restarts: 5,
            first_backoff: Duration::from_secs(1),
            probe_timeout: Duration::from_secs(120),
        }
    }
}

/// Loads the model with `load`, which may block, puts it into the slot when it has answered a probe, and does so again
/// when its engine fails. Ends only with the error of the first load; afterwards failures are told by the slot.
///
/// # Errors
/// What `load` says the first time, or that the probe was not answered.
pub async fn supervise<E: std::fmt::Display + Send + 'static>(
    slot: ModelSlot,
    policy: RestartPolicy,
    metrics: Metrics,
    load: impl Fn() -> Result<Pipeline, E> + Send + Sync + 'static,
) -> Result<Infallible, String> {
    let load = Arc::new(load);
    slot.fill(start(&load, policy).await?);
    let mut tries_left = policy.max_restarts;
    let mut pause = policy.first_backoff;
    loop {
        let began = Instant::now();
        let mut reason = failure(&slot).await;
        if began.elapsed() >= LONG_ENOUGH {
            (tries_left, pause) = (policy.max_restarts, policy.first_backoff);
        }
        let again = loop {
            if tries_left == 0 {
                break None;
            }
            tries_left -= 1;
            slot.set_loading();
            tracing::warn!(
                reason,
                tries_left,
                pause_ms = pause.as_millis() as u64,
                "the engine is started again"
            );
            tokio::time::sleep(pause).await;
            pause *= 2;
            metrics.engine_restarts.inc();
            match start(&load, policy).await {
                Ok(pipeline) => break Some(pipeline),
                Err(error) => reason = error,
            }
        };
        let Some(pipeline) = again else {
            tracing::error!(reason, "the engine failed too often; the process must be started again");
            slot.fail(reason);
            return std::future::pending().await;
        };
        slot.fill(pipeline);
        tracing::info!("the model answers again");
    }
}

/// Waits until the model in the slot has failed, and says why.
async fn failure(slot: &ModelSlot) -> String {
    let mut readiness = slot.watch();
    let failed = readiness.wait_for(|r| matches!(r, Readiness::Failed(_))).await;
    let reason = failed.ok().and_then(|failed| match &*failed {
        Readiness::Failed(reason) => Some(reason.clone()),
        _ => None,
    });
    match reason {
        Some(reason) => reason,
        // The slot keeps the channel open.
        None => std::future::pending().await,
    }
}

async fn start<E: std::fmt::Display + Send + 'static>(
    load: &Arc<impl Fn() -> Result<Pipeline, E> + Send + Sync + 'static>,
    policy: RestartPolicy,
) -> Result<Pipeline, String> {
    let load = load.clone();
    let loaded = tokio::task::spawn_blocking(move || load()).await;
    let pipeline = loaded.map_err(|error| error.to_string())?.map_err(|error| format!("{error:#}"))?;
    let answered = tokio::time::timeout(policy.probe_timeout, probe(&pipeline)).await;
    answered
        .unwrap_or_else(|_| Err(format!("no answer within {:?}", policy.probe_timeout)))
        .map_err(|reason| format!("the model was loaded but does not answer a probe: {reason}"))?;
    Ok(pipeline)
}

/// Has each model do one of its tasks on a sentence.
async fn probe(pipeline: &Pipeline) -> Result<(), String> {
    for model in pipeline.models() {
        let pipeline = pipeline.restricted_to(&model.id).ok_or("a model that is not there")?;
        let translation = model.tasks.translation;
        probe_with(&pipeline, Tasks { summary: !translation, translation }).await?;
    }
    Ok(())
}

async fn probe_with(pipeline: &Pipeline, tasks: Tasks) -> Result<(), String> {
    let document = document::parse_text(PROBE, InputFormat::Lines, &document::Limits::default());
    let job = Job { tasks, ..Job::new(document.map_err(|error| error.to_string())?) };
    let outcomes: Vec<_> = pipeline.digest(job).collect().await;
    outcomes.into_iter().try_for_each(|outcome| outcome.result.map(drop).map_err(|error| error.to_string()))
}
