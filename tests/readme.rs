//! The README: what it tells people to type works, as far as it needs neither the network nor a real model.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use support::tiny_gguf;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const README: &str = include_str!("../README.md");

/// The lines of all blocks of shell commands; a backslash goes on with the next line.
fn commands() -> Vec<String> {
    let mut commands = Vec::new();
    for block in README.split("```sh\n").skip(1) {
        let block = block.split("```").next().unwrap().replace("\\\n", " ");
        let lines = block.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        commands.extend(lines.map(str::to_owned));
    }
    commands
}

/// What the README's reader has: pages, articles, an archive.
fn newsroom() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("page.txt", "火箭发射入轨。");
    write("pages/1.txt", "卫星入轨。");
    write("pages/2/3.html", "<p>城市下雨。</p>");
    write("articles.jsonl", "{\"id\": 1, \"text\": \"火箭。\"}\n");
    folder
}

/// A server where the README says that one runs.
struct Server(Child, String);

impl Server {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_yizhai"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .env("YIZHAI_MODEL", tiny_gguf::path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = String::new();
        loop {
            let line: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            match line["fields"]["message"].as_str().unwrap() {
                "listening" => address = line["fields"]["address"].as_str().unwrap().to_owned(),
                "serving" => break,
                _ => {}
            }
        }
        std::thread::spawn(move || lines.count());
        Self(child, address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_command_of_the_program_in_the_readme_works() {
    let server = Server::start();
    let newsroom = newsroom();
    let mut ran = 0;
    for command in commands() {
        // Names a model of the catalog, which must be fetched; or runs until it is stopped.
        let needs_more = ["models pull", "models verify", "models path", "--model qwen", "yizhai serve"];
        if !command.starts_with("yizhai ") || needs_more.iter().any(|part| command.contains(part)) {
            continue;
        }
        let here = command.replace("127.0.0.1:50051", &server.1).replace("127.0.0.1:50052", &server.1);
        let here = here.replace("yizhai ", &format!("{} ", env!("CARGO_BIN_EXE_yizhai")));
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &here])
            .current_dir(newsroom.path())
            .env("YIZHAI_MODEL", tiny_gguf::path())
            .env("YIZHAI_CACHE_DIR", newsroom.path().join("cache"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(
            !output.stdout.is_empty()
                || command.contains(" -o ")
                || command.contains("--output")
                || command.contains("> "),
            "{command} says nothing"
        );
        ran += 1;
    }
    assert!(ran >= 8, "only {ran} commands were found");
    let index = std::fs::read_to_string(newsroom.path().join("digests/index.html")).unwrap();
    assert!(index.contains("2/3.html"));
}

#[test]
fn every_file_and_flag_that_the_readme_names_is_there() {
    for command in commands() {
        for word in command.split_whitespace() {
            let is_ours =
                ["examples/", "tests/", "models/", ".ci/"].iter().any(|folder| word.starts_with(folder));
            assert!(!is_ours || Path::new(ROOT).join(word).exists(), "{command}: there is no {word}");
        }
    }
    let help = |command: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_yizhai")).args([command, "--help"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let all = ["digest", "serve", "segment", "models", "bench"].map(help).concat();
    let flags = README.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    for flag in flags.filter(|word| word.starts_with("--") && !word.trim_matches('-').is_empty()) {
        let others = [
            "--release",
            "--features",
            "--link",
            "--prefix",
            "--example",
            "--test",
            "--ignored",
            "--nocapture",
            "--help",
        ];
        assert!(all.contains(flag) || others.contains(&flag), "there is no {flag}");
    }
}

#[test]
fn the_manual_and_the_completions_are_made_of_the_arguments() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_yizhai")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let page = run(&["man"]);
    assert!(
        page.starts_with(".ie") && page.contains(".TH yizhai 1") && page.contains("Exit codes"),
        "{page}"
    );
    let page = run(&["man", "digest"]);
    assert!(page.contains(".TH yizhai-digest 1") && page.contains("retry\\-failed"), "{page}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(run(&["completions", shell]).contains("json-progress"), "{shell}");
    }
}
