//! What `grpc.health.v1` says: readiness, which follows the model, and liveness, which follows the process.

use std::convert::Infallible;

use tonic_health::{ServingStatus, server::HealthReporter};

use crate::server::model::{ModelSlot, Readiness};

/// The names that tell readiness: the server as a whole, and the API.
const READINESS: [&str; 2] = ["", "yizhai.v1.DigestService"];
/// The name that tells liveness: SERVING unless a restart of the process is all that can help.
const LIVENESS: &str = "liveness";

/// Keeps the health service at what the model slot says, for as long as it is polled.
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
            // The slot that is held here keeps the channel open.
            std::future::pending().await
        }
    }
}
