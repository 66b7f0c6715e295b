//! Pulling a model: the steps from a manifest to an installed file.
//!
//! ```text
//! lock ─▶ find the hash ─▶ look for the file on this machine ─▶ check free space ─▶ try each remote source ─▶ verify
//! ```
//!
//! Called through [`ModelStore::pull`]. All sources append to the same partial file; retries within a source are its
//! own concern. If a completed file has a wrong hash, but was begun by an earlier pull, its last source gets a second
//! attempt from the beginning.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::error::CatalogError;
use super::manifest::{Manifest, ModelSource};
use super::partial::PartialFile;
use super::source::{ExpectedFile, RemoteSource, SourceDownload, hub};
use super::store::{Authority, ModelStore, PullProgress, Pulled, Receipt, check_file};

impl ModelStore {
    /// Installs the file of a model, if it is not installed yet, and returns its path.
    ///
    /// Resumes an interrupted pull. Waits while another process pulls the same file.
    ///
    /// # Errors
    /// - [`CatalogError::NoSpace`] before the download if the disk is too full.
    /// - [`CatalogError::NoPublishedHash`] if the model is unverified and its hub has no hash.
    /// - [`CatalogError::AllSourcesFailed`] with the error of every source.
    /// - [`CatalogError::Io`] if the cache directory cannot be used.
    pub fn pull(&self, manifest: &Manifest, progress: &mut dyn PullProgress) -> Result<Pulled, CatalogError> {
        let cached = |path| Pulled { path, source: "cache".to_owned(), bytes_downloaded: 0 };
        if let Some(path) = self.installed(manifest) {
            return Ok(cached(path));
        }
        fs::create_dir_all(self.root()).map_err(CatalogError::io("create", self.root()))?;
        let _lock = self.lock(manifest, progress)?;
        // Another process may have installed it while this one waited for the lock.
        if let Some(path) = self.installed(manifest) {
            return Ok(cached(path));
        }

        let expected = self.expected(manifest, progress)?;
        let mut failures = Vec::new();
        for (label, path) in self.local_files(manifest, &expected) {
            match self.link_local_file(manifest, &label, &path, &expected, progress) {
                Ok(pulled) => return Ok(pulled),
                Err(e) => record_failure(e, None, &mut failures, progress),
            }
        }
        self.download(manifest, &expected, failures, progress)
    }

