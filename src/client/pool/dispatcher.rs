//! The dispatcher of a run: sends items to the servers with the least to do, retries what failed, and reports events.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use futures::{
    StreamExt,
    future::{self, BoxFuture},
    stream::FuturesUnordered,
};
use tokio::sync::mpsc;
use tonic::Code;

use super::{
    super::{ClientError, retry_delay},
    DigestItem, ItemFailure, PoolEvent, PoolSettings, ServerPool,
    session::{self, SessionEvent},
};
use crate::pb::{self, digest_many_response::Result as ItemResult};

/// Maximum time for which a run continues while no server is ready, and for which an item is offered to full servers.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// Maximum number of times that an item may be in flight on a server that fails. The item may be the cause.
const MAX_ATTEMPTS: u32 = 3;

/// An item that is not finished.
struct PendingItem {
    item: DigestItem,
    /// The number of times that it was in flight on a server that failed.
    failures: u32,
    /// The number of times that it was sent. Makes item ids unique within a stream.
    sends: u32,
    /// The time at which a full server first refused it.
    refused_since: Option<Instant>,
}

/// The dispatcher's view of one server.
struct MemberState {
    name: String,
    /// The channel for requests. `None` while the server is not ready.
    requests: Option<mpsc::Sender<pb::DigestManyRequest>>,
    /// By item id.
    in_flight: HashMap<String, PendingItem>,
    was_up: bool,
    /// The reason of the last failure, so that the same one is not reported twice in a row.
    last_error: String,
}

pub(super) struct Dispatcher {
    settings: PoolSettings,
    members: Vec<MemberState>,
    events: mpsc::Sender<PoolEvent>,
    sessions: mpsc::Receiver<(usize, SessionEvent)>,
    /// Items to send before any new one.
    retries: VecDeque<PendingItem>,
    /// Items that become retries after a delay.
    delayed: FuturesUnordered<BoxFuture<'static, PendingItem>>,
    /// The time since which no server has been ready.
    none_ready_since: Option<Instant>,
    /// The reason of the last failure of any server.
    last_error: String,
}

impl Dispatcher {
    pub(super) fn new(pool: ServerPool, settings: PoolSettings, events: mpsc::Sender<PoolEvent>) -> Self {
        let (sender, sessions) = mpsc::channel(64);
        let members = pool.members.iter().map(|member| MemberState {
            name: member.name().to_owned(),
            requests: None,
            in_flight: HashMap::new(),
            was_up: false,
            last_error: String::new(),
        });
        let members = members.collect();
        for (index, member) in pool.members.into_iter().enumerate() {
            let (running, sender) = (pool.running.clone(), sender.clone());
            tokio::spawn(session::maintain(index, member, running, settings.window, sender));
        }
        Self {
            settings,
            members,
            events,
            sessions,
            retries: VecDeque::new(),
            delayed: FuturesUnordered::new(),
            none_ready_since: Some(Instant::now()),
            last_error: "no server was reached".to_owned(),
        }
    }

