//! The errors of the client, worded for its user.

use std::error::Error as _;

/// The error returned by a call or a connection attempt.
///
/// The messages include their causes and `source` returns none, so printing the whole chain repeats nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address does not parse.
    #[error("`{address}` is not a server address; expected http://HOST:PORT or https://HOST:PORT")]
    Address {
        /// The address that was given.
        address: String,
        /// The underlying error.
        cause: tonic::transport::Error,
    },
    /// The token cannot be sent in a header.
    #[error("the token contains characters that are not allowed in an HTTP header")]
    Token,
    /// The certificates cannot be used.
    #[error("the certificates for {address} cannot be used: {}", root_cause(.source))]
    Tls {
        /// The address of the server.
        address: String,
        /// The underlying error.
        source: tonic::transport::Error,
    },
    /// The connection failed.
    #[error("cannot connect to {address} ({}); is `yizhai serve` running there?", root_cause(.cause))]
    Unreachable {
        /// The address of the server.
        address: String,
        /// The underlying error.
        cause: tonic::transport::Error,
    },
    /// The server refused the call or failed, or the connection broke.
    #[error("{}", describe(.0))]
    Status(tonic::Status),
    /// Two servers of a pool would produce different results.
    #[error(
        "{first} and {second} run different models or prompts; all servers of a run must run the same ones"
    )]
    DifferentModels {
        /// One of the servers.
        first: String,
        /// A server that differs from it.
        second: String,
    },
    /// No server of a pool has been ready for too long.
    #[error("no server has been ready for {} s; the last error was: {last_error}", .waited.as_secs())]
    NoServerReady {
        /// The time without a ready server.
        waited: std::time::Duration,
        /// The last error of any server.
        last_error: String,
    },
    /// The server ended a stream before it was complete.
    #[error("the server closed the stream before {0} was complete")]
    StreamClosed(&'static str),
}

impl From<tonic::Status> for ClientError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(status)
    }
}

/// Returns the innermost cause, which is the most specific one.
fn root_cause(error: &tonic::transport::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn describe(status: &tonic::Status) -> String {
    // A status that the server sent has details. One with a source was created on this side.
    let is_connection_error = status.details().is_empty() && status.source().is_some();
    match status.code() {
        tonic::Code::OutOfRange => format!("the server rejects messages of this size ({})", status.message()),
        _ if is_connection_error => "lost the connection to the server; is it still running?".to_owned(),
        _ => status.message().to_owned(),
    }
}
