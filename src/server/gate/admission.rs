//! Admission: one set of permits for the whole process, a bounded queue in front of it, quotas for each caller, and a
//! byte budget for all messages together.
//!
//! Called by the gate before the body of a request is read, so memory stays bounded however many requests arrive.

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

/// The number of callers above which a rate limiter forgets those that were idle long enough to have their full quota.
const MAX_REMEMBERED_CALLERS: usize = 10_000;

/// The limits on requests. A request that exceeds one is refused at once with an error that names the limit.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Maximum size of a page or an article, in bytes.
    pub max_page_bytes: usize,
    /// Maximum size of a message, in bytes. `None` means twice `max_page_bytes`, but at least 4 MiB.
    pub max_message_bytes: Option<usize>,
    /// Maximum size of all requests that are being received or processed, in bytes.
    pub max_bytes_in_flight: usize,
    /// Maximum number of sections in a request.
    pub max_sections: usize,
    /// Maximum number of terms in a request.
    pub max_terms: usize,
    /// Maximum number of requests processed at the same time, over all connections.
    pub max_requests: usize,
    /// Maximum number of requests waiting for a permit. They are served in order of arrival.
    pub max_queued: usize,
    /// Maximum number of running and queued requests of one caller.
    pub max_requests_per_client: usize,
    /// Maximum number of requests per minute of one caller. `None` means unlimited.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Maximum number of items of one DigestMany call processed at the same time.
    pub max_items_in_flight: usize,
    /// Maximum number of items in a DigestMany call.
    pub max_items: usize,
    /// Maximum time for a message to arrive, and maximum silence of an item stream while the server waits for it.
    pub receive_timeout: Duration,
    /// Maximum time for which a client may read nothing from a response stream before its work is cancelled.
    pub stall_timeout: Duration,
}

impl Default for RequestLimits {
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

impl RequestLimits {
    /// Returns the maximum size of a message, in bytes.
    pub(crate) fn message_bytes(&self) -> usize {
        self.max_message_bytes.unwrap_or_else(|| self.max_page_bytes.saturating_mul(2).max(4 << 20))
    }
}

/// The identity of a caller, to which its quotas apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct Caller {
    /// The name of its token or of its certificate, or its address.
    pub(in crate::server) name: Arc<str>,
    /// The limit on requests in flight that its token sets, in place of the server's.
    pub(in crate::server) max_requests: Option<usize>,
    /// The limit on requests per minute that its token sets, in place of the server's.
    pub(in crate::server) requests_per_minute: Option<NonZeroU32>,
}

/// Admits requests within the limits. Cheap to clone.
#[derive(Clone)]
pub(in crate::server) struct Admission {
    inner: Arc<Inner>,
}

struct Inner {
    limits: RequestLimits,
    permits: Arc<Semaphore>,
    queued: AtomicUsize,
    /// The sum of all reservations.
    bytes: AtomicUsize,
    /// Running and queued requests of each caller that has any.
    callers: Mutex<HashMap<Arc<str>, usize>>,
    /// One limiter for each rate in force: the server's, and those of tokens.
    rate_limiters: Mutex<HashMap<NonZeroU32, Arc<DefaultKeyedRateLimiter<Arc<str>>>>>,
    metrics: Metrics,
}

/// The permission to process a request, released when the last clone is dropped.
#[derive(Clone)]
pub(in crate::server) struct Permit {
    _held: Arc<HeldPermit>,
}

struct HeldPermit {
    _permit: OwnedSemaphorePermit,
    slot: CallerSlot,
}

/// One of a caller's running and queued requests.
struct CallerSlot {
    admission: Admission,
    caller: Arc<str>,
}

/// The share of the byte budget that the messages of one call occupy, released on drop.
pub(in crate::server) struct ByteReservation {
    admission: Admission,
    bytes: AtomicUsize,
}

/// The place of a request in the queue, released on drop.
struct QueuePosition<'a>(&'a Inner);

