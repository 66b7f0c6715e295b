//! How much the server takes on: one set of permits for the whole process, a queue before them, and a share
//! for each client. Asked by `gate` before the body of a request is read, so that memory stays flat however many
//! requests arrive.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{DefaultKeyedRateLimiter, Quota, clock::Clock as _, clock::DefaultClock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::deadline;
use crate::server::{observe::Metrics, status::Refusal};

/// After this many clients, those that were silent for a while are forgotten by the rate limit.
const FORGET_CLIENTS_ABOVE: usize = 10_000;

/// The bounds on requests. Over one of them a request is refused at once, naming the bound.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest page or article, in bytes.
    pub max_page_bytes: usize,
    /// The largest message, in bytes; `None` means twice the page and what may stand beside it.
    pub max_message_bytes: Option<usize>,
    /// The most bytes of all requests together that are being received or worked on.
    pub max_bytes_in_flight: usize,
    /// The most sections of one request.
    pub max_sections: usize,
    /// The most terms of one request.
    pub max_terms: usize,
    /// The most requests that are worked on at once, over all connections.
    pub max_requests: usize,
    /// The most requests that wait for a place, first come first served.
    pub max_queued: usize,
    /// The most requests of one client that are worked on or wait.
    pub max_requests_per_client: usize,
    /// The most requests of one client in a minute; `None` means any number.
    pub requests_per_minute: Option<NonZeroU32>,
    /// The most items of one DigestMany call that are worked on at once.
    pub max_items_in_flight: usize,
    /// The most items of one DigestMany call.
    pub max_items: usize,
    /// How long a message may take to arrive, and a stream of items may stay silent while the server waits for it.
    pub receive_timeout: Duration,
    /// How long a reader of a stream may take nothing before the work for it is given up.
    pub stall_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_page_bytes: crate::document::Limits::default().max_bytes,
            max_message_bytes: None,
            max_bytes_in_flight: 256 << 20,
            max_sections: 10_000,
            max_terms: 10_000,
            max_requests: 64,
            max_queued: 256,
            max_requests_per_client: 320,
            requests_per_minute: None,
            max_items_in_flight: 8,
            max_items: 100_000,
            receive_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// The largest message, in bytes.
    pub(crate) fn message_bytes(&self) -> usize {
        self.max_message_bytes.unwrap_or_else(|| self.max_page_bytes.saturating_mul(2).max(4 << 20))
    }
}

/// A caller, as far as quotas are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct Caller {
    /// The name of its token, of its certificate, or its address.
    pub(in crate::server) name: Arc<str>,
    /// Its own bound on requests in flight, if its token has one.
    pub(in crate::server) max_requests: Option<usize>,
    /// Its own bound on requests in a minute, if its token has one.
    pub(in crate::server) requests_per_minute: Option<NonZeroU32>,
}

/// Lets requests in while there is room; cheap to clone.
#[derive(Clone)]
pub(in crate::server) struct Admission {
    inner: Arc<Inner>,
}

struct Inner {
    limits: Limits,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Bytes of requests, in all rooms.
    bytes: AtomicUsize,
    /// Requests in flight of each client that has any.
    clients: Mutex<HashMap<Arc<str>, usize>>,
    /// One limiter for each rate that is in force: the server's, and those of tokens.
    rates: Mutex<HashMap<NonZeroU32, Arc<DefaultKeyedRateLimiter<Arc<str>>>>>,
    metrics: Metrics,
}

/// A place; free again when the last clone is dropped.
#[derive(Clone)]
pub(in crate::server) struct Permit {
    _held: Arc<HeldPermit>,
}

struct HeldPermit {
    _permit: OwnedSemaphorePermit,
    slot: CallerSlot,
}

/// One of a client's requests.
struct CallerSlot {
    admission: Admission,
    client: Arc<str>,
}

/// The memory that the messages of one call take up; free again when it is dropped.
pub(in crate::server) struct ByteReservation {
    admission: Admission,
    bytes: AtomicUsize,
}

/// One of the requests that wait.
struct QueuePosition<'a>(&'a Inner);

