//! The cache directory of verified files: what is in it, and whether it is still right.
//!
//! Owns the directory's layout: `FILE`, `FILE.receipt` (what was checked, against whose hash), `FILE.lock`, and while a
//! pull is under way `FILE.partial` and `FILE.scratch`. Called by `cli`; the pull itself is in `fetch`. Never prints.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::CatalogError;
use super::manifest::Manifest;
use super::settings::PullSettings;
use super::source::ExpectedFile;
use super::verify::{ContentHash, hash_file};

/// Told what a pull or a verification does, as it does it.
pub trait PullProgress {
    /// A source begins: of `total_bytes` in all, `already_bytes` are there. Said again when another source takes over,
    /// and then replaces what was said before.
    fn started(&mut self, total_bytes: u64, source: &str, already_bytes: u64);
    /// `bytes` more are there since the last call.
    fn advanced(&mut self, bytes: u64);
    /// One line about a turn of events, such as a source that cannot be reached.
    fn note(&mut self, message: &str);
    /// All bytes are there and right. Not said when an error is returned.
    fn finished(&mut self);
}

/// Tells nobody.
impl PullProgress for () {
    fn started(&mut self, _total_bytes: u64, _source: &str, _already_bytes: u64) {}
    fn advanced(&mut self, _bytes: u64) {}
    fn note(&mut self, _message: &str) {}
    fn finished(&mut self) {}
}

/// Who vouches for a file's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    /// The manifest compiled into this program.
    Manifest,
    /// The hub, which published it when the file was pulled; for models that are not verified yet.
    Hub,
}

/// What is known of an installed file; kept beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Hash of the content when it was installed.
    pub sha256: ContentHash,
    /// Bytes.
    pub size_bytes: u64,
    /// Who said that this is the right hash.
    pub authority: Authority,
    /// Where the (last) bytes came from.
    pub source: String,
}

/// The outcome of a pull.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The verified file.
    pub path: PathBuf,
    /// Where it came from; `cache` when it had been there already.
    pub source: String,
    /// Bytes that this call received; 0 for a file that was on this machine.
    pub bytes_downloaded: u64,
}

/// The cache of model files in one directory.
#[derive(Debug, Clone)]
pub struct ModelStore {
    root: PathBuf,
    settings: PullSettings,
}

impl ModelStore {
    /// A store in `cache_dir`, which is made when the first model is pulled, with the environment's settings.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self::with_settings(cache_dir, PullSettings::from_env())
    }

    /// As [`Self::new`], with settings made by the caller.
    pub fn with_settings(cache_dir: impl Into<PathBuf>, settings: PullSettings) -> Self {
        Self { root: cache_dir.into(), settings }
    }

    /// A store in `YIZHAI_CACHE_DIR`, or else in `yizhai` in the user's cache directory, in both below `models`.
    ///
    /// # Errors
    /// [`CatalogError::NoCacheDir`] when neither is known.
    pub fn from_env() -> Result<Self, CatalogError> {
        let base = std::env::var_os("YIZHAI_CACHE_DIR").filter(|dir| !dir.is_empty());
        let base = base.map(PathBuf::from).or_else(|| dirs::cache_dir().map(|dir| dir.join("yizhai")));
        Ok(Self::new(base.ok_or(CatalogError::NoCacheDir)?.join("models")))
    }

    /// The directory of the files.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the model's file is, or will be when it has been pulled.
    pub fn path(&self, manifest: &Manifest) -> PathBuf {
        self.root.join(&manifest.file)
    }

    /// The model's file, if it is there with the right size. Cheap: the content is not read; see [`Self::verify`].
    pub fn installed(&self, manifest: &Manifest) -> Option<PathBuf> {
        let path = self.path(manifest);
        let actual_bytes = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?.len();
        // The receipt tells the size where the manifest cannot, and whether the manifest has a new hash by now.
        let (size_bytes, is_same) = match (manifest.size_bytes, self.receipt(manifest)) {
            (Some(size_bytes), None) => (size_bytes, true),
            (None, None) => return None,
            (_, Some(receipt)) => {
                (receipt.size_bytes, manifest.sha256.is_none_or(|hash| hash == receipt.sha256))
            }
        };
        (actual_bytes == size_bytes && is_same).then_some(path)
    }

    /// What was checked when the model was installed; `None` before, or for a file put there by hand.
    pub fn receipt(&self, manifest: &Manifest) -> Option<Receipt> {
        let text = fs::read_to_string(self.beside(manifest, "receipt")).ok()?;
        toml::from_str(&text).ok()
    }

    /// The hash that the installed file must have: the manifest's, or the one published when it was pulled.
    pub fn sha256(&self, manifest: &Manifest) -> Option<ContentHash> {
        manifest.sha256.or_else(|| self.receipt(manifest).map(|receipt| receipt.sha256))
    }

    /// Reads the whole installed file and checks its size and hash.
    ///
    /// # Errors
    /// [`CatalogError::NotInstalled`], [`CatalogError::SizeMismatch`], [`CatalogError::HashMismatch`] with both hashes,
    /// [`CatalogError::Io`]; [`CatalogError::NoPublishedHash`] for an unverified file that was put there by hand.
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
            reason: "the file was not put there by a pull".to_owned(),
            source: None,
        })?;
        let expected = ExpectedFile { size_bytes, sha256, authority: Authority::Manifest };
        let advice = "remove the file and pull the model again";
        check_file(&path, &expected, "verify", advice, progress)?;
        progress.finished();
        Ok(sha256)
    }

    /// Written aside and renamed, so that a reader sees all or nothing.
    pub(super) fn write_receipt(&self, manifest: &Manifest, receipt: &Receipt) -> Result<(), CatalogError> {
        let path = self.beside(manifest, "receipt");
        let aside = self.beside(manifest, "receipt.new");
        toml::to_string(receipt)
            .map_err(std::io::Error::other)
            .and_then(|text| fs::write(&aside, text))
            .and_then(|()| fs::rename(&aside, &path))
            .map_err(CatalogError::io("write", &path))
    }

    /// A path beside the model's file, for `suffix`.
    pub(super) fn beside(&self, manifest: &Manifest, suffix: &str) -> PathBuf {
        self.root.join(format!("{}.{suffix}", manifest.file))
    }

    pub(super) fn settings(&self) -> &PullSettings {
        &self.settings
    }
}

/// Reads all of `path`; `label` is what `progress` is told, `advice` stands in the error.
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
