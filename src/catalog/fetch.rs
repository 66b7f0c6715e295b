//! A pull's order of events.
//!
//! Owns the decisions: lock, know the hash, look on this machine, see that there is room, give each remote source its
//! turn at the one partial file, check, install. Called through [`ModelStore::pull`]. A file found on this machine is linked
//! to, not copied. Retrying within a source is the source's business, never done here; but a partial file that an
//! earlier pull left is not held against the source that completed it: with a wrong hash that source starts anew once.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::error::CatalogError;
use super::manifest::{Manifest, ModelSource};
use super::partial::PartialFile;
use super::source::{ExpectedFile, RemoteSource, SourceDownload, hub};
use super::store::{Authority, ModelStore, PullProgress, Pulled, Receipt, check_file};

impl ModelStore {
    /// Makes sure that the model's file is there, and says where. Returns at once when it is installed; goes on where
    /// an earlier pull broke off; waits while another process pulls the same file.
    ///
    /// # Errors
    /// [`CatalogError::AllSourcesFailed`] with every source's reason; [`CatalogError::NoSpace`] before any download;
    /// [`CatalogError::NoPublishedHash`] for an unverified model whose hub cannot be asked; [`CatalogError::Io`] when
    /// the cache directory cannot be used.
    pub fn pull(&self, manifest: &Manifest, progress: &mut dyn PullProgress) -> Result<Pulled, CatalogError> {
        let cached = |path| Pulled { path, source: "cache".to_owned(), bytes_downloaded: 0 };
        if let Some(path) = self.installed(manifest) {
            return Ok(cached(path));
        }
        fs::create_dir_all(self.root()).map_err(CatalogError::io("create", self.root()))?;
        let _lock = self.lock(manifest, progress)?;
        // The other process may have finished while this one waited.
        if let Some(path) = self.installed(manifest) {
            return Ok(cached(path));
        }

        let expected = self.expected(manifest, progress)?;
        let mut failures = Vec::new();
        for (label, path) in self.local_files(manifest, &expected) {
            match self.adopt(manifest, &label, &path, &expected, progress) {
                Ok(pulled) => return Ok(pulled),
                Err(e) => give_up(e, None, &mut failures, progress),
            }
        }
        self.download(manifest, &expected, failures, progress)
    }

    /// Held until the value is dropped or the process dies. The file stays: to remove it would let two hold "the" lock.
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

    /// The manifest's size and hash, or else those that the hub publishes.
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
                        "{} is not verified yet: checking against the hash that the hub publishes, {}",
                        manifest.id, expected.sha256
                    ));
                    return Ok(expected);
                }
                Err(e) => failure = Some(Box::new(e)),
            }
        }
        let reason = match &failure {
            Some(e) => e.to_string(),
            None => "the manifest names no hub".to_owned(),
        };
        Err(CatalogError::NoPublishedHash { id: manifest.id.clone(), reason, source: failure })
    }

    /// Files on this machine that may be the model, each with a name for people. The first is one that was put into
    /// the cache directory by hand.
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

    /// Checks a file of this machine and links it in.
    fn adopt(
        &self,
        manifest: &Manifest,
        label: &str,
        path: &Path,
        expected: &ExpectedFile,
        progress: &mut dyn PullProgress,
    ) -> Result<Pulled, CatalogError> {
        check_file(path, expected, label, "it is not used", progress)?;
        let target = self.path(manifest);
        let real = fs::canonicalize(path).map_err(CatalogError::io("read", path))?;
        // A link to itself would lose the file.
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
        self.done(manifest, expected, label.to_owned(), 0, progress)
    }

    /// The remote sources in turn, all at the same partial file.
    fn download(
        &self,
        manifest: &Manifest,
        expected: &ExpectedFile,
        mut failures: Vec<CatalogError>,
        progress: &mut dyn PullProgress,
    ) -> Result<Pulled, CatalogError> {
        let target = self.path(manifest);
        let scratch = self.beside(manifest, "scratch");
        let remotes: Vec<_> = manifest.sources.iter().filter_map(RemoteSource::of).collect();
        if PartialFile::path_for(&target).exists() {
            progress.note("an earlier pull broke off; reading what it left");
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
                    give_up(e, next, &mut failures, progress);
                    break;
                }
                let Err(wrong) = partial.check(expected, &label) else {
                    partial.install(&target)?;
                    return self.done(manifest, expected, label, bytes_downloaded, progress);
                };
                partial.clear()?;
                if already_bytes == 0 {
                    give_up(wrong, next, &mut failures, progress);
                    break;
                }
                progress
                    .note(&format!("{wrong}; it was begun by an earlier try, so once more from the start"));
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
        let free_bytes =
            (self.settings().free_space)(dir).map_err(CatalogError::io("measure the free space of", dir))?;
        if free_bytes < needed_bytes {
            let (file, dir) = (manifest.file.clone(), dir.to_owned());
            return Err(CatalogError::NoSpace { file, dir, needed_bytes, free_bytes });
        }
        Ok(())
    }

    /// The file has its name; leaves the receipt, and no partial file.
    fn done(
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
        // What an interrupted download left, when the file then turned up on this machine.
        let leftover = PartialFile::path_for(&path);
        if let Err(e) = fs::remove_file(&leftover)
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(CatalogError::io("remove", &leftover)(e));
        }
        progress.finished();
        tracing::info!(model = manifest.id, %source, bytes_downloaded, sha256 = %expected.sha256, "model installed");
        Ok(Pulled { path, source, bytes_downloaded })
    }
}

/// Records that one source failed, and tells who is next.
fn give_up(
    e: CatalogError,
    next: Option<String>,
    failures: &mut Vec<CatalogError>,
    progress: &mut dyn PullProgress,
) {
    tracing::debug!(error = %e, "source given up");
    progress.note(&match next {
        Some(next) => format!("{e}; trying {next}"),
        None => e.to_string(),
    });
    failures.push(e);
}

/// Weights are large, and a link vanishes with what it points to: then the model counts as not installed.
#[cfg(unix)]
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

/// Symbolic links take a privilege here.
#[cfg(not(unix))]
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ()))
}
