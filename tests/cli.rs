//! The program as a black box: its arguments, its output, its errors and its exit codes.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;
use support::tiny_gguf;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/people-daily-2025-12-06.txt");
const EXPECTED: &str = include_str!("data/people-daily-2025-12-06.expected.json");

/// Returns the program with an empty environment, so that it ignores settings of the user and cannot download models.
fn yizhai(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_yizhai"));
    command
        .args(arguments)
        .env_clear()
        .env("YIZHAI_CACHE_DIR", "/nonexistent/cache")
        .env("PATH", "/nonexistent");
    command
}

/// Returns the program with the tiny model.
fn tiny(arguments: &[&str]) -> Command {
    let mut command = yizhai(arguments);
    command.env("YIZHAI_MODEL", tiny_gguf::path());
    command
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

// ---- structure ----

#[test]
fn segment_finds_the_expected_structure_of_a_real_page() {
    let found: Value =
        serde_json::from_str(&succeeded(run(&mut yizhai(&["segment", PAGE, "--format", "json"])))).unwrap();
    let expected: Value = serde_json::from_str(EXPECTED).unwrap();
    let plain = |value: &Value| value.as_str().map(|s| s.split_whitespace().collect::<String>());
    let articles = |value: &Value| value["articles"].as_array().unwrap().clone();
    assert_eq!(articles(&found).len(), articles(&expected).len());
    for (found, expected) in articles(&found).iter().zip(articles(&expected)) {
        for key in ["headline", "subtitle", "kicker", "dateline", "byline"] {
            assert_eq!(plain(&found[key]), plain(&expected[key]), "{key} of {}", expected["headline"]);
        }
        assert_eq!(found["captions"], expected["captions"]);
        assert_eq!(found["continued"], expected["continued"]);
        let sections = |article: &Value| article["sections"].as_array().unwrap().clone();
        assert_eq!(sections(found).len(), sections(&expected).len());
        for (found, expected) in sections(found).iter().zip(sections(&expected)) {
            assert_eq!(plain(&found["heading"]), plain(&expected["heading"]));
            assert_eq!(found["paragraphs"], expected["paragraphs"], "{}", expected["heading"]);
        }
    }
}

#[test]
fn spans_are_byte_ranges_of_the_file() {
    let page = std::fs::read(PAGE).unwrap();
    let found: Value =
        serde_json::from_str(&succeeded(run(&mut yizhai(&["segment", PAGE, "--format", "json"])))).unwrap();
    let article = &found["articles"][1];
    let span = &article["spans"]["headline"][0];
    let range = span["start"].as_u64().unwrap() as usize..span["end"].as_u64().unwrap() as usize;
    assert_eq!(std::str::from_utf8(&page[range]).unwrap(), article["headline"]);
}

// ---- digest ----

#[test]
fn digest_writes_a_summary_and_a_translation_of_every_section() {
    let files = Files::new();
    let article = files.write("a.jsonl", r#"{"id": 9, "headline": "题", "sections": [{"paragraphs": ["火箭。", "卫星。"]}, {"heading": "小", "paragraphs": ["城市。"]}]}"#);
    let text = succeeded(run(&mut tiny(&["digest", &article, "--format", "json", "--summary-chars", "20"])));
    let digest: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(digest["id"], 9);
    let sections = digest["articles"][0]["sections"].as_array().unwrap();
    let shape: Vec<_> =
        sections.iter().map(|s| s["translation"]["paragraphs"].as_array().unwrap().len()).collect();
    assert_eq!(shape, [2, 1]);
    for section in sections {
        assert!(section["summary"]["text"].is_string() && section["error"].is_null());
        assert_eq!(section["provenance"]["model"], "tiny-qwen2");
        assert_eq!(section["provenance"]["weights_sha256"].as_str().unwrap().len(), 64);
    }
}

#[test]
fn a_single_task_on_lines_writes_one_line_per_input_line() {
    let files = Files::new();
    let lines = files.write("lines.txt", "第一行。\n\n第三行。\n");
    let command = ["digest", &lines, "--input-format", "lines", "--tasks", "translation", "--quiet"];
    let output = run(&mut tiny(&command));
    assert_eq!(stderr(&output), "");
    let text = succeeded(output);
    assert_eq!(text.lines().count(), 3, "{text:?}");
    assert_eq!(text.lines().nth(1), Some(""));
}

#[test]
fn in_process_and_remote_servers_produce_the_same_result() {
    let files = Files::new();
    let page = files.write("page.txt", "火箭发射\n\n火箭发射入轨。\n");
    let server = Server::start(&[]);
    let digest = |extra: &[&str]| {
        let arguments = [&["digest", page.as_str(), "--summary-chars", "20"], extra].concat();
        succeeded(run(&mut tiny(&arguments)))
    };
    let in_process = digest(&[]);
    assert!(in_process.contains("火箭发射") && in_process.contains("English"));
    assert_eq!(in_process, digest(&["--server", &server.url()]));
}

#[test]
fn reads_stdin_and_writes_a_file() {
    let files = Files::new();
    let output = files.path("out.jsonl");
    let arguments = ["digest", "-", "--format", "jsonl", "--tasks", "summary", "--summary-chars", "10", "-o"];
    let mut child =
        tiny(&arguments).arg(&output).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all("火箭发射入轨。".as_bytes()).unwrap();
    let finished = child.wait_with_output().unwrap();
    assert_eq!(succeeded(finished), "");
    let written = std::fs::read_to_string(output).unwrap();
    let section: Value = serde_json::from_str(written.trim_end()).unwrap();
    assert_eq!(section["source"][0], "火箭发射入轨。");
    assert!(section["translation"].is_null() && section["summary"].is_object());
}

#[test]
fn an_invalid_record_is_reported_in_its_place() {
    let files = Files::new();
    let records = files.write(
        "r.jsonl",
        "{\"id\": \"a\", \"text\": \"火箭。\"}\n{\"id\": \"b\"}\n\n{\"id\": \"c\", \"text\": \"卫星。\"}\n",
    );
    for command in [&["segment"][..], &["digest", "--tasks", "summary", "--summary-chars", "10"]] {
        let output = run(tiny(command).args([&records, "--format", "jsonl"]));
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(stderr(&output).contains("r.jsonl, line 2"), "{}", stderr(&output));
        let lines: Vec<Value> =
            stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!((&lines[0]["id"], &lines[2]["id"]), (&"a".into(), &"c".into()));
        assert!(lines[1]["error"].is_string());
    }
}

#[test]
fn an_invalid_file_is_reported_and_the_others_are_processed() {
    let files = Files::new();
    let good = files.write("good.txt", "火箭。");
    let blank = files.write("blank.txt", " \n");
    let output = run(tiny(&[
        "digest",
        &blank,
        &good,
        "--tasks",
        "summary",
        "--summary-chars",
        "10",
        "--format",
        "json",
    ])
    .env("NO_COLOR", "1"));
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("blank.txt"));
    let results: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(results[0]["error"].is_string() && results[1]["articles"].is_array());
}

#[test]
fn output_to_a_pipe_has_no_colors() {
    let files = Files::new();
    let page = files.write("page.txt", "火箭。");
    let text = succeeded(run(&mut tiny(&["digest", &page, "--tasks", "summary", "--summary-chars", "10"])));
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

// ---- errors ----

/// Checks that a command fails with a one-line error that contains all of `parts`.
fn assert_fails(command: &mut Command, parts: &[&str]) {
    let output = run(command);
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(stdout(&output), "");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    for part in parts {
        assert!(error.contains(part), "{part} is missing in {error:?}");
    }
    assert!(!error.contains("panicked") && !error.contains("backtrace"));
}

#[test]
fn an_error_about_an_input_names_it() {
    let files = Files::new();
    let blank = files.write("blank.txt", "\u{3000}\n\n");
    let noise = files.write("noise.bin", (0u8..=255).cycle().take(5000).collect::<Vec<_>>());
    let huge = files.path("huge.txt");
    let empty = files.path("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::File::create(&huge).unwrap().set_len(40 << 20).unwrap();
    for command in ["digest", "segment"] {
        assert_fails(
            &mut tiny(&[command, "/nonexistent/page.txt"]),
            &["/nonexistent/page.txt", "No such file"],
        );
        assert_fails(&mut tiny(&[command, empty.to_str().unwrap()]), &["empty", "contains no pages"]);
        assert_fails(&mut tiny(&[command, &blank]), &["blank.txt", "empty"]);
        assert_fails(&mut tiny(&[command, &noise]), &["noise.bin", "byte"]);
        assert_fails(&mut tiny(&[command, huge.to_str().unwrap()]), &["huge.txt", "33554432"]);
    }
}

#[test]
fn an_error_about_a_model_names_it() {
    let files = Files::new();
    let page = files.write("page.txt", "火箭。");
    let whole = std::fs::read(tiny_gguf::path()).unwrap();
    let truncated = files.write("truncated.gguf", &whole[..whole.len() / 2]);
    let wrong = files.write("wrong.gguf", "not a model");
    let digest = |model: &str| {
        let mut command = yizhai(&["digest", &page, "--model", model]);
        command.env("HF_HUB_OFFLINE", "1");
        command
    };
    assert_fails(
        &mut digest("qwen2.5-coder-1.5b"),
        &["qwen2.5-coder-1.5b", "qwen2.5-coder-1.5b-instruct-q4_k_m"],
    );
    assert_fails(&mut digest("/nonexistent/m.gguf"), &["/nonexistent/m.gguf", "No such file"]);
    assert_fails(&mut digest(&truncated), &["truncated.gguf", "corrupt", "tensor"]);
    assert_fails(&mut digest(&wrong), &["wrong.gguf", "corrupt"]);
    for command in ["digest", "serve"] {
        let mut command = yizhai(&[command, "--model", &truncated, "--log", "error"]);
        if command.get_args().next().unwrap() == "digest" {
            command.arg(&page);
        } else {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        assert_fails(&mut command, &["truncated.gguf"]);
    }
}

#[test]
fn models_path_does_not_download() {
    let id = "qwen2.5-coder-0.5b-instruct-q4_k_m";
    assert_fails(&mut yizhai(&["models", "path", id]), &[id, "yizhai models pull"]);
    assert_fails(&mut yizhai(&["models", "path", "qwen"]), &["qwen"]);
    let list: Value =
        serde_json::from_str(&succeeded(run(&mut yizhai(&["models", "list", "--format", "json"])))).unwrap();
    let default: Vec<_> = list.as_array().unwrap().iter().filter(|m| m["default"] == true).collect();
    assert_eq!(default.len(), 1);
    assert_eq!(default[0]["id"], "qwen2.5-coder-1.5b-instruct-q4_k_m");
}

#[test]
fn an_error_about_a_server_names_it() {
    let files = Files::new();
    let page = files.write("page.txt", "火箭。");
    assert_fails(
        &mut yizhai(&["digest", &page, "--server", "http://127.0.0.1:1"]),
        &["http://127.0.0.1:1", "yizhai serve"],
    );
    assert_fails(
        &mut yizhai(&["segment", &page, "--server", "not an address"]),
        &["not an address", "http://HOST:PORT"],
    );
}

#[test]
fn invalid_arguments_have_their_own_exit_code() {
    for arguments in [
        &["digest"][..],
        &["digest", "x", "--summary-chars", "3"],
        &["digest", "x", "--tasks", "poem"],
        &["fly"],
    ] {
        assert_eq!(run(&mut yizhai(arguments)).status.code(), Some(2), "{arguments:?}");
    }
}

// ---- serve ----

/// `yizhai serve` on a free port, killed at the end of the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let fixed = ["serve", "--listen", "127.0.0.1:0", "--log-format", "json"];
        let mut child = tiny(&[&fixed[..], arguments].concat()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = None;
        loop {
            let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            match line["fields"]["message"].as_str().unwrap() {
                "listening" => address = Some(line["fields"]["address"].as_str().unwrap().to_owned()),
                "serving" => break,
                _ => {}
            }
        }
        // Keeps reading, because the server would block on a full pipe.
        std::thread::spawn(move || lines.count());
        Self { child, address: address.unwrap() }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_error_about_a_used_port_names_it() {
    let server = Server::start(&[]);
    assert_fails(
        tiny(&["serve", "--listen", &server.address]).args(["--log", "error"]),
        &[&server.address, "--listen"],
    );
}

#[test]
fn sigterm_drains_and_exits_with_0() {
    let files = Files::new();
    let page = files.write("page.txt", "火箭发射入轨。");
    let mut server = Server::start(&[]);
    let mut client = tiny(&["digest", &page, "--server", &server.url(), "--format", "jsonl"]);
    let digest = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(150));
    server.signal("-TERM");
    // The request is either finished or, if the signal came first, refused.
    let finished = digest.wait_with_output().unwrap();
    assert!(finished.status.success() || stderr(&finished).contains("about to end"), "{}", stderr(&finished));
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_second_signal_stops_immediately() {
    let files = Files::new();
    let lines = files.write("lines.txt", "火箭发射入轨。\n".repeat(400));
    let mut server = Server::start(&[]);
    let mut digest = tiny(&["digest", &lines, "--input-format", "lines", "--server", &server.url()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // After the first result, the request is certainly in flight, and has much left to do.
    let mut results = BufReader::new(digest.stdout.take().unwrap());
    results.read_line(&mut String::new()).unwrap();
    server.signal("-TERM");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(
        server.child.try_wait().unwrap().is_none(),
        "the first signal did not wait for the request in flight"
    );
    server.signal("-TERM");
    assert_eq!(server.child.wait().unwrap().code(), Some(130));
    let _ = digest.kill();
    let _ = digest.wait();
}

#[test]
#[cfg(not(feature = "cuda"))]
fn a_build_without_cuda_refuses_a_gpu_and_logs_why_auto_uses_the_cpu() {
    for device in ["cuda", "cuda:1"] {
        let output = run(&mut tiny(&["bench", "--batch", "1", "--device", device]));
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains("--features cuda"), "{message}");
    }
    let mut auto = tiny(&["bench", "--batch", "1", "--generate", "1"]);
    let output = run(auto.env("YIZHAI_LOG", "info"));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && log.contains("this build has no CUDA"), "{log}");
}

#[test]
fn help_lists_every_exit_code() {
    let help = succeeded(run(&mut yizhai(&["--help"])));
    let exit_codes = help.split_once("Exit codes:").unwrap().1;
    let codes: Vec<&str> =
        exit_codes.trim().lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(codes, ["0", "1", "2", "3", "4", "130"], "{help}");
}

#[test]
fn bench_measures_batch_sizes_and_pages() {
    let lines = succeeded(run(&mut tiny(&[
        "bench",
        "--batch",
        "1,3",
        "--prompt",
        "40",
        "--generate",
        "4",
        "--repeat",
        "2",
    ])));
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|l| l["batch"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(
        (lines[1]["prompt_tokens"].as_u64(), lines[1]["generated_tokens"].as_u64()),
        (Some(120), Some(12))
    );
    let mut text = tempfile::NamedTempFile::new().unwrap();
    text.write_all("省图书馆新馆开放\n　　省图书馆新馆今天开放，首日迎来读者3万人次。\n".as_bytes()).unwrap();
    let path = text.path().to_str().unwrap();
    let page = succeeded(run(&mut tiny(&["bench", "--kv-type", "int8", "--page", path])));
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["sections"], 1);
    for rate in ["prompt_tokens_per_second", "generated_tokens_per_second"] {
        assert!(lines.iter().all(|line| line[rate].as_f64().unwrap() > 0.0), "{lines:?}");
    }
    assert!(
        page["generated_tokens"].as_u64().unwrap() > 0 && page["seconds"].as_f64().unwrap() > 0.0,
        "{page}"
    );
}

// ---- eval ----

const PAIRS: &str =
    "增长3万人。\tGrowth of 30,000 people in Wuhan.\t[[\"武汉\", [\"Wuhan\"]]]\n他说好。\tHe said yes.\n";

/// Returns the id and the path of a second model, a copy of the tiny one.
fn second_model(files: &Files) -> String {
    files.write("second.gguf", std::fs::read(tiny_gguf::path()).unwrap())
}

#[test]
fn eval_compares_models_as_text_json_and_html() {
    let files = Files::new();
    let (pairs, second) = (files.write("pairs.tsv", PAIRS), second_model(&files));
    let first = tiny_gguf::path().to_str().unwrap();
    let report = files.path("report.html");
    let models = ["--model", first, "--model", &second, "--max-attempts", "1"];
    let arguments = [&["eval", &pairs][..], &models, &["--format", "json", "--html"]].concat();
    let output = succeeded(run(yizhai(&arguments).arg(&report)));
    let json: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((json["pairs"].as_u64(), json["candidates"].as_array().map(Vec::len)), (Some(2), Some(2)));
    let [baseline, other] = [0, 1].map(|index| &json["candidates"][index]);
    assert_eq!((&baseline["model"], &other["model"]), (&"tiny-qwen2".into(), &"second".into()));
    // The models are equal, so their translations and scores are.
    assert_eq!(baseline["chrf"]["score"], other["chrf"]["score"]);
    assert_eq!(baseline["sentences"][0]["text"], other["sentences"][0]["text"]);
    assert!(baseline["chrf"]["p"].is_null() && other["chrf"]["p"].is_null(), "{output}");
    assert_eq!((&baseline["numbers"]["expected"], &baseline["names"]["expected"]), (&1.into(), &1.into()));
    assert!(baseline["generated_tokens_per_second"].as_f64().unwrap() > 0.0, "{baseline}");
    if cfg!(target_os = "linux") {
        assert!(baseline["peak_memory_bytes"].as_u64().unwrap() > 0, "{baseline}");
    }
    let report = std::fs::read_to_string(report).unwrap();
    for part in ["增长3万人。", "Growth of 30,000 people", "<th scope=\"col\">second</th>", "Pair 2", "BLEU"]
    {
        assert!(report.contains(part), "{part}");
    }
    let table = succeeded(run(&mut yizhai(&[
        "eval",
        &pairs,
        "--model",
        first,
        "--limit",
        "1",
        "--max-attempts",
        "1",
    ])));
    assert!(table.starts_with("1 pairs of ") && table.contains("\nchrF"), "{table}");
    assert!(!table.contains("bootstrap") && table.contains("Names kept"), "{table}");
}

#[test]
fn eval_reports_invalid_pairs_and_unknown_models_before_loading_one() {
    let files = Files::new();
    let first = tiny_gguf::path().to_str().unwrap();
    let (pairs, broken) = (files.write("pairs.tsv", PAIRS), files.write("broken.tsv", "好\tGood.\n坏"));
    for (arguments, message) in [
        (["eval", &broken, "--model", first, "--model", first], "broken.tsv, line 2: missing reference"),
        (["eval", &pairs, "--model", first, "--model", "no-such-model"], "no-such-model"),
    ] {
        let output = run(&mut yizhai(&arguments));
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let stderr = stderr(&output);
        assert!(stderr.contains(message) && !stderr.contains("evaluating"), "{stderr}");
    }
    assert_eq!(run(&mut yizhai(&["eval", &pairs])).status.code(), Some(2), "--model is required");
}
