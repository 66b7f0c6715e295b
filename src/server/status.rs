//! Errors as gRPC statuses with google.rpc details: one exhaustive match for each kind of error.

use std::{collections::HashMap, time::Duration};

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{document::DocumentError, engine::SubmitError, pipeline::PipelineError};

/// The domain of every ErrorInfo.
const DOMAIN: &str = "yizhai.v1";
/// When to come back to a server that is full.
const RETRY_WHEN_FULL: Duration = Duration::from_secs(1);
/// When to come back to a server whose model is loading or that is about to end.
const RETRY_WHEN_UNAVAILABLE: Duration = Duration::from_secs(2);

/// Why a request is refused before any work is done on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{field}: {reason}")]
    Field { field: String, reason: String },
    #[error("{0}")]
    Document(#[from] DocumentError),
    #[error("the model `{asked}` is not running here; this server runs `{running}`")]
    UnknownModel { asked: String, running: String },
    #[error("this server holds no glossary named `{0}`")]
    UnknownGlossary(String),
    #[error("the message is larger than {limit} bytes, which is this server's limit; split it")]
    MessageTooLarge { limit: usize },
    #[error("the message is malformed: {0}")]
    Malformed(String),
    #[error("the message did not arrive within {0:?}")]
    TooSlow(Duration),
    #[error("nothing was read of the answer for {0:?}; the rest was given up")]
    Stalled(Duration),
    #[error("the deadline passed while the request waited for its turn")]
    DeadlineInQueue,
    #[error("the deadline passed; what was finished has been sent")]
    Deadline,
    #[error(
        "{limit} requests are being worked on and {queued} wait, which is this server's limit; try again"
    )]
    TooManyRequests { limit: usize, queued: usize },
    #[error("all requests together hold more than {limit} bytes, which is this server's limit; try again")]
    TooManyBytes { limit: usize },
    #[error("{limit} of your requests are being worked on or wait, which is your limit; try again")]
    ClientBusy { limit: usize },
    #[error("you may send {limit} requests in a minute; try again")]
    ClientTooFast { limit: u32, retry_after: Duration },
    #[error("a stream may hold {limit} items; send the rest in another one")]
    TooManyItems { limit: usize },
    #[error("this server wants a token: send `authorization: Bearer TOKEN`")]
    NoToken,
    #[error("the token is not one of this server's")]
    WrongToken,
    #[error("the token `{name}` may not call {rpc}")]
    NotAllowed { name: String, rpc: String },
    #[error("pages of {0} may not call this server")]
    Origin(String),
    #[error("the model is being loaded; try again")]
    Loading,
    #[error("the server is about to end; try again")]
    Draining,
    #[error("the model could not be started or has failed; the server's log says why")]
    Broken,
}

impl Refusal {
    /// A field that is missing or holds what it must not.
    pub(super) fn field(field: &str, reason: impl Into<String>) -> Self {
        Self::Field { field: field.to_owned(), reason: reason.into() }
    }

    /// The status, with details.
    pub(super) fn status(&self, request_id: &str) -> Status {
        let mut details = ErrorDetails::new();
        let (code, reason) = match self {
            Self::Field { field, reason } => {
                details.add_bad_request_violation(field, reason);
                (Code::InvalidArgument, "INVALID_FIELD")
            }
            Self::Document(error) => {
                details.add_bad_request_violation("input", error.to_string());
                (Code::InvalidArgument, document_reason(error))
            }
            Self::UnknownModel { asked, .. } => {
                details.set_resource_info("model", asked, "", self.to_string());
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
            Self::TooSlow(_) => (Code::DeadlineExceeded, "MESSAGE_TOO_SLOW"),
            Self::Stalled(_) => (Code::Aborted, "READER_TOO_SLOW"),
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
            Self::NotAllowed { name, .. } => {
                details.set_resource_info("token", name, "", self.to_string());
                (Code::PermissionDenied, "RPC_NOT_ALLOWED")
            }
            Self::Origin(_) => (Code::PermissionDenied, "ORIGIN_NOT_ALLOWED"),
            Self::Loading => {
                details.set_retry_info(Some(RETRY_WHEN_UNAVAILABLE));
                (Code::Unavailable, "MODEL_LOADING")
            }
            Self::Draining => {
                details.set_retry_info(Some(RETRY_WHEN_UNAVAILABLE));
                (Code::Unavailable, "DRAINING")
            }
            Self::Broken => (Code::Internal, "ENGINE_FAILED"),
        };
        with_info(code, self.to_string(), details, reason, request_id)
    }
}

/// The status of a failed section or job.
pub(super) fn pipeline_status(error: &PipelineError, request_id: &str) -> Status {
    let (code, reason) = match error {
        PipelineError::Deadline => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        PipelineError::Submit(SubmitError::TooLong { .. } | SubmitError::SourceTooLong { .. }) => {
            (Code::InvalidArgument, "PROMPT_TOO_LONG")
        }
        PipelineError::Submit(SubmitError::Empty | SubmitError::Stopped(_))
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

/// The same status as a message, to stand inside an answer.
pub fn to_rpc_status(status: &Status) -> tonic_types::pb::Status {
    let plain = || tonic_types::pb::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    };
    // The details of a status that was made here are its serialized message. Without any, nothing would decode as OK.
    if status.details().is_empty() {
        return plain();
    }
    tonic_types::pb::Status::decode(status.details()).unwrap_or_else(|_| plain())
}

/// The status that a message stands for.
pub(super) fn from_rpc_status(status: &tonic_types::pb::Status) -> Status {
    let details = status.encode_to_vec();
    Status::with_details(Code::from_i32(status.code), status.message.clone(), details.into())
}
