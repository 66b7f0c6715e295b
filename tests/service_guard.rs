//! The protection of a server from its callers, over real sockets: limits, quotas, tokens, TLS, and limits of HTTP/2.
#![allow(clippy::unwrap_used)]

mod support;

use std::{num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use futures::StreamExt;
use support::{
    keys::{CertificateAuthority, write_tls_files},
    scripted::{Script, ScriptedReply, faithful_script, pipeline, pipeline_with},
    serving::{Server, listen_config, server_config},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{
    Code, Request, Status,
    transport::{Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;
use yizhai::{
    engine::EngineConfig,
    pb::{
        self, digest_many_response::Result as ItemResult, digest_service_client::DigestServiceClient,
        input::Source,
    },
    server::{Access, Http2, ListenConfig, ModelSlot, RequestLimits, ServerConfig, Tls, TlsFiles, Tokens},
};

fn lines(text: &str) -> Option<pb::Input> {
    let page_format = pb::PageFormat::Lines.into();
    Some(pb::Input { source: Some(Source::PageText(text.to_owned())), page_format })
}

fn digest(text: &str) -> pb::DigestRequest {
    pb::DigestRequest { input: lines(text), ..Default::default() }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status}")).reason
}

/// A model whose answers never end, with slow steps.
fn endless() -> ModelSlot {
    let script: Script = Arc::new(|_| ScriptedReply::Forever("x "));
    let engine = EngineConfig { max_draft_rows: 0, ..EngineConfig::DEFAULT };
    ModelSlot::ready(pipeline_with(script, Duration::from_millis(5), Arc::default(), engine))
}

fn ready() -> ModelSlot {
    ModelSlot::ready(pipeline(faithful_script()))
}

/// Starts a stream and waits until it is being processed.
async fn running_stream(
    client: &mut DigestServiceClient<Channel>,
) -> tonic::Streaming<pb::StreamDigestResponse> {
    let request = pb::StreamDigestRequest { input: lines("文。"), ..Default::default() };
    let mut stream = client.stream_digest(request).await.unwrap().into_inner();
    stream.next().await.unwrap().unwrap();
    stream
}

// ---- limits ----

#[tokio::test]
async fn an_oversized_or_malformed_message_is_an_invalid_argument() {
    let limits =
        RequestLimits { max_page_bytes: 1000, max_message_bytes: Some(5000), ..RequestLimits::default() };
    let server = Server::start_with(ready(), limits).await;
    let status = server.raw_client().await.digest(digest(&"文".repeat(100_000))).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "MESSAGE_TOO_LARGE"));
    assert!(status.message().contains("5000"), "{status}");
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "message");

    // In the middle of a stream of items: earlier items are answered first.
    let item = |id: &str, text: &str| pb::DigestManyRequest {
        item_id: id.to_owned(),
        input: lines(text),
        ..Default::default()
    };
    let items = futures::stream::iter([item("a", "文。"), item("b", &"文".repeat(100_000))]);
    let answers = server.raw_client().await.digest_many(items).await.unwrap().into_inner();
    let answers: Vec<_> = answers.collect().await;
    assert!(matches!(answers[0].as_ref().unwrap().result, Some(ItemResult::Digest(_))));
    assert_eq!(reason(answers[1].as_ref().unwrap_err()), "MESSAGE_TOO_LARGE");

    let channel = server.channel().await;
    let status = send_bytes(channel, vec![0x0a, 0xff, 0xff, 0xff]).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "MALFORMED_MESSAGE"));
}

/// Sends bytes that need not be a message to Segment.
async fn send_bytes(channel: Channel, bytes: Vec<u8>) -> Result<Vec<u8>, Status> {
    call_path(channel, "/yizhai.v1.DigestService/Segment", bytes).await
}

