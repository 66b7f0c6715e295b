//! What is kept in the folder `.yizhai` of an output directory: every result under a key of all that it depends on.
//!
//! ```text
//! DIR/.yizhai/digests/ab/ab….pb      a DigestResponse, written whole or not at all
//! DIR/.yizhai/failures/ab/ab….json   why there is none, or why parts of it are missing
//! DIR/.yizhai/journal.jsonl          what was done when (see `journal`)
//! DIR/.yizhai/lock, tmp/             one run at a time; files on their way
//! ```
//!
//! A result that is there is done, whatever happened to the process that made it; what is shown to people is written
//! anew out of it. Called by `reader` (what is known?) and `writer` (keep this).

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

use super::Outcome;
use crate::{client::ItemFailure, pb};

/// Begins every key; a new version forgets everything.
const KEY_VERSION: &[u8] = b"yizhai digest 2\n";

/// SHA-256 over an input and everything else that its result depends on.
pub(super) type Key = [u8; 32];

/// Makes the keys of a run.
pub(super) struct Keys(Sha256);

impl Keys {
    /// Keys of results that are made with this model and these prompts and options.
    pub(super) fn new(running: &pb::Provenance, options: &pb::DigestOptions) -> Self {
        let mut hash = Sha256::new();
        hash.update(KEY_VERSION);
        // Both encodings are unique: they hold no maps. Each has its length in front, so that none runs into the next.
        hash.update(running.encode_length_delimited_to_vec());
        hash.update(options.encode_length_delimited_to_vec());
        Self(hash)
    }

    /// The key of one input. Its name is no part of it: the same text is done once.
    pub(super) fn of(&self, input: &pb::Input) -> Key {
        self.0.clone().chain_update(input.encode_to_vec()).finalize().into()
    }
}

/// What there is under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    Done,
    /// Done but for some sections.
    Partly,
    Failed,
}

/// The store of an output directory, held by one run at a time.
#[derive(Debug)]
pub(in crate::cli) struct Store {
    state: PathBuf,
    /// Keys that this run is at.
    claimed: Mutex<HashSet<Key>>,
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredFailure {
    code: i32,
    message: String,
}

impl Store {
    /// Opens or makes the store of an output directory.
    ///
    /// # Errors
    /// When the directory cannot be written, or another run is at it.
    pub(in crate::cli) fn open(directory: &Path) -> anyhow::Result<Self> {
        let state = directory.join(".yizhai");
        let cannot = || format!("cannot write to {}", directory.display());
        fs::create_dir_all(&state).with_context(cannot)?;
        let lock = File::create(state.join("lock")).with_context(cannot)?;
        if lock.try_lock().is_err() {
            bail!(
                "another run is writing to {}; wait for it or choose another --output",
                directory.display()
            );
        }
        let store = Self { state, claimed: Mutex::default(), _lock: lock };
        // What a run that was killed left half-written.
        match fs::remove_dir_all(store.temporary()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(cannot),
            _ => fs::create_dir_all(store.temporary()).with_context(cannot)?,
        }
        Ok(store)
    }

    /// The folder for files on their way.
    pub(super) fn temporary(&self) -> PathBuf {
        self.state.join("tmp")
    }

    /// The journal's file.
    pub(super) fn journal(&self) -> PathBuf {
        self.state.join("journal.jsonl")
    }

    /// Takes a key for this run. False when it is taken already.
    pub(super) fn claim(&self, key: Key) -> bool {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).insert(key)
    }

