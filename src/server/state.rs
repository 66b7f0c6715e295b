//! Which model the server runs, and whether it can.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{engine::Health, pipeline::Pipeline};

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
}

impl ModelSlot {
    /// An empty slot: the model is still loading.
    pub fn loading() -> Self {
        Self { sender: Arc::new(watch::Sender::new(Readiness::Loading)) }
    }

    /// A slot with a model that is ready. Must be called within a runtime.
    pub fn ready(pipeline: Pipeline) -> Self {
        let slot = Self::loading();
        slot.fill(pipeline);
        slot
    }

    /// Puts the model in, and watches its engine from then on. Must be called within a runtime.
    pub fn fill(&self, pipeline: Pipeline) {
        let mut health = pipeline.engine().health();
        self.sender.send_if_modified(|readiness| {
            let loading = matches!(readiness, Readiness::Loading);
            if loading {
                *readiness = Readiness::Ready(pipeline);
            }
            loading
        });
        let slot = self.clone();
        tokio::spawn(async move {
            if let Ok(health) = health.wait_for(|h| matches!(h, Health::Failed(_))).await
                && let Health::Failed(reason) = &*health
            {
                slot.fail(reason.clone());
            }
        });
    }

    /// Says that there will be no model.
    pub fn fail(&self, reason: String) {
        self.sender.send_replace(Readiness::Failed(reason));
    }

    /// Says that the server is about to end.
    pub(super) fn drain(&self) {
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