impl Admission {
    pub(in crate::server) fn new(limits: RequestLimits, metrics: Metrics) -> Self {
        let inner = Inner {
            permits: Arc::new(Semaphore::new(limits.max_requests)),
            limits,
            queued: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            callers: Mutex::default(),
            rate_limiters: Mutex::default(),
            metrics,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns a permit to hold while the request is processed. If none is free, waits for one until `deadline`, or
    /// refuses the request if the queue is full.
    pub(in crate::server) async fn admit(
        &self,
        caller: &Caller,
        deadline: Option<Instant>,
    ) -> Result<Permit, Refusal> {
        self.check_rate(caller)?;
        let slot = self.caller_slot(caller)?;
        let permits = self.inner.permits.clone();
        let permit = match permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _position = self.enqueue()?;
                let start = Instant::now();
                let waited = deadline::before(deadline, permits.acquire_owned()).await;
                self.inner.metrics.queue_time_s.observe(start.elapsed().as_secs_f64());
                // The semaphore is never closed.
                waited.ok_or(Refusal::DeadlineInQueue)?.map_err(|_| Refusal::Draining)?
            }
        };
        self.inner.metrics.in_flight.inc();
        Ok(Permit { _held: Arc::new(HeldPermit { _permit: permit, slot }) })
    }

    /// Returns an empty reservation for a call.
    pub(in crate::server) fn reserve_bytes(&self) -> Arc<ByteReservation> {
        Arc::new(ByteReservation { admission: self.clone(), bytes: AtomicUsize::new(0) })
    }

    fn enqueue(&self) -> Result<QueuePosition<'_>, Refusal> {
        let Inner { limits, queued, metrics, .. } = &*self.inner;
        let joined = queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, |queued| {
            (queued < limits.max_queued).then_some(queued + 1)
        });
        let (limit, queued) = (limits.max_requests, limits.max_queued);
        joined.map_err(|_| Refusal::TooManyRequests { limit, queued })?;
        metrics.queued.inc();
        Ok(QueuePosition(&self.inner))
    }

    /// Counts a request against the caller's quota.
    fn caller_slot(&self, caller: &Caller) -> Result<CallerSlot, Refusal> {
        let limit = caller.max_requests.unwrap_or(self.inner.limits.max_requests_per_client);
        let mut callers = self.inner.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let in_flight = callers.entry(caller.name.clone()).or_default();
        if *in_flight >= limit {
            return Err(Refusal::ClientBusy { limit });
        }
        *in_flight += 1;
        Ok(CallerSlot { admission: self.clone(), caller: caller.name.clone() })
    }

    fn check_rate(&self, caller: &Caller) -> Result<(), Refusal> {
        let Some(limit) = caller.requests_per_minute.or(self.inner.limits.requests_per_minute) else {
            return Ok(());
        };
        let limiter = {
            let mut limiters = self.inner.rate_limiters.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(DefaultKeyedRateLimiter::keyed(Quota::per_minute(limit)));
            limiters.entry(limit).or_insert_with(new).clone()
        };
        if limiter.len() > MAX_REMEMBERED_CALLERS {
            limiter.retain_recent();
        }
        limiter.check_key(&caller.name).map_err(|until| Refusal::ClientTooFast {
            limit: limit.get(),
            retry_after: until.wait_time_from(DefaultClock::default().now()),
        })
    }
}

impl ByteReservation {
    /// Reserves bytes that have arrived, or refuses them if they exceed what is left of the budget.
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