    /// Runs until every item is finished, no server is left, or nobody receives the events.
    pub(super) async fn run(mut self, mut items: mpsc::Receiver<DigestItem>) {
        let mut is_open = true;
        loop {
            while !self.retries.is_empty()
                && let Some(member) = self.member_with_capacity()
                && let Some(pending) = self.retries.pop_front()
            {
                self.send(member, pending);
            }
            let has_pending = self.members.iter().any(|member| !member.in_flight.is_empty())
                || !self.retries.is_empty()
                || !self.delayed.is_empty();
            if !is_open && !has_pending {
                return;
            }
            let free = self.retries.is_empty().then(|| self.member_with_capacity()).flatten();
            let none_ready_since = self.none_ready_since;
            let waited_too_long = async {
                match none_ready_since {
                    Some(since) => tokio::time::sleep_until((since + MAX_WAIT).into()).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                next = items.recv(), if is_open && free.is_some() => match (next, free) {
                    (Some(item), Some(member)) => {
                        let pending = PendingItem { item, failures: 0, sends: 0, refused_since: None };
                        self.send(member, pending);
                    }
                    _ => is_open = false,
                },
                Some((member, event)) = self.sessions.recv() => {
                    if self.handle(member, event).await.is_none() {
                        return;
                    }
                }
                Some(pending) = self.delayed.next() => self.retries.push_back(pending),
                () = waited_too_long => {
                    let error = ClientError::NoServerReady { waited: MAX_WAIT, last_error: self.last_error };
                    // If nobody receives the events, nobody needs this one.
                    let _ = self.events.send(PoolEvent::GaveUp(error)).await;
                    return;
                }
            }
        }
    }

    /// Returns the ready server with the fewest items in flight, unless its window is full.
    fn member_with_capacity(&self) -> Option<usize> {
        let ready =
            self.members.iter().enumerate().filter(|(_, member)| {
                member.requests.is_some() && member.in_flight.len() < self.settings.window
            });
        ready.min_by_key(|(_, member)| member.in_flight.len()).map(|(index, _)| index)
    }

    fn send(&mut self, index: usize, mut pending: PendingItem) {
        let item_id = format!("{}.{}", pending.item.id, pending.sends);
        pending.sends += 1;
        let timeout_ms = self.settings.timeout.map_or(0, |t| t.as_millis().try_into().unwrap_or(i64::MAX));
        let request = pb::DigestManyRequest {
            item_id: item_id.clone(),
            input: Some(pending.item.input.clone()),
            options: Some(self.settings.options.clone()),
            timeout_ms,
        };
        let member = &mut self.members[index];
        // The channel holds a window of requests, and no more are in flight, so this fails only if the session ended.
        // Its last event then returns the item.
        let is_sent = member.requests.as_ref().is_some_and(|requests| requests.try_send(request).is_ok());
        if !is_sent {
            member.requests = None;
        }
        member.in_flight.insert(item_id, pending);
    }

    /// Handles an event of a session. Returns `None` if nobody receives the events any more.
    async fn handle(&mut self, index: usize, event: SessionEvent) -> Option<()> {
        let member = &mut self.members[index];
        match event {
            SessionEvent::Up(requests) => {
                member.requests = Some(requests);
                self.none_ready_since = None;
                if std::mem::replace(&mut member.was_up, true) {
                    let note = format!("{} is available again", member.name);
                    self.events.send(PoolEvent::Note(note)).await.ok()?;
                }
                Some(())
            }
            SessionEvent::Down(reason) => self.handle_failure(index, reason).await,
            SessionEvent::Response(pb::DigestManyResponse { item_id, result }) => {
                // A response to an item that was already moved to another server is ignored.
                match member.in_flight.remove(&item_id) {
                    Some(pending) => self.handle_response(index, pending, result).await,
                    None => Some(()),
                }
            }
        }
    }

    /// Moves the items of a server whose session ended to other servers.
    async fn handle_failure(&mut self, index: usize, reason: String) -> Option<()> {
        let member = &mut self.members[index];
        let was_in_use = member.requests.take().is_some() || !member.in_flight.is_empty();
        let lost: Vec<PendingItem> = member.in_flight.drain().map(|(_, pending)| pending).collect();
        let is_news = was_in_use || member.last_error != reason;
        let note = is_news.then(|| match lost.len() {
            0 => format!("{}: {reason}", member.name),
            count => format!("{}: {reason}; {count} inputs in flight there will be retried", member.name),
        });
        member.last_error.clone_from(&reason);
        self.last_error = reason;
        for mut pending in lost {
            pending.failures += 1;
            if pending.failures < MAX_ATTEMPTS {
                self.retries.push_back(pending);
            } else {
                let message =
                    format!("the server failed {MAX_ATTEMPTS} times while this input was in flight");
                let failure = ItemFailure { code: Code::Unavailable, message };
                self.finish(pending.item.id, Err(failure)).await?;
            }
        }
        let any_ready = self.members.iter().any(|member| member.requests.is_some());
        self.none_ready_since = (!any_ready).then(|| self.none_ready_since.unwrap_or_else(Instant::now));
        if let Some(note) = note {
            self.events.send(PoolEvent::Note(note)).await.ok()?;
        }
        Some(())
    }

    /// Finishes an item, or retries it if its server was full or its engine failed.
    async fn handle_response(
        &mut self,
        index: usize,
        mut pending: PendingItem,
        result: Option<ItemResult>,
    ) -> Option<()> {
        let is_last_attempt = pending.failures + 1 >= MAX_ATTEMPTS;
        let failure = match result {
            Some(ItemResult::Digest(digest)) if is_last_attempt || !engine_failed(&digest) => {
                return self.finish(pending.item.id, Ok(Box::new(digest))).await;
            }
            Some(ItemResult::Digest(_)) => {
                ItemFailure { code: Code::Internal, message: "the engine failed".to_owned() }
            }
            Some(ItemResult::Error(error)) => {
                let details = prost::Message::encode_to_vec(&error);
                let code = Code::from_i32(error.code);
                let status = tonic::Status::with_details(code, error.message.clone(), details.into());
                if let Some(delay) = retry_delay(&status) {
                    if code == Code::Unavailable {
                        // The server is shutting down. It gets no further items and can exit once it has answered
                        // those in flight.
                        self.members[index].requests = None;
                    }
                    let since = *pending.refused_since.get_or_insert_with(Instant::now);
                    if since.elapsed() < MAX_WAIT {
                        // Jitter, so that not all items return at the same moment.
                        let delay = delay + delay.mul_f64(f64::from(pending.sends % 8) / 16.0);
                        self.delayed.push(Box::pin(async move {
                            tokio::time::sleep(delay).await;
                            pending
                        }));
                        return Some(());
                    }
                }
                ItemFailure { code, message: error.message }
            }
            None => {
                ItemFailure { code: Code::Internal, message: "the server sent an empty response".to_owned() }
            }
        };
        if failure.code == Code::Internal && !is_last_attempt {
            // Either the server is defective or the input makes servers fail. The server gets no more items until a new
            // session has checked what it runs, which a defective server does not answer; the input is retried.
            self.members[index].requests = None;
            pending.failures += 1;
            self.retries.push_back(pending);
            return Some(());
        }
        self.finish(pending.item.id, Err(failure)).await
    }

    async fn finish(&mut self, id: u64, result: Result<Box<pb::DigestResponse>, ItemFailure>) -> Option<()> {
        self.events.send(PoolEvent::Done { id, result }).await.ok()
    }
}

/// Returns `true` if the engine failed while it processed one of the sections.
fn engine_failed(digest: &pb::DigestResponse) -> bool {
    let is_internal = |error: &tonic_types::pb::Status| error.code == Code::Internal as i32;
    digest.sections.iter().any(|section| section.error.as_ref().is_some_and(is_internal))
}
