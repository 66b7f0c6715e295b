//! `yizhai serve`: the gRPC service on a socket.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::{
    cli::{
        CommandOutcome,
        args::ServeArgs,
        setup::{glossary, model},
    },
    config::ModelConfig,
    server::{self, Http2, Metrics, ModelSlot, RequestLimits, RestartPolicy, ServerConfig},
    shutdown,
};

pub(in crate::cli) async fn run(args: ServeArgs) -> anyhow::Result<CommandOutcome> {
    // All settings are checked before the model is loaded.
    args.check()?;
    let metrics = Metrics::default();
    let listen_config = args.listen_config(metrics.clone())?;
    let model_config = ModelConfig::from(args.model.clone());
    let model_id = model::display_id(&model_config)?;
    let server_config = ServerConfig {
        limits: RequestLimits::from(&args.limits),
        http2: Http2::from(&args.connections),
        access: args.access()?,
        reload_interval: args.reload_interval(),
        reflection: args.security.reflection,
        web_origins: args.security.web_origins.clone(),
        glossaries: glossary::for_server(&args.server.glossaries)?,
        grace_period: args.server.grace_period,
        cache: args.cache(&model_config, metrics.clone())?,
        metrics: metrics.clone(),
        ..ServerConfig::new(model::catalog_models(model_config.options))
    };
    let slot = ModelSlot::loading();
    let serving_metrics = async {
        match args.observability.metrics_listen {
            Some(address) => {
                let socket = bind(address, "--metrics-listen").await?;
                tracing::info!(address = %socket.local_addr()?, "serving metrics, /livez and /readyz");
                server::serve_metrics(socket, metrics.clone(), slot.clone())
                    .await
                    .context("the metrics listener failed")
            }
            None => std::future::pending().await,
        }
    };
    let listener = bind(args.server.listen, "--listen").await?;
    // The socket is open before the model is loaded: early callers get UNAVAILABLE with a retry delay.
    tracing::info!(
        address = %listener.local_addr()?,
        tls = listen_config.tls.is_some(),
        model = model_id,
        "listening"
    );
    let incoming = server::incoming(listener, listen_config);
    let serving = server::run(incoming, slot.clone(), server_config, shutdown::requested());
    let policy = RestartPolicy { max_restarts: args.server.engine_restarts, ..RestartPolicy::default() };
    let load = move || model::load(model::locate_all(&model_config, false)?, &model_config);
    let supervising = server::supervise(slot.clone(), policy, metrics.clone(), load);
    let logging_readiness = async {
        let _ = slot.watch().wait_for(|readiness| matches!(readiness, server::Readiness::Ready(_))).await;
        tracing::info!("serving");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = serving => served?,
        Err(reason) = supervising => anyhow::bail!(reason),
        Err(error) = serving_metrics => return Err(error),
        () = logging_readiness => {}
    }
    tracing::info!("stopped");
    Ok(CommandOutcome::Complete)
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; is another server running? choose another address with {flag}")
    })
}
