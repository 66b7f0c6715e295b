//! The checks that compare neither numbers nor names: chatter, loops, length and required terms.
//!
//! Called by `check`.

mod chatter;
mod coverage;
mod loops;
mod terms;

pub(super) use chatter::chatter;
pub(super) use coverage::coverage;
pub(super) use loops::repeated_phrase;
pub(super) use terms::align_terms;
pub use terms::{RequiredTerm, Requirement};
