//! Abuse of HTTP/2, frame by frame over a socket: a hostile client must only affect its own connection.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use support::{
    scripted::{faithful_script, pipeline},
    serving::{Server, server_config},
    wait_until,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use yizhai::{
    pb::{self, input::Source},
    server::{Http2, ModelSlot, ServerConfig},
};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const END_HEADERS: u8 = 4;
/// The error codes of RST_STREAM.
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

async fn server(http2: Http2) -> Server {
    Server::start_config(
        ModelSlot::ready(pipeline(faithful_script())),
        ServerConfig { http2, ..server_config() },
    )
    .await
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The bytes that open a connection.
fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat()
}

/// The headers of a DigestMany call in HPACK: :method POST and :scheme http from the static table, :path and content-type
/// by the index of their names. No messages follow.
fn begin_call(stream: u32) -> Vec<u8> {
    let path = b"/yizhai.v1.DigestService/DigestMany";
    let kind = b"application/grpc";
    let mut headers = vec![0x83, 0x86, 0x04, path.len() as u8];
    headers.extend(path);
    headers.extend([0x0f, 0x10, kind.len() as u8]);
    headers.extend(kind);
    frame(HEADERS, END_HEADERS, stream, &headers)
}

/// The ids of client streams, which are odd.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|n| 2 * n + 1)
}

/// Asserts that another client is served.
async fn assert_others_are_served(server: &Server) {
    let page_format = pb::PageFormat::Lines.into();
    let input = Some(pb::Input { source: Some(Source::PageText("文。".to_owned())), page_format });
    server.raw_client().await.digest(pb::DigestRequest { input, ..Default::default() }).await.unwrap();
}

/// Returns `true` if the server closes the connection.
async fn is_closed(socket: &mut TcpStream) -> bool {
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await.is_ok()
}

#[tokio::test]
async fn a_rapid_reset_closes_only_the_connection_of_the_attacker() {
    let server = server(Http2::default()).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let mut flood = preface();
    // :method POST, :scheme http and :path / from HPACK's static table. Each stream is opened and reset at once.
    for stream in streams(2000) {
        flood.extend(frame(HEADERS, END_HEADERS, stream, &[0x83, 0x86, 0x84]));
        flood.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }
    // The server may close the connection during the write.
    let _ = socket.write_all(&flood).await;
    assert!(is_closed(&mut socket).await, "the connection is still open after a rapid reset");
    assert_others_are_served(&server).await;
}

#[tokio::test]
async fn streams_over_the_limit_are_refused_and_repeated_abuse_closes_the_connection() {
    let server = server(Http2 { max_concurrent_streams: 4, ..Http2::default() }).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let calls: Vec<u8> = streams(100).flat_map(begin_call).collect();
    socket.write_all(&[preface(), calls].concat()).await.unwrap();
    let refusals = async {
        let mut refused = 0;
        while refused < 96 {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            socket.read_exact(&mut payload).await.unwrap();
            if head[3] == RST_STREAM {
                assert_eq!(payload, REFUSED_STREAM.to_be_bytes());
                refused += 1;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refusals)
        .await
        .expect("fewer than 96 streams were refused");
    wait_until(|| server.metrics.text().contains("yizhai_requests_in_flight 4\n")).await;
    assert_others_are_served(&server).await;
    let more: Vec<u8> = streams(1100).skip(100).flat_map(begin_call).collect();
    let _ = socket.write_all(&more).await;
    assert!(is_closed(&mut socket).await, "the connection is still open after a thousand refused streams");
    wait_until(|| server.metrics.text().contains("yizhai_requests_in_flight 0\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_pings_with_unread_answers_do_not_consume_memory() {
    let server = server(Http2::default()).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(&preface()).await.unwrap();
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(10_000);
    let mut flood = tokio::spawn(async move {
        // Until the server stops reading because it cannot send its answers.
        while let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(1), socket.write_all(&pings)).await {}
        socket
    });
    // The operating system buffers a few megabytes. A server that stored its answers would read for ever.
    let blocked = tokio::time::timeout(Duration::from_secs(60), &mut flood).await;
    assert!(blocked.is_ok(), "the server stores answers that nobody reads");
    assert_others_are_served(&server).await;
    drop(blocked);
    assert_others_are_served(&server).await;
}
