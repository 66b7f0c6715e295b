//! The partial file of a download, `FILE.partial`.
//!
//! All sources of a model append to the same file, so one can resume where another stopped. Called by `fetch` (open,
//! check, install) and by the sources (append).

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::error::CatalogError;
use super::source::ExpectedFile;
use super::verify::{ContentHash, hash_reader};

/// An open partial file and the running hash of its content.
pub(super) struct PartialFile {
    file: File,
    path: PathBuf,
    len: u64,
    hasher: Sha256,
}

/// A state of a partial file, to roll back to if appended bytes turn out to be wrong.
pub(super) struct Checkpoint {
    len: u64,
    hasher: Sha256,
}

impl PartialFile {
    /// Returns the path of the partial file of `target`.
    pub(super) fn path_for(target: &Path) -> PathBuf {
        let mut name = target.as_os_str().to_owned();
        name.push(".partial");
        name.into()
    }

    /// Opens or creates the partial file of `target`, and hashes its content.
    ///
    /// Content longer than `max_bytes` cannot be right and is discarded.
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

    /// Returns the size of the content.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), CatalogError> {
        self.file.write_all(bytes).map_err(CatalogError::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Returns the current state, for [`Self::roll_back`].
    pub(super) fn checkpoint(&self) -> Checkpoint {
        Checkpoint { len: self.len, hasher: self.hasher.clone() }
    }

    /// Discards everything appended since `checkpoint`.
    pub(super) fn roll_back(&mut self, checkpoint: Checkpoint) -> Result<(), CatalogError> {
        self.file
            .set_len(checkpoint.len)
            .and_then(|()| self.file.seek(SeekFrom::Start(checkpoint.len)))
            .map_err(CatalogError::io("write", &self.path))?;
        self.len = checkpoint.len;
        self.hasher = checkpoint.hasher;
        Ok(())
    }

    /// Discards the content.
    pub(super) fn clear(&mut self) -> Result<(), CatalogError> {
        self.roll_back(Checkpoint { len: 0, hasher: Sha256::new() })
    }

    /// Checks the size and the hash. `source` is the file in the error.
    pub(super) fn check(&self, expected: &ExpectedFile, source: &str) -> Result<(), CatalogError> {
        let advice = "the download was discarded";
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

    /// Renames the verified file to `target`.
    ///
    /// Syncs it first, so that a power failure cannot leave an empty model.
    pub(super) fn install(self, target: &Path) -> Result<(), CatalogError> {
        self.file.sync_all().map_err(CatalogError::io("write", &self.path))?;
        fs::rename(&self.path, target).map_err(CatalogError::io("rename", &self.path))
    }

    /// Deletes the file.
    pub(super) fn remove(self) -> Result<(), CatalogError> {
        fs::remove_file(&self.path).map_err(CatalogError::io("remove", &self.path))
    }
}
