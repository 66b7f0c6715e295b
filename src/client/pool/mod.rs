//! Many inputs over several servers: DigestMany on each, work where there is room, moved on when a server goes.
//!
//! ```text
//! work ─▶ dispatcher ─▶ one session a server (connect, ask what it runs, DigestMany) ─▶ answers ─▶ events
//!             ▲  work of a server that went, and what is to be asked again │
//!             └────────────────────────────────────────────────────────────┘
//! ```
//!
//! Called by the command line's batches; other services can use it. A digest changes nothing on a server, so work
//! whose answer was lost is sent again; what a server refused is sent again only with RetryInfo. Never decides what
//! to do with a result.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::{
    StreamExt,
    future::{self, BoxFuture},
    stream::FuturesUnordered,
};
use tokio::sync::mpsc;
use tonic::Code;

use super::{Client, ClientError, retry_delay};
use crate::pb::{self, digest_many_response::Result as Answer};

/// How long a run goes on while no server is ready, and how long one input is offered to servers that are full.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often one input may be in flight when its server breaks: it may be what breaks them.
const MAX_ATTEMPTS: u32 = 3;
/// Between two questions to a server that is not ready; grows up to the other one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A server that work may go to.
#[derive(Debug, Clone)]
pub enum PoolMember {
    /// One to connect to.
    Address(String),
    /// One that a client exists for already.
    Connected {
        /// What it is called in messages.
        name: String,
        /// The client.
        client: Box<Client>,
    },
}

/// How all the work of a run is to be done.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// How the inputs are digested.
    pub options: pb::DigestOptions,
    /// How long one input may take, from when a server begins with it.
    pub timeout: Option<Duration>,
    /// The most inputs that one server has at a time.
    pub window: usize,
}

/// One input.
#[derive(Debug, Clone)]
pub struct DigestItem {
    /// Comes back in the event; unique within the run.
    pub id: u64,
    /// What is digested.
    pub input: pb::Input,
}

/// What happened.
#[derive(Debug)]
pub enum PoolEvent {
    /// An input is through, in the order in which they are done.
    Done {
        /// The id of the work.
        id: u64,
        /// The digest, or why there is none.
        result: Result<Box<pb::DigestResponse>, ItemFailure>,
    },
    /// A server went or came back, in words for a person.
    Note(String),
    /// No server is left; what is not done by now will not be. The last event.
    GaveUp(ClientError),
}

/// Why an input has no digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemFailure {
    /// The status code.
    pub code: Code,
    /// Why, for a person.
    pub message: String,
}

/// Servers that make the same results.
#[derive(Debug)]
pub struct ServerPool {
    targets: Vec<PoolMember>,
    running: pb::Provenance,
}

