//! Between the API's messages and the domain's types.

mod message;
mod request;

pub(super) use message::{add, document_message, finding_kind, outcome_message, place, running_message};
pub use request::{MAX_ATTEMPTS, NO_GLOSSARY, SUMMARY_CHARS};
pub(super) use request::{check_id, check_tasks, chosen, document, job, request_id};
