//! The model that the server runs: the slot that holds it, and the supervisor that keeps the slot filled.
//!
//! `service` takes the pipeline from the slot for every request; `observe` reports its readiness.

mod slot;
mod supervise;

pub use slot::{ModelSlot, Readiness};
pub use supervise::{RestartPolicy, supervise};
