//! Files that may change while the server runs: certificates and tokens are taken over without a restart.
//!
//! The files are read and compared, because a mounted secret is replaced by turning a link, which no time of a file
//! tells. What is broken is logged, and what was there stays in force.

use std::{path::PathBuf, time::Duration};

/// Something that is made of files.
pub(in crate::server) trait Reload: Send + 'static {
    /// What it is, for the log.
    fn what(&self) -> &'static str;
    /// The files.
    fn files(&self) -> Vec<PathBuf>;
    /// Takes over what the files hold now, or says why that is not possible.
    fn reload(&self) -> Result<(), String>;
}

/// Watches the files for as long as it is polled.
pub(in crate::server) async fn watch(target: impl Reload, interval: Duration) {
    let mut seen = contents(&target);
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = contents(&target);
        if now == seen {
            continue;
        }
        seen = now;
        match target.reload() {
            Ok(()) => tracing::info!(what = target.what(), "taken over from changed files"),
            Err(reason) => {
                tracing::error!(
                    what = target.what(),
                    reason,
                    "the changed files cannot be used; the old ones stay"
                );
            }
        }
    }
}

fn contents(target: &impl Reload) -> Vec<Option<Vec<u8>>> {
    target.files().into_iter().map(|path| std::fs::read(path).ok()).collect()
}
