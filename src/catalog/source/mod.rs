//! How each kind of source gives its bytes.
//!
//! Owns what the sources share: what is expected, and the download under way. `file` and the hub's cache name files
//! that are already on this machine; `hub` and `wheels` append to the partial file. Called by `store`. A source never
//! decides whether the bytes are right as a whole and never gives a file its final name.

pub(super) mod hub;
pub(super) mod wheels;

use std::path::Path;

use super::error::CatalogError;
use super::manifest::{HubSource, ModelSource, WheelSource};
use super::partial::PartialFile;
use super::settings::PullSettings;
use super::store::{Authority, PullProgress};
use super::verify::ContentHash;

/// What the bytes must turn out to be, and who says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExpectedFile {
    pub(super) size_bytes: u64,
    pub(super) sha256: ContentHash,
    pub(super) authority: Authority,
}

/// One source's turn at the partial file.
pub(super) struct SourceDownload<'a> {
    pub(super) partial: &'a mut PartialFile,
    pub(super) expected: &'a ExpectedFile,
    pub(super) settings: &'a PullSettings,
    pub(super) progress: &'a mut dyn PullProgress,
    /// A directory in the cache for temporary files; made and removed by the source.
    pub(super) scratch: &'a Path,
}

/// A source that needs the network.
pub(super) enum RemoteSource<'a> {
    Hub(&'a HubSource),
    Wheels(&'a WheelSource),
}

impl<'a> RemoteSource<'a> {
    /// `None` for a file on this machine.
    pub(super) fn of(source: &'a ModelSource) -> Option<Self> {
        match source {
            ModelSource::Hub(hub) => Some(Self::Hub(hub)),
            ModelSource::Wheels(wheels) => Some(Self::Wheels(wheels)),
            ModelSource::File(_) => None,
        }
    }

    /// One short name for people.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Hub(hub) => format!("hub {}", hub.repo),
            Self::Wheels(wheels) => {
                let (first, version) = (wheels.package_of(1), &wheels.version);
                format!("wheels {first}..{} {version}", wheels.parts)
            }
        }
    }

    /// Bytes of disk that the source needs beside the file itself.
    pub(super) fn scratch_bytes(&self) -> u64 {
        match self {
            Self::Hub(_) => 0,
            // pip writes the wheel to a temporary directory, then copies it.
            Self::Wheels(wheels) => 2 * wheels.part_size_bytes,
        }
    }

    /// Appends what is missing; on an error, what was appended is still a true beginning of what the source offers.
    pub(super) fn fetch(&self, download: &mut SourceDownload<'_>) -> Result<(), CatalogError> {
        match self {
            Self::Hub(hub) => hub::fetch(hub, download),
            Self::Wheels(wheels) => wheels::fetch(wheels, download),
        }
    }
}