impl ServerPool {
    /// Asks every server what it runs. Those that cannot be reached may come later; one must be ready within two
    /// minutes.
    ///
    /// # Errors
    /// When none can be reached, or two make different results.
    pub async fn connect(targets: Vec<PoolMember>) -> Result<Self, ClientError> {
        let deadline = Instant::now() + super::RETRY_TIME;
        loop {
            let mut ready: Vec<(String, pb::Provenance)> = Vec::new();
            let (mut first_error, mut loading) = (None, false);
            let asked = future::join_all(targets.iter().map(|target| target.ask())).await;
            for (target, answer) in targets.iter().zip(asked) {
                match answer {
                    Ok((_, Some(running))) => ready.push((target.name().to_owned(), running)),
                    Ok((_, None)) => loading = true,
                    Err(error) => first_error = first_error.or(Some(error)),
                }
            }
            if let Some((one, running)) = ready.first() {
                return match ready.iter().find(|(_, other)| other != running) {
                    Some((other, _)) => {
                        Err(ClientError::Different { one: one.clone(), other: other.clone() })
                    }
                    None => Ok(Self { running: running.clone(), targets }),
                };
            }
            match first_error {
                Some(error) if !loading => return Err(error),
                _ if Instant::now() >= deadline => {
                    let last = "the model is not loaded".to_owned();
                    return Err(ClientError::NoneLeft { waited: super::RETRY_TIME, last });
                }
                _ => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// How many servers there are, ready or not.
    pub fn servers(&self) -> usize {
        self.targets.len()
    }

    /// What the servers make their results with.
    pub fn running(&self) -> &pb::Provenance {
        &self.running
    }

    /// Starts the run. It ends, and with it the events, when the sender of the work is dropped and all is answered.
    /// The channel of the work holds one: whoever sends waits until a server has room.
    pub fn start(self, settings: PoolSettings) -> (mpsc::Sender<DigestItem>, mpsc::Receiver<PoolEvent>) {
        let (sender, work) = mpsc::channel(1);
        let (events, receiver) = mpsc::channel(16);
        tokio::spawn(Dispatcher::new(self, settings, events).run(work));
        (sender, receiver)
    }
}

impl PoolMember {
    fn name(&self) -> &str {
        match self {
            Self::Address(name) | Self::Connected { name, .. } => name,
        }
    }

    /// A client, and what the server runs when it is ready.
    async fn ask(&self) -> Result<(Client, Option<pb::Provenance>), ClientError> {
        let client = match self {
            Self::Address(address) => Client::connect(address).await?,
            Self::Connected { client, .. } => Client::clone(client),
        };
        let running = client.running().await?;
        Ok((client, running))
    }
}

/// What a session tells the dispatcher.
enum SessionEvent {
    Up(mpsc::Sender<pb::DigestManyRequest>),
    Answer(pb::DigestManyResponse),
    Down(String),
}

/// DigestItem on its way.
struct PendingItem {
    work: DigestItem,
    /// How often it was in flight when its server broke.
    broken: u32,
    /// How often it was sent at all: item ids are unique within a stream.
    sent: u32,
    /// When a full server refused it for the first time.
    refused: Option<Instant>,
}

struct MemberState {
    name: String,
    /// Where work is put; `None` while the server is not ready.
    requests: Option<mpsc::Sender<pb::DigestManyRequest>>,
    /// By item id.
    in_flight: HashMap<String, PendingItem>,
    was_up: bool,
    /// Why it went when it did last: the same is not told twice.
    last_word: String,
}

struct Dispatcher {
    settings: PoolSettings,
    servers: Vec<MemberState>,
    events: mpsc::Sender<PoolEvent>,
    signals: mpsc::Receiver<(usize, SessionEvent)>,
    /// To be sent before any new work.
    returned: VecDeque<PendingItem>,
    /// To be returned after a pause.
    resting: FuturesUnordered<BoxFuture<'static, PendingItem>>,
    /// Since when no server has been ready, and what was heard last.
    alone: Option<Instant>,
    last_word: String,
}

impl Dispatcher {
    fn new(balanced: ServerPool, settings: PoolSettings, events: mpsc::Sender<PoolEvent>) -> Self {
        let (sender, signals) = mpsc::channel(64);
        let servers = balanced.targets.iter().map(|target| MemberState {
            name: target.name().to_owned(),
            requests: None,
            in_flight: HashMap::new(),
            was_up: false,
            last_word: String::new(),
        });
        let servers = servers.collect();
        for (index, target) in balanced.targets.into_iter().enumerate() {
            let (running, sender) = (balanced.running.clone(), sender.clone());
            tokio::spawn(attend(index, target, running, settings.window, sender));
        }
        Self {
            settings,
            servers,
            events,
            signals,
            returned: VecDeque::new(),
            resting: FuturesUnordered::new(),
            alone: Some(Instant::now()),
            last_word: "none was reached".to_owned(),
        }
    }

    async fn run(mut self, mut work: mpsc::Receiver<DigestItem>) {
        let mut open = true;
        loop {
            while !self.returned.is_empty()
                && let Some(server) = self.with_room()
                && let Some(sent) = self.returned.pop_front()
            {
                self.send(server, sent);
            }
            let outstanding = self.servers.iter().any(|s| !s.in_flight.is_empty())
                || !self.returned.is_empty()
                || !self.resting.is_empty();
            if !open && !outstanding {
                return;
            }
            let room = self.returned.is_empty().then(|| self.with_room()).flatten();
            let alone = self.alone;
            let given_up = async {
                match alone {
                    Some(since) => tokio::time::sleep_until((since + PATIENCE).into()).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                next = work.recv(), if open && room.is_some() => match (next, room) {
                    (Some(work), Some(server)) => {
                        self.send(server, PendingItem { work, broken: 0, sent: 0, refused: None });
                    }
                    _ => open = false,
                },
                Some((server, signal)) = self.signals.recv() => {
                    if self.take(server, signal).await.is_none() {
                        return;
                    }
                }
                Some(sent) = self.resting.next() => self.returned.push_back(sent),
                () = given_up => {
                    let error = ClientError::NoneLeft { waited: PATIENCE, last: self.last_word };
                    // Whoever does not listen any more needs no word.
                    let _ = self.events.send(PoolEvent::GaveUp(error)).await;
                    return;
                }
            }
        }
    }

    /// The ready server that has the least to do, if it has room.
    fn with_room(&self) -> Option<usize> {
        let ready =
            self.servers.iter().enumerate().filter(|(_, server)| {
                server.requests.is_some() && server.in_flight.len() < self.settings.window
            });
        ready.min_by_key(|(_, server)| server.in_flight.len()).map(|(index, _)| index)
    }

    fn send(&mut self, server: usize, mut sent: PendingItem) {
        let item_id = format!("{}.{}", sent.work.id, sent.sent);
        sent.sent += 1;
        let timeout_ms = self.settings.timeout.map_or(0, |t| t.as_millis().try_into().unwrap_or(i64::MAX));
        let request = pb::DigestManyRequest {
            item_id: item_id.clone(),
            input: Some(sent.work.input.clone()),
            options: Some(self.settings.options.clone()),
            timeout_ms,
        };
        let server = &mut self.servers[server];
        // The channel holds a window of requests, and no more than that are in flight; when the session is gone, its
        // last signal returns the work.
        let taken = server.requests.as_ref().is_some_and(|requests| requests.try_send(request).is_ok());
        if !taken {
            server.requests = None;
        }
        server.in_flight.insert(item_id, sent);
    }

    /// Acts on what a session tells. `None` when nobody listens to the events any more.
    async fn take(&mut self, index: usize, signal: SessionEvent) -> Option<()> {
        let server = &mut self.servers[index];
        match signal {
            SessionEvent::Up(requests) => {
                server.requests = Some(requests);
                self.alone = None;
                if std::mem::replace(&mut server.was_up, true) {
                    let note = format!("{} is back", server.name);
                    self.events.send(PoolEvent::Note(note)).await.ok()?;
                }
            }
            SessionEvent::Down(reason) => {
                let was_in_use = server.requests.take().is_some() || !server.in_flight.is_empty();
                let lost: Vec<PendingItem> = server.in_flight.drain().map(|(_, sent)| sent).collect();
                let note = (was_in_use || server.last_word != reason).then(|| match lost.len() {
                    0 => format!("{}: {reason}", server.name),
                    count => format!("{}: {reason}; the {count} inputs in flight there move on", server.name),
                });
                server.last_word.clone_from(&reason);
                self.last_word = reason;
                for mut sent in lost {
                    sent.broken += 1;
                    if sent.broken < MAX_ATTEMPTS {
                        self.returned.push_back(sent);
                    } else {
                        let message =
                            format!("the server broke off {MAX_ATTEMPTS} times while it was at this input");
                        self.done(sent.work.id, Err(ItemFailure { code: Code::Unavailable, message }))
                            .await?;
                    }
                }
                let any_ready = self.servers.iter().any(|server| server.requests.is_some());
                self.alone = (!any_ready).then(|| self.alone.unwrap_or_else(Instant::now));
                if let Some(note) = note {
                    self.events.send(PoolEvent::Note(note)).await.ok()?;
                }
            }
            SessionEvent::Answer(pb::DigestManyResponse { item_id, result }) => {
                // An answer to what was given up or moved on already is nobody's.
                if let Some(sent) = server.in_flight.remove(&item_id) {
                    self.answer(index, sent, result).await?;
                }
            }
        }
        Some(())
    }

    async fn answer(&mut self, index: usize, mut sent: PendingItem, result: Option<Answer>) -> Option<()> {
        let error = match result {
            Some(Answer::Digest(digest)) if sent.broken + 1 >= MAX_ATTEMPTS || !has_broken(&digest) => {
                return self.done(sent.work.id, Ok(Box::new(digest))).await;
            }
            Some(Answer::Digest(_)) => {
                ItemFailure { code: Code::Internal, message: "the engine failed".to_owned() }
            }
            Some(Answer::Error(error)) => {
                let details = prost::Message::encode_to_vec(&error);
                let code = Code::from_i32(error.code);
                let status = tonic::Status::with_details(code, error.message.clone(), details.into());
                if let Some(pause) = retry_delay(&status) {
                    if code == Code::Unavailable {
                        // It is about to end: it gets no more work, and may end when it has answered the rest.
                        self.servers[index].requests = None;
                    }
                    let since = *sent.refused.get_or_insert_with(Instant::now);
                    if since.elapsed() < PATIENCE {
                        // Spread a little, so that all do not come back in the same moment.
                        let pause = pause + pause.mul_f64(f64::from(sent.sent % 8) / 16.0);
                        self.resting.push(Box::pin(async move {
                            tokio::time::sleep(pause).await;
                            sent
                        }));
                        return Some(());
                    }
                }
                ItemFailure { code, message: error.message }
            }
            None => ItemFailure { code: Code::Internal, message: "the server answered nothing".to_owned() },
        };
        if error.code == Code::Internal && sent.broken + 1 < MAX_ATTEMPTS {
            // The server may be broken, or the input may break servers: it is asked anew what it runs, which a broken
            // one does not answer, and the input has another chance.
            self.servers[index].requests = None;
            sent.broken += 1;
            self.returned.push_back(sent);
            return Some(());
        }
        self.done(sent.work.id, Err(error)).await
    }

    async fn done(&mut self, id: u64, result: Result<Box<pb::DigestResponse>, ItemFailure>) -> Option<()> {
        self.events.send(PoolEvent::Done { id, result }).await.ok()
    }
}

/// Whether the engine failed under a part of it.
fn has_broken(digest: &pb::DigestResponse) -> bool {
    digest
        .sections
        .iter()
        .any(|section| section.error.as_ref().is_some_and(|e| e.code == Code::Internal as i32))
}

/// Keeps a session with one server, again and again, until the dispatcher is gone.
async fn attend(
    index: usize,
    target: PoolMember,
    expected: pb::Provenance,
    window: usize,
    signals: mpsc::Sender<(usize, SessionEvent)>,
) {
    let policy = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times();
    let mut pauses = policy.build();
    loop {
        let (answered, reason) = session(index, &target, &expected, window, &signals).await;
        if signals.send((index, SessionEvent::Down(reason))).await.is_err() {
            return;
        }
        if answered {
            pauses = policy.build();
        }
        let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = signals.closed() => return,
        }
    }
}

/// One session: whether anything was answered, and why it ended.
async fn session(
    index: usize,
    target: &PoolMember,
    expected: &pb::Provenance,
    window: usize,
    signals: &mpsc::Sender<(usize, SessionEvent)>,
) -> (bool, String) {
    let client = match target.ask().await {
        Ok((client, Some(running))) if running == *expected => client,
        Ok((_, Some(_))) => {
            return (false, "it runs another model or other prompts now, so it gets no work".to_owned());
        }
        Ok((_, None)) => return (false, "it is not ready".to_owned()),
        Err(error) => return (false, error.to_string()),
    };
    let (sender, requests) = mpsc::channel(window);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = match client.digest_many(requests).await {
        Ok(answers) => answers,
        Err(error) => return (false, error.to_string()),
    };
    let mut answered = false;
    if signals.send((index, SessionEvent::Up(sender))).await.is_err() {
        return (answered, String::new());
    }
    loop {
        match answers.next().await {
            Some(Ok(answer)) => {
                answered = true;
                if signals.send((index, SessionEvent::Answer(answer))).await.is_err() {
                    return (answered, String::new());
                }
            }
            Some(Err(status)) => return (answered, ClientError::from(status).to_string()),
            None => return (answered, "the server ended the stream".to_owned()),
        }
    }
}
