//! What several tests need: a tiny model file, a scripted model, and a running server.
#![allow(dead_code, unreachable_pub, reason = "every test takes what it needs")]

pub mod batch;
pub mod proxy;
pub mod scripted;
pub mod serving;
pub mod tiny_gguf;

/// The real newspaper page.
pub const PAGE: &str = include_str!("../data/people-daily-2025-12-06.txt");
