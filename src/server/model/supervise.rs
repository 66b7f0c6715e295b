//! The supervisor that keeps a model in the slot: loads it, probes it with a short text, and restarts it when its engine
//! fails.

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

/// The text that a new model must process before it serves requests.
const PROBE: &str = "今天天气很好。";
/// The time after which a running model counts as stable. After a later failure, all restarts are available again.
const STABLE_AFTER: Duration = Duration::from_secs(600);

/// The number and timing of restarts after an engine fails.
#[derive(Debug, Clone, Copy)]
pub struct RestartPolicy {
    /// Maximum number of consecutive restarts.
    pub max_restarts: u32,
    /// Delay before the first restart. It doubles with each further one.
    pub first_backoff: Duration,
    /// Maximum time for the model to answer the probe.
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

/// Loads the model with `load`, which may block, and puts it into the slot once it answers a probe. Repeats this when its
/// engine fails, as often as `policy` allows; after that, the slot reports the failure. Never returns `Ok`.
///
/// # Errors
/// Fails if the first `load` fails or its model does not answer the probe.
pub async fn supervise<E: std::fmt::Display + Send + 'static>(
    slot: ModelSlot,
    policy: RestartPolicy,
    metrics: Metrics,
    load: impl Fn() -> Result<Pipeline, E> + Send + Sync + 'static,
) -> Result<Infallible, String> {
    let load = Arc::new(load);
    slot.fill(start(&load, policy).await?);
    let mut restarts_left = policy.max_restarts;
    let mut backoff = policy.first_backoff;
    loop {
        let start_time = Instant::now();
        let mut reason = failure(&slot).await;
        if start_time.elapsed() >= STABLE_AFTER {
            (restarts_left, backoff) = (policy.max_restarts, policy.first_backoff);
        }
        let restarted = loop {
            if restarts_left == 0 {
                break None;
            }
            restarts_left -= 1;
            slot.set_loading();
            tracing::warn!(
                reason,
                restarts_left,
                backoff_ms = backoff.as_millis() as u64,
                "restarting the engine"
            );
            tokio::time::sleep(backoff).await;
            backoff *= 2;
            metrics.engine_restarts.inc();
            match start(&load, policy).await {
                Ok(pipeline) => break Some(pipeline),
                Err(error) => reason = error,
            }
        };
        let Some(pipeline) = restarted else {
            tracing::error!(reason, "the engine failed too often; restart the process");
            slot.fail(reason);
            return std::future::pending().await;
        };
        slot.fill(pipeline);
        tracing::info!("the model is ready again");
    }
}

/// Waits until the model in the slot fails, and returns the reason.
async fn failure(slot: &ModelSlot) -> String {
    let mut readiness = slot.watch();
    let failed = readiness.wait_for(|r| matches!(r, Readiness::Failed(_))).await;
    let reason = failed.ok().and_then(|failed| match &*failed {
        Readiness::Failed(reason) => Some(reason.clone()),
        _ => None,
    });
    match reason {
        Some(reason) => reason,
        // Unreachable: the slot keeps the channel open.
        None => std::future::pending().await,
    }
}

/// Loads the model and waits until it answers the probe.
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
        .map_err(|reason| format!("the model was loaded but failed the probe: {reason}"))?;
    Ok(pipeline)
}

/// Lets each model perform one of its tasks on the probe text.
async fn probe(pipeline: &Pipeline) -> Result<(), String> {
    for model in pipeline.models() {
        let pipeline = pipeline.restricted_to(&model.id).ok_or("the pipeline has lost a model")?;
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
