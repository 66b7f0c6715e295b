//! Classifies single texts: bylines, captions, credits, page furniture, titles, and the seam between two lines.
//!
//! `blocks` and `assemble` ask these questions about lines and paragraphs. Nothing here looks at the surrounding page.

pub(crate) mod byline;
pub(crate) mod caption;
pub(crate) mod chars;
pub(crate) mod credit;
pub(crate) mod furniture;
pub(crate) mod marks;
pub(crate) mod seam;
pub(crate) mod title;
pub(crate) mod topic;
