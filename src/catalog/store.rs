//! The store of model files in the cache directory.
//!
//! The directory contains `FILE`, `FILE.receipt` (the verified hash and its origin) and `FILE.lock`, and during a pull
//! `FILE.partial` and `FILE.scratch`. Called by `cli`. Pulling is in `fetch`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::CatalogError;
use super::manifest::Manifest;
use super::settings::PullSettings;
use super::source::ExpectedFile;
use super::verify::{ContentHash, hash_file};

/// Receives the progress of a pull or a verification.
pub trait PullProgress {
    /// A source has been started. Of `total_bytes`, `already_bytes` are present. Called again for the next source.
    fn started(&mut self, total_bytes: u64, source: &str, already_bytes: u64);
    /// `bytes` more bytes have been received or read.
    fn advanced(&mut self, bytes: u64);
    /// Something notable has happened, such as a source being unreachable. The message is one line.
    fn note(&mut self, message: &str);
    /// All bytes are present and verified. Not called if an error is returned.
    fn finished(&mut self);
}

/// Ignores all progress.
impl PullProgress for () {
    fn started(&mut self, _total_bytes: u64, _source: &str, _already_bytes: u64) {}
    fn advanced(&mut self, _bytes: u64) {}
    fn note(&mut self, _message: &str) {}
    fn finished(&mut self) {}
}

/// The origin of the expected hash of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    /// The manifest compiled into this program.
    Manifest,
    /// The hub, for models that are unverified.
    Hub,
}

/// The record of an installed file, stored next to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The verified hash.
    pub sha256: ContentHash,
    /// The size of the file.
    pub size_bytes: u64,
    /// The origin of the expected hash.
    pub authority: Authority,
    /// The source of the file, or of its last part.
    pub source: String,
}

/// The result of a pull.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The verified file.
    pub path: PathBuf,
    /// The source of the file; `cache` if it was already installed.
    pub source: String,
    /// Bytes downloaded by this pull; 0 for a file that was on this machine.
    pub bytes_downloaded: u64,
}

/// The store of model files in one directory.
#[derive(Debug, Clone)]
pub struct ModelStore {
    root: PathBuf,
    settings: PullSettings,
}

