//! A proxy in front of a server that records the items of DigestMany and can answer some of them itself.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt as _, stream};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};
use yizhai::{
    client::Client,
    pb::{
        self,
        digest_many_response::Result as Answer,
        digest_service_server::{DigestService, DigestServiceServer},
    },
};

/// Decides which items the proxy answers itself; `None` forwards an item to the server.
pub type Intercept = Arc<dyn Fn(&pb::DigestManyRequest) -> Option<Answer> + Send + Sync>;

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone)]
struct Service {
    server: Client,
    intercept: Intercept,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A running proxy; dropping it stops it.
pub struct Proxy {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    serving: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(server_client: Client, intercept: Intercept) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let service = DigestServiceServer::new(Service {
            server: server_client,
            intercept,
            received: received.clone(),
        })
        .max_decoding_message_size(usize::MAX);
        let serving = tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { address, received, serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the page bytes of every item received since the last call.
    pub fn take_received(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.received.lock().unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Returns the bytes of a page, or of the paragraphs of an article.
pub fn input_bytes(input: &pb::Input) -> Vec<u8> {
    use pb::input::Source;
    match input.source.as_ref().unwrap() {
        Source::PageText(text) => text.clone().into_bytes(),
        Source::PageBytes(bytes) => bytes.clone(),
        Source::Article(article) => {
            let paragraphs = article.sections.iter().flat_map(|s| &s.paragraphs);
            paragraphs.flat_map(|p| p.text.bytes()).collect()
        }
    }
}

#[tonic::async_trait]
impl DigestService for Service {
    type StreamDigestStream = ResponseStream<pb::StreamDigestResponse>;
    type DigestManyStream = ResponseStream<pb::DigestManyResponse>;

    async fn digest(&self, _: Request<pb::DigestRequest>) -> Result<Response<pb::DigestResponse>, Status> {
        Err(Status::unimplemented("digest"))
    }

    async fn stream_digest(
        &self,
        _: Request<pb::StreamDigestRequest>,
    ) -> Result<Response<Self::StreamDigestStream>, Status> {
        Err(Status::unimplemented("stream_digest"))
    }

    async fn digest_many(
        &self,
        request: Request<Streaming<pb::DigestManyRequest>>,
    ) -> Result<Response<Self::DigestManyStream>, Status> {
        let (own_responses, own_receiver) = tokio::sync::mpsc::channel(64);
        let (forward, forward_receiver) = tokio::sync::mpsc::channel(1);
        let service = self.clone();
        let mut items = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(item)) = items.next().await {
                service.received.lock().unwrap().push(input_bytes(item.input.as_ref().unwrap()));
                let sent = match (service.intercept)(&item) {
                    None => forward.send(item).await.is_ok(),
                    Some(answer) => {
                        let answer = pb::DigestManyResponse { item_id: item.item_id, result: Some(answer) };
                        own_responses.send(Ok(answer)).await.is_ok()
                    }
                };
                if !sent {
                    return;
                }
            }
        });
        let forwarded = tokio_stream::wrappers::ReceiverStream::new(forward_receiver);
        let from_server = self.server.digest_many(forwarded).await.unwrap();
        let own = tokio_stream::wrappers::ReceiverStream::new(own_receiver);
        Ok(Response::new(Box::pin(stream::select(from_server, own))))
    }

    async fn segment(&self, _: Request<pb::SegmentRequest>) -> Result<Response<pb::SegmentResponse>, Status> {
        Err(Status::unimplemented("segment"))
    }

    async fn list_models(
        &self,
        _: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        let running = self.server.running().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(pb::ListModelsResponse { running, ..Default::default() }))
    }
}
