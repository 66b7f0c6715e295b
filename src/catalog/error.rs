//! Everything that can go wrong between a model's id and its verified file.
//!
//! Owns [`CatalogError`]. Each message is one line that names the thing and says what to do; the cause is kept as
//! `source`. Callers map the variants to exit codes and gRPC codes; nothing here prints.

use std::io;
use std::path::PathBuf;

use super::verify::ContentHash;

/// Why a manifest could not be read, found, pulled or verified.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A manifest does not parse or contradicts itself; for a compiled-in one that is a fault of this program.
    #[error("models/{file}: {reason}")]
    Manifest {
        /// The manifest's file name, such as `some-model.toml`.
        file: String,
        /// What is wrong with which field.
        reason: String,
    },
    /// No manifest has this id.
    #[error(
        "unknown model `{id}`; the nearest are {}. `yizhai models list` shows all, and the path of a GGUF file \
         works too",
        nearest.join(", ")
    )]
    UnknownModel {
        /// The id that was asked for.
        id: String,
        /// Known ids, the most similar first.
        nearest: Vec<String>,
    },
    /// The platform names no cache directory for this user.
    #[error("no cache directory: set YIZHAI_CACHE_DIR (or HOME) to a directory that can be written to")]
    NoCacheDir,
    /// The model has not been pulled.
    #[error("model `{id}` is not installed (no {}): run `yizhai models pull {id}`", path.display())]
    NotInstalled {
        /// The model's id.
        id: String,
        /// Where its file would be.
        path: PathBuf,
    },
    /// The file system has no room for what is still to be downloaded; nothing was fetched.
    #[error(
        "no room for {file} in {}: {} needed, {} free; free some, or set YIZHAI_CACHE_DIR to a directory on \
         another disk",
        dir.display(), megabytes(*needed_bytes), megabytes(*free_bytes)
    )]
    NoSpace {
        /// The weight file.
        file: String,
        /// The directory that it was to go into.
        dir: PathBuf,
        /// Bytes that are still to be written.
        needed_bytes: u64,
        /// Bytes that this user can still write there.
        free_bytes: u64,
    },
    /// The content is not what the manifest (or, for an unverified model, the hub) says.
    #[error("{file}: wrong sha256: expected {expected}, got {actual}; {advice}")]
    HashMismatch {
        /// The file, by path or by source.
        file: String,
        /// What the manifest or the hub publishes.
        expected: ContentHash,
        /// What the bytes give.
        actual: ContentHash,
        /// What was done about it, or what to do.
        advice: &'static str,
    },
    /// The file is too short or too long.
    #[error("{file}: wrong size: expected {expected_bytes} bytes, got {actual_bytes}; {advice}")]
    SizeMismatch {
        /// The file, by path or by source.
        file: String,
        /// Bytes according to the manifest or the hub.
        expected_bytes: u64,
        /// Bytes that are there or on offer.
        actual_bytes: u64,
        /// What was done about it, or what to do.
        advice: &'static str,
    },
    /// The hub was not reached, refused, or broke off too often.
    #[error("hub {repo}: {reason}")]
    Hub {
        /// The repository, `owner/name`.
        repo: String,
        /// What happened, with the address and what to do.
        reason: String,
        /// The transport's own error, if it was one.
        source: Option<Box<ureq::Error>>,
    },
    /// A wheel could not be downloaded or holds something else.
    #[error("package {package}: {reason}")]
    Package {
        /// The requirement, `name==version`.
        package: String,
        /// What happened and what to do.
        reason: String,
        /// The I/O or archive error below, if there was one.
        source: Option<io::Error>,
    },
    /// No Python with pip was found, so wheels cannot be downloaded.
    #[error(
        "no Python with pip (tried {tried}): install Python 3 and its pip, and see that `python3 -m pip` runs"
    )]
    NoPython {
        /// The commands that were tried.
        tried: String,
    },
    /// The manifest has no hash and no hub told one, so no bytes could be checked.
    #[error(
        "model `{id}` has no hash of its own yet, and the hub told none ({reason}); reach the hub, or run a GGUF file \
         that you trust by its path"
    )]
    NoPublishedHash {
        /// The model's id.
        id: String,
        /// The hub's failure, as a line.
        reason: String,
        /// The hub's failure.
        source: Option<Box<CatalogError>>,
    },
    /// Every source failed; what was received is kept for the next try.
    #[error(
        "model `{id}` could not be pulled: {}{}; or set YIZHAI_MODEL_PATH to a directory that has {file}",
        lines(failures), kept(*kept_bytes)
    )]
    AllSourcesFailed {
        /// The model's id.
        id: String,
        /// The weight file.
        file: String,
        /// Each source that was tried, in order, with its error.
        failures: Vec<CatalogError>,
        /// Bytes from which the next pull goes on.
        kept_bytes: u64,
    },
    /// Reading or writing on this machine failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `create`, `write`, `read`, `rename`, `lock`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl CatalogError {
    /// For `map_err` on an I/O result: names the action and the path.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Whether the fault is this machine's, so that another source cannot help.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::NoSpace { .. })
    }
}

fn lines(failures: &[CatalogError]) -> String {
    if failures.is_empty() {
        return "its manifest names no source that can be used here".to_owned();
    }
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn kept(bytes: u64) -> String {
    if bytes == 0 {
        return String::new();
    }
    format!("; {} of it are kept, pull again to go on from there", megabytes(bytes))
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