async fn call_path(channel: Channel, path: &'static str, bytes: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    client
        .unary(Request::new(bytes), path, support::raw_codec::RawCodec)
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test]
async fn messages_share_a_byte_budget_that_finished_items_release() {
    let limits = RequestLimits { max_bytes_in_flight: 3000, ..RequestLimits::default() };
    let server = Server::start_with(ready(), limits).await;
    let status = server.raw_client().await.digest(digest(&"文".repeat(2000))).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_MANY_BYTES"));
    assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    // Together, the items of this stream exceed the budget, but not at the same time.
    let text = "文。".repeat(100);
    let item = |id: usize| pb::DigestManyRequest {
        item_id: id.to_string(),
        input: lines(&text),
        ..Default::default()
    };
    let (sender, items) = tokio::sync::mpsc::channel(1);
    sender.send(item(0)).await.unwrap();
    let items = tokio_stream::wrappers::ReceiverStream::new(items);
    let mut answers = server.raw_client().await.digest_many(items).await.unwrap().into_inner();
    for next in 1..20 {
        let answer = answers.next().await.unwrap().unwrap();
        assert!(matches!(answer.result, Some(ItemResult::Digest(_))), "{answer:?}");
        sender.send(item(next)).await.unwrap();
    }
    drop((sender, answers));
    support::wait_until(|| server.metrics.text().contains("yizhai_request_bytes 0\n")).await;
}

#[tokio::test]
async fn a_stream_over_the_item_limit_answers_the_items_within_it() {
    let server =
        Server::start_with(ready(), RequestLimits { max_items: 2, ..RequestLimits::default() }).await;
    let item = |id: i32| pb::DigestManyRequest {
        item_id: id.to_string(),
        input: lines("文。"),
        ..Default::default()
    };
    let items = futures::stream::iter((0..5).map(item));
    let answers: Vec<_> =
        server.raw_client().await.digest_many(items).await.unwrap().into_inner().collect().await;
    assert_eq!(answers.len(), 3);
    assert!(answers[..2].iter().all(|answer| answer.is_ok()));
    assert_eq!(reason(answers[2].as_ref().unwrap_err()), "TOO_MANY_ITEMS");
}

#[tokio::test]
async fn requests_wait_in_the_queue_and_are_refused_beyond_it() {
    let limits = RequestLimits { max_requests: 1, max_queued: 1, ..RequestLimits::default() };
    let server = Server::start_with(endless(), limits).await;
    let first = running_stream(&mut server.raw_client().await).await;
    let mut waiting = server.raw_client().await;
    let waiting =
        tokio::spawn(async move { waiting.segment(pb::SegmentRequest { input: lines("文。") }).await });
    support::wait_until(|| server.metrics.text().contains("yizhai_requests_queued 1")).await;
    let status = server.raw_client().await.digest(digest("文。")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_MANY_REQUESTS"));
    assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    drop(first);
    waiting.await.unwrap().unwrap();
    support::wait_until(|| server.metrics.text().contains("yizhai_requests_in_flight 0")).await;
}

#[tokio::test]
async fn a_client_over_its_rate_receives_a_retry_delay() {
    let limits = RequestLimits { requests_per_minute: NonZeroU32::new(2), ..RequestLimits::default() };
    let server = Server::start_with(ready(), limits).await;
    let mut client = server.raw_client().await;
    for _ in 0..2 {
        client.digest(digest("文。")).await.unwrap();
    }
    let status = client.digest(digest("文。")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "CLIENT_TOO_FAST"));
    let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(wait > Duration::from_secs(1) && wait <= Duration::from_secs(60), "{wait:?}");
}

#[tokio::test]
async fn a_message_that_does_not_arrive_releases_its_permit() {
    let receive_timeout = Duration::from_millis(100);
    let limits =
        RequestLimits { max_requests: 1, max_queued: 0, receive_timeout, ..RequestLimits::default() };
    let server = Server::start_with(ready(), limits).await;
    // A batch whose first item never arrives.
    let silent = futures::stream::pending::<pb::DigestManyRequest>();
    let answers = server.raw_client().await.digest_many(silent).await.unwrap().into_inner();
    let answers: Vec<_> = answers.collect().await;
    assert_eq!(reason(answers[0].as_ref().unwrap_err()), "MESSAGE_TOO_SLOW");
    server.raw_client().await.digest(digest("文。")).await.unwrap();
}

