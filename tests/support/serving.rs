//! A server on a free port of the loopback interface.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Channel;
use yizhai::{
    client::Client,
    pb::digest_service_client::DigestServiceClient,
    pipeline::Pipeline,
    server::{self, Glossaries, Limits, ModelSlot, ServerConfig, ServerError},
};

pub struct Server {
    pub address: SocketAddr,
    pub slot: ModelSlot,
    stop: Option<oneshot::Sender<()>>,
    pub serving: JoinHandle<Result<(), ServerError>>,
}

impl Server {
    pub async fn start(pipeline: Pipeline) -> Self {
        Self::start_with(ModelSlot::ready(pipeline), Limits::default()).await
    }

    pub async fn start_with(slot: ModelSlot, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let config = ServerConfig {
            limits,
            model_id: "scripted".to_owned(),
            known_models: Box::new(|| {
                let model = |id: &str| yizhai::pb::Model { id: id.to_owned(), ..Default::default() };
                vec![model("another"), model("scripted"), model("third")]
            }),
            glossaries: Glossaries::new(),
            grace_period: Duration::from_secs(5),
        };
        let serving =
            tokio::spawn(server::run(TcpListenerStream::new(listener), slot.clone(), config, async {
                let _ = stopped.await;
            }));
        Self { address, slot, stop: Some(stop), serving }
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

    /// The generated client, which retries nothing.
    pub async fn raw(&self) -> DigestServiceClient<Channel> {
        DigestServiceClient::new(self.channel().await).max_decoding_message_size(usize::MAX)
    }

    /// Begins the shutdown.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }
}
