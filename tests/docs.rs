//! The documentation: its commands run, its configuration and JSON are what the program reads and writes, its links lead
//! somewhere, and README and ARCHITECTURE stay short.
//!
//! Nothing is downloaded: the models that the documentation names are replaced by the tiny one of the tests. Commands that
//! cannot run here are in [`CANNOT_RUN`], each with the reason.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "docs/markdown.rs"]
mod markdown;
#[path = "docs/schema.rs"]
mod schema;
mod support;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use markdown::{ROOT, columns, page, pages};
use serde_json::Value;
use support::{keys, program::ServerProcess, scripted, serving::Server, tiny_gguf};
use yizhai::{catalog::Manifest, pb, server::Tokens};

/// The beginnings of commands that cannot run in this test, and why.
const CANNOT_RUN: &[(&str, &str)] = &[
    ("cargo run --release -- digest", "builds in release mode and downloads the model; .ci/run does both"),
    ("cargo run --release --example", "builds in release mode; cargo test compiles the example"),
    ("cargo test", "would run this test in itself"),
    ("cargo bench", "takes minutes"),
    ("cargo build --release --features cuda", "needs a CUDA toolkit; tests/cuda/check lints the same code"),
    ("cargo install", "builds in release mode and installs; .ci/run builds the program"),
    ("target/release/yizhai serve --device auto", "needs the CUDA build; service_process.rs tests the flag"),
    ("YIZHAI_LOAD_SECONDS=600 cargo test", "takes ten minutes"),
    (".ci/run", "runs this test"),
    ("tests/cuda/", "installs a CUDA toolkit or needs a GPU; .ci/run runs tests/cuda/check"),
    ("python3 -m pip install", "needs PyPI; .ci/run does it"),
    ("examples/python/generate", "needs a package from PyPI; .ci/run runs it"),
    ("PYTHONPATH=generated python3", "needs packages from PyPI; .ci/run runs the example"),
    ("npm install", "needs the npm registry; .ci/run does it"),
    ("node examples/node/digest.mjs", "needs packages from npm; .ci/run runs the example"),
    ("grpcurl", "grpcurl may not be installed; .ci/run runs it where it is"),
    ("openssl", "openssl may not be installed; the test makes its certificates itself"),
    (
        "yizhai models pull",
        "downloads a model; tests/catalog.rs pulls from a local server, .ci/run a real one",
    ),
    ("yizhai models verify", "needs a downloaded model; .ci/run does it"),
    ("yizhai models path", "needs a downloaded model; tests/catalog.rs tests it"),
    ("yizhai digest page.txt --format jsonl | jq", "jq may not be installed"),
];

/// Flags in the documentation that belong to other programs.
const OTHER_FLAGS: [&str; 16] = [
    "--release",
    "--features",
    "--link",
    "--prefix",
    "--example",
    "--test",
    "--lib",
    "--bench",
    "--ignored",
    "--nocapture",
    "--skip",
    "--test-threads",
    "--locked",
    "--path",
    "--help",
    "--version",
];

/// Longest README and ARCHITECTURE, in lines of at most [`MAX_COLUMNS`].
const MAX_LINES: usize = 150;
const MAX_COLUMNS: usize = 120;

/// A folder with what the documentation's reader has: pages, articles, glossaries, models, keys.
fn newsroom() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("page.txt", "火箭发射入轨。");
    write("lines.txt", "火箭发射入轨。\n卫星入轨。\n");
    write("pages/1.txt", "卫星入轨。");
    write("pages/2/3.html", "<p>城市下雨。</p>");
    write("articles.jsonl", "{\"id\": 1, \"text\": \"火箭。\"}\n");
    write("terms.tsv", "蓝箭航天\tLandSpace|Land Space\n");
    write("yizhai.toml", "[limits]\nmax_requests = 32\n");
    let keys = keys::write_tls_files(folder.path(), &keys::CertificateAuthority::new(), None);
    std::fs::rename(keys.certificate, folder.path().join("tls.crt")).unwrap();
    std::fs::rename(keys.key, folder.path().join("tls.key")).unwrap();
    std::os::unix::fs::symlink(tiny_gguf::path(), folder.path().join("my-model.gguf")).unwrap();
    let marian = Path::new(ROOT).join("tests/data/seq2seq/marian");
    std::os::unix::fs::symlink(marian, folder.path().join("opus-mt-zh-en")).unwrap();
    folder
}

