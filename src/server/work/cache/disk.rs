//! The result cache on disk: one file, written by one thread, with the oldest entries evicted first.
//!
//! Every value is stored with its SHA-256, and one that does not match is a miss. A disk that is full or fails costs
//! entries and nothing else: the file is closed, every lookup is a miss, and after a delay the file is opened again.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::CacheKey;
use crate::server::observe::{Metrics, ResultLabel};

/// Key → SHA-256 and value.
const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
/// Sequence number in order of insertion → key and size.
const ORDER: TableDefinition<'_, u64, (&[u8], u64)> = TableDefinition::new("order");
/// Maximum number of entries waiting to be written. Further ones are not stored.
const QUEUE_ENTRIES: usize = 1024;
/// The size of the database's page cache, in bytes.
const PAGE_CACHE_BYTES: usize = 16 << 20;
/// The delay before a file that failed is opened again.
const REOPEN_DELAY: Duration = Duration::from_secs(60);

/// The error returned for a file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the result cache in {path} cannot be used: {reason}")]
pub struct DiskError {
    /// The path of the file.
    pub path: PathBuf,
    /// The underlying error.
    pub reason: String,
}

/// The open database, or `None` from a failure until it is opened again. redb rejects all operations after a failure, so
/// the database must be reopened.
type SharedDatabase = Arc<ArcSwapOption<Database>>;

/// A handle to the file. Cheap to clone.
#[derive(Clone)]
pub(super) struct DiskStore {
    database: SharedDatabase,
    writes: mpsc::Sender<(CacheKey, Arc<[u8]>)>,
    metrics: Metrics,
}

impl DiskStore {
    pub(super) fn open(path: &Path, max_bytes: u64, metrics: Metrics) -> Result<Self, DiskError> {
        let failed = |reason: String| DiskError { path: path.to_owned(), reason };
        let database = match create(path) {
            Ok(database) => database,
            // Another process is using the file, so it must not be moved aside.
            Err(error @ DatabaseError::DatabaseAlreadyOpen) => return Err(failed(error.to_string())),
            Err(error) => {
                let aside = path.with_extension("corrupt");
                std::fs::rename(path, &aside).map_err(|_| failed(error.to_string()))?;
                tracing::warn!(%error, aside = %aside.display(), "the result cache is corrupt; moved it aside and created a new one");
                create(path).map_err(|error| failed(error.to_string()))?
            }
        };
        let database = Arc::new(ArcSwapOption::from_pointee(database));
        let (writes, inbox) = mpsc::channel(QUEUE_ENTRIES);
        let writer = DiskWriter::new(path, database.clone(), max_bytes, metrics.clone())
            .map_err(|e| failed(e.to_string()))?;
        std::thread::Builder::new()
            .name("result-cache".to_owned())
            .spawn(move || writer.run(inbox))
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { database, writes, metrics })
    }

    /// Looks up values. A missing one is `None`.
    pub(super) async fn get(&self, keys: Vec<CacheKey>) -> Vec<Option<Arc<[u8]>>> {
        let (disk, count) = (self.clone(), keys.len());
        let read = tokio::task::spawn_blocking(move || keys.iter().map(|key| disk.read(key)).collect());
        read.await.unwrap_or_else(|_| vec![None; count])
    }

    fn read(&self, key: &CacheKey) -> Option<Arc<[u8]>> {
        let database = self.database.load_full()?;
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let table = database.begin_read()?.open_table(ENTRIES)?;
            Ok(table.get(key.as_slice())?.map(|value| value.value().to_vec()))
        };
        let (result, value) = match read() {
            Ok(None) => return None,
            Ok(Some(bytes)) => match verified(&bytes) {
                Some(value) => ("disk", Some(value.into())),
                None => ("corrupt", None),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot read the result cache; closed it for now");
                self.database.store(None);
                ("corrupt", None)
            }
        };
        self.metrics.cache_lookups.get_or_create(&ResultLabel { result }).inc();
        value
    }

    /// Queues an entry to be written. Drops it if the disk cannot keep up.
    pub(super) fn put(&self, key: CacheKey, value: Arc<[u8]>) {
        if self.writes.try_send((key, value)).is_err() {
            self.metrics.cache_writes_failed.inc();
        }
    }
}

