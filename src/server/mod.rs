//! The gRPC server: the API over a pipeline.
//!
//! ```text
//! request ─convert─▶ Job ─admission─▶ pipeline ─convert─▶ response
//!            └──────────── status ◀── errors ────────────┘
//! ```
//!
//! Called by `cli`. Owns what is gRPC and nothing else: no segmentation, no prompts, no checks.

mod admission;
mod convert;
mod deadline;
mod service;
mod state;
mod status;

use std::{collections::BTreeMap, future::Future, io, sync::Arc, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

pub use admission::Limits;
pub use convert::{MAX_ATTEMPTS, NO_GLOSSARY, SUMMARY_CHARS};
pub use state::{ModelSlot, Readiness};
pub use status::to_rpc_status;

use crate::{
    glossary::Glossary,
    pb::{self, digest_service_server::DigestServiceServer},
};

/// The glossaries that requests may name.
pub type Glossaries = BTreeMap<String, Arc<Glossary>>;

/// What a server needs beside its model.
pub struct ServerConfig {
    /// The bounds on requests.
    pub limits: Limits,
    /// The id of the model that the slot holds or will hold.
    pub model_id: String,
    /// Tells the models that this build knows, for ListModels; `running` is filled in by the server.
    pub known_models: Box<dyn Fn() -> Vec<pb::Model> + Send + Sync>,
    /// The glossaries that requests may name, each with the terms that come with the build.
    pub glossaries: Glossaries,
    /// How long requests in flight may take after the shutdown began.
    pub grace_period: Duration,
}

/// What can end a server other than its shutdown.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The transport failed.
    #[error("the server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The reflection service could not be built from the API's descriptors.
    #[error("the API's descriptors are broken: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Requests were still in flight when the grace period ended.
    #[error("requests were still in flight after the grace period of {0:?}; they were dropped")]
    GracePeriod(Duration),
}

/// Serves connections until `shutdown` completes, then finishes what is in flight.
///
/// Health answers NOT_SERVING, and digests UNAVAILABLE, until the model in `slot` is ready.
///
/// # Errors
/// When the transport fails, or requests outlast the grace period.
pub async fn run<IO>(
    incoming: impl Stream<Item = io::Result<IO>> + Send + 'static,
    slot: ModelSlot,
    config: ServerConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let max_message_bytes = config.limits.max_message_bytes();
    let grace_period = config.grace_period;
    let service = service::Service::new(slot.clone(), config);
    let digest = DigestServiceServer::new(service)
        .max_decoding_message_size(max_message_bytes)
        .max_encoding_message_size(usize::MAX);
    let draining = tokio_util::sync::CancellationToken::new();
    let reporting = tokio::spawn(report_health(slot.clone(), reporter));
    let begin_drain = {
        let draining = draining.clone();
        async move {
            shutdown.await;
            slot.drain();
            tracing::info!("draining");
            draining.cancel();
        }
    };
    let serving = tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(digest)
        .serve_with_incoming_shutdown(incoming, begin_drain);
    let overdue = async {
        draining.cancelled().await;
        tokio::time::sleep(grace_period).await;
    };
    let outcome = tokio::select! {
        served = serving => served.map_err(ServerError::from),
        () = overdue => Err(ServerError::GracePeriod(grace_period)),
    };
    reporting.abort();
    outcome
}

/// Keeps the health service at what the model slot says.
async fn report_health(slot: ModelSlot, reporter: tonic_health::server::HealthReporter) {
    const NAMES: [&str; 2] = ["", "yizhai.v1.DigestService"];
    let mut readiness = slot.watch();
    loop {
        let status = match &*readiness.borrow_and_update() {
            Readiness::Ready(_) => tonic_health::ServingStatus::Serving,
            Readiness::Loading | Readiness::Failed(_) | Readiness::Draining => {
                tonic_health::ServingStatus::NotServing
            }
        };
        for name in NAMES {
            reporter.set_service_status(name, status).await;
        }
        if readiness.changed().await.is_err() {
            return;
        }
    }
}
