//! A connection to a server in the same process, over memory instead of a socket.

use std::io;

use futures::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::{io::DuplexStream, sync::mpsc};
use tonic::transport::{Endpoint, Uri};

use super::Client;

/// Bytes that wait in each direction of the connection.
const BUFFER_BYTES: usize = 256 << 10;

/// A client, and the connections that it makes, to be served by a server in this process.
pub struct InProcess<I> {
    /// The client; it connects when it is first used.
    pub client: Client,
    /// The server's ends.
    pub incoming: I,
}

/// Makes a client whose connections come out of a stream.
pub fn in_process() -> InProcess<impl Stream<Item = io::Result<DuplexStream>> + Send + 'static> {
    let (sender, receiver) = mpsc::channel::<DuplexStream>(1);
    let connector = tower::service_fn(move |_: Uri| {
        let sender = sender.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
            let gone =
                |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the server in this process has ended");
            sender.send(theirs).await.map_err(gone)?;
            Ok::<_, io::Error>(TokioIo::new(ours))
        }
    });
    // The address is never resolved; gRPC only needs one to name.
    let channel = Endpoint::from_static("http://in-process").connect_with_connector_lazy(connector);
    let incoming = tokio_stream::wrappers::ReceiverStream::new(receiver).map(Ok);
    InProcess { client: Client::new(channel), incoming }
}
