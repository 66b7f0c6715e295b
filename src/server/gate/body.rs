//! A request body that must arrive in time and within the byte budget.
//!
//! A client that sends one byte a minute cannot hold a permit, and many large bodies together cannot exceed the memory
//! that admission allows.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::{Status, body::Body};

use super::admission::ByteReservation;
use crate::server::status::Refusal;

/// A body that fails if the client is too slow or the byte budget is exhausted.
pub(in crate::server) struct BoundedBody {
    inner: Body,
    reservation: Arc<ByteReservation>,
    timeout: Duration,
    /// Every frame has the whole timeout. Otherwise all frames share it.
    each_frame: bool,
    /// Runs while the server waits for the client.
    timer: Option<Pin<Box<Sleep>>>,
}

impl BoundedBody {
    pub(in crate::server) fn new(
        inner: Body,
        reservation: Arc<ByteReservation>,
        timeout: Duration,
        each_frame: bool,
    ) -> Self {
        Self { inner, reservation, timeout, each_frame, timer: None }
    }
}

impl HttpBody for BoundedBody {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
            if this.each_frame {
                this.timer = None;
            }
            let bytes = frame.iter().flatten().filter_map(Frame::data_ref).map(|data| data.len()).sum();
            return Poll::Ready(match this.reservation.grow(bytes) {
                Ok(()) => frame,
                Err(refusal) => Some(Err(refusal.status(""))),
            });
        }
        let timeout = this.timeout;
        let timer =
            this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + timeout)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(Refusal::MessageTooSlow(timeout).status(""))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