/// A shell command in a folder, with `yizhai` in the PATH, the tiny model, and no way to download anything.
fn shell(command: &str, folder: &Path) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_yizhai"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut paths = vec![program.parent().unwrap().to_owned()];
    paths.extend(std::env::split_paths(&path));
    let mut shell = Command::new("bash");
    shell
        .args(["-euo", "pipefail", "-c", command])
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::join_paths(paths).unwrap())
        .env("HOME", folder)
        .env("YIZHAI_MODEL", tiny_gguf::path())
        // The tests run beside each other, and a repair of random text never succeeds.
        .env("YIZHAI_THREADS", "1")
        .env("YIZHAI_MAX_ATTEMPTS", "1")
        .env("YIZHAI_CACHE_DIR", folder.join("cache"))
        .env("HF_HUB_OFFLINE", "1")
        .env("PIP_NO_INDEX", "1");
    shell
}

fn run(command: &str, folder: &Path) -> Output {
    let output = shell(command, folder).output().unwrap();
    assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The JSON values that a command writes: one per line, or one in all.
fn json(command: &str, folder: &Path) -> Vec<Value> {
    values(&run(command, folder).stdout)
}

fn values(bytes: &[u8]) -> Vec<Value> {
    let values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    values.map(|value| value.unwrap()).collect()
}

fn reason_not_to_run(command: &str) -> Option<usize> {
    CANNOT_RUN.iter().position(|(beginning, _)| command.starts_with(beginning))
}

/// The command with addresses and models that exist here.
fn localized(command: &str, server: &str) -> String {
    let mut command = command.replace("127.0.0.1:50051", server).replace("127.0.0.1:50052", server);
    for id in ["qwen2.5-coder-0.5b-instruct-q4_k_m", "qwen2.5-coder-1.5b-instruct-q4_k_m"] {
        command = command.replace(id, &tiny_gguf::path().display().to_string());
    }
    command.replace("127.0.0.1:9464", "127.0.0.1:0")
}

fn run_commands(names: &[&str]) {
    let server = ServerProcess::start(&["--threads", "1"]);
    for name in names {
        let newsroom = newsroom();
        for command in page(name).commands() {
            if reason_not_to_run(&command).is_some() {
                continue;
            }
            if command.starts_with("yizhai serve") && !command.contains("--print-config") {
                let command = format!("exec {}", localized(&command, "127.0.0.1:0"));
                drop(ServerProcess::spawn(&mut shell(&command, newsroom.path())));
                continue;
            }
            let output = run(&localized(&command, &server.address), newsroom.path());
            let is_written_elsewhere =
                [" -o ", "--output", "> ", "<<"].iter().any(|part| command.contains(part));
            assert!(!output.stdout.is_empty() || is_written_elsewhere, "{command} writes nothing");
        }
    }
}

#[test]
fn the_commands_of_the_readme_run() {
    run_commands(&["README.md"]);
}

#[test]
fn the_commands_for_users_run() {
    run_commands(&["docs/cli.md", "docs/batch.md", "docs/api.md"]);
}

#[test]
fn the_commands_for_operators_and_developers_run() {
    let tested = ["README.md", "README.zh-CN.md", "docs/cli.md", "docs/batch.md", "docs/api.md"];
    let pages: Vec<_> = pages().into_iter().filter(|page| !tested.contains(&page.name.as_str())).collect();
    run_commands(&pages.iter().map(|page| page.name.as_str()).collect::<Vec<_>>());
}

#[test]
fn every_exception_is_still_needed() {
    let commands: Vec<String> = pages().iter().flat_map(markdown::Page::commands).collect();
    assert!(commands.len() > 50, "only {} commands were found", commands.len());
    let used: BTreeSet<_> = commands.iter().filter_map(|command| reason_not_to_run(command)).collect();
    for (index, (beginning, _)) in CANNOT_RUN.iter().enumerate() {
        assert!(used.contains(&index), "no command begins with `{beginning}`");
    }
}

#[test]
fn both_readmes_have_the_same_commands_code_and_output() {
    let [english, chinese] = ["README.md", "README.zh-CN.md"].map(page);
    let blocks = |page: &markdown::Page| -> Vec<(String, String)> {
        page.blocks.iter().map(|block| (block.info.clone(), block.text.clone())).collect()
    };
    assert_eq!(blocks(&english), blocks(&chinese));
}

#[test]
fn every_file_and_flag_that_the_documentation_names_exists() {
    let help = |command: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_yizhai")).args([command, "--help"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let help = ["digest", "serve", "segment", "models", "bench"].map(help).concat();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    for page in pages().iter().filter(|page| page.name != "CHANGELOG.md") {
        for command in page.commands() {
            for word in command.split_whitespace() {
                let ours = ["examples/", "tests/", "models/", "src/", ".ci/"];
                let is_ours = ours.iter().any(|folder| word.starts_with(folder));
                assert!(
                    !is_ours || Path::new(ROOT).join(word).exists(),
                    "{}: `{command}` names {word}, which does not exist",
                    page.name
                );
            }
        }
        for word in page.text.split(|c: char| !is_word(c)) {
            let is_flag = word.strip_prefix("--").is_some_and(|name| name.starts_with(char::is_alphabetic));
            let is_variable = word.starts_with("YIZHAI_") && word.len() > "YIZHAI_".len();
            let is_known = match (is_flag, is_variable) {
                (true, _) => help.contains(word) || OTHER_FLAGS.contains(&word),
                (_, true) => {
                    help.contains(word)
                        || matches!(word, "YIZHAI_CACHE_DIR" | "YIZHAI_MODEL_PATH" | "YIZHAI_LOAD_SECONDS")
                }
                _ => true,
            };
            assert!(is_known, "{}: there is no {word}", page.name);
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let all = pages();
    for page in &all {
        let folder = Path::new(ROOT).join(&page.name).parent().unwrap().to_owned();
        for link in page.links.iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = if path.is_empty() { Path::new(ROOT).join(&page.name) } else { folder.join(path) };
            let path: PathBuf =
                path.canonicalize().unwrap_or_else(|_| panic!("{}: {link} does not exist", page.name));
            if anchor.is_empty() {
                continue;
            }
            let target =
                all.iter().find(|other| Path::new(ROOT).join(&other.name).canonicalize().unwrap() == path);
            let target = target.unwrap_or_else(|| panic!("{}: {link} is not a Markdown file", page.name));
            assert!(
                target.anchors.iter().any(|known| known == anchor),
                "{}: {link}: {} has no heading `{anchor}`, only {:?}",
                page.name,
                target.name,
                target.anchors
            );
        }
    }
}

#[test]
fn every_decision_is_in_the_index() {
    let index = page("docs/decisions/README.md");
    let decisions = pages().into_iter().filter(|page| page.name.starts_with("docs/decisions/0"));
    for decision in decisions {
        let file = decision.name.rsplit('/').next().unwrap();
        assert!(index.links.iter().any(|link| link == file), "{file} is not in the index");
        for heading in ["## Context", "## Decision", "## Consequences"] {
            assert!(decision.text.contains(heading), "{file} has no `{heading}`");
        }
    }
}

#[test]
fn readme_and_architecture_stay_short() {
    for name in ["README.md", "README.zh-CN.md", "ARCHITECTURE.md"] {
        let page = page(name);
        let lines: Vec<&str> = page.text.lines().collect();
        assert!(lines.len() <= MAX_LINES, "{name} has {} lines; the limit is {MAX_LINES}", lines.len());
        for (number, line) in lines.iter().enumerate() {
            let width = columns(line);
            assert!(
                width <= MAX_COLUMNS,
                "{name}:{}: {width} columns; the limit is {MAX_COLUMNS}",
                number + 1
            );
        }
    }
}

#[test]
fn configuration_files_in_the_documentation_are_valid() {
    let folder = newsroom();
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.info.starts_with("toml")) {
            let file = folder.path().join("block.toml");
            std::fs::write(&file, &block.text).unwrap();
            match block.info.as_str() {
                "toml config" => drop(run("yizhai serve --config block.toml --print-config", folder.path())),
                "toml tokens" => drop(Tokens::load(&file).unwrap()),
                "toml manifest" => drop(Manifest::parse("block.toml", &block.text).unwrap()),
                "toml model" => encoder_decoder_runs_with(&block.text, folder.path()),
                other => panic!("{}: `{other}` does not say what the file is", page.name),
            }
        }
    }
}

