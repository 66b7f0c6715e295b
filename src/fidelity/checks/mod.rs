//! The checks that look at an output as a whole: chatter, loops, length, and required terms.
//!
//! Called by `check`. The checks of numbers and names have modules of their own.

mod chatter;
mod coverage;
mod loops;
mod terms;

pub(super) use chatter::chatter;
pub(super) use coverage::coverage;
pub(super) use loops::repeated_phrase;
pub use terms::RequiredTerm;
pub(super) use terms::align_terms;
