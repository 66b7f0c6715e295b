//! Maps errors to gRPC statuses with google.rpc details: one exhaustive match for each kind of error.

use std::{collections::HashMap, time::Duration};

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{document::DocumentError, engine::SubmitError, pipeline::PipelineError};

/// The domain of every ErrorInfo.
const DOMAIN: &str = "yizhai.v1";
/// The retry delay suggested by a server at one of its limits.
const RETRY_WHEN_FULL: Duration = Duration::from_secs(1);
/// The retry delay suggested while the model is loading or the server is shutting down.
const RETRY_WHEN_UNAVAILABLE: Duration = Duration::from_secs(2);

/// The reason why a request is refused or its stream ended, other than a failure of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{field}: {reason}")]
    InvalidField { field: String, reason: String },
    #[error("{0}")]
    Document(#[from] DocumentError),
    #[error("the model `{requested}` is not running on this server, which runs `{running}`")]
    UnknownModel { requested: String, running: String },
    #[error("this server has no glossary named `{0}`")]
    UnknownGlossary(String),
    #[error("the message exceeds this server's limit of {limit} bytes; split it")]
    MessageTooLarge { limit: usize },
    #[error("the message is malformed: {0}")]
    Malformed(String),
    #[error("the message did not arrive within {0:?}")]
    MessageTooSlow(Duration),
    #[error("the client read nothing for {0:?}; the remaining work was cancelled")]
    ReaderTooSlow(Duration),
    #[error("the deadline passed while the request was queued")]
    DeadlineInQueue,
    #[error("the deadline passed; everything finished before it has been sent")]
    Deadline,
    #[error("the server is at its limit of {limit} running and {queued} queued requests; try again later")]
    TooManyRequests { limit: usize, queued: usize },
    #[error("all requests together exceed this server's limit of {limit} bytes; try again later")]
    TooManyBytes { limit: usize },
    #[error("you are at your limit of {limit} running and queued requests; try again later")]
    ClientBusy { limit: usize },
    #[error("you are at your limit of {limit} requests per minute; try again later")]
    ClientTooFast { limit: u32, retry_after: Duration },
    #[error("a stream may contain at most {limit} items; send the others in another stream")]
    TooManyItems { limit: usize },
    #[error("this server requires a token; send `authorization: Bearer TOKEN`")]
    NoToken,
    #[error("this server does not accept the token")]
    WrongToken,
    #[error("the token `{name}` does not grant access to {rpc}")]
    RpcNotAllowed { name: String, rpc: &'static str },
    #[error("this server does not implement the RPC")]
    UnknownRpc,
    #[error("pages from {0} may not call this server")]
    OriginNotAllowed(String),
    #[error("the model is still loading; try again later")]
    Loading,
    #[error("the server is shutting down; try again later")]
    Draining,
    #[error("the model failed to start or stopped working; see the server's log")]
    EngineFailed,
}

impl Refusal {
    /// Returns the refusal of a field that is missing or not valid.
    pub(super) fn field(field: &str, reason: impl Into<String>) -> Self {
        Self::InvalidField { field: field.to_owned(), reason: reason.into() }
    }

    /// Returns the status to send, with details.
    pub(super) fn status(&self, request_id: &str) -> Status {
        let mut details = ErrorDetails::new();
        let (code, reason) = match self {
            Self::InvalidField { field, reason } => {
                details.add_bad_request_violation(field, reason);
                (Code::InvalidArgument, "INVALID_FIELD")
            }
            Self::Document(error) => {
                details.add_bad_request_violation("input", error.to_string());
                (Code::InvalidArgument, document_reason(error))
            }
            Self::UnknownModel { requested, .. } => {
                details.set_resource_info("model", requested, "", self.to_string());
                (Code::NotFound, "UNKNOWN_MODEL")
            }
            Self::UnknownGlossary(name) => {
                details.set_resource_info("glossary", name, "", self.to_string());
                (Code::NotFound, "UNKNOWN_GLOSSARY")
            }
            Self::MessageTooLarge { .. } => {
                details.add_bad_request_violation("message", self.to_string());
                (Code::InvalidArgument, "MESSAGE_TOO_LARGE")
            }
            Self::Malformed(_) => {
                details.add_bad_request_violation("message", self.to_string());
                (Code::InvalidArgument, "MALFORMED_MESSAGE")
            }
            Self::MessageTooSlow(_) => (Code::DeadlineExceeded, "MESSAGE_TOO_SLOW"),
            Self::ReaderTooSlow(_) => (Code::Aborted, "READER_TOO_SLOW"),
            Self::DeadlineInQueue | Self::Deadline => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            Self::TooManyRequests { .. } => {
                details.set_retry_info(Some(RETRY_WHEN_FULL));
                (Code::ResourceExhausted, "TOO_MANY_REQUESTS")
            }
            Self::TooManyBytes { .. } => {
                details.set_retry_info(Some(RETRY_WHEN_FULL));
                (Code::ResourceExhausted, "TOO_MANY_BYTES")
            }
            Self::ClientBusy { .. } => {
                details.set_retry_info(Some(RETRY_WHEN_FULL));
                (Code::ResourceExhausted, "CLIENT_BUSY")
            }
            Self::ClientTooFast { retry_after, .. } => {
                details.set_retry_info(Some(*retry_after));
                (Code::ResourceExhausted, "CLIENT_TOO_FAST")
            }
            Self::TooManyItems { .. } => {
                details.add_bad_request_violation("item_id", self.to_string());
                (Code::InvalidArgument, "TOO_MANY_ITEMS")
            }
            Self::NoToken => (Code::Unauthenticated, "NO_TOKEN"),
            Self::WrongToken => (Code::Unauthenticated, "WRONG_TOKEN"),
            Self::RpcNotAllowed { name, .. } => {
                details.set_resource_info("token", name, "", self.to_string());
                (Code::PermissionDenied, "RPC_NOT_ALLOWED")
            }
            Self::UnknownRpc => (Code::Unimplemented, "UNKNOWN_RPC"),
            Self::OriginNotAllowed(_) => (Code::PermissionDenied, "ORIGIN_NOT_ALLOWED"),
            Self::Loading => {
                details.set_retry_info(Some(RETRY_WHEN_UNAVAILABLE));
                (Code::Unavailable, "MODEL_LOADING")
            }
            Self::Draining => {
                details.set_retry_info(Some(RETRY_WHEN_UNAVAILABLE));
                (Code::Unavailable, "DRAINING")
            }
            Self::EngineFailed => (Code::Internal, "ENGINE_FAILED"),
        };
        with_info(code, self.to_string(), details, reason, request_id)
    }
}

/// Returns the status of a section or request that failed in the pipeline.
pub(super) fn pipeline_status(error: &PipelineError, request_id: &str) -> Status {
    let (code, reason) = match error {
        PipelineError::Deadline => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        PipelineError::Submit(SubmitError::TooLong { .. } | SubmitError::SourceTooLong { .. }) => {
            (Code::InvalidArgument, "PROMPT_TOO_LONG")
        }
        PipelineError::Submit(SubmitError::Empty | SubmitError::UnknownAdapter | SubmitError::Stopped(_))
        | PipelineError::Engine(_)
        | PipelineError::Model(_)
        | PipelineError::Tokenizer(_)
        | PipelineError::Start(_) => (Code::Internal, "ENGINE_FAILED"),
    };
    if code == Code::Internal {
        tracing::error!(request_id, %error, "a section failed");
    }
    with_info(code, error.to_string(), ErrorDetails::new(), reason, request_id)
}

fn document_reason(error: &DocumentError) -> &'static str {
    match error {
        DocumentError::Empty => "EMPTY_PAGE",
        DocumentError::TooLarge { .. } => "PAGE_TOO_LARGE",
        DocumentError::Undecodable { .. } => "UNDECODABLE_BYTES",
        DocumentError::InvalidRecord { .. } => "MALFORMED_RECORD",
    }
}

fn with_info(
    code: Code,
    message: String,
    mut details: ErrorDetails,
    reason: &str,
    request_id: &str,
) -> Status {
    let metadata = HashMap::from([("request_id".to_owned(), request_id.to_owned())]);
    details.set_error_info(reason, DOMAIN, metadata);
    Status::with_error_details(code, message, details)
}

/// Converts a status to the message that represents it inside an answer.
pub fn to_rpc_status(status: &Status) -> tonic_types::pb::Status {
    let plain = || tonic_types::pb::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    };
    // The details of a status with details are the serialized message. Empty details would decode as OK.
    if status.details().is_empty() {
        return plain();
    }
    tonic_types::pb::Status::decode(status.details()).unwrap_or_else(|_| plain())
}

/// Converts the message inside an answer back to a status.
pub(super) fn from_rpc_status(status: &tonic_types::pb::Status) -> Status {
    let details = status.encode_to_vec();
    Status::with_details(Code::from_i32(status.code), status.message.clone(), details.into())
}
