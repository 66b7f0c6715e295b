//! The session with one server: connects, checks that the server runs what the others run, and exchanges items and
//! responses over one DigestMany call. Starts a new session after a failure.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::StreamExt;
use tokio::sync::mpsc;

use super::{super::ClientError, PoolMember};
use crate::pb;

/// The first delay before a new session. Later delays grow up to [`MAX_RECONNECT_DELAY`].
const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(250);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(15);

/// A message from a session to the dispatcher.
pub(super) enum SessionEvent {
    /// The server is ready and accepts requests over this channel.
    Up(mpsc::Sender<pb::DigestManyRequest>),
    /// The server answered an item.
    Response(pb::DigestManyResponse),
    /// The session ended, for this reason.
    Down(String),
}

/// Keeps a session with one server open until the dispatcher is gone. `index` identifies the server in its events.
pub(super) async fn maintain(
    index: usize,
    member: PoolMember,
    expected: pb::Provenance,
    window: usize,
    events: mpsc::Sender<(usize, SessionEvent)>,
) {
    let policy = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(MIN_RECONNECT_DELAY)
        .with_max_delay(MAX_RECONNECT_DELAY)
        .without_max_times();
    let mut delays = policy.build();
    loop {
        let (was_useful, reason) = run(index, &member, &expected, window, &events).await;
        if events.send((index, SessionEvent::Down(reason))).await.is_err() {
            return;
        }
        if was_useful {
            delays = policy.build();
        }
        let delay = delays.next().unwrap_or(MAX_RECONNECT_DELAY);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = events.closed() => return,
        }
    }
}

/// Runs one session. Returns `true` if the server answered anything, and the reason why the session ended.
async fn run(
    index: usize,
    member: &PoolMember,
    expected: &pb::Provenance,
    window: usize,
    events: &mpsc::Sender<(usize, SessionEvent)>,
) -> (bool, String) {
    let client = match member.connect().await {
        Ok((client, Some(running))) if running == *expected => client,
        Ok((_, Some(_))) => {
            let reason = "it now runs a different model or different prompts, so it gets no inputs";
            return (false, reason.to_owned());
        }
        Ok((_, None)) => return (false, "it is not ready".to_owned()),
        Err(error) => return (false, error.to_string()),
    };
    let (sender, requests) = mpsc::channel(window);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut responses = match client.digest_many(requests).await {
        Ok(responses) => responses,
        Err(error) => return (false, error.to_string()),
    };
    let mut was_useful = false;
    if events.send((index, SessionEvent::Up(sender))).await.is_err() {
        return (was_useful, String::new());
    }
    loop {
        match responses.next().await {
            Some(Ok(response)) => {
                was_useful = true;
                if events.send((index, SessionEvent::Response(response))).await.is_err() {
                    return (was_useful, String::new());
                }
            }
            Some(Err(status)) => return (was_useful, ClientError::from(status).to_string()),
            None => return (was_useful, "the server ended the stream".to_owned()),
        }
    }
}
