//! `yizhai serve`: the gRPC service on a socket.

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use super::{Outcome, args::ServeArgs, glossary, model};
use crate::{
    config::ModelConfig,
    server::{self, Limits, ModelSlot, ServerConfig},
    shutdown,
};

pub(super) async fn run(args: ServeArgs) -> anyhow::Result<Outcome> {
    let config = ModelConfig::from(args.model);
    let model_id = model::id(&config)?;
    let glossaries = glossary::of_server(&args.glossaries)?;
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; is another server running there? choose another with --listen",
            args.listen
        )
    })?;
    // The socket is open before the model is there: callers are told to come back, not refused.
    tracing::info!(address = %listener.local_addr()?, model = model_id, "listening");
    let slot = ModelSlot::loading();
    let loading = load(slot.clone(), config);
    let server_config = ServerConfig {
        limits: Limits {
            max_requests: args.max_requests,
            max_page_bytes: args.max_page_bytes,
            ..Limits::default()
        },
        model_id,
        known_models: Box::new(model::known_models),
        glossaries,
        grace_period: args.grace_period,
    };
    let serving = server::run(TcpListenerStream::new(listener), slot, server_config, shutdown::requested());
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => served?,
        loaded = loading => {
            loaded?;
            tracing::info!("serving");
            serving.await?;
        }
    }
    tracing::info!("stopped");
    Ok(Outcome::Done)
}

/// Fetches and loads the model on a thread of its own and puts it into the slot.
async fn load(slot: ModelSlot, config: ModelConfig) -> anyhow::Result<()> {
    let load = move || model::load(model::locate(&config, false)?, &config);
    slot.fill(tokio::task::spawn_blocking(load).await??);
    Ok(())
}