#[tokio::test]
async fn work_for_a_client_that_reads_nothing_is_cancelled() {
    let limits = RequestLimits {
        max_requests: 1,
        max_queued: 0,
        stall_timeout: Duration::from_millis(200),
        ..RequestLimits::default()
    };
    let server = Server::start_with(ready(), limits).await;
    // Long enough to fill all buffers between server and client.
    let text = "这是一句用来填满缓冲区的话。\n".repeat(8000);
    let request = pb::StreamDigestRequest { input: lines(&text), ..Default::default() };
    let endpoint = Endpoint::from_shared(server.url()).unwrap().initial_stream_window_size(1024);
    let mut client = DigestServiceClient::new(endpoint.connect().await.unwrap());
    let stream = client.stream_digest(request).await.unwrap().into_inner();
    support::wait_until(|| server.metrics.text().contains("yizhai_requests_in_flight 0")).await;
    let engine = server.metrics.text();
    assert!(engine.contains("yizhai_engine_sequences_running 0"), "{engine}");
    drop(stream);
}

#[tokio::test]
async fn a_malformed_timeout_is_refused() {
    let server = Server::start_with(ready(), RequestLimits::default()).await;
    let mut request = Request::new(digest("文。"));
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let status = server.raw_client().await.digest(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "grpc-timeout");
}

// ---- tokens ----

fn token_file(path: &Path, tokens: &[(&str, &str, &str)]) {
    use sha2::{Digest, Sha256};
    let mut text = String::new();
    for (name, secret, rest) in tokens {
        let sha256: String = Sha256::digest(secret).iter().map(|b| format!("{b:02x}")).collect();
        text += &format!("[[token]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\n{rest}\n");
    }
    std::fs::write(path, text).unwrap();
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

#[tokio::test]
async fn calls_need_a_token_and_each_token_has_its_own_quota() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("tokens.toml");
    token_file(
        &path,
        &[("news", "one", "requests_per_minute = 2"), ("reader", "two", "rpcs = [\"Segment\"]")],
    );
    let access = Access { tokens: Some(Tokens::load(&path).unwrap()), health_open: true };
    let reload_interval = Duration::from_millis(20);
    let server =
        Server::start_config(ready(), ServerConfig { access, reload_interval, ..server_config() }).await;
    let mut client = server.raw_client().await;
    for (request, expected) in [
        (Request::new(digest("文。")), (Code::Unauthenticated, "NO_TOKEN")),
        (with_token(digest("文。"), "three"), (Code::Unauthenticated, "WRONG_TOKEN")),
        (with_token(digest("文。"), "two"), (Code::PermissionDenied, "RPC_NOT_ALLOWED")),
    ] {
        let status = client.digest(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), expected, "{status}");
    }
    client.segment(with_token(pb::SegmentRequest { input: lines("文。") }, "two")).await.unwrap();
    for _ in 0..2 {
        client.digest(with_token(digest("文。"), "one")).await.unwrap();
    }
    let status = client.digest(with_token(digest("文。"), "one")).await.unwrap_err();
    assert_eq!(reason(&status), "CLIENT_TOO_FAST");
    let mut health = HealthClient::new(server.channel().await);
    health.check(HealthCheckRequest::default()).await.unwrap();

    // A changed file is reloaded while the server runs, unless it is invalid.
    token_file(&path, &[("new", "three", "")]);
    let client = server.raw_client().await;
    let accepted = async |token: &str| client.clone().digest(with_token(digest("文。"), token)).await.is_ok();
    while !accepted("three").await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!accepted("one").await);
    std::fs::write(&path, "[[token]]\nname = 3\n").unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(accepted("three").await, "an invalid file replaced the tokens");
}

