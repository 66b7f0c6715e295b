//! The statuses of `grpc.health.v1`: readiness, which follows the model, and liveness, which follows the process.

use std::convert::Infallible;

use tonic_health::{ServingStatus, server::HealthReporter};

use crate::server::model::{ModelSlot, Readiness};

/// The service names that report readiness: the server as a whole, and the API.
const READINESS: [&str; 2] = ["", "yizhai.v1.DigestService"];
/// The service name that reports liveness: SERVING unless only a restart of the process can help.
const LIVENESS: &str = "liveness";

/// Updates the health service whenever the readiness of the slot changes. Never completes.
pub(in crate::server) async fn report(slot: ModelSlot, reporter: HealthReporter) -> Infallible {
    let mut readiness = slot.watch();
    loop {
        let (ready, live) = match &*readiness.borrow_and_update() {
            Readiness::Ready(_) => (ServingStatus::Serving, ServingStatus::Serving),
            Readiness::Loading | Readiness::Draining => (ServingStatus::NotServing, ServingStatus::Serving),
            Readiness::Failed(_) => (ServingStatus::NotServing, ServingStatus::NotServing),
        };
        for name in READINESS {
            reporter.set_service_status(name, ready).await;
        }
        reporter.set_service_status(LIVENESS, live).await;
        if readiness.changed().await.is_err() {
            // Unreachable: the slot held here keeps the channel open.
            std::future::pending().await
        }
    }
}
