//! The subcommands, one module each.

pub(super) mod bench;
pub(super) mod digest;
pub(super) mod eval;
pub(super) mod manual;
pub(super) mod models;
pub(super) mod segment;
pub(super) mod serve;
