//! `yizhai serve` as a process: ALPN, traces sent to a collector, a full disk, and a restart after a kill.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{HashMap, HashSet},
    process::Command,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use support::{
    keys::{CertificateAuthority, tls_connect, write_tls_files},
    program::{ServerProcess, serve_command},
    wait_until,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use yizhai::{
    client::Client,
    pb::{self, input::Source},
};

fn lines(text: &str) -> Option<pb::Input> {
    let page_format = pb::PageFormat::Lines.into();
    Some(pb::Input { source: Some(Source::PageText(text.to_owned())), page_format })
}

// ---- TLS ----

#[tokio::test]
async fn http_1_is_negotiated_only_if_grpc_web_is_on() {
    let directory = tempfile::tempdir().unwrap();
    let authority = CertificateAuthority::new();
    let files = write_tls_files(directory.path(), &authority, None);
    let (certificate, key) = (files.certificate.to_str().unwrap(), files.key.to_str().unwrap());
    for (more, http_1) in
        [(&[][..], None), (&["--grpc-web-origin", "https://news.example"], Some("http/1.1"))]
    {
        let keys = ["--tls-certificate", certificate, "--tls-key", key];
        let server = ServerProcess::start(&[&keys, more].concat());
        let negotiated = async |offered: &[&str]| {
            let address = server.address.parse().unwrap();
            let stream = tls_connect(address, &authority, offered).await.ok()?;
            stream.get_ref().1.alpn_protocol().map(|protocol| String::from_utf8(protocol.to_vec()).unwrap())
        };
        assert_eq!(negotiated(&["http/1.1", "h2"]).await.as_deref(), Some("h2"));
        assert_eq!(negotiated(&["http/1.1"]).await.as_deref(), http_1);
    }
}

// ---- traces ----

/// An OTLP collector that stores the spans it receives.
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
    /// Starts a collector and returns its address.
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

// Multi-threaded, so that the collector runs while the test waits for the process.
#[tokio::test(flavor = "multi_thread")]
async fn the_spans_of_a_call_belong_to_the_trace_of_its_caller() {
    let (collector, url) = Collector::start().await;
    // The log filter must not apply to traces.
    let mut server = ServerProcess::start(&["--otlp-endpoint", &url, "--log", "yizhai::cli=info"]);
    let (trace, parent) = ([0xab; 16], [0xcd; 8]);
    let mut request = Request::new(pb::DigestRequest {
        input: lines("一。\n二。"),
        request_id: "call-7".to_owned(),
        ..Default::default()
    });
    let traceparent = format!("00-{}-{}-01", "ab".repeat(16), "cd".repeat(8));
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    server.client().await.digest(request).await.unwrap();
    // A call without a traceparent starts a trace of its own.
    let other = pb::SegmentRequest { input: lines("一。") };
    server.client().await.segment(other).await.unwrap();
    // The last spans are flushed at exit.
    let id = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(server.child.wait().unwrap().success());

    let spans = collector.spans.lock().unwrap().clone();
    let (ours, others): (Vec<_>, Vec<_>) = spans.iter().partition(|span| span.trace_id == trace);
    let call = ours.iter().find(|span| span.name == "call").unwrap_or_else(|| panic!("no call in {spans:?}"));
    assert_eq!(call.parent_span_id, parent);
    let attributes_of_call = attributes(call);
    for (name, value) in
        [("rpc", "Digest"), ("request_id", "call-7"), ("code", "OK"), ("client", "127.0.0.1")]
    {
        assert_eq!(
            attributes_of_call.get(name).map(String::as_str),
            Some(value),
            "{name}: {attributes_of_call:?}"
        );
    }
    let sections: Vec<_> = ours.iter().filter(|span| span.name == "section").collect();
    assert!(sections.iter().all(|span| span.parent_span_id == call.span_id), "{sections:?}");
    let indices: HashSet<_> = sections.iter().map(|span| attributes(span)["section"].clone()).collect();
    assert_eq!(indices, HashSet::from(["0".to_owned(), "1".to_owned()]));
    let own: Vec<_> =
        others.iter().filter(|span| attributes(span).get("rpc").is_some_and(|r| r == "Segment")).collect();
    assert!(matches!(own.as_slice(), [span] if span.parent_span_id.is_empty()), "{others:?}");
}

// ---- a full disk ----

#[tokio::test]
async fn a_full_disk_loses_cache_entries_but_no_answers() {
    const DISK_BLOCKS: u64 = 160;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("results.redb");
    // A limit on the file size simulates a full disk. Its unit is 512 bytes.
    let program = serve_command(&["--cache-file", file.to_str().unwrap()]);
    let limited = "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"";
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", limited, &DISK_BLOCKS.to_string()])
        .arg(program.get_program())
        .args(program.get_args())
        .env_clear();
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let server = ServerProcess::spawn(&mut command);
    let mut client = server.client().await;
    let disk_full = "cannot write the result cache";
    let mut pages = 0;
    let mut digest = async || {
        let text: String = (0..10).map(|line| format!("第{pages}页的第{line}行。\n")).collect();
        pages += 1;
        let options = pb::DigestOptions {
            tasks: vec![pb::Task::Translation.into()],
            max_attempts: 1,
            ..Default::default()
        };
        let request = pb::DigestRequest { input: lines(&text), options: Some(options), ..Default::default() };
        assert_eq!(client.digest(request).await.unwrap().into_inner().sections.len(), 10);
    };
    for _ in 0..100 {
        digest().await;
        assert!(std::fs::metadata(&file).unwrap().len() <= DISK_BLOCKS * 512);
        if server.log_count(disk_full) > 0 {
            break;
        }
    }
    for _ in 0..5 {
        digest().await;
    }
    assert_eq!(server.log_count(disk_full), 1, "{}", server.log.lock().unwrap());
}

// ---- a kill ----

#[tokio::test]
async fn a_killed_server_restarts_with_its_cache_and_clients_reconnect() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("results.redb");
    let cache = ["--cache-file", file.to_str().unwrap()];
    let mut server = ServerProcess::start(&cache);
    let address = server.address.clone();
    let client = Client::connect(&format!("http://{address}")).await.unwrap();
    let request = |text: &str| pb::DigestRequest { input: lines(text), ..Default::default() };
    let first = client.digest(request("一。\n二。")).await.unwrap();
    // Long enough that the kill interrupts it.
    let long: String = (0..500).map(|line| format!("这是第{line}行，还没有做完。\n")).collect();
    let in_flight = tokio::spawn({
        let client = client.clone();
        async move { client.digest(request(&long)).await }
    });
    // Results are written in order: once one of the long call is in the file, the first two are.
    let size = || std::fs::metadata(&file).unwrap().len();
    let before = size();
    wait_until(|| size() > before).await;
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    in_flight.await.unwrap().expect_err("a killed server answered");

    let server = ServerProcess::start(&[&cache[..], &["--listen", &address]].concat());
    assert_eq!(server.log_count("the result cache is corrupt"), 0, "the kill corrupted the cache");
    let again = client.digest(request("一。\n二。")).await.unwrap();
    for (old, new) in first.sections.iter().zip(&again.sections) {
        assert!(new.provenance.as_ref().unwrap().from_cache, "a cached result is lost");
        assert_eq!((&old.summary, &old.translation), (&new.summary, &new.translation));
    }
}