    /// Releases the bytes of one message of a call that continues. Releases at most what is reserved.
    pub(in crate::server) fn release(&self, bytes: usize) {
        let remaining = |reserved: usize| Some(reserved.saturating_sub(bytes));
        // The closure always returns a value, so this cannot fail.
        let reserved =
            self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, remaining).unwrap_or_default();
        let released = reserved.min(bytes);
        self.admission.inner.bytes.fetch_sub(released, Ordering::AcqRel);
        self.admission.inner.metrics.request_bytes.dec_by(signed(released));
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
        self.0.queued.fetch_sub(1, Ordering::AcqRel);
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
        let mut callers = self.admission.inner.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(in_flight) = callers.get_mut(&self.caller) {
            *in_flight -= 1;
            if *in_flight == 0 {
                callers.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Caller {
        Caller { name: name.into(), max_requests: None, requests_per_minute: None }
    }

    fn admission(limits: RequestLimits) -> Admission {
        Admission::new(limits, Metrics::default())
    }

    #[tokio::test]
    async fn queued_requests_are_admitted_in_order_and_the_queue_is_bounded() {
        let limits = RequestLimits { max_requests: 1, max_queued: 2, ..RequestLimits::default() };
        let admission = admission(limits);
        let first = admission.admit(&caller("a"), None).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = ["b", "c"]
            .map(|name| {
                let (admission, order) = (admission.clone(), order.clone());
                tokio::spawn(async move {
                    let _permit = admission.admit(&caller(name), None).await.unwrap();
                    order.lock().unwrap().push(name);
                })
            })
            .into();
        while admission.inner.queued.load(Ordering::Acquire) < 2 {
            tokio::task::yield_now().await;
        }
        let refused = admission.admit(&caller("d"), None).await.err();
        assert_eq!(refused, Some(Refusal::TooManyRequests { limit: 1, queued: 2 }));
        drop(first);
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["b", "c"]);
        assert!(admission.inner.callers.lock().unwrap().is_empty(), "idle callers are forgotten");
    }

    #[tokio::test]
    async fn quotas_and_rates_apply_to_each_caller_separately() {
        let per_minute = NonZeroU32::new(3);
        let limits = RequestLimits {
            max_requests_per_client: 1,
            requests_per_minute: per_minute,
            ..RequestLimits::default()
        };
        let admission = admission(limits);
        let held = admission.admit(&caller("a"), None).await.unwrap();
        assert_eq!(admission.admit(&caller("a"), None).await.err(), Some(Refusal::ClientBusy { limit: 1 }));
        assert!(admission.admit(&caller("b"), None).await.is_ok());
        drop(held);
        assert!(admission.admit(&caller("a"), None).await.is_ok());
        let Some(Refusal::ClientTooFast { limit: 3, retry_after }) =
            admission.admit(&caller("a"), None).await.err()
        else {
            panic!("the fourth request within a minute was admitted")
        };
        assert!(retry_after > Duration::ZERO && retry_after <= Duration::from_secs(60));
        let own = Caller { requests_per_minute: NonZeroU32::new(100), ..caller("a") };
        assert!(admission.admit(&own, None).await.is_ok());
    }

    #[test]
    fn reservations_share_one_budget_and_released_bytes_can_be_reserved_again() {
        let admission = admission(RequestLimits { max_bytes_in_flight: 100, ..RequestLimits::default() });
        let (first, second) = (admission.reserve_bytes(), admission.reserve_bytes());
        first.grow(60).unwrap();
        second.grow(30).unwrap();
        assert_eq!(second.grow(11), Err(Refusal::TooManyBytes { limit: 100 }));
        first.release(20);
        second.grow(11).unwrap();
        drop(first);
        second.grow(59).unwrap();
        drop(second);
        assert_eq!(admission.inner.bytes.load(Ordering::Acquire), 0);
        assert!(admission.inner.metrics.text().contains("yizhai_request_bytes 0"));
    }

    #[tokio::test]
    async fn a_queued_request_waits_no_longer_than_its_deadline() {
        let admission = admission(RequestLimits { max_requests: 1, ..RequestLimits::default() });
        let _held = admission.admit(&caller("a"), None).await.unwrap();
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(admission.admit(&caller("b"), Some(soon)).await.err(), Some(Refusal::DeadlineInQueue));
        assert_eq!(admission.inner.queued.load(Ordering::Acquire), 0);
    }
}
