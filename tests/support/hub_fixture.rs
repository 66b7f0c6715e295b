//! Fixtures for the tests of the catalog: a cache directory, a fake Python with wheels, manifests of a tiny model, and a
//! progress listener that records its events.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use yizhai::catalog::{ContentHash, HubSettings, Manifest, ModelStore, PullProgress, PullSettings};

use crate::hub_server::{HubBehavior, HubServer};

pub(crate) const FILE: &str = "Tiny-Q4.gguf";
pub(crate) const HUB: &str =
    "[[source]]\nkind = 'hub'\nrepo = 'owner/Tiny-GGUF'\nfile = 'Tiny-Q4.gguf'\nrevision = 'main'\n";

/// A temporary directory with a cache, a hub cache and a fake Python, and the settings that point to them.
pub(crate) struct CatalogFixture {
    pub(crate) dir: TempDir,
    pub(crate) settings: PullSettings,
}

impl CatalogFixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = PullSettings {
            hub: HubSettings {
                endpoint: Some("http://127.0.0.1:1".to_owned()),
                token: None,
                cache_dir: Some(dir.path().join("hub-cache")),
                offline: false,
                connect_timeout: Duration::from_secs(2),
                read_timeout: Duration::from_secs(10),
                max_retries: 2,
                backoff: Duration::from_millis(1),
            },
            pythons: vec![dir.path().join("python3")],
            model_path: Vec::new(),
            free_space: |_| Ok(u64::MAX),
        };
        Self { dir, settings }
    }

    pub(crate) fn with_wheels(self, content: &[u8], part_size: usize) -> Self {
        self.add_wheels(content, part_size);
        self
    }

    pub(crate) fn add_wheels(&self, content: &[u8], part_size: usize) {
        let python = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/hub_python3");
        std::os::unix::fs::symlink(python, self.dir.path().join("python3")).unwrap();
        fs::create_dir(self.dir.path().join("wheels")).unwrap();
        for (i, part) in content.chunks(part_size).enumerate() {
            let n = i + 1;
            let data = format!("tiny_part{n}/data/part{n}.bin");
            write_wheel(&self.wheel(n), &[(&format!("tiny_part{n}/__init__.py"), b""), (&data, part)]);
        }
    }

    pub(crate) fn wheel(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("wheels/tiny-part{n}-1.2.0.whl"))
    }

    /// Fills the hub cache in the layout of the hub's own tools; returns the path of the blob.
    pub(crate) fn fill_hub_cache(&self, content: &[u8]) -> PathBuf {
        let repo = self.dir.path().join("hub-cache/models--owner--Tiny-GGUF");
        for dir in ["blobs", "refs", "snapshots/0123abcd"] {
            fs::create_dir_all(repo.join(dir)).unwrap();
        }
        let blob = repo.join("blobs").join(hash(content).to_string());
        fs::write(&blob, content).unwrap();
        fs::write(repo.join("refs/main"), "0123abcd").unwrap();
        std::os::unix::fs::symlink(&blob, repo.join("snapshots/0123abcd").join(FILE)).unwrap();
        blob
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("cache/models")
    }

    pub(crate) fn partial(&self) -> PathBuf {
        self.root().join("Tiny-Q4.gguf.partial")
    }

    pub(crate) fn store(&self) -> ModelStore {
        ModelStore::with_settings(self.root(), self.settings.clone())
    }

    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root()).unwrap();
        let mut files: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        files
    }

    pub(crate) fn pip_requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("requests")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

/// A progress listener that records what a pull reports.
#[derive(Default)]
pub(crate) struct RecordedProgress {
    pub(crate) total: u64,
    pub(crate) resumed_from: u64,
    pub(crate) downloaded: u64,
    pub(crate) notes: Vec<String>,
    pub(crate) finished: bool,
}

impl PullProgress for RecordedProgress {
    fn started(&mut self, total_bytes: u64, _source: &str, already_bytes: u64) {
        (self.total, self.resumed_from, self.downloaded) = (total_bytes, already_bytes, already_bytes);
    }
    fn advanced(&mut self, bytes: u64) {
        self.downloaded += bytes;
    }
    fn note(&mut self, message: &str) {
        self.notes.push(message.to_owned());
    }
    fn finished(&mut self) {
        self.finished = true;
    }
}

/// Returns pseudo-random bytes, so that a wrong offset cannot go unnoticed.
pub(crate) fn random_bytes(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

pub(crate) fn hash(content: &[u8]) -> ContentHash {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.parse().unwrap()
}

pub(crate) fn manifest_text(content: &[u8], sources: &str, verified: bool) -> String {
    let known = format!("size_bytes = {}\nsha256 = '{}'\n", content.len(), hash(content));
    let known = if verified { known } else { String::new() };
    format!(
        "id = 'tiny-q4'\nname = 'Tiny'\narchitecture = 'qwen2'\nfile = '{FILE}'\nlicense = 'MIT'\n\
         context_length = 32\nverified = {verified}\n{known}{sources}"
    )
}

pub(crate) fn parse(text: &str) -> Manifest {
    Manifest::parse("tiny-q4.toml", text).unwrap()
}

pub(crate) fn manifest(content: &[u8], sources: &str) -> Manifest {
    parse(&manifest_text(content, sources, true))
}

pub(crate) fn wheel_source(content: &[u8], part_size: usize) -> String {
    format!(
        "[[source]]\nkind = 'wheels'\npackage = 'tiny-part{{n}}'\nparts = {}\nversion = '1.2.0'\n\
         member = 'tiny_part{{n}}/data/*.bin'\npart_size_bytes = {part_size}\n",
        content.len().div_ceil(part_size)
    )
}

pub(crate) fn write_wheel(path: &Path, members: &[(&str, &[u8])]) {
    let mut wheel = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, data) in members {
        wheel.start_file(*name, stored).unwrap();
        wheel.write_all(data).unwrap();
    }
    wheel.finish().unwrap();
}

pub(crate) fn serve(content: &[u8]) -> HubServer {
    HubServer::start(HubBehavior {
        path: format!("/owner/Tiny-GGUF/resolve/main/{FILE}"),
        content: content.to_owned(),
        linked_etag: Some(hash(content).to_string()),
        ..HubBehavior::default()
    })
}