impl Admission {
    pub(in crate::server) fn new(limits: Limits, metrics: Metrics) -> Self {
        let inner = Inner {
            permits: Arc::new(Semaphore::new(limits.max_requests)),
            limits,
            waiting: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            clients: Mutex::default(),
            rates: Mutex::default(),
            metrics,
        };
        Self { inner: Arc::new(inner) }
    }

    /// A place to be held as long as the request is worked on. Waits for it while the queue has room, and no longer
    /// than to `deadline`.
    pub(in crate::server) async fn admit(
        &self,
        client: &Caller,
        deadline: Option<Instant>,
    ) -> Result<Permit, Refusal> {
        self.check_rate(client)?;
        let slot = self.caller_slot(client)?;
        let permits = self.inner.permits.clone();
        let permit = match permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _position = self.queue()?;
                let began = Instant::now();
                let waited = deadline::before(deadline, permits.acquire_owned()).await;
                self.inner.metrics.queue_time_s.observe(began.elapsed().as_secs_f64());
                // The semaphore is never closed.
                waited.ok_or(Refusal::DeadlineInQueue)?.map_err(|_| Refusal::Draining)?
            }
        };
        self.inner.metrics.in_flight.inc();
        Ok(Permit { _held: Arc::new(HeldPermit { _permit: permit, slot }) })
    }

    /// Room for a call, in which nothing lies yet.
    pub(in crate::server) fn reserve_bytes(&self) -> Arc<ByteReservation> {
        Arc::new(ByteReservation { admission: self.clone(), bytes: AtomicUsize::new(0) })
    }

    fn queue(&self) -> Result<QueuePosition<'_>, Refusal> {
        let Inner { limits, waiting, metrics, .. } = &*self.inner;
        let joined = waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| {
            (waiting < limits.max_queued).then_some(waiting + 1)
        });
        let (limit, queued) = (limits.max_requests, limits.max_queued);
        joined.map_err(|_| Refusal::TooManyRequests { limit, queued })?;
        metrics.queued.inc();
        Ok(QueuePosition(&self.inner))
    }

    /// Counts a request of a client.
    fn caller_slot(&self, client: &Caller) -> Result<CallerSlot, Refusal> {
        let limit = client.max_requests.unwrap_or(self.inner.limits.max_requests_per_client);
        let mut clients = self.inner.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let in_flight = clients.entry(client.name.clone()).or_default();
        if *in_flight >= limit {
            return Err(Refusal::ClientBusy { limit });
        }
        *in_flight += 1;
        Ok(CallerSlot { admission: self.clone(), client: client.name.clone() })
    }

    fn check_rate(&self, client: &Caller) -> Result<(), Refusal> {
        let Some(limit) = client.requests_per_minute.or(self.inner.limits.requests_per_minute) else {
            return Ok(());
        };
        let limiter = {
            let mut rates = self.inner.rates.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(DefaultKeyedRateLimiter::keyed(Quota::per_minute(limit)));
            rates.entry(limit).or_insert_with(new).clone()
        };
        if limiter.len() > FORGET_CLIENTS_ABOVE {
            limiter.retain_recent();
        }
        limiter.check_key(&client.name).map_err(|until| Refusal::ClientTooFast {
            limit: limit.get(),
            retry_after: until.wait_time_from(DefaultClock::default().now()),
        })
    }
}

impl ByteReservation {
    /// Takes room for bytes that have arrived, if the process has any left.
    pub(in crate::server) fn grow(&self, bytes: usize) -> Result<(), Refusal> {
        let Inner { limits, bytes: sum, metrics, .. } = &*self.admission.inner;
        let limit = limits.max_bytes_in_flight;
        sum.fetch_update(Ordering::AcqRel, Ordering::Acquire, |sum| {
            sum.checked_add(bytes).filter(|sum| *sum <= limit)
        })
        .map_err(|_| Refusal::TooManyBytes { limit })?;
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        metrics.request_bytes.inc_by(signed(bytes));
        Ok(())
    }

    /// Gives back the room of a message that is done, of a call that goes on.
    pub(in crate::server) fn release(&self, bytes: usize) {
        let taken = |taken: usize| Some(taken.saturating_sub(bytes));
        // The function never refuses.
        let held = self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, taken).unwrap_or_default();
        let freed = held.min(bytes);
        self.admission.inner.bytes.fetch_sub(freed, Ordering::AcqRel);
        self.admission.inner.metrics.request_bytes.dec_by(signed(freed));
    }
}

