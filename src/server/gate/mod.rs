//! The checks that every call passes before its body is read: origin, RPC, token, deadline and admission.
//!
//! A tower layer around all services, installed by [`super::run`]. Sees headers and no messages, so a call that is
//! refused or queued costs no memory beyond its headers. Also turns the transport's own errors into those of the API.

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

pub use admission::RequestLimits;
pub use auth::{Access, Tokens, TokensError};

use self::{
    admission::{Admission, ByteReservation, Permit},
    body::BoundedBody,
};
use super::{
    rpc::{Rpc, RpcClass},
    status::Refusal,
    transport::{Peer, web::Web},
};

/// The facts about a call that are known before its message is read. Stored in the request's extensions.
#[derive(Clone)]
pub(in crate::server) struct CallContext {
    /// The id that identifies the call in the log.
    pub(in crate::server) id: Arc<str>,
    pub(in crate::server) arrived: Instant,
    /// The latest time at which the answer must be sent.
    pub(in crate::server) deadline: Option<Instant>,
    /// `None` for RPCs that need no permit.
    pub(in crate::server) permit: Option<Permit>,
    /// The bytes that the call's messages occupy.
    pub(in crate::server) reservation: Arc<ByteReservation>,
}

/// The identity of a call, put into the request's extensions by `observe`.
#[derive(Clone)]
pub(in crate::server) struct Arrival {
    pub(in crate::server) id: Arc<str>,
    pub(in crate::server) at: Instant,
    /// `None` if the path names no RPC of this server.
    pub(in crate::server) rpc: Option<Rpc>,
}

/// Wraps services in a [`Gate`].
#[derive(Clone)]
pub(in crate::server) struct GateLayer {
    pub(in crate::server) access: Access,
    pub(in crate::server) admission: Admission,
    pub(in crate::server) limits: RequestLimits,
    pub(in crate::server) web: Option<Web>,
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, layer: Arc::new(self.clone()) }
    }
}

/// A service that is called only for admitted calls.
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
        // The service that was polled ready must be the one that is called; its clone replaces it.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        Box::pin(async move {
            let arrival = request.extensions_mut().remove::<Arrival>();
            let arrival = arrival.expect("`observe` wraps the gate and records every arrival");
            let id = arrival.id.clone();
            let checked = layer.check(arrival, request.headers(), request.extensions().get()).await;
            let (call, class) = match checked {
                Ok(checked) => checked,
                Err(refusal) => return Ok(refusal.status(&id).into_http()),
            };
            let reservation = call.reservation.clone();
            request.extensions_mut().insert(call);
            let timeout = layer.limits.receive_timeout;
            let each_frame = class == RpcClass::ItemStream;
            let request = match class {
                RpcClass::Health => request,
                RpcClass::Unary | RpcClass::ItemStream | RpcClass::Reflection => {
                    request.map(|body| Body::new(BoundedBody::new(body, reservation, timeout, each_frame)))
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
    /// Admits a call, waiting for a permit if the RPC needs one.
    async fn check(
        &self,
        arrival: Arrival,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<(CallContext, RpcClass), Refusal> {
        let Arrival { id, at: arrived, rpc } = arrival;
        if let Some(web) = &self.web {
            web.check(headers)?;
        }
        let policy = rpc.ok_or(Refusal::UnknownRpc)?.policy();
        let caller = self.access.authorize(headers, peer, policy.scope)?;
        let deadline = deadline::from_headers(headers)?;
        let permit = match policy.needs_permit {
            true => {
                tracing::Span::current().record("client", &*caller.name);
                Some(self.admission.admit(&caller, deadline).await?)
            }
            false => None,
        };
        let reservation = self.admission.reserve_bytes();
        Ok((CallContext { id, arrived, deadline, permit, reservation }, policy.class))
    }
}

/// Returns a new id for a call: a random number of the process combined with a counter, because drawing a random
/// number for every call would cost a system call.
pub(in crate::server) fn new_id() -> String {
    static FIRST: LazyLock<u128> = LazyLock::new(|| uuid::Uuid::new_v4().as_u128());
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    uuid::Uuid::from_u128(*FIRST ^ u128::from(count)).to_string()
}

/// Returns the caller's mistake if the response says that the transport rejected its message.
fn transport_error(headers: &HeaderMap, limit: usize) -> Option<Refusal> {
    // Most responses carry their status in the trailers, which do not exist yet.
    headers.get("grpc-status")?;
    refused_by_transport(&Status::from_header_map(headers)?, limit)
}

/// Returns the caller's mistake if the transport ended a stream of requests with this status.
pub(in crate::server) fn refused_by_transport(status: &Status, limit: usize) -> Option<Refusal> {
    // The API's own statuses all carry details.
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
