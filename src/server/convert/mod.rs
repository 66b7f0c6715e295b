//! Conversion between the API's messages and the types of the domain.
//!
//! `request` validates requests and is the only place that does; `message` builds responses. Called by `service` and
//! `work`.

mod message;
mod request;

pub(super) use message::{
    add_section, document_message, finding_kind, outcome_message, running_message, set_position,
};
pub use request::{MAX_ATTEMPTS, NO_GLOSSARY, SUMMARY_CHARS};
pub(super) use request::{check_id, check_tasks, document, job, request_id, select_pipeline};