    /// Locks the model until the returned file is closed.
    ///
    /// The lock file is never removed: two processes could then lock different files of the same name.
    fn lock(&self, manifest: &Manifest, progress: &mut dyn PullProgress) -> Result<File, CatalogError> {
        let path = self.beside(manifest, "lock");
        let file = File::create(&path).map_err(CatalogError::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                progress.note(&format!("another process is pulling {}; waiting for it", manifest.id));
            }
            Err(TryLockError::Error(e)) => return Err(CatalogError::io("lock", &path)(e)),
        }
        file.lock().map_err(CatalogError::io("lock", &path))?;
        Ok(file)
    }

    /// Returns the size and hash of the manifest, or else those published by the hub.
    fn expected(
        &self,
        manifest: &Manifest,
        progress: &mut dyn PullProgress,
    ) -> Result<ExpectedFile, CatalogError> {
        if let (Some(size_bytes), Some(sha256)) = (manifest.size_bytes, manifest.sha256) {
            return Ok(ExpectedFile { size_bytes, sha256, authority: Authority::Manifest });
        }
        let mut failure = None;
        for source in &manifest.sources {
            let ModelSource::Hub(source) = source else { continue };
            match hub::published(source, &self.settings().hub) {
                Ok(expected) => {
                    progress.note(&format!(
                        "{} is unverified; using the hash published by the hub, {}",
                        manifest.id, expected.sha256
                    ));
                    return Ok(expected);
                }
                Err(e) => failure = Some(Box::new(e)),
            }
        }
        let reason = match &failure {
            Some(e) => e.to_string(),
            None => "the manifest has no hub source".to_owned(),
        };
        Err(CatalogError::NoPublishedHash { id: manifest.id.clone(), reason, source: failure })
    }

    /// Returns files on this machine that may be the model, with a label for messages.
    ///
    /// The first may be a file that the user put into the cache directory.
    fn local_files(&self, manifest: &Manifest, expected: &ExpectedFile) -> Vec<(String, PathBuf)> {
        let in_model_path = self.settings().model_path.iter().map(|path| {
            if path.ends_with(&manifest.file) { path.clone() } else { path.join(&manifest.file) }
        });
        let in_sources = manifest.sources.iter().filter_map(|source| match source {
            ModelSource::File(file) => Some(file.path.clone()),
            ModelSource::Hub(hub) => hub::cached(hub, &self.settings().hub, &expected.sha256),
            ModelSource::Wheels(_) => None,
        });
        std::iter::once(self.path(manifest))
            .chain(in_model_path)
            .chain(in_sources)
            .filter(|path| path.is_file())
            .map(|path| (format!("file {}", path.display()), path))
            .collect()
    }

    /// Verifies a file on this machine and links it into the cache directory.
    fn link_local_file(
        &self,
        manifest: &Manifest,
        label: &str,
        path: &Path,
        expected: &ExpectedFile,
        progress: &mut dyn PullProgress,
    ) -> Result<Pulled, CatalogError> {
        check_file(path, expected, label, "it was ignored", progress)?;
        let target = self.path(manifest);
        let real = fs::canonicalize(path).map_err(CatalogError::io("read", path))?;
        // The file may already be in place. Replacing it with a link to itself would lose it.
        if fs::canonicalize(&target).ok().as_ref() != Some(&real) {
            let link = self.beside(manifest, "link");
            match fs::remove_file(&link) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(CatalogError::io("remove", &link)(e));
                }
                _ => link_or_copy(&real, &link).map_err(CatalogError::io("create", &link))?,
            }
            fs::rename(&link, &target).map_err(CatalogError::io("rename", &link))?;
        }
        self.complete(manifest, expected, label.to_owned(), 0, progress)
    }

    /// Downloads the file from the first remote source that provides it.
    fn download(
        &self,
        manifest: &Manifest,
        expected: &ExpectedFile,
        mut failures: Vec<CatalogError>,
        progress: &mut dyn PullProgress,
    ) -> Result<Pulled, CatalogError> {
        let target = self.path(manifest);
        let scratch = self.beside(manifest, "scratch");
        let remotes: Vec<_> = manifest.sources.iter().filter_map(RemoteSource::new).collect();
        if PartialFile::path_for(&target).exists() {
            progress.note("resuming an interrupted pull; reading the partial file");
        }
        let mut partial = PartialFile::open(&target, expected.size_bytes)?;
        let scratch_bytes = remotes.iter().map(RemoteSource::scratch_bytes).max().unwrap_or(0);
        self.check_space(manifest, expected.size_bytes - partial.len() + scratch_bytes)?;

        let mut bytes_downloaded = 0;
        for (i, remote) in remotes.iter().enumerate() {
            let label = remote.label();
            let next = remotes.get(i + 1).map(RemoteSource::label);
            loop {
                let already_bytes = partial.len();
                progress.started(expected.size_bytes, &label, already_bytes);
                let fetched = remote.fetch(&mut SourceDownload {
                    partial: &mut partial,
                    expected,
                    settings: self.settings(),
                    progress: &mut *progress,
                    scratch: &scratch,
                });
                bytes_downloaded += partial.len().saturating_sub(already_bytes);
                if let Err(e) = fetched {
                    if e.is_local() {
                        return Err(e);
                    }
                    record_failure(e, next, &mut failures, progress);
                    break;
                }
                let Err(wrong) = partial.check(expected, &label) else {
                    partial.install(&target)?;
                    return self.complete(manifest, expected, label, bytes_downloaded, progress);
                };
                partial.clear()?;
                if already_bytes == 0 {
                    record_failure(wrong, next, &mut failures, progress);
                    break;
                }
                progress.note(&format!(
                    "{wrong}; part of it was from an earlier pull, so trying once more from the beginning"
                ));
            }
        }
        let kept_bytes = partial.len();
        if kept_bytes == 0 {
            partial.remove()?;
        }
        let (id, file) = (manifest.id.clone(), manifest.file.clone());
        Err(CatalogError::AllSourcesFailed { id, file, failures, kept_bytes })
    }

    fn check_space(&self, manifest: &Manifest, needed_bytes: u64) -> Result<(), CatalogError> {
        let dir = self.root();
        let free_bytes = (self.settings().free_space)(dir)
            .map_err(CatalogError::io("determine the free space of", dir))?;
        if free_bytes < needed_bytes {
            let (file, dir) = (manifest.file.clone(), dir.to_owned());
            return Err(CatalogError::NoSpace { file, dir, needed_bytes, free_bytes });
        }
        Ok(())
    }

    /// Completes a pull after the file is in place: writes the receipt and removes leftovers.
    fn complete(
        &self,
        manifest: &Manifest,
        expected: &ExpectedFile,
        source: String,
        bytes_downloaded: u64,
        progress: &mut dyn PullProgress,
    ) -> Result<Pulled, CatalogError> {
        let path = self.path(manifest);
        let receipt = Receipt {
            sha256: expected.sha256,
            size_bytes: expected.size_bytes,
            authority: expected.authority,
            source: source.clone(),
        };
        self.write_receipt(manifest, &receipt)?;
        // An earlier pull may have been interrupted before the file was found on this machine.
        let leftover = PartialFile::path_for(&path);
        if let Err(e) = fs::remove_file(&leftover)
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(CatalogError::io("remove", &leftover)(e));
        }
        progress.finished();
        tracing::info!(model = manifest.id, %source, bytes_downloaded, sha256 = %expected.sha256, "installed the model");
        Ok(Pulled { path, source, bytes_downloaded })
    }
}

/// Records and reports the failure of a source.
fn record_failure(
    e: CatalogError,
    next: Option<String>,
    failures: &mut Vec<CatalogError>,
    progress: &mut dyn PullProgress,
) {
    tracing::debug!(error = %e, "a source failed");
    progress.note(&match next {
        Some(next) => format!("{e}; trying {next}"),
        None => e.to_string(),
    });
    failures.push(e);
}

/// Links instead of copying, because weights are large. If the target is removed, the model counts as not installed.
#[cfg(unix)]
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

/// Symbolic links require a privilege on this platform.
#[cfg(not(unix))]
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ()))
}
