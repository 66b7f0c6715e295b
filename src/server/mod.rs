//! The gRPC server: serves the API with a pipeline.
//!
//! ```text
//! socket ─▶ transport ─▶ observe ─▶ gate ─▶ service ─convert─▶ Job ─▶ work ─▶ pipeline
//!                           │         │        └─────── status ◀── errors ──────┘
//!                        metrics   auth, admission, deadline
//! ```
//!
//! Called by `cli`. Everything that is specific to gRPC is here and nothing else: no segmentation, no prompts, no checks.

mod convert;
mod gate;
mod model;
mod observe;
mod rpc;
mod service;
mod status;
mod transport;
mod work;

use std::{collections::BTreeMap, future::Future, io, sync::Arc, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

pub use convert::{MAX_ATTEMPTS, NO_GLOSSARY, SUMMARY_CHARS};
pub use gate::{Access, RequestLimits, Tokens, TokensError};
pub use model::{ModelSlot, Readiness, RestartPolicy, supervise};
pub use observe::{Metrics, serve_metrics};
pub use status::to_rpc_status;
pub use transport::{
    AcceptedConnection, Http2, ListenConfig, Origin, OriginError, Peer, Tls, TlsError, TlsFiles, incoming,
};
pub use work::{DiskError, ResultCache};

use self::transport::{reload, web};
use crate::{
    glossary::Glossary,
    pb::{self, digest_service_server::DigestServiceServer},
};

/// Maximum size of a message to the health service, which contains only a name, in bytes.
const MAX_HEALTH_BYTES: usize = 4 << 10;

/// The glossaries that requests may select, by name.
pub type Glossaries = BTreeMap<String, Arc<Glossary>>;

/// The configuration of a server, apart from its model.
pub struct ServerConfig {
    /// The limits on requests.
    pub limits: RequestLimits,
    /// The limits on a connection.
    pub http2: Http2,
    /// The rules that decide who may call.
    pub access: Access,
    /// Time between checks for changed tokens.
    pub reload_interval: Duration,
    /// Serve gRPC server reflection.
    pub reflection: bool,
    /// The origins whose scripts may call over gRPC-Web. If empty, gRPC-Web is off.
    pub web_origins: Vec<Origin>,
    /// Returns the models that this build supports, for ListModels. The server fills in `running`.
    pub known_models: Box<dyn Fn() -> Vec<pb::Model> + Send + Sync>,
    /// The glossaries that requests may select, each including the built-in terms.
    pub glossaries: Glossaries,
    /// Maximum time for requests in flight to finish after the shutdown began.
    pub grace_period: Duration,
    /// The result cache. `None` computes every result again.
    pub cache: Option<ResultCache>,
    /// The metrics of the server.
    pub metrics: Metrics,
}

impl ServerConfig {
    /// Returns the default configuration: everyone may call, within the default limits.
    pub fn new(known_models: Box<dyn Fn() -> Vec<pb::Model> + Send + Sync>) -> Self {
        Self {
            limits: RequestLimits::default(),
            http2: Http2::default(),
            access: Access::open(),
            reload_interval: Duration::from_secs(30),
            reflection: true,
            web_origins: Vec::new(),
            known_models,
            glossaries: Glossaries::new(),
            grace_period: Duration::from_secs(30),
            cache: None,
            metrics: Metrics::default(),
        }
    }
}

/// The error returned when a server ends for a reason other than a complete shutdown.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The transport failed.
    #[error("the server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The reflection service could not be built from the API's descriptors.
    #[error("the API's descriptors are not valid: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Requests were still in flight when the grace period ended.
    #[error("cancelled the requests that were still in flight after the grace period of {0:?}")]
    GracePeriod(Duration),
}

/// Serves connections until `shutdown` completes, and then finishes the requests in flight.
///
/// Until the model in `slot` is ready, health checks answer NOT_SERVING and digests UNAVAILABLE.
///
/// # Errors
/// Fails if the transport fails or requests are still in flight when the grace period ends.
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
    let reflection = match config.reflection {
        true => Some((reflection().build_v1()?, reflection().build_v1alpha()?)),
        false => None,
    };
    let (v1, v1alpha) = reflection.unzip();
    let ServerConfig { limits, http2, ref access, reload_interval, grace_period, ref metrics, .. } = config;
    metrics.register_slot(slot.clone());
    let admission = gate::admission::Admission::new(limits, metrics.clone());
    let web = web::Web::new(&config.web_origins);
    let gate = gate::GateLayer { access: access.clone(), admission, limits, web: web.clone() };
    let observe = observe::ObserveLayer { metrics: metrics.clone() };
    let tokens = access.tokens.clone();
    let service = service::ApiService::new(slot.clone(), config);
    let health = health.max_decoding_message_size(MAX_HEALTH_BYTES);
    let digest = DigestServiceServer::new(service)
        .max_decoding_message_size(limits.message_bytes())
        .max_encoding_message_size(usize::MAX);
    let draining = tokio_util::sync::CancellationToken::new();
    let begin_drain = {
        let (draining, slot) = (draining.clone(), slot.clone());
        async move {
            shutdown.await;
            slot.drain();
            tracing::info!("shutting down: finishing the requests in flight");
            draining.cancel();
        }
    };
    let serving = http2
        .server()
        .accept_http1(web.is_some())
        .layer(tower::util::option_layer(web.map(|web| web.layer())))
        .layer(observe)
        .layer(gate)
        .add_service(health)
        .add_optional_service(v1)
        .add_optional_service(v1alpha)
        .add_service(digest)
        .serve_with_incoming_shutdown(incoming, begin_drain);
    let overdue = async {
        draining.cancelled().await;
        tokio::time::sleep(grace_period).await;
    };
    let reloading = async {
        match tokens {
            Some(tokens) => reload::watch(tokens, reload_interval).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        served = serving => served.map_err(ServerError::from),
        () = overdue => Err(ServerError::GracePeriod(grace_period)),
        never = observe::report_health(slot, reporter) => match never {},
        () = reloading => Ok(()),
    }
}
