//! What can go wrong on the way to a server, in words for a person.

use std::error::Error as _;

/// Why a call failed. The messages hold their causes, so none is told twice by whoever prints the chain.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is no address.
    #[error("`{address}` is no server address; write it as http://HOST:PORT")]
    Address {
        /// What was given.
        address: String,
        /// Why it does not parse.
        cause: tonic::transport::Error,
    },
    /// The token holds what no header may.
    #[error("the token holds characters that no token may have")]
    Token,
    /// The certificates cannot be used.
    #[error("the certificates for {address} cannot be used ({})", root(.source))]
    Tls {
        /// Where to.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// Nobody listens there.
    #[error("no server can be reached at {address} ({}); is `yizhai serve` running there?", root(.cause))]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        cause: tonic::transport::Error,
    },
    /// The server refused or failed.
    #[error("{}", describe(.0))]
    Status(tonic::Status),
    /// Servers that are to share one run would not make the same results.
    #[error("{one} and {other} run different models or prompts; servers that share a run must run the same")]
    Different {
        /// One of them.
        one: String,
        /// Another one.
        other: String,
    },
    /// The servers were there, and then none of them for long.
    #[error("no server has been ready for {} s; the last word was: {last}", .waited.as_secs())]
    NoneLeft {
        /// How long was waited.
        waited: std::time::Duration,
        /// What was heard last.
        last: String,
    },
    /// The server ended a stream before it was complete.
    #[error("the server broke off before {0} was complete")]
    BrokenOff(&'static str),
}

impl From<tonic::Status> for ClientError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(status)
    }
}

/// The innermost cause, which says most.
fn root(error: &tonic::transport::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn describe(status: &tonic::Status) -> String {
    // What the server itself says has details; what has a source happened on the way.
    let on_the_way = status.details().is_empty() && status.source().is_some();
    match status.code() {
        tonic::Code::OutOfRange => format!("the server takes no message of this size ({})", status.message()),
        _ if on_the_way => "the connection to the server broke; is it still running?".to_owned(),
        _ => status.message().to_owned(),
    }
}
