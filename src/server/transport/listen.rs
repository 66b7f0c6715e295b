//! Accepts connections up to a limit, performs TLS handshakes, and identifies the peer.
//!
//! Handshakes run concurrently and under a timeout, so a client that connects and stays silent does not block others.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::transport::server::Connected;

use super::{
    reload,
    tls::{Tls, certificate_name},
};
use crate::server::observe::Metrics;

/// Pause after a failed `accept`, for example because the process has no file descriptors left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The settings for accepting connections.
#[derive(Clone)]
pub struct ListenConfig {
    /// The TLS configuration. `None` accepts unencrypted connections.
    pub tls: Option<Tls>,
    /// Maximum number of open connections. Further ones are closed at once.
    pub max_connections: usize,
    /// Maximum duration of a TLS handshake.
    pub handshake_timeout: Duration,
    /// Time between checks for changed certificates.
    pub reload_interval: Duration,
    /// The metrics that count connections.
    pub metrics: Metrics,
}

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// `certificate:NAME` if the client presented a certificate, otherwise its IP address.
    pub name: Arc<str>,
}

/// An accepted connection. Counts against the limit until it is dropped.
pub struct AcceptedConnection {
    stream: Transport,
    peer: Peer,
    _guard: ConnectionGuard,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

struct ConnectionGuard {
    _permit: OwnedSemaphorePermit,
    metrics: Metrics,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

/// Returns the connections that arrive at a socket. Accepting stops when the stream is dropped.
///
/// # Panics
/// Panics if called outside a Tokio runtime.
pub fn incoming(
    listener: TcpListener,
    config: ListenConfig,
) -> impl Stream<Item = io::Result<AcceptedConnection>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let watching = async {
            match config.tls.clone() {
                Some(tls) => reload::watch(tls, config.reload_interval).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = accept(listener, &config, sender.clone()) => {}
            () = watching => {}
            () = sender.closed() => {}
        }
    });
    ReceiverStream::new(receiver)
}

async fn accept(
    listener: TcpListener,
    config: &ListenConfig,
    sender: mpsc::Sender<io::Result<AcceptedConnection>>,
) {
    let permits = Arc::new(Semaphore::new(config.max_connections));
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors or memory, or the peer already disconnected: never a reason to stop.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            config.metrics.connections_refused.inc();
            tracing::debug!(limit = config.max_connections, "closed a connection over the limit");
            continue;
        };
        config.metrics.connections.inc();
        let guard = ConnectionGuard { _permit: permit, metrics: config.metrics.clone() };
        let (config, sender) = (config.clone(), sender.clone());
        tokio::spawn(async move {
            let handshake =
                tokio::time::timeout(config.handshake_timeout, handshake(stream, address, &config, guard));
            match handshake.await {
                Ok(Ok(connection)) => drop(sender.send(Ok(connection)).await),
                Ok(Err(error)) => tracing::debug!(%error, %address, "handshake failed"),
                Err(_) => tracing::debug!(%address, "handshake timed out"),
            }
        });
    }
}

/// Performs the TLS handshake, if TLS is on, and identifies the peer.
async fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    config: &ListenConfig,
    guard: ConnectionGuard,
) -> io::Result<AcceptedConnection> {
    stream.set_nodelay(true)?;
    let mut name = address.ip().to_canonical().to_string();
    let stream = match &config.tls {
        None => Transport::Plain(stream),
        Some(tls) => {
            let stream = tls.acceptor().accept(stream).await?;
            let presented = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            if let Some(certificate) = presented {
                name = format!("certificate:{}", certificate_name(certificate));
            }
            Transport::Tls(Box::new(stream))
        }
    };
    Ok(AcceptedConnection { stream, peer: Peer { name: name.into() }, _guard: guard })
}

impl Connected for AcceptedConnection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for AcceptedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for AcceptedConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, data),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, data),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(context, data),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, data),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