#[tokio::test]
async fn health_can_require_a_token_and_reflection_can_be_disabled() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("tokens.toml");
    token_file(&path, &[("news", "one", "")]);
    let access = Access { tokens: Some(Tokens::load(&path).unwrap()), health_open: false };
    let server =
        Server::start_config(ready(), ServerConfig { access, reflection: false, ..server_config() }).await;
    let mut health = HealthClient::new(server.channel().await);
    let status = health.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    health.check(with_token(HealthCheckRequest::default(), "one")).await.unwrap();
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    };
    let requests = futures::stream::iter([ServerReflectionRequest::default()]);
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let status = reflection.server_reflection_info(with_token(requests, "one")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn an_unknown_rpc_is_unimplemented_before_it_needs_a_token_or_a_permit() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("tokens.toml");
    token_file(&path, &[("news", "one", "")]);
    let access = Access { tokens: Some(Tokens::load(&path).unwrap()), health_open: true };
    // Without permits, an admitted call would wait for one.
    let limits = RequestLimits { max_requests: 0, ..RequestLimits::default() };
    let server = Server::start_config(ready(), ServerConfig { access, limits, ..server_config() }).await;
    for path in ["/yizhai.v1.DigestService/Dance", "/yizhai.v2.DigestService/Digest", "/Digest"] {
        let status = call_path(server.channel().await, path, Vec::new()).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "UNKNOWN_RPC"), "{path}");
    }
    let counted = "yizhai_requests_total{rpc=\"other\",code=\"UNIMPLEMENTED\"} 3";
    assert!(server.metrics.text().contains(counted), "{}", server.metrics.text());
}

#[test]
fn a_token_file_must_list_rpcs_of_the_api() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("tokens.toml");
    token_file(&path, &[("news", "one", "rpcs = [\"Digest\", \"Dance\"]")]);
    let error = Tokens::load(&path).err().unwrap().to_string();
    assert!(error.contains("tokens.toml") && error.contains("unknown RPC `Dance`"), "{error}");
}

// ---- TLS ----

async fn tls_server(files: TlsFiles) -> Server {
    let tls = Some(Tls::load(files, false).unwrap());
    Server::start_listen(ready(), server_config(), ListenConfig { tls, ..listen_config() }).await
}

/// Digests over a new TLS connection.
async fn digest_tls(server: &Server, tls: ClientTlsConfig) -> Result<pb::DigestResponse, String> {
    let url = format!("https://localhost:{}", server.address.port());
    let endpoint = Endpoint::from_shared(url).unwrap().tls_config(tls.domain_name("localhost")).unwrap();
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let answer = DigestServiceClient::new(channel).digest(digest("文。")).await;
    answer.map(tonic::Response::into_inner).map_err(|status| status.to_string())
}

#[tokio::test]
async fn certificates_are_reloaded_while_the_server_runs() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (CertificateAuthority::new(), CertificateAuthority::new());
    let server = tls_server(write_tls_files(directory.path(), &old, None)).await;
    let trusting = |authority: &CertificateAuthority| ClientTlsConfig::new().ca_certificate(authority.root());
    digest_tls(&server, trusting(&old)).await.unwrap();
    assert!(digest_tls(&server, trusting(&new)).await.is_err());
    let plain = Endpoint::from_shared(server.url()).unwrap().connect().await;
    if let Ok(channel) = plain {
        assert!(DigestServiceClient::new(channel).digest(digest("文。")).await.is_err());
    }
    write_tls_files(directory.path(), &new, None);
    while digest_tls(&server, trusting(&new)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A key that does not match the certificate is not loaded.
    std::fs::write(directory.path().join("key.pem"), old.sign("localhost").1).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    digest_tls(&server, trusting(&new)).await.unwrap();
}

