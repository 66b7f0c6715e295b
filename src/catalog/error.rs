//! The errors of the catalog.
//!
//! Each message is one line that names the file or address and says what to do about it. Callers map the variants to
//! exit codes and gRPC codes.

use std::io;
use std::path::PathBuf;

use super::verify::ContentHash;

/// An error in reading, finding, pulling or verifying a model.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A manifest is invalid. For a built-in manifest, this is a bug.
    #[error("models/{file}: {reason}")]
    Manifest {
        /// The manifest's file name, such as `some-model.toml`.
        file: String,
        /// The invalid field and what is wrong with it.
        reason: String,
    },
    /// No manifest has this id.
    #[error(
        "unknown model `{id}`; similar ids are {}. Run `yizhai models list` for all ids, or give the path of a GGUF \
         file",
        nearest.join(", ")
    )]
    UnknownModel {
        /// The unknown id.
        id: String,
        /// Similar ids, the most similar first.
        nearest: Vec<String>,
    },
    /// The cache directory of the user is unknown.
    #[error("no cache directory: set YIZHAI_CACHE_DIR (or HOME) to a writable directory")]
    NoCacheDir,
    /// The model is not installed.
    #[error("model `{id}` is not installed ({} does not exist): run `yizhai models pull {id}`", path.display())]
    NotInstalled {
        /// The model's id.
        id: String,
        /// The path where its file would be.
        path: PathBuf,
    },
    /// The disk has too little free space. Nothing was downloaded.
    #[error(
        "not enough space for {file} in {}: {} needed, {} free; free some space, or set YIZHAI_CACHE_DIR to a \
         directory on another disk",
        dir.display(), megabytes(*needed_bytes), megabytes(*free_bytes)
    )]
    NoSpace {
        /// The weight file.
        file: String,
        /// The target directory.
        dir: PathBuf,
        /// Bytes that remain to be written.
        needed_bytes: u64,
        /// Bytes that this user can write to the disk.
        free_bytes: u64,
    },
    /// The file does not have the SHA-256 of the manifest, or of the hub for an unverified model.
    #[error("{file}: wrong SHA-256: expected {expected}, got {actual}; {advice}")]
    HashMismatch {
        /// The path or the source of the file.
        file: String,
        /// The hash of the manifest or the hub.
        expected: ContentHash,
        /// The hash of the file.
        actual: ContentHash,
        /// The action taken, or advice.
        advice: &'static str,
    },
    /// The file does not have the size of the manifest, or of the hub for an unverified model.
    #[error("{file}: wrong size: expected {expected_bytes} bytes, got {actual_bytes}; {advice}")]
    SizeMismatch {
        /// The path or the source of the file.
        file: String,
        /// The size according to the manifest or the hub.
        expected_bytes: u64,
        /// The size of the file.
        actual_bytes: u64,
        /// The action taken, or advice.
        advice: &'static str,
    },
    /// The hub is unreachable, refused the request, or interrupted the download too often.
    #[error("hub {repo}: {reason}")]
    Hub {
        /// The repository, `owner/name`.
        repo: String,
        /// The problem, and advice.
        reason: String,
        /// The error of the transport, if there is one.
        source: Option<Box<ureq::Error>>,
    },
    /// A wheel could not be downloaded, or does not contain the expected data.
    #[error("package {package}: {reason}")]
    Package {
        /// The requirement, `name==version`.
        package: String,
        /// The problem, and advice.
        reason: String,
        /// The I/O or archive error, if there is one.
        source: Option<io::Error>,
    },
    /// Wheels cannot be downloaded, because no Python with pip was found.
    #[error(
        "no Python with pip found (tried {tried}): install Python 3 with pip, and check that `python3 -m pip` runs"
    )]
    NoPython {
        /// The commands that were tried.
        tried: String,
    },
    /// Neither the manifest nor a hub has a hash of the file, so it cannot be verified.
    #[error(
        "model `{id}` cannot be verified: its manifest has no hash, and neither has the hub ({reason}); check the \
         connection to the hub, or give the path of a GGUF file that you trust"
    )]
    NoPublishedHash {
        /// The model's id.
        id: String,
        /// The reason why the hub has no hash.
        reason: String,
        /// The error of the hub.
        source: Option<Box<CatalogError>>,
    },
    /// All sources failed. The downloaded part is kept for the next pull.
    #[error(
        "model `{id}` could not be pulled: {}{}; or set YIZHAI_MODEL_PATH to a directory that has {file}",
        lines(failures), kept(*kept_bytes)
    )]
    AllSourcesFailed {
        /// The model's id.
        id: String,
        /// The weight file.
        file: String,
        /// The errors of the sources, in the order in which they were tried.
        failures: Vec<CatalogError>,
        /// Bytes that were downloaded, from which the next pull resumes.
        kept_bytes: u64,
    },
    /// An operation on a local file failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The operation, such as `create` or `lock`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl CatalogError {
    /// Returns a function for `map_err` that adds the operation and the path to an I/O error.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Returns `true` if the error is on this machine, so that other sources would fail too.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::NoSpace { .. })
    }
}

fn lines(failures: &[CatalogError]) -> String {
    if failures.is_empty() {
        return "its manifest has no usable source".to_owned();
    }
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn kept(bytes: u64) -> String {
    if bytes == 0 {
        return String::new();
    }
    format!("; {} are kept, pull again to resume", megabytes(bytes))
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
