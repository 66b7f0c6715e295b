//! The socket: accepts connections up to a bound, shakes hands, and says who is at the other end.
//!
//! Handshakes run beside each other and end in time, so that nobody who connects and says nothing keeps others out.

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

/// How long to wait when the system has no socket left.
const PAUSE_WITHOUT_SOCKETS: Duration = Duration::from_millis(100);

/// How connections are taken.
#[derive(Clone)]
pub struct ListenConfig {
    /// The keys; `None` takes connections in the clear.
    pub tls: Option<Tls>,
    /// The most connections; more are closed at once.
    pub max_connections: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// How often the keys are looked at for changes.
    pub reload_interval: Duration,
    /// Where connections are counted.
    pub metrics: Metrics,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// `certificate:` and the name in its certificate, when it showed one; its address otherwise.
    pub name: Arc<str>,
}

/// A connection that was accepted. It counts until it is dropped.
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

/// The connections that arrive at a socket. Must be called within a runtime; ends when the stream is dropped.
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
    let places = Arc::new(Semaphore::new(config.max_connections));
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of sockets or memory, or a peer that has gone again: never a reason to end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE_WITHOUT_SOCKETS).await;
                continue;
            }
        };
        let Ok(permit) = places.clone().try_acquire_owned() else {
            config.metrics.connections_refused.inc();
            tracing::debug!(limit = config.max_connections, "a connection over the limit was closed");
            continue;
        };
        config.metrics.connections.inc();
        let guard = ConnectionGuard { _permit: permit, metrics: config.metrics.clone() };
        let (config, sender) = (config.clone(), sender.clone());
        tokio::spawn(async move {
            let shaken =
                tokio::time::timeout(config.handshake_timeout, shake(stream, address, &config, guard));
            match shaken.await {
                Ok(Ok(connection)) => drop(sender.send(Ok(connection)).await),
                Ok(Err(error)) => tracing::debug!(%error, %address, "a handshake failed"),
                Err(_) => tracing::debug!(%address, "a handshake took too long"),
            }
        });
    }
}

async fn shake(
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
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            if let Some(certificate) = shown {
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
