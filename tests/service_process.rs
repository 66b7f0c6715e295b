//! `yizhai serve` as a process among others: traces for a collector, a disk that is full, a kill in the middle.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use support::{program::Running, until};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use yizhai::pb::{self, input::Source};

fn lines(text: &str) -> Option<pb::Input> {
    let page_format = pb::PageFormat::Lines.into();
    Some(pb::Input { source: Some(Source::PageText(text.to_owned())), page_format })
}

// ---- traces ----

/// An OTLP collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let spans = resources.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
        self.spans.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Collects at an address of its own.
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let service = TraceServiceServer::new(collector.clone());
        let serving = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(socket)));
        (collector, url)
    }
}

fn attributes(span: &Span) -> HashMap<&str, String> {
    let attribute = |a: &'_ opentelemetry_proto::tonic::common::v1::KeyValue| match &a.value.as_ref()?.value {
        Some(Value::StringValue(text)) => Some(text.clone()),
        Some(Value::IntValue(number)) => Some(number.to_string()),
        _ => None,
    };
    span.attributes.iter().filter_map(|a| Some((a.key.as_str(), attribute(a)?))).collect()
}

// The collector goes on while the test waits for the process.
#[tokio::test(flavor = "multi_thread")]
async fn the_spans_of_a_call_belong_to_the_trace_of_its_caller() {
    let (collector, url) = Collector::start().await;
    // What is logged is no bound on what is traced.
    let mut server = Running::start(&["--otlp-endpoint", &url, "--log", "yizhai::cli=info"]);
    let (trace, parent) = ([0xab; 16], [0xcd; 8]);
    let mut request = Request::new(pb::DigestRequest {
        input: lines("一。\n二。"),
        request_id: "call-7".to_owned(),
        ..Default::default()
    });
    let traceparent = format!("00-{}-{}-01", "ab".repeat(16), "cd".repeat(8));
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    server.client().await.digest(request).await.unwrap();
    // One call more, of a caller that traces nothing: a trace of its own.
    let other = pb::SegmentRequest { input: lines("一。") };
    server.client().await.segment(other).await.unwrap();
    // The last spans are sent at the end.
    let id = server.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(server.child.wait().unwrap().success());

    let spans = collector.spans.lock().unwrap().clone();
    let (ours, others): (Vec<_>, Vec<_>) = spans.iter().partition(|span| span.trace_id == trace);
    let call = ours.iter().find(|span| span.name == "call").unwrap_or_else(|| panic!("no call in {spans:?}"));
    assert_eq!(call.parent_span_id, parent);
    let told = attributes(call);
    for (name, value) in
        [("rpc", "Digest"), ("request_id", "call-7"), ("code", "OK"), ("client", "127.0.0.1")]
    {
        assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}: {told:?}");
    }
    let sections: Vec<_> = ours.iter().filter(|span| span.name == "section").collect();
    assert!(sections.iter().all(|span| span.parent_span_id == call.span_id), "{sections:?}");
    let indices: HashSet<_> = sections.iter().map(|span| attributes(span)["section"].clone()).collect();
    assert_eq!(indices, HashSet::from(["0".to_owned(), "1".to_owned()]));
    let own: Vec<_> =
        others.iter().filter(|span| attributes(span).get("rpc").is_some_and(|r| r == "Segment")).collect();
    assert!(matches!(own.as_slice(), [span] if span.parent_span_id.is_empty()), "{others:?}");
}