impl Drop for ByteReservation {
    fn drop(&mut self) {
        self.release(usize::MAX);
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Drop for QueuePosition<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        self.0.metrics.queued.dec();
    }
}

impl Drop for HeldPermit {
    fn drop(&mut self) {
        self.slot.admission.inner.metrics.in_flight.dec();
    }
}

impl Drop for CallerSlot {
    fn drop(&mut self) {
        let mut clients = self.admission.inner.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(in_flight) = clients.get_mut(&self.client) {
            *in_flight -= 1;
            if *in_flight == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> Caller {
        Caller { name: name.into(), max_requests: None, requests_per_minute: None }
    }

    fn admission(limits: Limits) -> Admission {
        Admission::new(limits, Metrics::default())
    }

    #[tokio::test]
    async fn those_who_wait_have_their_turn_in_order_and_the_queue_is_bounded() {
        let limits = Limits { max_requests: 1, max_queued: 2, ..Limits::default() };
        let admission = admission(limits);
        let first = admission.admit(&client("a"), None).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = ["b", "c"]
            .map(|name| {
                let (admission, order) = (admission.clone(), order.clone());
                tokio::spawn(async move {
                    let _place = admission.admit(&client(name), None).await.unwrap();
                    order.lock().unwrap().push(name);
                })
            })
            .into();
        while admission.inner.waiting.load(Ordering::Acquire) < 2 {
            tokio::task::yield_now().await;
        }
        let refused = admission.admit(&client("d"), None).await.err();
        assert_eq!(refused, Some(Refusal::TooManyRequests { limit: 1, queued: 2 }));
        drop(first);
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["b", "c"]);
        assert!(admission.inner.clients.lock().unwrap().is_empty(), "clients are forgotten");
    }

    #[tokio::test]
    async fn a_client_has_its_share_and_its_rate_and_others_are_not_harmed() {
        let per_minute = NonZeroU32::new(3);
        let limits =
            Limits { max_requests_per_client: 1, requests_per_minute: per_minute, ..Limits::default() };
        let admission = admission(limits);
        let held = admission.admit(&client("a"), None).await.unwrap();
        assert_eq!(admission.admit(&client("a"), None).await.err(), Some(Refusal::ClientBusy { limit: 1 }));
        assert!(admission.admit(&client("b"), None).await.is_ok());
        drop(held);
        assert!(admission.admit(&client("a"), None).await.is_ok());
        let Some(Refusal::ClientTooFast { limit: 3, retry_after }) =
            admission.admit(&client("a"), None).await.err()
        else {
            panic!("the fourth request within a minute was let in")
        };
        assert!(retry_after > Duration::ZERO && retry_after <= Duration::from_secs(60));
        let own = Caller { requests_per_minute: NonZeroU32::new(100), ..client("a") };
        assert!(admission.admit(&own, None).await.is_ok());
    }

    #[test]
    fn all_messages_together_have_a_bound_and_what_is_done_makes_room() {
        let admission = admission(Limits { max_bytes_in_flight: 100, ..Limits::default() });
        let (one, other) = (admission.reserve_bytes(), admission.reserve_bytes());
        one.grow(60).unwrap();
        other.grow(30).unwrap();
        assert_eq!(other.grow(11), Err(Refusal::TooManyBytes { limit: 100 }));
        one.release(20);
        other.grow(11).unwrap();
        drop(one);
        other.grow(59).unwrap();
        drop(other);
        assert_eq!(admission.inner.bytes.load(Ordering::Acquire), 0);
        assert!(admission.inner.metrics.text().contains("yizhai_request_bytes 0"));
    }

    #[tokio::test]
    async fn nobody_waits_beyond_the_deadline() {
        let admission = admission(Limits { max_requests: 1, ..Limits::default() });
        let _held = admission.admit(&client("a"), None).await.unwrap();
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(admission.admit(&client("b"), Some(soon)).await.err(), Some(Refusal::DeadlineInQueue));
        assert_eq!(admission.inner.waiting.load(Ordering::Acquire), 0);
    }
}
