//! Observability: gives every call an id, a tracing span, a count and a duration by RPC and code, and one log line when
//! it ends. Never records the text of a request or a secret.
//!
//! The layer here is the outermost one, installed by [`super::run`]; the submodules export what it and the other layers
//! record.

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

pub(in crate::server) use health::report as report_health;
pub use http::serve as serve_metrics;
pub use metrics::Metrics;
pub(in crate::server) use metrics::ResultLabel;

use self::metrics::{CallLabels, RpcLabel};
use super::{
    convert,
    gate::{Arrival, new_id},
    rpc::{Rpc, RpcClass},
};

/// The name that stands for every unknown RPC, so that callers cannot create time series at will.
const UNKNOWN_RPC: &str = "other";

/// Wraps services in an [`Observe`].
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

/// A service whose calls are recorded.
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
        let rpc = Rpc::from_path(request.uri().path());
        let id = call_id(request.headers());
        let span = tracing::info_span!(
            "call",
            rpc = rpc_label(rpc),
            request_id = &*id,
            client = tracing::field::Empty,
            code = tracing::field::Empty,
        );
        crate::telemetry::adopt_remote_parent(&span, request.headers());
        let arrived = Instant::now();
        request.extensions_mut().insert(Arrival { id, at: arrived, rpc });
        // If the caller disconnects, the record is dropped and counts as cancelled.
        let record = CallRecord {
            rpc,
            arrived,
            span: span.clone(),
            metrics: self.metrics.clone(),
            code_on_drop: Some(Code::Cancelled),
        };
        let response = self.inner.call(request).instrument(span);
        Box::pin(async move {
            let mut record = record;
            let response = response.await?;
            // A refusal has no body and carries its status in the headers.
            if let Some(code) = code(response.headers()) {
                record.finish(code);
            }
            Ok(response.map(|body| Body::new(ObservedBody { inner: body, record })))
        })
    }
}

/// The record of one call, which is counted and logged once.
struct CallRecord {
    rpc: Option<Rpc>,
    arrived: Instant,
    span: Span,
    metrics: Metrics,
    /// The code to record on drop. `None` once the end is recorded.
    code_on_drop: Option<Code>,
}

impl CallRecord {
    /// Records the end of the call. Does nothing if it is already recorded.
    fn finish(&mut self, code: Code) {
        if self.code_on_drop.take().is_none() {
            return;
        }
        let Self { rpc, arrived, span, metrics, .. } = self;
        let time = arrived.elapsed();
        let (rpc, label, code) = (*rpc, rpc_label(*rpc), code_name(code));
        metrics.requests.get_or_create(&CallLabels { rpc: label, code }).inc();
        metrics.request_time_s.get_or_create(&RpcLabel { rpc: label }).observe(time.as_secs_f64());
        span.record("code", code);
        let time_ms = time.as_secs_f64() * 1e3;
        // Health is checked every few seconds, which is not worth a line each.
        match rpc.map(|rpc| rpc.policy().class) {
            Some(RpcClass::Unary | RpcClass::ItemStream) => {
                tracing::info!(parent: &*span, time_ms, "call ended");
            }
            Some(RpcClass::Health | RpcClass::Reflection) | None => {
                tracing::debug!(parent: &*span, time_ms, "call ended");
            }
        }
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        if let Some(code) = self.code_on_drop {
            self.finish(code);
        }
    }
}

/// A response body that is watched for the status in its trailers.
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

/// Returns the caller's `x-request-id` if it is safe to log, otherwise a new id.
fn call_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    let given = given.filter(|id| convert::check_id("x-request-id", id).is_ok());
    given.map_or_else(|| new_id().into(), Arc::from)
}

/// Returns the gRPC code in headers or trailers.
fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

/// Returns the name of an RPC in metrics and spans.
fn rpc_label(rpc: Option<Rpc>) -> &'static str {
    rpc.map_or(UNKNOWN_RPC, Rpc::name)
}

/// Returns the name of a code in the gRPC specification.
fn code_name(code: Code) -> &'static str {
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
