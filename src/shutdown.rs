//! The signals that end the program.

/// Completes at the first SIGTERM or Ctrl-C. A second one, of either kind, ends the process at once.
pub async fn requested() {
    first_signal().await;
    tokio::spawn(async {
        first_signal().await;
        tracing::warn!("second signal: stopping at once");
        std::process::exit(130);
    });
}

#[cfg(unix)]
async fn first_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        // Without a handler for SIGTERM the system's own is in force, which ends the process.
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

#[cfg(not(unix))]
async fn first_signal() {
    drop(tokio::signal::ctrl_c().await);
}