fn create(path: &Path) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(PAGE_CACHE_BYTES).create(path)
}

/// Returns the value if it matches its SHA-256.
fn verified(bytes: &[u8]) -> Option<&[u8]> {
    let (hash, value) = bytes.split_at_checked(32)?;
    (Sha256::digest(value).as_slice() == hash).then_some(value)
}

/// The state of the writing thread.
struct DiskWriter {
    path: PathBuf,
    database: SharedDatabase,
    max_bytes: u64,
    /// The total size of all entries.
    bytes: u64,
    /// The sequence number of the next entry.
    next: u64,
    /// The time at which a file that failed may be opened again. `None` while writes succeed.
    reopen_at: Option<Instant>,
    metrics: Metrics,
}

impl DiskWriter {
    fn new(
        path: &Path,
        database: SharedDatabase,
        max_bytes: u64,
        metrics: Metrics,
    ) -> Result<Self, redb::Error> {
        let (path, open) = (path.to_owned(), database.load_full());
        let mut writer = Self { path, database, max_bytes, bytes: 0, next: 0, reopen_at: None, metrics };
        if let Some(open) = open {
            writer.count(&open)?;
        }
        Ok(writer)
    }

    /// Computes the size and the next sequence number from the file.
    fn count(&mut self, database: &Database) -> Result<(), redb::Error> {
        (self.bytes, self.next) = (0, 0);
        let transaction = database.begin_write()?;
        {
            transaction.open_table(ENTRIES)?;
            for entry in transaction.open_table(ORDER)?.iter()? {
                let (order, entry) = entry?;
                self.bytes += entry.value().1;
                self.next = order.value() + 1;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Runs until the last handle is dropped.
    fn run(mut self, mut inbox: mpsc::Receiver<(CacheKey, Arc<[u8]>)>) {
        while let Some(first) = inbox.blocking_recv() {
            // Entries that arrived in the meantime share the transaction.
            let batch: Vec<_> =
                std::iter::once(first).chain(std::iter::from_fn(|| inbox.try_recv().ok())).collect();
            self.write_or_count(batch, Instant::now());
        }
    }

    /// Writes a batch, or counts it as lost. Logs the first of several failures and the recovery.
    fn write_or_count(&mut self, batch: Vec<(CacheKey, Arc<[u8]>)>, now: Instant) {
        let count = batch.len() as u64;
        if self.reopen_at.is_some_and(|at| now < at) {
            self.metrics.cache_writes_failed.inc_by(count);
            return;
        }
        match self.write(batch) {
            Ok(()) => {
                if self.reopen_at.take().is_some() {
                    tracing::info!("the result cache is writable again");
                }
            }
            Err(error) => {
                self.metrics.cache_writes_failed.inc_by(count);
                self.database.store(None);
                if self.reopen_at.replace(now + REOPEN_DELAY).is_none() {
                    tracing::warn!(%error, "cannot write the result cache; results are not stored on disk for now");
                }
            }
        }
    }

    /// Returns the database, after reopening it if necessary.
    fn reopen(&mut self) -> Result<Arc<Database>, redb::Error> {
        if let Some(open) = self.database.load_full() {
            return Ok(open);
        }
        let opened = Arc::new(create(&self.path)?);
        self.count(&opened)?;
        self.database.store(Some(opened.clone()));
        Ok(opened)
    }

    fn write(&mut self, batch: Vec<(CacheKey, Arc<[u8]>)>) -> Result<(), redb::Error> {
        let database = self.reopen()?;
        let transaction = database.begin_write()?;
        {
            let mut entries = transaction.open_table(ENTRIES)?;
            let mut order = transaction.open_table(ORDER)?;
            for (key, value) in batch {
                let mut bytes = Sha256::digest(&value).to_vec();
                bytes.extend_from_slice(&value);
                if bytes.len() as u64 > self.max_bytes || entries.get(key.as_slice())?.is_some_and(is_intact)
                {
                    continue;
                }
                entries.insert(key.as_slice(), bytes.as_slice())?;
                order.insert(self.next, (key.as_slice(), bytes.len() as u64))?;
                self.next += 1;
                self.bytes += bytes.len() as u64;
            }
            while self.bytes > self.max_bytes {
                let Some((_, oldest)) = order.pop_first()? else { break };
                let (key, bytes) = oldest.value();
                entries.remove(key)?;
                self.bytes = self.bytes.saturating_sub(bytes);
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

fn is_intact(entry: redb::AccessGuard<'_, &[u8]>) -> bool {
    verified(entry.value()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(n: u8) -> Arc<[u8]> {
        vec![n; 100].into()
    }

    fn written(writer: &mut DiskWriter, numbers: impl Iterator<Item = u8>) {
        writer.write(numbers.map(|n| ([n; 32], value(n))).collect()).unwrap();
    }

    #[test]
    fn evicts_the_oldest_entries_and_restores_its_size_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.redb");
        let size = 132;
        {
            let database = Arc::new(ArcSwapOption::from_pointee(create(&path).unwrap()));
            let mut writer = DiskWriter::new(&path, database, 3 * size, Metrics::default()).unwrap();
            written(&mut writer, 0..5);
            assert_eq!(writer.bytes, 3 * size);
        }
        let disk = DiskStore::open(&path, 3 * size, Metrics::default()).unwrap();
        let kept: Vec<u8> = (0..5).filter(|&n| disk.read(&[n; 32]) == Some(value(n))).collect();
        assert_eq!(kept, [2, 3, 4]);
        let mut writer = DiskWriter::new(&path, disk.database.clone(), 3 * size, Metrics::default()).unwrap();
        assert_eq!((writer.bytes, writer.next), (3 * size, 5));
        written(&mut writer, 5..6);
        assert!(disk.read(&[2; 32]).is_none() && disk.read(&[5; 32]).is_some());
    }

    #[test]
    fn a_corrupt_entry_is_a_miss_and_can_be_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.redb");
        let disk = DiskStore::open(&path, 1 << 20, Metrics::default()).unwrap();
        let mut writer = DiskWriter::new(&path, disk.database.clone(), 1 << 20, Metrics::default()).unwrap();
        written(&mut writer, 1..2);
        let transaction = disk.database.load_full().unwrap().begin_write().unwrap();
        transaction.open_table(ENTRIES).unwrap().insert([1; 32].as_slice(), [7; 132].as_slice()).unwrap();
        transaction.commit().unwrap();
        assert_eq!(disk.read(&[1; 32]), None);
        assert!(disk.metrics.text().contains("yizhai_cache_lookups_total{result=\"corrupt\"} 1"));
        written(&mut writer, 1..2);
        assert_eq!(disk.read(&[1; 32]), Some(value(1)));
    }

    #[test]
    fn a_corrupt_file_is_moved_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.redb");
        std::fs::write(&path, "not a database ".repeat(1000)).unwrap();
        let disk = DiskStore::open(&path, 1 << 20, Metrics::default()).unwrap();
        assert!(directory.path().join("results.corrupt").exists());
        assert_eq!(disk.read(&[1; 32]), None);
    }

    #[test]
    fn a_file_that_fails_is_closed_and_reopened_after_a_delay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.redb");
        let disk = DiskStore::open(&path, 1 << 20, Metrics::default()).unwrap();
        let mut writer =
            DiskWriter::new(&path, disk.database.clone(), 1 << 20, disk.metrics.clone()).unwrap();
        written(&mut writer, 1..2);
        let failed =
            |count: u64| disk.metrics.text().contains(&format!("yizhai_cache_writes_failed_total {count}"));
        let batch = |n: u8| vec![([n; 32], value(n))];
        let start = Instant::now();
        // Another handle has the file open when it is to be reopened.
        disk.database.store(None);
        let other = create(&path).unwrap();
        writer.write_or_count(batch(2), start);
        assert!(failed(1) && disk.read(&[1; 32]).is_none());
        drop(other);
        writer.write_or_count(batch(3), start + REOPEN_DELAY / 2);
        assert!(failed(2), "it was reopened before the delay was over");
        writer.write_or_count(batch(4), start + REOPEN_DELAY);
        assert!(failed(2) && writer.reopen_at.is_none());
        let kept: Vec<u8> = (1..5).filter(|&n| disk.read(&[n; 32]) == Some(value(n))).collect();
        assert_eq!((kept, writer.bytes, writer.next), (vec![1, 4], 264, 2));
    }
}
