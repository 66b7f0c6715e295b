//! A server in front of a server: notes what comes in over DigestMany, and can answer an item by itself.

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

/// Given an item, how it is answered instead of by the server behind.
pub type Instead = Arc<dyn Fn(&pb::DigestManyRequest) -> Option<Answer> + Send + Sync>;

type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone)]
struct Service {
    behind: Client,
    instead: Instead,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// The proxy on a port of its own.
pub struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    serving: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(behind: Client, instead: Instead) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let service = DigestServiceServer::new(Service { behind, instead, seen: seen.clone() })
            .max_decoding_message_size(usize::MAX);
        let serving = tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { address, seen, serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has come in since this was asked last: the bytes of each item's page.
    pub fn seen(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The bytes of a page, or the paragraphs of an article.
pub fn bytes(input: &pb::Input) -> Vec<u8> {
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
    type StreamDigestStream = Items<pb::StreamDigestResponse>;
    type DigestManyStream = Items<pb::DigestManyResponse>;

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
        let (own, answered) = tokio::sync::mpsc::channel(64);
        let (forward, forwarded) = tokio::sync::mpsc::channel(1);
        let service = self.clone();
        let mut items = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(item)) = items.next().await {
                service.seen.lock().unwrap().push(bytes(item.input.as_ref().unwrap()));
                let sent = match (service.instead)(&item) {
                    None => forward.send(item).await.is_ok(),
                    Some(answer) => {
                        let answer = pb::DigestManyResponse { item_id: item.item_id, result: Some(answer) };
                        own.send(Ok(answer)).await.is_ok()
                    }
                };
                if !sent {
                    return;
                }
            }
        });
        let forwarded = tokio_stream::wrappers::ReceiverStream::new(forwarded);
        let behind = self.behind.digest_many(forwarded).await.unwrap();
        let own = tokio_stream::wrappers::ReceiverStream::new(answered);
        Ok(Response::new(Box::pin(stream::select(behind, own))))
    }

    async fn segment(&self, _: Request<pb::SegmentRequest>) -> Result<Response<pb::SegmentResponse>, Status> {
        Err(Status::unimplemented("segment"))
    }

    async fn list_models(
        &self,
        _: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        let running = self.behind.running().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(pb::ListModelsResponse { running, ..Default::default() }))
    }
}
