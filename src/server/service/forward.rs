//! From work to a reader: a stream that runs by itself and is given up when nobody takes what it makes.
//!
//! HTTP/2 stops asking for data when a reader does not read. Without a task of its own the work would then stand
//! still with its place and its sequences for as long as the reader likes.

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

/// What a streaming call answers with.
pub(in crate::server) type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Messages that are made ahead of the reader.
const AHEAD: usize = 4;

/// Runs `messages` in a task that holds on to `held` (place and room), until they end, the reader goes, or it takes nothing for `patience`.
pub(in crate::server) fn forward<T: Send + 'static>(
    messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
    held: impl Send + 'static,
    patience: Duration,
    request_id: String,
) -> ResponseStream<T> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let stalled = Arc::new(AtomicBool::new(false));
    let told = stalled.clone();
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
            match tokio::time::timeout(patience, sender.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    tracing::warn!("the reader took nothing; its work is given up");
                    stalled.store(true, Ordering::Release);
                    return;
                }
            }
        }
    };
    tokio::spawn(run.in_current_span());
    let end = stream::once(async move {
        let refusal = Refusal::Stalled(patience);
        told.load(Ordering::Acquire).then(|| Err(refusal.status(&request_id)))
    });
    Box::pin(ReceiverStream::new(receiver).chain(end.filter_map(std::future::ready)))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn work_for_a_reader_that_takes_nothing_is_given_up() {
        let dropped = Arc::new(());
        let alive = Arc::downgrade(&dropped);
        let endless = stream::repeat_with(move || {
            let _owned = &dropped;
            Ok(0u8)
        });
        let answer = forward(endless, (), Duration::from_millis(10), String::new());
        while alive.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let rest: Vec<_> = answer.collect().await;
        assert_eq!(rest.len(), AHEAD + 1);
        assert_eq!(rest.last().unwrap().as_ref().unwrap_err().code(), Code::Aborted);
    }
}
