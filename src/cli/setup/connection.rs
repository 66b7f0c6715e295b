//! The connection of a command to its server: a remote one, or one that the command starts in its own process.

use std::time::Duration;

use tokio::{sync::oneshot, task::JoinHandle};

use super::model;
use crate::{
    client::{self, Client, InProcess},
    config::ModelConfig,
    model::ModelOptions,
    server::{self, ModelSlot, ServerConfig},
};

/// Time that the in-process server gets to shut down.
const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// A client, and the server behind it if it runs in this process.
pub(in crate::cli) struct ServerConnection {
    pub(in crate::cli) client: Client,
    in_process: Option<InProcessServer>,
}

struct InProcessServer {
    slot: ModelSlot,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), server::ServerError>>,
}

impl ServerConnection {
    /// Connects to a remote server.
    pub(in crate::cli) async fn remote(address: &str) -> anyhow::Result<Self> {
        Ok(Self { client: Client::connect(address).await?, in_process: None })
    }

    /// Starts a server in this process and connects to it.
    ///
    /// The server answers Segment at once, and digests after [`Self::load_model`].
    pub(in crate::cli) fn in_process(options: ModelOptions) -> Self {
        let InProcess { client, incoming } = client::in_process();
        let (stop, stopped) = oneshot::channel::<()>();
        let slot = ModelSlot::loading();
        let config =
            ServerConfig { grace_period: GRACE_PERIOD, ..ServerConfig::new(model::catalog_models(options)) };
        let serving = tokio::spawn(server::run(incoming, slot.clone(), config, async {
            // Completes when the sender is used or dropped.
            let _ = stopped.await;
        }));
        Self { client, in_process: Some(InProcessServer { slot, stop, serving }) }
    }

    /// Downloads the models if necessary, and loads them into the in-process server. Does nothing for a remote server.
    pub(in crate::cli) async fn load_model(&self, config: &ModelConfig, quiet: bool) -> anyhow::Result<()> {
        let Some(server) = &self.in_process else { return Ok(()) };
        let config = config.clone();
        let load = move || model::load(model::locate_all(&config, quiet)?, &config);
        server.slot.fill(tokio::task::spawn_blocking(load).await??);
        Ok(())
    }

    /// Closes the connection and stops the in-process server.
    pub(in crate::cli) async fn close(self) {
        drop(self.client);
        if let Some(InProcessServer { stop, serving, .. }) = self.in_process {
            let _ = stop.send(());
            match serving.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the in-process server failed"),
                Err(error) => tracing::error!(%error, "the in-process server panicked"),
            }
        }
    }
}
