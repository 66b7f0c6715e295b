//! The file that grows until it is the model.
//!
//! Owns `FILE.partial`: one per artifact, whatever the source, for the bytes are the same and the hash decides. What
//! one source left behind, another goes on with. Called by `store` (open, check, install) and by the sources (append).
//! Nothing gets the final name here before its size and its hash were right.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::error::CatalogError;
use super::source::ExpectedFile;
use super::verify::{ContentHash, hash_reader};

/// An open partial file and the running hash of all that is in it.
pub(super) struct PartialFile {
    file: File,
    path: PathBuf,
    len: u64,
    hasher: Sha256,
}

/// A state to go back to, for bytes that turn out wrong after they were appended.
pub(super) struct Checkpoint {
    len: u64,
    hasher: Sha256,
}

impl PartialFile {
    /// The path of the partial file for `target`.
    pub(super) fn path_for(target: &Path) -> PathBuf {
        let mut name = target.as_os_str().to_owned();
        name.push(".partial");
        name.into()
    }

    /// Opens or creates the partial file of `target` and hashes what is there. More than `max_bytes` cannot be a
    /// beginning of the file and is thrown away.
    pub(super) fn open(target: &Path, max_bytes: u64) -> Result<Self, CatalogError> {
        let path = Self::path_for(target);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(CatalogError::io("create", &path))?;
        let mut hasher = Sha256::new();
        let len =
            hash_reader(&mut file, &mut hasher, &mut |_| ()).map_err(CatalogError::io("read", &path))?;
        let mut partial = Self { file, path, len, hasher };
        if partial.len > max_bytes {
            partial.clear()?;
        }
        Ok(partial)
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), CatalogError> {
        self.file.write_all(bytes).map_err(CatalogError::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// The present state, for [`Self::rewind`].
    pub(super) fn mark(&self) -> Checkpoint {
        Checkpoint { len: self.len, hasher: self.hasher.clone() }
    }

    /// Forgets all that was appended since `mark`.
    pub(super) fn rewind(&mut self, mark: Checkpoint) -> Result<(), CatalogError> {
        self.file
            .set_len(mark.len)
            .and_then(|()| self.file.seek(SeekFrom::Start(mark.len)))
            .map_err(CatalogError::io("write", &self.path))?;
        self.len = mark.len;
        self.hasher = mark.hasher;
        Ok(())
    }

    /// Back to nothing.
    pub(super) fn clear(&mut self) -> Result<(), CatalogError> {
        self.rewind(Checkpoint { len: 0, hasher: Sha256::new() })
    }

    /// Whether all bytes are there and right; `source` stands in the error.
    pub(super) fn check(&self, expected: &ExpectedFile, source: &str) -> Result<(), CatalogError> {
        let advice = "the download was thrown away";
        if self.len != expected.size_bytes {
            return Err(CatalogError::SizeMismatch {
                file: source.to_owned(),
                expected_bytes: expected.size_bytes,
                actual_bytes: self.len,
                advice,
            });
        }
        let actual = ContentHash::of(self.hasher.clone());
        if actual != expected.sha256 {
            let expected = expected.sha256;
            return Err(CatalogError::HashMismatch { file: source.to_owned(), expected, actual, advice });
        }
        Ok(())
    }

    /// Gives the checked file its name. On the disk before the name is, so that a power cut leaves no empty model.
    pub(super) fn install(self, target: &Path) -> Result<(), CatalogError> {
        self.file.sync_all().map_err(CatalogError::io("write", &self.path))?;
        fs::rename(&self.path, target).map_err(CatalogError::io("rename", &self.path))
    }

    /// Removes the file.
    pub(super) fn remove(self) -> Result<(), CatalogError> {
        fs::remove_file(&self.path).map_err(CatalogError::io("remove", &self.path))
    }
}