/// Translates with the tiny Marian and this `yizhai.toml`.
fn encoder_decoder_runs_with(about: &str, folder: &Path) {
    let directory = folder.join("model");
    std::fs::create_dir(&directory).unwrap();
    for entry in std::fs::read_dir(Path::new(ROOT).join("tests/data/seq2seq/marian")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
    }
    std::fs::write(directory.join("yizhai.toml"), about).unwrap();
    run("yizhai digest page.txt --tasks translation --model translation=./model", folder);
}

#[test]
fn every_setting_is_documented_with_its_default() {
    let folder = newsroom();
    let printed = shell("yizhai serve --print-config", folder.path())
        .env_remove("YIZHAI_MODEL")
        .env_remove("YIZHAI_THREADS")
        .output()
        .unwrap();
    let page = page("docs/configuration.md");
    let mut table = String::new();
    let mut documented: Vec<Vec<String>> = Vec::new();
    for line in String::from_utf8(printed.stdout).unwrap().lines().filter(|line| !line.is_empty()) {
        if line.starts_with('[') {
            assert!(documented.is_empty(), "[{table}] has no {documented:?}");
            table = line.to_owned();
            documented = page.rows(&format!("### `{line}`"));
            continue;
        }
        let (key, value) = match line.strip_prefix("# ") {
            Some(unset) => (unset.split(' ').next().unwrap(), None),
            None => line.split_once(" = ").map(|(key, value)| (key, Some(value.trim_matches('"')))).unwrap(),
        };
        let row = documented.iter().position(|row| row[0] == format!("`{key}`"));
        let row = documented.remove(row.unwrap_or_else(|| panic!("{table} `{key}` is not documented")));
        let default = row[1].trim_matches('`');
        match value {
            Some(value) => assert_eq!(default, value, "{table} `{key}`"),
            None => assert!(
                !row[1].starts_with('`') && default.parse::<f64>().is_err(),
                "{table} `{key}` has no default"
            ),
        }
    }
    assert!(documented.is_empty(), "{table} has no {documented:?}");
}

