//! The server that a command starts in its own process when it is given none.

use std::time::Duration;

use tokio::{sync::oneshot, task::JoinHandle};

use super::model;
use crate::{
    client::{self, Client, InProcess},
    config::ModelConfig,
    model::ModelOptions,
    server::{self, ModelSlot, ServerConfig},
};

/// How long the server may take to end when the command is through.
const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// A connection to a server, elsewhere or in this process.
pub(super) struct Connection {
    pub(super) client: Client,
    embedded: Option<Embedded>,
}

struct Embedded {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), server::ServerError>>,
}

impl Connection {
    /// Connects to a server elsewhere.
    pub(super) async fn remote(address: &str) -> anyhow::Result<Self> {
        Ok(Self { client: Client::connect(address).await?, embedded: None })
    }

    /// Starts a server in this process with a model that is fetched and loaded first.
    pub(super) async fn with_model(config: &ModelConfig, quiet: bool) -> anyhow::Result<Self> {
        let owned = config.clone();
        let load = move || model::load(model::locate_all(&owned, quiet)?, &owned);
        let pipeline = tokio::task::spawn_blocking(load).await??;
        Self::embed(ModelSlot::ready(pipeline), config.options)
    }

    /// Starts a server in this process that only segments.
    pub(super) fn without_model() -> anyhow::Result<Self> {
        Self::embed(ModelSlot::loading(), ModelOptions::default())
    }

    fn embed(slot: ModelSlot, options: ModelOptions) -> anyhow::Result<Self> {
        let InProcess { client, incoming } = client::in_process();
        let (stop, stopped) = oneshot::channel::<()>();
        let config =
            ServerConfig { grace_period: GRACE_PERIOD, ..ServerConfig::new(model::known_models(options)) };
        let serving = tokio::spawn(server::run(incoming, slot, config, async {
            // Dropped or sent: both mean the end.
            let _ = stopped.await;
        }));
        Ok(Self { client, embedded: Some(Embedded { stop, serving }) })
    }

    /// Ends the connection, and the server if it was started for it.
    pub(super) async fn close(self) {
        drop(self.client);
        if let Some(Embedded { stop, serving }) = self.embedded {
            let _ = stop.send(());
            match serving.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the server in this process"),
                Err(error) => tracing::error!(%error, "the server in this process"),
            }
        }
    }
}
