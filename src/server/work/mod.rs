//! The work of a request: one outcome for every section of a document, from the cache or from the pipeline.

mod cache;
mod digest_run;

pub use cache::{DiskError, ResultCache};
pub(in crate::server) use digest_run::{DigestRun, millis_since};
