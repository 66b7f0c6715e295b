//! Checks on the output of a model: pure functions over a source and an output.
//!
//! ```text
//! source, output ─check─▶ Verdict (findings, counts, score)
//!                  ├─ checks: chatter, loops, length, required terms
//!                  ├─ numerals: quantities of both languages, compared by value
//!                  └─ names: names that the source does not explain
//! ```
//! Called by `pipeline`, which decides what to do about a finding. Knows neither models nor prompts nor
//! documents.

mod check;
mod checks;
mod evidence;
mod finding;
mod han;
mod names;
pub mod numerals;
mod verdict;

pub use check::{check_summary, check_translation};
pub use checks::{RequiredTerm, Requirement};
pub use evidence::{sentences_like, supporting_sentences};
pub use finding::{Finding, FindingKind};
pub use names::Renderings;
pub use verdict::{Alignment, AlignmentKind, NumberCounts, Score, TermCounts, Verdict};