#[tokio::test]
async fn mutual_tls_requires_a_client_certificate_of_the_trusted_root() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, clients, strangers) =
        (CertificateAuthority::new(), CertificateAuthority::new(), CertificateAuthority::new());
    let server = tls_server(write_tls_files(directory.path(), &authority, Some(&clients))).await;
    let tls = || ClientTlsConfig::new().ca_certificate(authority.root());
    let identity = |authority: &CertificateAuthority| {
        let (certificate, key) = authority.sign("newsroom");
        Identity::from_pem(certificate, key)
    };
    digest_tls(&server, tls().identity(identity(&clients))).await.unwrap();
    assert!(digest_tls(&server, tls()).await.is_err(), "accepted a client without a certificate");
    assert!(digest_tls(&server, tls().identity(identity(&strangers))).await.is_err());
}

// ---- HTTP/2 ----

#[tokio::test]
async fn connections_over_the_limit_are_closed_until_others_end() {
    let listen = ListenConfig { max_connections: 2, ..listen_config() };
    let server = Server::start_listen(ready(), server_config(), listen).await;
    let hold = async || tokio::net::TcpStream::connect(server.address).await.unwrap();
    let held = (hold().await, hold().await);
    support::wait_until(|| server.metrics.text().contains("yizhai_connections 2")).await;
    let mut third = hold().await;
    assert!(matches!(third.read(&mut [0; 1]).await, Ok(0) | Err(_)), "the third connection is still open");
    drop(held);
    support::wait_until(|| server.metrics.text().contains("yizhai_connections 0")).await;
    server.raw_client().await.digest(digest("文。")).await.unwrap();
}

#[tokio::test]
async fn an_unfinished_handshake_times_out() {
    let directory = tempfile::tempdir().unwrap();
    let tls = Some(
        Tls::load(write_tls_files(directory.path(), &CertificateAuthority::new(), None), false).unwrap(),
    );
    let listen = ListenConfig { tls, handshake_timeout: Duration::from_millis(50), ..listen_config() };
    let server = Server::start_listen(ready(), server_config(), listen).await;
    let mut silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    silent.write_all(&[0x16, 3, 1]).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(10), silent.read(&mut [0; 1])).await;
    assert!(matches!(closed.unwrap(), Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_flood_of_headers_is_refused_and_other_calls_succeed() {
    let http2 = Http2 { max_header_list_bytes: 4096, ..Http2::default() };
    let server = Server::start_config(ready(), ServerConfig { http2, ..server_config() }).await;
    let mut request = Request::new(digest("文。"));
    for n in 0..100 {
        let key = tonic::metadata::MetadataKey::from_bytes(format!("x-flood-{n}").as_bytes()).unwrap();
        request.metadata_mut().insert(key, "x".repeat(100).parse().unwrap());
    }
    assert!(server.raw_client().await.digest(request).await.is_err());
    server.raw_client().await.digest(digest("文。")).await.unwrap();
}

#[tokio::test]
async fn random_bytes_do_not_affect_other_clients() {
    let server = Server::start_with(ready(), RequestLimits::default()).await;
    let mut state = 7u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    for round in 0..200 {
        let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let mut bytes: Vec<u8> = (0..512).map(|_| random()).collect();
        if round % 2 == 0 {
            // A valid preface, so that the random bytes are parsed as frames.
            bytes.splice(..0, *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        }
        let _ = socket.write_all(&bytes).await;
    }
    // Messages with one random byte.
    let channel = server.channel().await;
    let valid = prost::Message::encode_to_vec(&digest("文。"));
    for _ in 0..200 {
        let mut mutated = valid.clone();
        let at = usize::from(random()) % mutated.len();
        mutated[at] = random();
        if let Err(status) = send_bytes(channel.clone(), mutated).await {
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        }
    }
    server.raw_client().await.digest(digest("文。")).await.unwrap();
}
