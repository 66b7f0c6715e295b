//! gRPC-Web as a browser speaks it: HTTP/1.1 over a socket, with the CORS preflight.
#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use prost::Message;
use support::{
    keys::{CertificateAuthority, tls_connect, write_tls_files},
    scripted::{Script, ScriptedReply, faithful_script, pipeline, pipeline_with},
    serving::{Server, listen_config, server_config},
    wait_until,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tonic::transport::{ClientTlsConfig, Endpoint};
use yizhai::{
    engine::EngineConfig,
    pb::{self, digest_service_client::DigestServiceClient, input::Source, stream_digest_response::Event},
    server::{Access, ListenConfig, ModelSlot, RequestLimits, ServerConfig, Tls, Tokens},
};

const OURS: &str = "https://news.example";
const THEIRS: &str = "https://evil.example";
/// The flag of the frame that contains the trailers at the end of a body.
const TRAILERS: u8 = 0x80;

fn ready() -> ModelSlot {
    ModelSlot::ready(pipeline(faithful_script()))
}

/// Starts a server that pages from [`OURS`] may call.
async fn server(slot: ModelSlot, change: impl FnOnce(&mut ServerConfig)) -> Server {
    let mut config = ServerConfig { web_origins: vec![OURS.parse().unwrap()], ..server_config() };
    change(&mut config);
    Server::start_config(slot, config).await
}

fn input(text: &str) -> Option<pb::Input> {
    let page_format = pb::PageFormat::Lines.into();
    Some(pb::Input { source: Some(Source::PageText(text.to_owned())), page_format })
}

fn digest(text: &str) -> pb::DigestRequest {
    pb::DigestRequest { input: input(text), ..Default::default() }
}

/// An HTTP response.
#[derive(Debug)]
struct HttpResponse {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl HttpResponse {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Decodes the messages in the body.
    fn messages<M: Message + Default>(&self) -> Vec<M> {
        self.frames().into_iter().filter(|(flag, _)| *flag == 0).map(|(_, m)| M::decode(m).unwrap()).collect()
    }

    /// Returns the gRPC status from the trailers, or from the headers if there are none.
    fn grpc_status(&self) -> i32 {
        let trailers = self.frames().into_iter().find(|(flag, _)| *flag == TRAILERS);
        let trailers = trailers.map(|(_, text)| String::from_utf8(text.to_vec()).unwrap());
        let trailer = trailers.as_deref().and_then(|text| {
            text.lines().find_map(|line| line.split_once(':').filter(|(name, _)| *name == "grpc-status"))
        });
        let status = trailer.map(|(_, status)| status.trim()).or(self.header("grpc-status"));
        status.unwrap_or_else(|| panic!("no status: {self:?}")).parse().unwrap()
    }

    /// Splits the body into frames: a flag, a length of four bytes, and the payload.
    fn frames(&self) -> Vec<(u8, &[u8])> {
        let mut rest = self.body.as_slice();
        let mut frames = Vec::new();
        while let Some((head, tail)) = rest.split_at_checked(5) {
            let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
            frames.push((head[0], &tail[..length]));
            rest = &tail[length..];
        }
        frames
    }
}

async fn send(address: SocketAddr, head: &str, body: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    send_over(&mut socket, head, body).await;
    socket
}

async fn send_over(socket: &mut (impl AsyncWrite + Unpin), head: &str, body: &[u8]) {
    let length = body.len();
    let head = format!("{head}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
}

async fn receive(mut socket: impl AsyncRead + Unpin) -> HttpResponse {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.unwrap();
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("no end of the headers");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let body = match headers.get("transfer-encoding") {
        Some(coding) if coding == "chunked" => join_chunks(&bytes[end + 4..]),
        _ => bytes[end + 4..].to_vec(),
    };
    HttpResponse { status, headers, body }
}

/// Joins the chunks of a body. Each is a line with its length in hexadecimal, followed by its bytes and a line break.
fn join_chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if length == 0 {
            return body;
        }
        let from = line + 2;
        body.extend_from_slice(&rest[from..from + length]);
        rest = &rest[from + length + 2..];
    }
}

/// Returns the head of a gRPC-Web request.
fn call(rpc: &str, origin: &str, more: &str) -> String {
    format!(
        "POST /yizhai.v1.DigestService/{rpc} HTTP/1.1\r\nOrigin: {origin}\r\nX-Grpc-Web: 1\r\n\
         Content-Type: application/grpc-web+proto\r\nAccept: application/grpc-web+proto{more}"
    )
}

fn framed(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    body
}

async fn post(server: &Server, head: &str, message: &impl Message) -> HttpResponse {
    receive(send(server.address, head, &framed(message)).await).await
}

#[tokio::test]
async fn a_page_calls_over_http_1_and_receives_messages_and_a_status() {
    let server = server(ready(), |_| ()).await;
    let answer = post(&server, &call("Digest", OURS, ""), &digest("今天天气很好。\n明天也是。")).await;
    assert_eq!((answer.status, answer.grpc_status()), (200, 0), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/grpc-web+proto"));
    assert_eq!(answer.header("access-control-allow-origin"), Some(OURS));
    let digests = answer.messages::<pb::DigestResponse>();
    assert_eq!(digests[0].sections.len(), 2);

    let request = pb::StreamDigestRequest { input: input("一。\n二。"), ..Default::default() };
    let answer = post(&server, &call("StreamDigest", OURS, ""), &request).await;
    let events: Vec<_> =
        answer.messages::<pb::StreamDigestResponse>().into_iter().map(|m| m.event.unwrap()).collect();
    assert!(matches!(events.first(), Some(Event::Document(_))), "{events:?}");
    assert!(matches!(events.last(), Some(Event::Statistics(_))), "{events:?}");
    assert_eq!((events.len(), answer.grpc_status()), (4, 0));

    // gRPC works on the same port, and both are counted alike.
    server.raw_client().await.digest(digest("文。")).await.unwrap();
    let counted = "yizhai_requests_total{rpc=\"Digest\",code=\"OK\"} 2";
    assert!(server.metrics.text().contains(counted), "{}", server.metrics.text());
}

#[tokio::test]
async fn a_page_calls_over_tls_on_the_same_port_as_grpc() {
    let directory = tempfile::tempdir().unwrap();
    let authority = CertificateAuthority::new();
    let tls = Tls::load(write_tls_files(directory.path(), &authority, None), true).unwrap();
    let config = ServerConfig { web_origins: vec![OURS.parse().unwrap()], ..server_config() };
    let server =
        Server::start_listen(ready(), config, ListenConfig { tls: Some(tls), ..listen_config() }).await;
    let mut socket = tls_connect(server.address, &authority, &["http/1.1"]).await.unwrap();
    let request = framed(&digest("今天天气很好。\n明天也是。"));
    send_over(&mut socket, &call("Digest", OURS, ""), &request).await;
    let answer = receive(socket).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let kinds: Vec<u8> = answer.frames().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [0, TRAILERS], "expected one message and the trailers");
    assert_eq!(answer.grpc_status(), 0);
    assert_eq!(answer.messages::<pb::DigestResponse>()[0].sections.len(), 2);

    let url = format!("https://localhost:{}", server.address.port());
    let trusting = ClientTlsConfig::new().ca_certificate(authority.root());
    let channel = Endpoint::from_shared(url).unwrap().tls_config(trusting).unwrap().connect().await.unwrap();
    DigestServiceClient::new(channel).digest(digest("文。")).await.unwrap();
}

#[tokio::test]
async fn a_preflight_allows_only_the_configured_origins() {
    let server = server(ready(), |_| ()).await;
    let preflight = async |origin: &str| {
        let head = format!(
            "OPTIONS /yizhai.v1.DigestService/Digest HTTP/1.1\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: authorization,content-type,grpc-timeout,x-grpc-web"
        );
        receive(send(server.address, &head, b"").await).await
    };
    let allowed = preflight(OURS).await;
    assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (200, Some(OURS)));
    assert!(allowed.header("access-control-allow-methods").unwrap().contains("POST"));
    assert!(allowed.header("access-control-allow-headers").unwrap().contains("authorization"));
    assert_eq!(preflight(THEIRS).await.header("access-control-allow-origin"), None);
    // The server also refuses the call itself.
    let refused = post(&server, &call("Digest", THEIRS, ""), &digest("文。")).await;
    assert_eq!(refused.grpc_status(), tonic::Code::PermissionDenied as i32, "{refused:?}");
    assert_eq!(refused.header("access-control-allow-origin"), None);
    assert!(refused.messages::<pb::DigestResponse>().is_empty());
}

