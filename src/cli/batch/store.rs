//! The store of an output directory: keeps every result under a hash of everything that it depends on.
//!
//! ```text
//! DIR/.yizhai/digests/ab/ab….pb      a DigestResponse, written atomically
//! DIR/.yizhai/failures/ab/ab….json   the error if there is no digest, or if sections of it failed
//! DIR/.yizhai/journal.jsonl          the processed items (see `journal`)
//! DIR/.yizhai/lock                   locked by a run
//! DIR/.yizhai/tmp/                   files being written
//! ```
//!
//! A result in the store is complete, whatever happened to the process that wrote it. Called by `reader` (lookups),
//! `writer` (new results) and `directory`.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, bail};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::ItemOutcome;
use crate::{client::ItemFailure, pb};

/// The prefix of every key. A new version invalidates all stored results.
const KEY_VERSION: &[u8] = b"yizhai digest 2\n";

/// SHA-256 of an input and everything else that its result depends on.
pub(super) type ResultKey = [u8; 32];

/// Computes the keys of a run.
pub(super) struct Keys(Sha256);

impl Keys {
    /// Prepares keys for results with this provenance and these options.
    pub(super) fn new(provenance: &pb::Provenance, options: &pb::DigestOptions) -> Self {
        let mut hash = Sha256::new();
        hash.update(KEY_VERSION);
        // Both encodings are deterministic, as they contain no maps. The length prefixes make the sequence unambiguous.
        hash.update(provenance.encode_length_delimited_to_vec());
        hash.update(options.encode_length_delimited_to_vec());
        Self(hash)
    }

    /// Returns the key of an input. It does not depend on the name, so identical inputs are processed once.
    pub(super) fn key(&self, input: &pb::Input) -> ResultKey {
        self.0.clone().chain_update(input.encode_to_vec()).finalize().into()
    }
}

/// The state of a key in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoredState {
    Missing,
    Done,
    /// There is a digest, but some of its sections failed.
    Partial,
    Failed,
}

/// The store of an output directory. Only one run at a time can open it.
#[derive(Debug)]
pub(in crate::cli) struct ResultStore {
    folder: PathBuf,
    /// Keys that this run is processing.
    claimed: Mutex<HashSet<ResultKey>>,
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredFailure {
    code: i32,
    message: String,
}

impl ResultStore {
    /// Opens the store of an output directory, and creates it if necessary.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be written, or if another run has opened its store.
    pub(in crate::cli) fn open(directory: &Path) -> anyhow::Result<Self> {
        let folder = directory.join(".yizhai");
        let cannot = || format!("cannot write to {}", directory.display());
        fs::create_dir_all(&folder).with_context(cannot)?;
        let lock = File::create(folder.join("lock")).with_context(cannot)?;
        if lock.try_lock().is_err() {
            bail!(
                "another run is writing to {}; wait for it to finish, or choose another --output",
                directory.display()
            );
        }
        let store = Self { folder, claimed: Mutex::default(), _lock: lock };
        // Remove files that a killed run left incomplete.
        match fs::remove_dir_all(store.temporary_folder()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(cannot),
            _ => fs::create_dir_all(store.temporary_folder()).with_context(cannot)?,
        }
        Ok(store)
    }

    /// Returns the folder for files being written.
    fn temporary_folder(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    /// Returns the path of the journal.
    pub(super) fn journal(&self) -> PathBuf {
        self.folder.join("journal.jsonl")
    }

    /// Claims a key for processing. Returns `false` if it is already claimed.
    pub(super) fn claim(&self, key: ResultKey) -> bool {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).insert(key)
    }

