//! The HTTP/2 limits on a connection, which keep a hostile client from using more resources than it spends itself.

use std::time::Duration;

use tonic::transport::Server;

/// Maximum number of streams that the server resets because of a client's protocol errors before it closes the
/// connection.
const MAX_LOCAL_ERROR_RESETS: usize = 256;

/// The limits on a connection.
#[derive(Debug, Clone, Copy)]
pub struct Http2 {
    /// Maximum number of concurrent calls over one connection. A client delays further calls.
    pub max_concurrent_streams: u32,
    /// Maximum size of a call's headers, in bytes. A call with more is refused.
    pub max_header_list_bytes: u32,
    /// Maximum number of streams that a client may have reset before the server accepted them. With more, the connection
    /// is closed (CVE-2023-44487, rapid reset).
    pub max_pending_reset_streams: usize,
    /// Time between keepalive pings.
    pub keepalive_interval: Duration,
    /// Maximum time for the answer to a ping before the connection is closed.
    pub keepalive_timeout: Duration,
    /// Age at which the client is asked to open a new connection. `None` means no limit.
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
    /// Returns a server builder with these limits.
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