#[tokio::test]
async fn tokens_deadlines_and_limits_apply_to_calls_from_pages() {
    use sha2::Digest as _;
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("tokens.toml");
    let sha256: String = sha2::Sha256::digest("one").iter().map(|b| format!("{b:02x}")).collect();
    std::fs::write(&path, format!("[[token]]\nname = \"news\"\nsha256 = \"{sha256}\"\n")).unwrap();
    let script: Script = std::sync::Arc::new(|_| ScriptedReply::Forever("x "));
    let engine = EngineConfig { max_draft_rows: 0, ..EngineConfig::DEFAULT };
    let slot =
        ModelSlot::ready(pipeline_with(script, Duration::from_millis(2), std::sync::Arc::default(), engine));
    let server = server(slot, |config| {
        config.access = Access { tokens: Some(Tokens::load(&path).unwrap()), health_open: true };
        config.limits = RequestLimits { max_requests: 1, max_queued: 0, ..RequestLimits::default() };
    })
    .await;
    let without_token = post(&server, &call("Digest", OURS, ""), &digest("文。")).await;
    assert_eq!(without_token.grpc_status(), tonic::Code::Unauthenticated as i32);

    let token = "\r\nAuthorization: Bearer one";
    let timeout = format!("{token}\r\nGrpc-Timeout: 300m");
    let text = "慢".repeat(60);
    let overdue = post(&server, &call("Digest", OURS, &timeout), &digest(&text)).await;
    assert_eq!(overdue.grpc_status(), tonic::Code::DeadlineExceeded as i32);

    let request = pb::StreamDigestRequest { input: input(&text), ..Default::default() };
    let closed = send(server.address, &call("StreamDigest", OURS, token), &framed(&request)).await;
    wait_until(|| server.metrics.text().contains("yizhai_engine_sequences_running 2")).await;
    let full = post(&server, &call("Digest", OURS, token), &digest("文。")).await;
    assert_eq!(full.grpc_status(), tonic::Code::ResourceExhausted as i32);
    // Closing the page releases its permit and its sequences.
    drop(closed);
    wait_until(|| {
        let text = server.metrics.text();
        text.contains("yizhai_requests_in_flight 0") && text.contains("yizhai_engine_sequences_running 0")
    })
    .await;
}

#[tokio::test]
async fn http_1_is_not_served_without_origins() {
    let server = Server::start_config(ready(), server_config()).await;
    let mut socket = send(server.address, &call("Digest", OURS, ""), &framed(&digest("文。"))).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1"), "{answer:?}");
    server.raw_client().await.digest(digest("文。")).await.unwrap();
}
