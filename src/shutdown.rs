//! The signals that end the program: SIGTERM and Ctrl-C.
//!
//! `cli` waits for [`requested`] and then drains the server.

/// Completes at the first SIGTERM or Ctrl-C. A second signal of either kind ends the process at once.
pub async fn requested() {
    let mut signals = Signals::listen();
    signals.next().await;
    // The same listener waits for the second signal, so none is missed in between.
    tokio::spawn(async move {
        signals.next().await;
        tracing::warn!("received a second signal; exiting without draining");
        std::process::exit(130);
    });
}

#[cfg(unix)]
struct Signals {
    terminate: Option<tokio::signal::unix::Signal>,
    interrupt: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    /// Installs the signal handlers. A signal whose handler cannot be installed keeps its default action, which ends the
    /// process.
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self {
            terminate: signal(SignalKind::terminate()).ok(),
            interrupt: signal(SignalKind::interrupt()).ok(),
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            () = received(&mut self.terminate) => {}
            () = received(&mut self.interrupt) => {}
        }
    }
}

#[cfg(unix)]
async fn received(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Self {
        Self
    }

    async fn next(&mut self) {
        drop(tokio::signal::ctrl_c().await);
    }
}
