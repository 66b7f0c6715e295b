//! Which model the server runs, and whether it can.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::{
    engine::{EngineMetrics, Health},
    pipeline::Pipeline,
};

/// Whether the server can digest.
#[derive(Clone)]
pub enum Readiness {
    /// The model is being fetched or loaded.
    Loading,
    /// It can.
    Ready(Pipeline),
    /// It cannot and will not.
    Failed(String),
    /// It is finishing what is in flight.
    Draining,
}

/// The place for the server's model; filled once it is loaded. Cheap to clone.
#[derive(Clone)]
pub struct ModelSlot {
    sender: Arc<watch::Sender<Readiness>>,
    /// The counts of the engines that ran last, by the ids of their models; they outlive them.
    engines: Arc<ArcSwap<Vec<(String, EngineMetrics)>>>,
}

impl ModelSlot {
    /// An empty slot: the model is still loading.
    pub fn loading() -> Self {
        Self { sender: Arc::new(watch::Sender::new(Readiness::Loading)), engines: Arc::default() }
    }

    /// A slot with a model that is ready. Must be called within a runtime.
    pub fn ready(pipeline: Pipeline) -> Self {
        let slot = Self::loading();
        slot.fill(pipeline);
        slot
    }

    /// Puts the model in, and watches its engines from then on. Must be called within a runtime.
    pub fn fill(&self, pipeline: Pipeline) {
        let health: Vec<_> = pipeline.engines().into_iter().map(|engine| engine.health()).collect();
        let ids = pipeline.models().into_iter().map(|model| model.id.clone());
        let metrics = pipeline.engines().into_iter().map(|engine| engine.metrics().clone());
        self.engines.store(Arc::new(ids.zip(metrics).collect()));
        self.sender.send_if_modified(|readiness| {
            let loading = matches!(readiness, Readiness::Loading);
            if loading {
                *readiness = Readiness::Ready(pipeline);
            }
            loading
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

    /// Says that the model has failed. A server that is about to end stays so.
    pub fn fail(&self, reason: String) {
        self.transition(Readiness::Failed(reason));
    }

    /// Says that the model is loaded again.
    pub(in crate::server) fn set_loading(&self) {
        self.transition(Readiness::Loading);
    }

    fn transition(&self, to: Readiness) {
        self.sender.send_if_modified(|readiness| {
            let goes_on = !matches!(readiness, Readiness::Draining);
            if goes_on {
                *readiness = to;
            }
            goes_on
        });
    }

    /// Whether the model answers.
    pub(in crate::server) fn is_ready(&self) -> bool {
        matches!(*self.sender.borrow(), Readiness::Ready(_))
    }

    /// The counts of the engines that ran last, by the ids of their models.
    pub(in crate::server) fn engine_metrics(&self) -> Arc<Vec<(String, EngineMetrics)>> {
        self.engines.load_full()
    }

    /// Says that the server is about to end.
    pub(in crate::server) fn drain(&self) {
        self.sender.send_replace(Readiness::Draining);
    }

    /// What it is now.
    pub fn readiness(&self) -> Readiness {
        self.sender.borrow().clone()
    }

    /// Watches it.
    pub fn watch(&self) -> watch::Receiver<Readiness> {
        self.sender.subscribe()
    }
}