#[tokio::test]
async fn every_metric_is_documented() {
    let server = Server::start(scripted::pipeline(scripted::faithful_script())).await;
    // The engine's metrics are exported once the server runs.
    server.raw_client().await.list_models(pb::ListModelsRequest::default()).await.unwrap();
    let text = server.metrics.text();
    let exported: BTreeSet<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            (name.to_owned() + if kind == "counter" { "_total" } else { "" }, kind.to_owned())
        })
        .collect();
    let documented: BTreeSet<(String, String)> = page("docs/operations.md")
        .rows("## Metrics")
        .into_iter()
        .map(|row| (row[0].trim_matches('`').split('{').next().unwrap().to_owned(), row[1].clone()))
        .collect();
    assert_eq!(documented, exported);
}

#[test]
fn every_finding_kind_is_documented() {
    let exist: BTreeSet<String> = (1..)
        .map_while(|number| pb::FindingKind::try_from(number).ok())
        .map(|kind| kind.as_str_name().trim_start_matches("FINDING_KIND_").to_owned())
        .collect();
    let documented: BTreeSet<String> = page("docs/api.md")
        .rows("## Findings")
        .into_iter()
        .flat_map(|row| row[0].split(", ").map(|kind| kind.trim_matches('`').to_owned()).collect::<Vec<_>>())
        .collect();
    assert_eq!(documented, exist);
}

