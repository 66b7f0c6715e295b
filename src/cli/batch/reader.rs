//! The reader thread: reads the items and decides what happens to each.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    ItemHeader,
    store::{self, ResultStore, StoredState},
};
use crate::{
    cli::input::{InputSources, Item, UnreadableItem},
    pb,
};

/// Byte budget of the items between reader and writer, in KiB.
pub(super) const BUDGET_KIB: u32 = 64 << 10;
/// Maximum items between reader and writer: each takes at least this fraction of the budget.
const MAX_ITEMS: u32 = 256;

/// The decision of the reader on an item.
pub(super) enum Planned {
    Send(ItemHeader, Box<pb::Input>, OwnedSemaphorePermit),
    /// The store has the result, or will have it: the same content is in flight.
    Stored(ItemHeader, OwnedSemaphorePermit),
    /// The item cannot be read, for this reason.
    Unreadable(ItemHeader, String, OwnedSemaphorePermit),
    /// The item is not processed in this run.
    Skipped,
}

pub(super) struct BatchReader {
    pub(super) sources: Arc<InputSources>,
    pub(super) keys: Option<(Arc<ResultStore>, store::Keys)>,
    pub(super) retry_failed: bool,
    /// One permit per KiB.
    pub(super) budget: Arc<Semaphore>,
    pub(super) planned: mpsc::Sender<Planned>,
    pub(super) stop: CancellationToken,
}

impl BatchReader {
    /// Reads until the end of the inputs or until the run stops.
    pub(super) fn read(self) {
        let runtime = tokio::runtime::Handle::current();
        let items = self.sources.list.iter().flat_map(|source| source.items());
        for (index, item) in (0..).zip(items) {
            let bytes = item.as_ref().map_or(0, |item| item.bytes);
            let kib =
                u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(BUDGET_KIB / MAX_ITEMS, BUDGET_KIB);
            let Ok(permit) = runtime.block_on(self.budget.clone().acquire_many_owned(kib)) else { return };
            if self.stop.is_cancelled() || self.planned.blocking_send(self.plan(index, item, permit)).is_err()
            {
                return;
            }
        }
    }

    fn plan(&self, index: u64, item: Result<Item, UnreadableItem>, permit: OwnedSemaphorePermit) -> Planned {
        let item = match item {
            Ok(item) => item,
            Err(UnreadableItem { name, result_path: path, bytes, error }) => {
                let header = ItemHeader { index, name, id: None, path, bytes, key: None };
                return Planned::Unreadable(header, format!("{error:#}"), permit);
            }
        };
        let Item { name, id, result_path: path, bytes, input } = item;
        let header = |key| ItemHeader { index, name, id, path, bytes, key };
        let Some((store, keys)) = &self.keys else {
            return Planned::Send(header(None), Box::new(input), permit);
        };
        let key = keys.key(&input);
        // Claim before the lookup: the writer stores a result before it releases the claim.
        if !store.claim(key) {
            return Planned::Stored(header(Some(key)), permit);
        }
        let state = store.state(key);
        let is_due = match state {
            StoredState::Failed | StoredState::Partial => self.retry_failed,
            StoredState::Missing => !self.retry_failed,
            StoredState::Done => false,
        };
        if is_due {
            return Planned::Send(header(Some(key)), Box::new(input), permit);
        }
        store.release(key);
        match state {
            StoredState::Missing => Planned::Skipped,
            StoredState::Done | StoredState::Partial | StoredState::Failed => {
                Planned::Stored(header(Some(key)), permit)
            }
        }
    }
}
