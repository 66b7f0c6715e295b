//! Forwards a response stream to the client from a task of its own, and cancels it when the client stops reading.
//!
//! HTTP/2 stops polling a stream that nobody reads. Without a separate task, the work would be suspended with its permit
//! and its sequences for as long as the client likes.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::Instrument as _;

use crate::server::status::Refusal;

/// The response of a streaming call.
pub(super) type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The number of messages that are produced before the client reads them.
const BUFFERED_MESSAGES: usize = 4;

/// Runs `messages` in a task that keeps `held` alive (the permit and the byte reservation), until the messages end, the
/// client disconnects, or the client reads nothing for `stall_timeout`.
pub(super) fn forward<T: Send + 'static>(
    messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
    held: impl Send + 'static,
    stall_timeout: Duration,
    request_id: String,
) -> ResponseStream<T> {
    let (sender, receiver) = mpsc::channel(BUFFERED_MESSAGES);
    let stalled = Arc::new(AtomicBool::new(false));
    let has_stalled = stalled.clone();
    let run = async move {
        let _held = held;
        let mut messages = pin!(messages);
        loop {
            let message = tokio::select! {
                biased;
                () = sender.closed() => return,
                message = messages.next() => message,
            };
            let Some(message) = message else { return };
            match tokio::time::timeout(stall_timeout, sender.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    tracing::warn!("cancelled the work because the client stopped reading");
                    stalled.store(true, Ordering::Release);
                    return;
                }
            }
        }
    };
    tokio::spawn(run.in_current_span());
    let end = stream::once(async move {
        let refusal = Refusal::ReaderTooSlow(stall_timeout);
        has_stalled.load(Ordering::Acquire).then(|| Err(refusal.status(&request_id)))
    });
    Box::pin(ReceiverStream::new(receiver).chain(end.filter_map(std::future::ready)))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn cancels_the_work_if_the_client_stops_reading() {
        let dropped = Arc::new(());
        let alive = Arc::downgrade(&dropped);
        let endless = stream::repeat_with(move || {
            let _owned = &dropped;
            Ok(0u8)
        });
        let response = forward(endless, (), Duration::from_millis(10), String::new());
        while alive.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let rest: Vec<_> = response.collect().await;
        assert_eq!(rest.len(), BUFFERED_MESSAGES + 1);
        assert_eq!(rest.last().unwrap().as_ref().unwrap_err().code(), Code::Aborted);
    }
}
