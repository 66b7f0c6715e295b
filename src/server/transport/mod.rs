//! From a socket to HTTP/2: accepts connections, negotiates TLS, bounds what a connection may cost, and optionally
//! speaks gRPC-Web.
//!
//! Used by [`super::run`] and by `cli`, which opens the socket. Knows no RPC and no message.

mod http2;
mod listen;
pub(in crate::server) mod reload;
mod tls;
pub(in crate::server) mod web;

pub use http2::Http2;
pub use listen::{AcceptedConnection, ListenConfig, Peer, incoming};
pub use tls::{Tls, TlsError, TlsFiles};
pub use web::{Origin, OriginError};