    /// Releases the claim on a key. The result must be in the store by then.
    pub(super) fn release(&self, key: ResultKey) {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    pub(super) fn state(&self, key: ResultKey) -> StoredState {
        match (self.digest_path(key).is_file(), self.failure_path(key).is_file()) {
            (true, true) => StoredState::Partial,
            // Decode it: the file may have been damaged on disk.
            (true, false) if self.digest(key).is_some() => StoredState::Done,
            (_, true) => StoredState::Failed,
            _ => StoredState::Missing,
        }
    }

    /// Returns the result of a key: the digest if there is one, or else the failure.
    pub(super) fn get(&self, key: ResultKey) -> anyhow::Result<Option<ItemOutcome>> {
        if let Some(digest) = self.digest(key) {
            return Ok(Some(ItemOutcome::Digest(Box::new(digest))));
        }
        let Ok(text) = fs::read(self.failure_path(key)) else { return Ok(None) };
        let StoredFailure { code, message } = serde_json::from_slice(&text)
            .with_context(|| format!("cannot read {}", self.failure_path(key).display()))?;
        Ok(Some(ItemOutcome::Failed(ItemFailure { code: tonic::Code::from_i32(code), message })))
    }

    pub(super) fn put(&self, key: ResultKey, digest: &pb::DigestResponse) -> anyhow::Result<()> {
        self.write(&self.digest_path(key), &digest.encode_to_vec())
    }

    pub(super) fn put_failure(&self, key: ResultKey, failure: &ItemFailure) -> anyhow::Result<()> {
        let stored = StoredFailure { code: failure.code as i32, message: failure.message.clone() };
        self.write(&self.failure_path(key), &serde_json::to_vec(&stored)?)
    }

    pub(super) fn remove_failure(&self, key: ResultKey) -> anyhow::Result<()> {
        match fs::remove_file(self.failure_path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Writes a file atomically and durably.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let mut file = self.temporary_file()?;
        file.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
        self.put_in_place(file, path)
    }

    /// Creates a temporary file for [`Self::put_in_place`].
    pub(super) fn temporary_file(&self) -> anyhow::Result<tempfile::NamedTempFile> {
        let folder = self.temporary_folder();
        let mut builder = tempfile::Builder::new();
        // Like ordinary files, readable by others as far as the umask allows.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(&folder).with_context(|| format!("cannot write to {}", folder.display()))
    }

    /// Moves a complete temporary file to its path, replacing an existing file.
    pub(super) fn put_in_place(&self, file: tempfile::NamedTempFile, path: &Path) -> anyhow::Result<()> {
        let cannot = || format!("cannot write {}", path.display());
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).with_context(cannot)?;
        file.as_file().sync_all().with_context(cannot)?;
        file.persist(path).with_context(cannot)?;
        // A rename is durable only after the folder is synced.
        #[cfg(unix)]
        File::open(folder).and_then(|folder| folder.sync_all()).with_context(cannot)?;
        Ok(())
    }

    fn digest(&self, key: ResultKey) -> Option<pb::DigestResponse> {
        let path = self.digest_path(key);
        let bytes = fs::read(&path).ok()?;
        pb::DigestResponse::decode(bytes.as_slice())
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "a stored result is damaged and will be recomputed"))
            .ok()
    }

    fn digest_path(&self, key: ResultKey) -> PathBuf {
        self.path("digests", key, "pb")
    }

    fn failure_path(&self, key: ResultKey) -> PathBuf {
        self.path("failures", key, "json")
    }

    fn path(&self, kind: &str, key: ResultKey, extension: &str) -> PathBuf {
        let name = hex(key);
        self.folder.join(kind).join(&name[..2]).join(format!("{name}.{extension}"))
    }
}

/// Formats a key as it appears in file names and in the journal.
pub(super) fn hex(key: ResultKey) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(text: &str) -> pb::Input {
        pb::Input { source: Some(pb::input::Source::PageText(text.to_owned())), page_format: 0 }
    }

    #[test]
    fn a_key_depends_on_the_provenance_the_options_and_the_input() {
        let provenance = pb::Provenance { model: "m".to_owned(), ..Default::default() };
        let options = pb::DigestOptions::default();
        let key = |provenance: &pb::Provenance, options: &pb::DigestOptions, text: &str| {
            Keys::new(provenance, options).key(&input(text))
        };
        let first = key(&provenance, &options, "一");
        assert_eq!(first, key(&provenance, &options, "一"));
        let prompts = pb::Provenance { prompt_version: "2".to_owned(), ..provenance.clone() };
        let longer = pb::DigestOptions { summary_max_chars: 50, ..options.clone() };
        let others = [
            key(&provenance, &options, "二"),
            key(&prompts, &options, "一"),
            key(&provenance, &longer, "一"),
        ];
        assert!(others.iter().all(|other| *other != first));
    }

    #[test]
    fn a_store_is_opened_once_and_keeps_results() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResultStore::open(folder.path()).unwrap();
        assert!(ResultStore::open(folder.path()).unwrap_err().to_string().contains("another run"));
        let key = [7; 32];
        assert!(store.claim(key) && !store.claim(key));
        store.release(key);
        assert!(store.claim(key));
        assert_eq!(store.state(key), StoredState::Missing);
        store
            .put_failure(key, &ItemFailure { code: tonic::Code::Internal, message: "m".to_owned() })
            .unwrap();
        assert_eq!(store.state(key), StoredState::Failed);
        store.put(key, &pb::DigestResponse { request_id: "r".to_owned(), ..Default::default() }).unwrap();
        assert_eq!(store.state(key), StoredState::Partial);
        store.remove_failure(key).unwrap();
        drop(store);
        let store = ResultStore::open(folder.path()).unwrap();
        assert_eq!(store.state(key), StoredState::Done);
        fs::write(store.digest_path(key), [0xff; 9]).unwrap();
        assert_eq!(store.state(key), StoredState::Missing, "a damaged result counts as missing");
    }
}
