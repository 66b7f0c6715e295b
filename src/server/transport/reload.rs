//! Reloads certificates and tokens when their files change, without a restart.
//!
//! Compares contents and not modification times: a mounted secret is replaced by repointing a symbolic link, which
//! changes no time. If the new files are not valid, logs an error and keeps what is in force.

use std::{path::PathBuf, time::Duration};

/// A value that is read from files.
pub(in crate::server) trait Reload: Send + 'static {
    /// Returns what the files contain, for the log.
    fn description(&self) -> &'static str;
    /// Returns the paths of the files.
    fn files(&self) -> Vec<PathBuf>;
    /// Replaces the value with the current contents of the files, or returns why that is not possible.
    fn reload(&self) -> Result<(), String>;
}

/// Polls the files for changes. Never completes.
pub(in crate::server) async fn watch(target: impl Reload, interval: Duration) {
    let mut last = contents(&target);
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let current = contents(&target);
        if current == last {
            continue;
        }
        last = current;
        match target.reload() {
            Ok(()) => tracing::info!(what = target.description(), "reloaded changed files"),
            Err(reason) => {
                tracing::error!(
                    what = target.description(),
                    reason,
                    "the changed files are not valid; the previous ones stay in force"
                );
            }
        }
    }
}

fn contents(target: &impl Reload) -> Vec<Option<Vec<u8>>> {
    target.files().into_iter().map(|path| std::fs::read(path).ok()).collect()
}
