//! A request's body that must arrive in time: a client that sends a byte a minute holds no place.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::{Status, body::Body};

use super::status::Refusal;

/// A body with a bound on the time that the server waits for it.
pub(super) struct SlowBody {
    inner: Body,
    limit: Duration,
    /// Whether every frame has the whole time; otherwise all of them together.
    each_frame: bool,
    /// Runs while the server waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl SlowBody {
    pub(super) fn new(inner: Body, limit: Duration, each_frame: bool) -> Self {
        Self { inner, limit, each_frame, timer: None }
    }
}

impl HttpBody for SlowBody {
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
            return Poll::Ready(frame);
        }
        let limit = this.limit;
        let timer =
            this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(Refusal::TooSlow(limit).status(""))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
