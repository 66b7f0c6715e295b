//! The results on disk: one file, written by one thread, bounded by forgetting the oldest.
//!
//! Every value stands behind its SHA-256; what does not match is a miss and is forgotten. A disk that is full or fails
//! costs entries and nothing else: the file is closed, everything is a miss, and after a pause it is opened again.

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

/// Name → hash and value.
const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
/// When it came, in order → name and size.
const ORDER: TableDefinition<'_, u64, (&[u8], u64)> = TableDefinition::new("order");
/// Entries that wait to be written; with more, new ones are not kept.
const QUEUE: usize = 1024;
/// The most memory that the store uses for its pages, in bytes.
const PAGES_BYTES: usize = 16 << 20;
/// How long a file that failed is left alone.
const PAUSE: Duration = Duration::from_secs(60);

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the result cache in {path} cannot be used: {reason}")]
pub struct DiskError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// The open file; `None` from a failure until it is opened again. After a failure the store refuses everything.
type SharedDatabase = Arc<ArcSwapOption<Database>>;

/// The file; cheap to clone.
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
            // Another process has it: no reason to throw it away.
            Err(error @ DatabaseError::DatabaseAlreadyOpen) => return Err(failed(error.to_string())),
            Err(error) => {
                let aside = path.with_extension("broken");
                std::fs::rename(path, &aside).map_err(|_| failed(error.to_string()))?;
                tracing::warn!(%error, aside = %aside.display(), "the result cache was broken and is begun anew");
                create(path).map_err(|error| failed(error.to_string()))?
            }
        };
        let database = Arc::new(ArcSwapOption::from_pointee(database));
        let (writes, inbox) = mpsc::channel(QUEUE);
        let writer = DiskWriter::new(path, database.clone(), max_bytes, metrics.clone())
            .map_err(|e| failed(e.to_string()))?;
        std::thread::Builder::new()
            .name("result-cache".to_owned())
            .spawn(move || writer.run(inbox))
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { database, writes, metrics })
    }

    /// The values of the names that are there.
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
            Ok(Some(bytes)) => match checked(&bytes) {
                Some(value) => ("disk", Some(value.into())),
                None => ("corrupt", None),
            },
            Err(error) => {
                tracing::warn!(%error, "the result cache cannot be read and is closed for a while");
                self.database.store(None);
                ("corrupt", None)
            }
        };
        self.metrics.cache_lookups.get_or_create(&ResultLabel { result }).inc();
        value
    }

    /// Has an entry written, if the disk keeps up.
    pub(super) fn put(&self, key: CacheKey, value: Arc<[u8]>) {
        if self.writes.try_send((key, value)).is_err() {
            self.metrics.cache_writes_failed.inc();
        }
    }
}

fn create(path: &Path) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(PAGES_BYTES).create(path)
}

/// The value, when it is the one that was written.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (hash, value) = bytes.split_at_checked(32)?;
    (Sha256::digest(value).as_slice() == hash).then_some(value)
}

/// The thread that writes.
struct DiskWriter {
    path: PathBuf,
    database: SharedDatabase,
    max_bytes: u64,
    /// The size of all entries.
    bytes: u64,
    /// The number of the next entry in their order.
    next: u64,
    /// When a file that failed may be opened again; `None` while all is well.
    open_again: Option<Instant>,
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
        let mut writer = Self { path, database, max_bytes, bytes: 0, next: 0, open_again: None, metrics };
        if let Some(open) = open {
            writer.count(&open)?;
        }
        Ok(writer)
    }

    /// Counts what the file holds.
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
            // What has come meanwhile goes into the same transaction.
            let batch: Vec<_> =
                std::iter::once(first).chain(std::iter::from_fn(|| inbox.try_recv().ok())).collect();
            self.keep(batch, Instant::now());
        }
    }

    /// Writes a batch, or counts it as lost. A failure and its end are told once each.
    fn keep(&mut self, batch: Vec<(CacheKey, Arc<[u8]>)>, now: Instant) {
        let count = batch.len() as u64;
        if self.open_again.is_some_and(|at| now < at) {
            self.metrics.cache_writes_failed.inc_by(count);
            return;
        }
        match self.write(batch) {
            Ok(()) => {
                if self.open_again.take().is_some() {
                    tracing::info!("the result cache is written again");
                }
            }
            Err(error) => {
                self.metrics.cache_writes_failed.inc_by(count);
                self.database.store(None);
                if self.open_again.replace(now + PAUSE).is_none() {
                    tracing::warn!(%error, "the result cache cannot be written; results are not kept on disk until it can");
                }
            }
        }
    }

    /// The file, opened again if it is not open.
    fn open(&mut self) -> Result<Arc<Database>, redb::Error> {
        if let Some(open) = self.database.load_full() {
            return Ok(open);
        }
        let opened = Arc::new(create(&self.path)?);
        self.count(&opened)?;
        self.database.store(Some(opened.clone()));
        Ok(opened)
    }

    fn write(&mut self, batch: Vec<(CacheKey, Arc<[u8]>)>) -> Result<(), redb::Error> {
        let database = self.open()?;
        let transaction = database.begin_write()?;
        {
            let mut entries = transaction.open_table(ENTRIES)?;
            let mut order = transaction.open_table(ORDER)?;
            for (key, value) in batch {
                let mut bytes = Sha256::digest(&value).to_vec();
                bytes.extend_from_slice(&value);
                if bytes.len() as u64 > self.max_bytes || entries.get(key.as_slice())?.is_some_and(is_whole) {
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

fn is_whole(entry: redb::AccessGuard<'_, &[u8]>) -> bool {
    checked(entry.value()).is_some()
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
    fn the_oldest_are_forgotten_and_the_count_survives_a_restart() {
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
    fn a_corrupt_entry_is_a_miss_and_is_written_again() {
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
    fn a_broken_file_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.redb");
        std::fs::write(&path, "no database ".repeat(1000)).unwrap();
        let disk = DiskStore::open(&path, 1 << 20, Metrics::default()).unwrap();
        assert!(directory.path().join("results.broken").exists());
        assert_eq!(disk.read(&[1; 32]), None);
    }

    #[test]
    fn a_file_that_failed_is_closed_and_after_a_pause_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.redb");
        let disk = DiskStore::open(&path, 1 << 20, Metrics::default()).unwrap();
        let mut writer =
            DiskWriter::new(&path, disk.database.clone(), 1 << 20, disk.metrics.clone()).unwrap();
        written(&mut writer, 1..2);
        let failed =
            |count: u64| disk.metrics.text().contains(&format!("yizhai_cache_writes_failed_total {count}"));
        let batch = |n: u8| vec![([n; 32], value(n))];
        let began = Instant::now();
        // Another has the file when it is to be opened again.
        disk.database.store(None);
        let other = create(&path).unwrap();
        writer.keep(batch(2), began);
        assert!(failed(1) && disk.read(&[1; 32]).is_none());
        drop(other);
        writer.keep(batch(3), began + PAUSE / 2);
        assert!(failed(2), "it was tried again before the pause was over");
        writer.keep(batch(4), began + PAUSE);
        assert!(failed(2) && writer.open_again.is_none());
        let kept: Vec<u8> = (1..5).filter(|&n| disk.read(&[n; 32]) == Some(value(n))).collect();
        assert_eq!((kept, writer.bytes, writer.next), (vec![1, 4], 264, 2));
    }
}
