//! The harness that the integration tests share: a tiny model file, a scripted model, and servers in this process and in
//! others.
#![allow(dead_code, unreachable_pub, reason = "each test program uses only a part of it")]

pub mod batch;
pub mod keys;
#[cfg(unix)]
pub mod program;
pub mod proxy;
pub mod raw_codec;
pub mod scripted;
pub mod serving;
pub mod tiny_gguf;

/// A real newspaper page.
pub const PAGE: &str = include_str!("../data/people-daily-2025-12-06.txt");

/// Waits until a condition holds; panics after a minute.
pub async fn wait_until(condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), poll)
        .await
        .expect("the condition did not hold within a minute");
}