impl ModelStore {
    /// Returns a store in `cache_dir` with settings from the environment. The first pull creates the directory.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self::with_settings(cache_dir, PullSettings::from_env())
    }

    /// Like [`Self::new`], with the given settings.
    pub fn with_settings(cache_dir: impl Into<PathBuf>, settings: PullSettings) -> Self {
        Self { root: cache_dir.into(), settings }
    }

    /// Returns the store in `$YIZHAI_CACHE_DIR/models`, or else in `yizhai/models` in the cache directory of the user.
    ///
    /// # Errors
    /// Returns [`CatalogError::NoCacheDir`] if neither directory is known.
    pub fn from_env() -> Result<Self, CatalogError> {
        let base = std::env::var_os("YIZHAI_CACHE_DIR").filter(|dir| !dir.is_empty());
        let base = base.map(PathBuf::from).or_else(|| dirs::cache_dir().map(|dir| dir.join("yizhai")));
        Ok(Self::new(base.ok_or(CatalogError::NoCacheDir)?.join("models")))
    }

    /// Returns the directory of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of the file of a model, which need not exist.
    pub fn path(&self, manifest: &Manifest) -> PathBuf {
        self.root.join(&manifest.file)
    }

    /// Returns the path of the file of a model if it is installed.
    ///
    /// Compares only the size of the file; see [`Self::verify`].
    pub fn installed(&self, manifest: &Manifest) -> Option<PathBuf> {
        let path = self.path(manifest);
        let actual_bytes = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?.len();
        // The receipt has the size if the manifest has none. It also shows whether the manifest has changed its hash.
        let (size_bytes, is_same) = match (manifest.size_bytes, self.receipt(manifest)) {
            (Some(size_bytes), None) => (size_bytes, true),
            (None, None) => return None,
            (_, Some(receipt)) => {
                (receipt.size_bytes, manifest.sha256.is_none_or(|hash| hash == receipt.sha256))
            }
        };
        (actual_bytes == size_bytes && is_same).then_some(path)
    }

    /// Returns the receipt of the installed file. There is none for a file that the user put there.
    pub fn receipt(&self, manifest: &Manifest) -> Option<Receipt> {
        let text = fs::read_to_string(self.beside(manifest, "receipt")).ok()?;
        toml::from_str(&text).ok()
    }

    /// Returns the hash that the installed file must have: that of the manifest, or else of the receipt.
    pub fn sha256(&self, manifest: &Manifest) -> Option<ContentHash> {
        manifest.sha256.or_else(|| self.receipt(manifest).map(|receipt| receipt.sha256))
    }

    /// Reads the installed file and checks its size and hash.
    ///
    /// # Errors
    /// - [`CatalogError::NotInstalled`] if there is no file.
    /// - [`CatalogError::SizeMismatch`] or [`CatalogError::HashMismatch`] if it is damaged.
    /// - [`CatalogError::NoPublishedHash`] if the model is unverified and the file has no receipt.
    /// - [`CatalogError::Io`] if it cannot be read.
    pub fn verify(
        &self,
        manifest: &Manifest,
        progress: &mut dyn PullProgress,
    ) -> Result<ContentHash, CatalogError> {
        let path = self.path(manifest);
        if !path.is_file() {
            return Err(CatalogError::NotInstalled { id: manifest.id.clone(), path });
        }
        let receipt = self.receipt(manifest);
        let known = manifest
            .size_bytes
            .zip(manifest.sha256)
            .or_else(|| receipt.map(|receipt| (receipt.size_bytes, receipt.sha256)));
        let (size_bytes, sha256) = known.ok_or_else(|| CatalogError::NoPublishedHash {
            id: manifest.id.clone(),
            reason: "the file was not installed by a pull".to_owned(),
            source: None,
        })?;
        let expected = ExpectedFile { size_bytes, sha256, authority: Authority::Manifest };
        let advice = "remove the file and pull the model again";
        check_file(&path, &expected, "verify", advice, progress)?;
        progress.finished();
        Ok(sha256)
    }

    /// Writes the receipt atomically.
    pub(super) fn write_receipt(&self, manifest: &Manifest, receipt: &Receipt) -> Result<(), CatalogError> {
        let path = self.beside(manifest, "receipt");
        let temporary = self.beside(manifest, "receipt.new");
        toml::to_string(receipt)
            .map_err(std::io::Error::other)
            .and_then(|text| fs::write(&temporary, text))
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(CatalogError::io("write", &path))
    }

    /// Returns the path of the model file with a suffix.
    pub(super) fn beside(&self, manifest: &Manifest, suffix: &str) -> PathBuf {
        self.root.join(format!("{}.{suffix}", manifest.file))
    }

    pub(super) fn settings(&self) -> &PullSettings {
        &self.settings
    }
}

/// Checks the size and hash of a file. `label` is the source for `progress`; `advice` is for the error.
pub(super) fn check_file(
    path: &Path,
    expected: &ExpectedFile,
    label: &str,
    advice: &'static str,
    progress: &mut dyn PullProgress,
) -> Result<(), CatalogError> {
    let file = || path.display().to_string();
    let actual_bytes = fs::metadata(path).map_err(CatalogError::io("read", path))?.len();
    let expected_bytes = expected.size_bytes;
    if actual_bytes != expected_bytes {
        return Err(CatalogError::SizeMismatch { file: file(), expected_bytes, actual_bytes, advice });
    }
    progress.started(expected_bytes, label, 0);
    let actual =
        hash_file(path, &mut |bytes| progress.advanced(bytes)).map_err(CatalogError::io("read", path))?;
    if actual != expected.sha256 {
        let expected = expected.sha256;
        return Err(CatalogError::HashMismatch { file: file(), expected, actual, advice });
    }
    Ok(())
}
