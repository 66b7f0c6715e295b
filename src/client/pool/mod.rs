//! Distributes many inputs over several servers: one DigestMany session per server, each item to a server with capacity.
//!
//! ```text
//! items ─▶ dispatcher ─▶ a session per server (connect, compare models, DigestMany) ─▶ responses ─▶ events
//!              ▲  items of a server that failed, and items to be retried │
//!              └─────────────────────────────────────────────────────────┘
//! ```
//!
//! Used by the command line's batches and available to other services. A digest changes nothing on a server, so an item
//! whose response was lost is sent again. An item that a server refused is sent again only if the refusal carries
//! RetryInfo.

mod dispatcher;
mod session;

use std::time::{Duration, Instant};

use futures::future;
use tokio::sync::mpsc;
use tonic::Code;

use self::dispatcher::Dispatcher;
use super::{Client, ClientError};
use crate::pb;

/// A server that items may be sent to.
#[derive(Debug, Clone)]
pub enum PoolMember {
    /// The address of a server to connect to.
    Address(String),
    /// A server that a client is already connected to.
    Connected {
        /// The server's name in messages.
        name: String,
        /// The client.
        client: Box<Client>,
    },
}

/// The settings for all items of a run.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// The options for each digest.
    pub options: pb::DigestOptions,
    /// Maximum time for one item, from the moment at which a server starts it. `None` means no limit.
    pub timeout: Option<Duration>,
    /// Maximum number of items in flight per server.
    pub window: usize,
}

/// An input to digest.
#[derive(Debug, Clone)]
pub struct DigestItem {
    /// The id that identifies the item in events, unique within the run.
    pub id: u64,
    /// The text to digest.
    pub input: pb::Input,
}

/// An event of a run.
#[derive(Debug)]
pub enum PoolEvent {
    /// An item is finished. Items finish in any order.
    Done {
        /// The id of the item.
        id: u64,
        /// The digest, or the reason why there is none.
        result: Result<Box<pb::DigestResponse>, ItemFailure>,
    },
    /// A server became unavailable or available again, as a message for the user.
    Note(String),
    /// No server has been ready for too long, so the unfinished items will not be digested. Always the last event.
    GaveUp(ClientError),
}

/// The reason why an item has no digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemFailure {
    /// The status code.
    pub code: Code,
    /// The reason, as a message for the user.
    pub message: String,
}

/// A set of servers that run the same models and prompts.
#[derive(Debug)]
pub struct ServerPool {
    members: Vec<PoolMember>,
    running: pb::Provenance,
}

impl ServerPool {
    /// Connects to all servers and compares what they run. Waits up to two minutes for the first one to be ready; servers
    /// that cannot be reached yet may join later.
    ///
    /// # Errors
    /// Fails if no server can be reached or becomes ready, or if two servers run different models or prompts.
    pub async fn connect(members: Vec<PoolMember>) -> Result<Self, ClientError> {
        let deadline = Instant::now() + super::RETRY_TIME;
        loop {
            let mut ready: Vec<(String, pb::Provenance)> = Vec::new();
            let (mut first_error, mut is_loading) = (None, false);
            let answers = future::join_all(members.iter().map(PoolMember::connect)).await;
            for (member, answer) in members.iter().zip(answers) {
                match answer {
                    Ok((_, Some(running))) => ready.push((member.name().to_owned(), running)),
                    Ok((_, None)) => is_loading = true,
                    Err(error) => first_error = first_error.or(Some(error)),
                }
            }
            if let Some((first, running)) = ready.first() {
                return match ready.iter().find(|(_, other)| other != running) {
                    Some((second, _)) => {
                        Err(ClientError::DifferentModels { first: first.clone(), second: second.clone() })
                    }
                    None => Ok(Self { running: running.clone(), members }),
                };
            }
            match first_error {
                Some(error) if !is_loading => return Err(error),
                _ if Instant::now() >= deadline => {
                    let last_error = "the model is still loading".to_owned();
                    return Err(ClientError::NoServerReady { waited: super::RETRY_TIME, last_error });
                }
                _ => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// Returns the number of servers, ready or not.
    pub fn servers(&self) -> usize {
        self.members.len()
    }

    /// Returns the models and prompts that the servers run.
    pub fn running(&self) -> &pb::Provenance {
        &self.running
    }

    /// Starts a run. It ends, and closes the event channel, when the item sender is dropped and every item is finished.
    ///
    /// The item channel holds one item, so sending waits until a server has capacity.
    pub fn start(self, settings: PoolSettings) -> (mpsc::Sender<DigestItem>, mpsc::Receiver<PoolEvent>) {
        let (sender, items) = mpsc::channel(1);
        let (events, receiver) = mpsc::channel(16);
        tokio::spawn(Dispatcher::new(self, settings, events).run(items));
        (sender, receiver)
    }
}

impl PoolMember {
    fn name(&self) -> &str {
        match self {
            Self::Address(name) | Self::Connected { name, .. } => name,
        }
    }

    /// Connects and returns a client, and what the server runs if it is ready.
    async fn connect(&self) -> Result<(Client, Option<pb::Provenance>), ClientError> {
        let client = match self {
            Self::Address(address) => Client::connect(address).await?,
            Self::Connected { client, .. } => Client::clone(client),
        };
        let running = client.running().await?;
        Ok((client, running))
    }
}
