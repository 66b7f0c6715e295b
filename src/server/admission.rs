//! How much the server takes on: one semaphore for the whole process, and the sizes of requests.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::status::Refusal;

/// The bounds on requests. Over one of them a request is refused at once, naming the bound.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest page or article, in bytes.
    pub max_page_bytes: usize,
    /// The most sections of one request.
    pub max_sections: usize,
    /// The most requests that are worked on at once, over all connections.
    pub max_requests: usize,
    /// The most items of one DigestMany call that are worked on at once.
    pub max_items_in_flight: usize,
    /// The most terms of one request.
    pub max_terms: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_page_bytes: crate::document::Limits::default().max_bytes,
            max_sections: 10_000,
            max_requests: 64,
            max_items_in_flight: 8,
            max_terms: 10_000,
        }
    }
}

impl Limits {
    /// The largest message: a page and what may stand beside it. Larger ones are refused by the transport.
    pub(super) fn max_message_bytes(&self) -> usize {
        self.max_page_bytes.saturating_mul(2).max(4 << 20)
    }
}

/// Lets requests in while there is room.
#[derive(Clone)]
pub(super) struct Admission {
    permits: Arc<Semaphore>,
    max_requests: usize,
}

impl Admission {
    pub(super) fn new(max_requests: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(max_requests)), max_requests }
    }

    /// A permit to be held as long as the request is worked on.
    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.permits
            .clone()
            .try_acquire_owned()
            .map_err(|_| Refusal::TooManyRequests { limit: self.max_requests })
    }
}