#[test]
fn the_jsonl_vocabulary_is_what_the_reader_accepts() {
    let folder = newsroom();
    let page = page("docs/cli.md");
    for block in page.blocks("jsonl") {
        std::fs::write(folder.path().join("records.jsonl"), &block.text).unwrap();
        let read = json("yizhai segment records.jsonl --format jsonl", folder.path());
        assert_eq!(read.len(), block.text.lines().count());
    }
    let read = |record: &str| {
        std::fs::write(folder.path().join("record.jsonl"), record).unwrap();
        shell("yizhai segment record.jsonl --format json", folder.path()).output().unwrap().status.success()
    };
    let mut names = BTreeSet::new();
    for row in page.rows("### JSONL input") {
        names.extend(row[0].split(", ").map(|name| name.trim_matches('`').to_owned()));
    }
    for name in &names {
        let body = r#""paragraphs": ["卫星入轨。"]"#;
        let record = match name.as_str() {
            "text" | "content" | "body" => format!(r#"{{"{name}": "卫星入轨。"}}"#),
            "lines" | "paragraphs" => format!(r#"{{"{name}": ["卫星入轨。"]}}"#),
            "sections" | "articles" => format!(r#"{{"{name}": [{{{body}}}]}}"#),
            "captions" => format!(r#"{{"{name}": ["图为卫星。"], {body}}}"#),
            "continued" => format!(r#"{{"{name}": true, {body}}}"#),
            _ => format!(r#"{{"{name}": "甲", {body}}}"#),
        };
        assert!(read(&record), "{record}");
    }
    assert!(!read(r#"{"colour": "red", "paragraphs": ["卫星入轨。"]}"#), "an unknown field is accepted");
}

#[test]
fn json_output_matches_the_schema() {
    let folder = newsroom();
    let here = folder.path();
    let text = std::fs::read_to_string(Path::new(ROOT).join("docs/schema/output.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let check = |definition: &str, values: &[Value]| {
        assert!(!values.is_empty(), "nothing to check against `{definition}`");
        for value in values {
            schema::validate(&schema, definition, value).unwrap();
        }
    };
    for block in page("docs/cli.md").blocks("json digest") {
        check("digest", &values(block.text.as_bytes()));
    }
    std::fs::copy(Path::new(ROOT).join("tests/data/people-daily-2025-12-06.txt"), here.join("daily.txt"))
        .unwrap();
    check("digest", &json("yizhai digest page.txt --format json", here));
    check("section_line", &json("yizhai digest page.txt --format jsonl", here));
    check("digest", &json("yizhai digest articles.jsonl --format jsonl", here));
    let all = json("yizhai digest pages/ --format json", here);
    check("digest", all[0].as_array().unwrap());
    check("structure", &json("yizhai segment daily.txt --format json", here));
    check("structure", &json("yizhai segment daily.txt --format jsonl", here));
    check("model", json("yizhai models list --format json", here)[0].as_array().unwrap());
    check("model", &json("yizhai models list --format jsonl", here));
    check("bench_steps", &json("yizhai bench --batch 1 --prompt 8 --generate 4", here));
    check("bench_page", &json("yizhai bench --page page.txt", here));
    std::fs::write(here.join("pages/4.txt"), " ").unwrap();
    let output = shell("yizhai digest pages/ --output out/ --json-progress", here).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    check("progress", &values(&output.stderr));
    check("run", &values(&std::fs::read(here.join("out/run.json")).unwrap()));
    check("failed_input", &values(&std::fs::read(here.join("out/failures.jsonl")).unwrap()));
    let output = shell("yizhai digest pages/4.txt page.txt --format jsonl --quiet", here).output().unwrap();
    let (failures, lines): (Vec<_>, Vec<_>) =
        values(&output.stdout).into_iter().partition(|value| value.get("verdict").is_none());
    check("failure", &failures);
    check("section_line", &lines);
}

#[test]
fn python_and_javascript_in_the_documentation_run_or_compile() {
    let folder = newsroom();
    let finds = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let has_node = finds("node");
    assert!(has_node || std::env::var_os("CI").is_none(), "node is not installed");
    for page in pages() {
        for block in &page.blocks {
            let file = folder.path().join("block");
            std::fs::write(&file, &block.text).unwrap();
            match block.info.as_str() {
                "python run" => drop(run("python3 block", folder.path())),
                "python" => drop(run(
                    "python3 -c 'compile(open(\"block\").read(), \"block\", \"exec\")'",
                    folder.path(),
                )),
                "js run" if has_node => drop(run("node --input-type=module < block", folder.path())),
                _ => {}
            }
        }
    }
}

#[test]
fn the_python_client_of_the_readme_is_the_example() {
    let example = std::fs::read_to_string(Path::new(ROOT).join("examples/python/quickstart.py")).unwrap();
    let readme = page("README.md");
    let block = readme.blocks("python").next().unwrap();
    assert!(example.ends_with(&block.text), "examples/python/quickstart.py differs from README.md");
}

#[test]
fn the_manual_and_the_completions_follow_from_the_arguments() {
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
