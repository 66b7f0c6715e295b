//! `yizhai serve`: the gRPC service on a socket.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::{Outcome, glossary, model, serve_args::ServeArgs};
use crate::{
    config::ModelConfig,
    server::{self, Http2, Limits, Metrics, ModelSlot, RestartPolicy, ServerConfig},
    shutdown,
};

pub(super) async fn run(args: ServeArgs) -> anyhow::Result<Outcome> {
    // Everything that can be wrong is looked at before the model is loaded.
    args.check()?;
    let metrics = Metrics::default();
    let listen = args.listen_config(metrics.clone())?;
    let config = ModelConfig::from(args.model.clone());
    let model_id = model::id(&config)?;
    let server_config = ServerConfig {
        limits: Limits::from(&args.limits),
        http2: Http2::from(&args.connections),
        access: args.access()?,
        reload_interval: args.reload_interval(),
        reflection: args.security.reflection,
        web_origins: args.security.web_origins.clone(),
        glossaries: glossary::of_server(&args.server.glossaries)?,
        grace_period: args.server.grace_period,
        cache: args.cache(&config, metrics.clone())?,
        metrics: metrics.clone(),
        ..ServerConfig::new(model::known_models(config.options))
    };
    let slot = ModelSlot::loading();
    let watched = async {
        match args.observability.metrics_listen {
            Some(address) => {
                let socket = bind(address, "--metrics-listen").await?;
                tracing::info!(address = %socket.local_addr()?, "metrics, /livez and /readyz");
                server::serve_metrics(socket, metrics.clone(), slot.clone())
                    .await
                    .context("the metrics' socket failed")
            }
            None => std::future::pending().await,
        }
    };
    let listener = bind(args.server.listen, "--listen").await?;
    // The socket is open before the model is there: callers are told to come back, not refused.
    tracing::info!(address = %listener.local_addr()?, tls = listen.tls.is_some(), model = model_id, "listening");
    let incoming = server::incoming(listener, listen);
    let serving = server::run(incoming, slot.clone(), server_config, shutdown::requested());
    let policy = RestartPolicy { max_restarts: args.server.engine_restarts, ..RestartPolicy::default() };
    let load = move || model::load(model::locate_all(&config, false)?, &config);
    let supervising = server::supervise(slot.clone(), policy, metrics.clone(), load);
    let ready = async {
        let _ = slot.watch().wait_for(|readiness| matches!(readiness, server::Readiness::Ready(_))).await;
        tracing::info!("serving");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = serving => served?,
        Err(reason) = supervising => anyhow::bail!(reason),
        Err(error) = watched => return Err(error),
        () = ready => {}
    }
    tracing::info!("stopped");
    Ok(Outcome::Done)
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; is another server running there? choose another with {flag}")
    })
}
