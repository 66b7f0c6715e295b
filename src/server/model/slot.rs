//! The slot that holds the server's model, and its readiness.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::{
    engine::{EngineMetrics, Health},
    pipeline::Pipeline,
};

/// The server's ability to process requests.
#[derive(Clone)]
pub enum Readiness {
    /// The model is being fetched or loaded.
    Loading,
    /// The model is ready.
    Ready(Pipeline),
    /// The model failed, for this reason, and will not be restarted.
    Failed(String),
    /// The server is shutting down and finishes the requests in flight.
    Draining,
}

/// Holds the server's model once it is loaded. Cheap to clone; all clones share the model.
#[derive(Clone)]
pub struct ModelSlot {
    sender: Arc<watch::Sender<Readiness>>,
    /// The metrics of the engines that ran last, with the ids of their models. They outlive the engines.
    engines: Arc<ArcSwap<Vec<(String, EngineMetrics)>>>,
}

impl ModelSlot {
    /// Returns an empty slot, whose model is still loading.
    pub fn loading() -> Self {
        Self { sender: Arc::new(watch::Sender::new(Readiness::Loading)), engines: Arc::default() }
    }

    /// Returns a slot with a model that is ready. Must be called within a Tokio runtime.
    pub fn ready(pipeline: Pipeline) -> Self {
        let slot = Self::loading();
        slot.fill(pipeline);
        slot
    }

    /// Puts a model into a loading slot and watches its engines for failures. Must be called within a Tokio runtime.
    pub fn fill(&self, pipeline: Pipeline) {
        let health: Vec<_> = pipeline.engines().into_iter().map(|engine| engine.health()).collect();
        let ids = pipeline.models().into_iter().map(|model| model.id.clone());
        let metrics = pipeline.engines().into_iter().map(|engine| engine.metrics().clone());
        self.engines.store(Arc::new(ids.zip(metrics).collect()));
        self.sender.send_if_modified(|readiness| {
            let is_loading = matches!(readiness, Readiness::Loading);
            if is_loading {
                *readiness = Readiness::Ready(pipeline);
            }
            is_loading
        });
        for mut health in health {
            let slot = self.clone();
            tokio::spawn(async move {
                if let Ok(health) = health.wait_for(|h| matches!(h, Health::Failed(_))).await
                    && let Health::Failed(reason) = &*health
                {
                    slot.fail(reason.clone());
                }
            });
        }
    }

    /// Marks the model as failed. Has no effect while the server is draining.
    pub fn fail(&self, reason: String) {
        self.transition(Readiness::Failed(reason));
    }

    /// Marks the model as loading again. Has no effect while the server is draining.
    pub(in crate::server) fn set_loading(&self) {
        self.transition(Readiness::Loading);
    }

    fn transition(&self, to: Readiness) {
        self.sender.send_if_modified(|readiness| {
            let is_draining = matches!(readiness, Readiness::Draining);
            if !is_draining {
                *readiness = to;
            }
            !is_draining
        });
    }

    /// Returns `true` if the model is ready.
    pub(in crate::server) fn is_ready(&self) -> bool {
        matches!(*self.sender.borrow(), Readiness::Ready(_))
    }

    /// Returns the metrics of the engines that ran last, with the ids of their models.
    pub(in crate::server) fn engine_metrics(&self) -> Arc<Vec<(String, EngineMetrics)>> {
        self.engines.load_full()
    }

    /// Marks the server as draining, which is final.
    pub(in crate::server) fn drain(&self) {
        self.sender.send_replace(Readiness::Draining);
    }

    /// Returns the current readiness.
    pub fn readiness(&self) -> Readiness {
        self.sender.borrow().clone()
    }

    /// Returns a receiver that is notified of every change.
    pub fn watch(&self) -> watch::Receiver<Readiness> {
        self.sender.subscribe()
    }
}
