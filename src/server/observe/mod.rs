//! What is seen of every call from outside: an id, a span, a count and a time by RPC and code, and one line in the
//! log when it ends. No text of a user and no secret ever stands there.
//!
//! The outermost tower layer, put in place by [`super::run`].

mod health;
mod http;
mod metrics;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use ::http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};

use super::{
    convert,
    gate::{Arrival, new_id},
};

pub(in crate::server) use health::report as report_health;
pub use http::serve as serve_metrics;
pub use metrics::Metrics;
pub(in crate::server) use metrics::ResultLabel;
use metrics::{CallLabels, RpcLabel};

/// The RPCs that are told apart.
pub(in crate::server) const RPCS: [&str; 8] =
    ["Digest", "StreamDigest", "DigestMany", "Segment", "ListModels", "Check", "Watch", "other"];

/// Puts an [`Observe`] around a service.
#[derive(Clone)]
pub(in crate::server) struct ObserveLayer {
    pub(in crate::server) metrics: Metrics,
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, metrics: self.metrics.clone() }
    }
}

/// A service whose calls are seen.
#[derive(Clone)]
pub(in crate::server) struct Observe<S> {
    inner: S,
    metrics: Metrics,
}

impl<S> Service<Request<Body>> for Observe<S>
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
        let rpc = rpc(request.uri().path());
        let id = call_id(request.headers());
        let span = tracing::info_span!(
            "call",
            rpc,
            request_id = &*id,
            client = tracing::field::Empty,
            code = tracing::field::Empty,
        );
        crate::telemetry::take_over_trace(&span, request.headers());
        let arrived = Instant::now();
        request.extensions_mut().insert(Arrival { id, at: arrived });
        // Dropped without an end when the caller goes away.
        let record = CallRecord {
            rpc,
            arrived,
            span: span.clone(),
            metrics: self.metrics.clone(),
            code: Some(Code::Cancelled),
        };
        let answered = self.inner.call(request).instrument(span);
        Box::pin(async move {
            let mut record = record;
            let response = answered.await?;
            // A refusal has no body, and its status stands in the headers.
            if let Some(code) = code(response.headers()) {
                record.finish(code);
            }
            Ok(response.map(|body| Body::new(ObservedBody { inner: body, record })))
        })
    }
}

/// The end of a call: counted and logged once.
struct CallRecord {
    rpc: &'static str,
    arrived: Instant,
    span: Span,
    metrics: Metrics,
    /// How it ends if nothing more is heard; `None` when that was told.
    code: Option<Code>,
}

impl CallRecord {
    fn finish(&mut self, code: Code) {
        if self.code.take().is_none() {
            return;
        }
        let Self { rpc, arrived, span, metrics, .. } = self;
        let time = arrived.elapsed();
        let name = code_name(code);
        metrics.requests.get_or_create(&CallLabels { rpc, code: name }).inc();
        metrics.request_time_s.get_or_create(&RpcLabel { rpc }).observe(time.as_secs_f64());
        span.record("code", name);
        let time_ms = time.as_secs_f64() * 1e3;
        // Health is asked every few seconds and ListModels by pages: not worth a line each.
        match *rpc {
            "Check" | "Watch" | "other" => tracing::debug!(parent: &*span, time_ms, "ended"),
            _ => tracing::info!(parent: &*span, time_ms, "ended"),
        }
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        if let Some(code) = self.code {
            self.finish(code);
        }
    }
}

/// A response's body, watched for its status.
struct ObservedBody {
    inner: Body,
    record: CallRecord,
}

impl HttpBody for ObservedBody {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.record.finish(code(trailers).unwrap_or(Code::Unknown));
                }
            }
            Poll::Ready(Some(Err(_))) => self.record.finish(Code::Unknown),
            Poll::Ready(None) => self.record.finish(Code::Ok),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The caller's `x-request-id`, if it is one that can stand in a log, or a new id.
fn call_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    let given = given.filter(|id| convert::check_id("x-request-id", id).is_ok());
    given.map_or_else(|| new_id().into(), Arc::from)
}

/// The code that headers or trailers tell; the rest of the status is nobody's business here.
fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

/// The RPC of a path; what is not known is one, so that no caller can invent series.
fn rpc(path: &str) -> &'static str {
    let known = ["/yizhai.v1.DigestService/", "/grpc.health.v1.Health/"]
        .iter()
        .find_map(|service| path.strip_prefix(service));
    RPCS.into_iter().find(|rpc| Some(*rpc) == known).unwrap_or("other")
}

/// A code as gRPC writes it.
pub(in crate::server) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
