//! What a connection may do: the bounds of HTTP/2 that keep an abuser from costing more than it pays.

use std::time::Duration;

use tonic::transport::Server;

/// The most streams that the server may have reset for a peer's protocol errors before it closes the connection.
const MAX_LOCAL_ERROR_RESETS: usize = 256;

/// The bounds on a connection.
#[derive(Debug, Clone, Copy)]
pub struct Http2 {
    /// The most calls at once over one connection; a client waits with more.
    pub max_concurrent_streams: u32,
    /// The most bytes of a call's headers; with more the call is refused.
    pub max_header_list_bytes: u32,
    /// The most streams that a client may have reset before the server has taken them; with more the connection is
    /// closed (CVE-2023-44487, rapid reset).
    pub max_pending_reset_streams: usize,
    /// How often a silent connection is asked whether it is alive.
    pub keepalive_interval: Duration,
    /// How long its answer may take; then it is closed.
    pub keepalive_timeout: Duration,
    /// How long a connection is used; then the client is told to make a new one. `None` means as long as it likes.
    pub max_connection_age: Option<Duration>,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 128,
            max_header_list_bytes: 16 << 10,
            max_pending_reset_streams: 20,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            max_connection_age: None,
        }
    }
}

impl Http2 {
    /// A server with these bounds.
    pub(in crate::server) fn server(&self) -> Server {
        let server = Server::builder()
            .tcp_nodelay(true)
            .max_concurrent_streams(self.max_concurrent_streams)
            .http2_max_header_list_size(self.max_header_list_bytes)
            .http2_max_pending_accept_reset_streams(Some(self.max_pending_reset_streams))
            .http2_max_local_error_reset_streams(Some(MAX_LOCAL_ERROR_RESETS))
            .http2_keepalive_interval(Some(self.keepalive_interval))
            .http2_keepalive_timeout(Some(self.keepalive_timeout));
        match self.max_connection_age {
            Some(age) => server.max_connection_age(age),
            None => server,
        }
    }
}
