//! A connection to a server in the same process, over memory instead of a socket.

use std::io;

use futures::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::{io::DuplexStream, sync::mpsc};
use tonic::transport::{Endpoint, Uri};

use super::Client;

/// The size of the buffer in each direction of a connection, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// A client and the server's ends of its connections.
pub struct InProcess<I> {
    /// The client. It connects on first use.
    pub client: Client,
    /// The server's ends of the connections, to be passed to a server as incoming connections.
    pub incoming: I,
}

/// Creates a client whose connections are served in this process.
pub fn in_process() -> InProcess<impl Stream<Item = io::Result<DuplexStream>> + Send + 'static> {
    let (sender, receiver) = mpsc::channel::<DuplexStream>(1);
    let connector = tower::service_fn(move |_: Uri| {
        let sender = sender.clone();
        async move {
            let (client_end, server_end) = tokio::io::duplex(BUFFER_BYTES);
            let stopped =
                |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the in-process server has stopped");
            sender.send(server_end).await.map_err(stopped)?;
            Ok::<_, io::Error>(TokioIo::new(client_end))
        }
    });
    // gRPC needs an address, but this one is never resolved.
    let channel = Endpoint::from_static("http://in-process").connect_with_connector_lazy(connector);
    let incoming = tokio_stream::wrappers::ReceiverStream::new(receiver).map(Ok);
    InProcess { client: Client::new(channel), incoming }
}
