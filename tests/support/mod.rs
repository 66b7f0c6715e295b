//! What several tests need: a tiny model file, a scripted model, and a running server.
#![allow(dead_code, unreachable_pub, reason = "every test takes what it needs")]

pub mod batch;
pub mod keys;
#[cfg(unix)]
pub mod program;
pub mod proxy;
pub mod raw_codec;
pub mod scripted;
pub mod serving;
pub mod tiny_gguf;

/// The real newspaper page.
pub const PAGE: &str = include_str!("../data/people-daily-2025-12-06.txt");

/// Waits for what must come; a test that waits in vain fails and does not hang.
pub async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), wait)
        .await
        .expect("it did not come within a minute");
}
