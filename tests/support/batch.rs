//! Shared by the tests of batches: the program, and folders with pages and results.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// Returns a `yizhai` command with an empty environment: no setting of the user applies and nothing can be downloaded.
pub fn yizhai(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_yizhai"));
    command
        .args(arguments)
        .env_clear()
        .env("YIZHAI_CACHE_DIR", "/nonexistent/cache")
        .env("PATH", "/nonexistent")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a command to its end without blocking the test's runtime.
pub async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A temporary folder of pages with an output folder beside it.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.pages()).unwrap();
        folder
    }

    pub fn pages(&self) -> PathBuf {
        self.0.path().join("pages")
    }

    pub fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.pages().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Returns the command `yizhai digest PAGES --output OUT --server URL …`.
    pub fn digest(&self, server: &str, more: &[&str]) -> Command {
        let mut command = yizhai(&["digest"]);
        command.arg(self.pages()).arg("--output").arg(self.out()).args(["--server", server]).args(more);
        command
    }

    /// Lists the files in the output folder, except the program's own in `.yizhai`.
    pub fn results(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.out()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.out()).unwrap().to_str().unwrap().to_owned();
                match path.is_dir() {
                    true if name != ".yizhai" => folders.push(path),
                    true => {}
                    false => found.push(name),
                }
            }
        }
        found.sort();
        found
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.out().join(name)).unwrap()
    }

    /// Reads the entries of `failures.jsonl`; empty if there is none.
    pub fn failures(&self) -> Vec<serde_json::Value> {
        match std::fs::read_to_string(self.out().join("failures.jsonl")) {
            Ok(text) => text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
            Err(_) => Vec::new(),
        }
    }
}

/// Returns the last component of a path.
pub fn file_name(path: &str) -> &str {
    Path::new(path).file_name().unwrap().to_str().unwrap()
}
