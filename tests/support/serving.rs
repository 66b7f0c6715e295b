//! A server in this process, on a free port of the loopback interface.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::transport::Channel;
use yizhai::{
    client::Client,
    pb::digest_service_client::DigestServiceClient,
    pipeline::Pipeline,
    server::{self, ListenConfig, Metrics, ModelSlot, RequestLimits, ServerConfig, ServerError},
};

/// Returns the default configuration of a test's server.
pub fn server_config() -> ServerConfig {
    let known_models = Box::new(|| {
        let model = |id: &str| yizhai::pb::Model { id: id.to_owned(), ..Default::default() };
        vec![model("another"), model("scripted"), model("third")]
    });
    let grace_period = Duration::from_secs(5);
    ServerConfig { grace_period, ..ServerConfig::new(known_models) }
}

/// Returns the default listener configuration of a test's server.
pub fn listen_config() -> ListenConfig {
    ListenConfig {
        tls: None,
        max_connections: 1024,
        handshake_timeout: Duration::from_secs(5),
        reload_interval: Duration::from_millis(20),
        metrics: Metrics::default(),
    }
}

/// A running server. Dropping it begins the shutdown.
pub struct Server {
    pub address: SocketAddr,
    pub slot: ModelSlot,
    pub metrics: Metrics,
    stop: Option<oneshot::Sender<()>>,
    pub serving: JoinHandle<Result<(), ServerError>>,
}

impl Server {
    pub async fn start(pipeline: Pipeline) -> Self {
        Self::start_with(ModelSlot::ready(pipeline), RequestLimits::default()).await
    }

    pub async fn start_with(slot: ModelSlot, limits: RequestLimits) -> Self {
        Self::start_config(slot, ServerConfig { limits, ..server_config() }).await
    }

    pub async fn start_config(slot: ModelSlot, config: ServerConfig) -> Self {
        Self::start_listen(slot, config, listen_config()).await
    }

    pub async fn start_listen(slot: ModelSlot, config: ServerConfig, listen: ListenConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let listen = ListenConfig { metrics: config.metrics.clone(), ..listen };
        let metrics = config.metrics.clone();
        let serving = server::run(server::incoming(listener, listen), slot.clone(), config, async {
            let _ = stopped.await;
        });
        Self { address, slot, metrics, stop: Some(stop), serving: tokio::spawn(serving) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.url()).await.unwrap()
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(self.url()).unwrap().connect().await.unwrap()
    }

    /// Connects the generated client, which does not retry.
    pub async fn raw_client(&self) -> DigestServiceClient<Channel> {
        DigestServiceClient::new(self.channel().await).max_decoding_message_size(usize::MAX)
    }

    /// Begins the shutdown.
    pub fn begin_shutdown(&mut self) {
        drop(self.stop.take());
    }
}
