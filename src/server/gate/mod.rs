//! What every call passes before its body is read: who it comes from, whether it may, by when, and whether there is
//! room. Turns the transport's own errors into those of the API.
//!
//! A tower layer around all services, put in place by [`super::run`]. Knows headers and no messages.

pub(in crate::server) mod admission;
mod auth;
mod body;
pub(in crate::server) mod deadline;

use std::{
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use http::{HeaderMap, Request, Response};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

pub use admission::Limits;
pub use auth::{Access, Tokens, TokensError};

use self::{
    admission::{Admission, ByteReservation, Caller, Permit},
    body::BoundedBody,
};
use super::{
    status::Refusal,
    transport::{Peer, web::Web},
};

/// The path of the API's service.
const DIGEST_SERVICE: &str = "/yizhai.v1.DigestService/";
const HEALTH_SERVICE: &str = "/grpc.health.v1.Health/";

/// What is known of a call before its message is read; found in the request's extensions.
#[derive(Clone)]
pub(in crate::server) struct CallContext {
    /// The id that the server gave it.
    pub(in crate::server) id: Arc<str>,
    /// When it arrived.
    pub(in crate::server) arrived: Instant,
    /// When its answer must be there.
    pub(in crate::server) deadline: Option<Instant>,
    /// Its permit; `None` for calls that cost nothing.
    pub(in crate::server) permit: Option<Permit>,
    /// The memory of its messages.
    pub(in crate::server) reservation: Arc<ByteReservation>,
}

/// The id of a call and when it arrived; put into the extensions by `observe`.
#[derive(Clone)]
pub(in crate::server) struct Arrival {
    pub(in crate::server) id: Arc<str>,
    pub(in crate::server) at: Instant,
}

/// Puts a [`Gate`] around a service.
#[derive(Clone)]
pub(in crate::server) struct GateLayer {
    pub(in crate::server) access: Access,
    pub(in crate::server) admission: Admission,
    pub(in crate::server) limits: Limits,
    pub(in crate::server) web: Option<Web>,
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, layer: Arc::new(self.clone()) }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub(in crate::server) struct Gate<S> {
    inner: S,
    layer: Arc<GateLayer>,
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // What was polled ready is called; the clone takes its place.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        Box::pin(async move {
            let arrival = request.extensions_mut().remove::<Arrival>();
            let Arrival { id, at } =
                arrival.unwrap_or_else(|| Arrival { id: new_id().into(), at: Instant::now() });
            let path = request.uri().path();
            let is_streamed = path.strip_prefix(DIGEST_SERVICE) == Some("DigestMany");
            let is_health = path.starts_with(HEALTH_SERVICE);
            let passed = layer.pass(path, request.headers(), request.extensions().get(), &id, at).await;
            let call = match passed {
                Ok(call) => call,
                Err(refusal) => return Ok(refusal.status(&id).into_http()),
            };
            let reservation = call.reservation.clone();
            request.extensions_mut().insert(call);
            let received = layer.limits.receive_timeout;
            let request = match is_health {
                true => request,
                false => {
                    request.map(|body| Body::new(BoundedBody::new(body, reservation, received, is_streamed)))
                }
            };
            let response = inner.call(request).await?;
            Ok(match transport_error(response.headers(), layer.limits.message_bytes()) {
                Some(refusal) => refusal.status(&id).into_http(),
                None => response,
            })
        })
    }
}

impl GateLayer {
    async fn pass(
        &self,
        path: &str,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        id: &Arc<str>,
        arrived: Instant,
    ) -> Result<CallContext, Refusal> {
        if let Some(web) = &self.web {
            web.check(headers)?;
        }
        let rpc = path.strip_prefix(DIGEST_SERVICE);
        let is_open = path.starts_with(HEALTH_SERVICE) && self.access.health_open;
        let client = match is_open {
            true => None,
            false => Some(self.access.client(headers, peer, rpc)?),
        };
        let deadline = deadline::from_headers(headers)?;
        let permit = match (rpc, client) {
            (Some("Digest" | "StreamDigest" | "DigestMany" | "Segment"), Some(client)) => {
                Some(self.admit(&client, deadline).await?)
            }
            _ => None,
        };
        Ok(CallContext {
            id: id.clone(),
            arrived,
            deadline,
            permit,
            reservation: self.admission.reserve_bytes(),
        })
    }

    async fn admit(&self, client: &Caller, deadline: Option<Instant>) -> Result<Permit, Refusal> {
        tracing::Span::current().record("client", &*client.name);
        self.admission.admit(client, deadline).await
    }
}

/// A new id for a call: a random one for the process, counted on, because every draw would ask the system.
pub(in crate::server) fn new_id() -> String {
    static FIRST: LazyLock<u128> = LazyLock::new(|| uuid::Uuid::new_v4().as_u128());
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    uuid::Uuid::from_u128(*FIRST ^ u128::from(count)).to_string()
}

/// What the caller did wrong when the transport refused its message; nothing when the answer is the service's own.
fn transport_error(headers: &HeaderMap, limit: usize) -> Option<Refusal> {
    // Most answers carry their status at the end, so that there is none yet.
    headers.get("grpc-status")?;
    refused_by_transport(&Status::from_header_map(headers)?, limit)
}

/// The same for a status that came out of a stream of requests.
pub(in crate::server) fn refused_by_transport(status: &Status, limit: usize) -> Option<Refusal> {
    // All statuses of the API have details.
    if !status.details().is_empty() {
        return None;
    }
    match status.code() {
        Code::OutOfRange => Some(Refusal::MessageTooLarge { limit }),
        Code::Internal if status.message().contains("decode") => {
            Some(Refusal::Malformed(status.message().to_owned()))
        }
        _ => None,
    }
}