    /// Gives a key back; what was made of it is in the store by then.
    pub(super) fn give_back(&self, key: Key) {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    pub(super) fn known(&self, key: Key) -> Known {
        match (self.digest_path(key).is_file(), self.failure_path(key).is_file()) {
            (true, true) => Known::Partly,
            // Reading it whole is the only way to know that the disk has kept it.
            (true, false) if self.digest(key).is_some() => Known::Done,
            (_, true) => Known::Failed,
            _ => Known::Nothing,
        }
    }

    /// The result under a key; the digest before the failure.
    pub(super) fn get(&self, key: Key) -> anyhow::Result<Option<Outcome>> {
        if let Some(digest) = self.digest(key) {
            return Ok(Some(Outcome::Digest(Box::new(digest))));
        }
        let Ok(text) = fs::read(self.failure_path(key)) else { return Ok(None) };
        let StoredFailure { code, message } = serde_json::from_slice(&text)
            .with_context(|| format!("cannot read {}", self.failure_path(key).display()))?;
        Ok(Some(Outcome::Failed(ItemFailure { code: tonic::Code::from_i32(code), message })))
    }

    pub(super) fn put(&self, key: Key, digest: &pb::DigestResponse) -> anyhow::Result<()> {
        self.write(&self.digest_path(key), &digest.encode_to_vec())
    }

    pub(super) fn put_failure(&self, key: Key, failure: &ItemFailure) -> anyhow::Result<()> {
        let stored = StoredFailure { code: failure.code as i32, message: failure.message.clone() };
        self.write(&self.failure_path(key), &serde_json::to_vec(&stored)?)
    }

    pub(super) fn forget_failure(&self, key: Key) -> anyhow::Result<()> {
        match fs::remove_file(self.failure_path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Writes a file whole or not at all, even when the power goes.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let mut file = self.temporary_file()?;
        file.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
        self.put_in_place(file, path)
    }

    /// A file that goes to its place when it is whole.
    pub(super) fn temporary_file(&self) -> anyhow::Result<tempfile::NamedTempFile> {
        let folder = self.temporary();
        let mut builder = tempfile::Builder::new();
        // Others may read it, as far as the umask lets them.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(&folder).with_context(|| format!("cannot write to {}", folder.display()))
    }

    /// Gives a whole file its name, which another file may have had.
    pub(super) fn put_in_place(&self, file: tempfile::NamedTempFile, path: &Path) -> anyhow::Result<()> {
        let cannot = || format!("cannot write {}", path.display());
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).with_context(cannot)?;
        file.as_file().sync_all().with_context(cannot)?;
        file.persist(path).with_context(cannot)?;
        // The name is as durable as the folder that holds it.
        #[cfg(unix)]
        File::open(folder).and_then(|folder| folder.sync_all()).with_context(cannot)?;
        Ok(())
    }

    fn digest(&self, key: Key) -> Option<pb::DigestResponse> {
        let path = self.digest_path(key);
        let bytes = fs::read(&path).ok()?;
        pb::DigestResponse::decode(bytes.as_slice())
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "a kept result is damaged"))
            .ok()
    }

    fn digest_path(&self, key: Key) -> PathBuf {
        self.path("digests", key, "pb")
    }

    fn failure_path(&self, key: Key) -> PathBuf {
        self.path("failures", key, "json")
    }

    fn path(&self, kind: &str, key: Key, ending: &str) -> PathBuf {
        let name = hex(key);
        self.state.join(kind).join(&name[..2]).join(format!("{name}.{ending}"))
    }
}

/// A key as it stands in names and in the journal.
pub(super) fn hex(key: Key) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(text: &str) -> pb::Input {
        pb::Input { source: Some(pb::input::Source::PageText(text.to_owned())), page_format: 0 }
    }

    #[test]
    fn a_key_depends_on_everything_that_the_result_depends_on() {
        let running = pb::Provenance { model: "m".to_owned(), ..Default::default() };
        let options = pb::DigestOptions::default();
        let key = |running: &pb::Provenance, options: &pb::DigestOptions, text: &str| {
            Keys::new(running, options).of(&input(text))
        };
        let first = key(&running, &options, "一");
        assert_eq!(first, key(&running, &options, "一"));
        let prompts = pb::Provenance { prompt_version: "2".to_owned(), ..running.clone() };
        let longer = pb::DigestOptions { summary_max_chars: 50, ..options.clone() };
        let others =
            [key(&running, &options, "二"), key(&prompts, &options, "一"), key(&running, &longer, "一")];
        assert!(others.iter().all(|other| *other != first));
    }

    #[test]
    fn a_store_is_held_by_one_run_and_keeps_what_was_put() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert!(Store::open(folder.path()).unwrap_err().to_string().contains("another run"));
        let key = [7; 32];
        assert!(store.claim(key) && !store.claim(key));
        store.give_back(key);
        assert!(store.claim(key));
        assert_eq!(store.known(key), Known::Nothing);
        store
            .put_failure(key, &ItemFailure { code: tonic::Code::Internal, message: "m".to_owned() })
            .unwrap();
        assert_eq!(store.known(key), Known::Failed);
        store.put(key, &pb::DigestResponse { request_id: "r".to_owned(), ..Default::default() }).unwrap();
        assert_eq!(store.known(key), Known::Partly);
        store.forget_failure(key).unwrap();
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.known(key), Known::Done);
        fs::write(store.digest_path(key), [0xff; 9]).unwrap();
        assert_eq!(store.known(key), Known::Nothing, "a damaged result is made again");
    }
}
