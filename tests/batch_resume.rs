//! Resuming batches: no result is lost or computed twice, whatever happens to the process.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use support::{
    batch::{Folder, output, stderr},
    proxy::{Intercept, Proxy, input_bytes},
    scripted::{self, faithful_script},
    serving::Server,
};
use yizhai::{engine::EngineConfig, pb::digest_many_response::Result as Answer};

fn forward_all() -> Intercept {
    Arc::new(|_| None)
}

/// Starts a server with a scripted model, and a proxy that records its items.
async fn served(step_time: Duration, intercept: Intercept) -> (Server, Proxy) {
    let pipeline =
        scripted::pipeline_with(faithful_script(), step_time, Arc::default(), EngineConfig::default());
    let server = Server::start(pipeline).await;
    let proxy = Proxy::start(server.client().await, intercept).await;
    (server, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_only_new_and_changed_inputs() {
    let folder = Folder::new();
    for name in ["a.txt", "b.txt", "deep/c.txt"] {
        folder.write(name, format!("{name}的火箭发射入轨。"));
    }
    folder.write("same.txt", "a.txt的火箭发射入轨。");
    folder.write("notes.pdf", "not a page");
    let (_server, proxy) = served(Duration::ZERO, forward_all()).await;
    let run = async |more: &'static [&'static str]| {
        let output = output(folder.digest(&proxy.url(), more)).await;
        assert!(output.status.success(), "{}", stderr(&output));
        (proxy.take_received().len(), stderr(&output))
    };
    let (sent, messages) = run(&["--format", "json"]).await;
    assert_eq!(sent, 3, "the duplicate was sent");
    assert!(messages.contains("skipped 1 file with other extensions"), "{messages}");
    let names = ["a.txt.json", "b.txt.json", "deep/c.txt.json", "run.json", "same.txt.json"];
    assert_eq!(folder.results(), names);
    let first = folder.read("a.txt.json");
    assert!(
        first.contains("火箭发射入轨")
            && first.contains(&scripted::faithful_translation("a.txt的火箭发射入轨。"))
    );

    assert_eq!(run(&["--format", "json"]).await.0, 0);
    folder.write("b.txt", "另一枚火箭。");
    std::fs::rename(folder.pages().join("a.txt"), folder.pages().join("z.txt")).unwrap();
    assert_eq!(run(&["--format", "json"]).await.0, 1, "only the changed input");
    assert!(folder.read("b.txt.json").contains("另一枚火箭"));
    assert!(folder.read("z.txt.json").contains("a.txt的火箭"));

    // Another format uses the same results; other options require new ones.
    assert_eq!(run(&["--format", "markdown"]).await.0, 0);
    assert!(folder.read("deep/c.txt.md").contains("**摘要** "));
    assert_eq!(run(&["--format", "json", "--summary-chars", "10"]).await.0, 3);
    assert_eq!(run(&["--format", "json", "--summary-chars", "10", "--tasks", "summary"]).await.0, 3);
    // The earlier results are still in the store.
    assert_eq!(run(&["--format", "json"]).await.0, 0);
    assert_eq!(folder.read("z.txt.json").replace("z.txt", "a.txt"), first, "it is written from the store");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_failures_and_retries_them_only_on_request() {
    let folder = Folder::new();
    folder.write("good.txt", "火箭发射入轨。");
    folder.write("unlucky.txt", "不走运的火箭。");
    folder.write("blank.txt", " \n");
    folder.write("r.jsonl", "{\"text\": \"卫星。\", \"id\": 7}\n{\"nothing\": 1}\n");
    let is_failing = Arc::new(AtomicBool::new(true));
    let intercept: Intercept = {
        let is_failing = is_failing.clone();
        Arc::new(move |item| {
            let is_unlucky =
                String::from_utf8_lossy(&input_bytes(item.input.as_ref().unwrap())).contains("不走运");
            (is_unlucky && is_failing.load(Ordering::SeqCst)).then(|| {
                Answer::Error(tonic_types::pb::Status {
                    code: tonic::Code::DeadlineExceeded as i32,
                    message: "it took too long".to_owned(),
                    details: Vec::new(),
                })
            })
        })
    };
    let (_server, proxy) = served(Duration::ZERO, intercept).await;
    let run = async |more: &'static [&'static str]| {
        let output = output(folder.digest(&proxy.url(), more)).await;
        (output.status.code(), stderr(&output), proxy.take_received().len())
    };
    let reasons = || -> BTreeMap<String, String> {
        let name =
            |line: &serde_json::Value| line["input"].as_str().unwrap().rsplit_once('/').unwrap().1.to_owned();
        let reason = |line: &serde_json::Value| line["error"].as_str().unwrap().to_owned();
        folder.failures().iter().map(|line| (name(line), reason(line))).collect()
    };
    let (code, messages, sent) = run(&["--format", "markdown"]).await;
    assert_eq!((code, sent), (Some(3), 4), "{messages}");
    assert!(
        messages.contains("unlucky.txt: it took too long")
            && messages.contains("2 done, 0 partly done, 3 failed"),
        "{messages}"
    );
    let first = reasons();
    assert_eq!(first.keys().collect::<Vec<_>>(), ["blank.txt", "r.jsonl, line 2", "unlucky.txt"]);
    assert!(
        first["blank.txt"].contains("empty") && first["r.jsonl, line 2"].contains("\"text\""),
        "{first:?}"
    );
    assert_eq!(folder.results(), ["failures.jsonl", "good.txt.md", "r.jsonl/0000/0000001.md", "run.json"]);

    let (code, _, sent) = run(&["--format", "markdown"]).await;
    assert_eq!((code, sent), (Some(3), 0), "failures are not retried without --retry-failed");
    assert_eq!(reasons(), first);

    is_failing.store(false, Ordering::SeqCst);
    let (code, messages, sent) = run(&["--format", "markdown", "--retry-failed"]).await;
    assert_eq!((code, sent), (Some(3), 2), "{messages}");
    assert_eq!(reasons().keys().collect::<Vec<_>>(), ["blank.txt", "r.jsonl, line 2"]);
    assert!(folder.read("unlucky.txt.md").contains("不走运"));

    folder.write("blank.txt", "不再空白。");
    folder.write("r.jsonl", "{\"text\": \"卫星。\", \"id\": 7}\n");
    let (code, messages, sent) = run(&["--format", "markdown"]).await;
    assert_eq!((code, sent), (Some(0), 1), "{messages}");
    assert!(!folder.out().join("failures.jsonl").exists());
}

/// Writes pages of all formats and encodings, and returns the names of the valid and the invalid ones.
fn mixed_pages(folder: &Folder, count: usize) -> (Vec<String>, Vec<String>) {
    let (mut valid, mut invalid) = (Vec::new(), Vec::new());
    for number in 0..count {
        let text =
            format!("第{number}号火箭今日发射入轨，任务取得圆满成功。\n\n第{number}颗卫星进入预定轨道。\n");
        let (name, content): (String, Vec<u8>) = match number % 10 {
            0 => (format!("{number}.txt"), encoding_rs::GB18030.encode(&text).0.into_owned()),
            1 => (format!("{number}.md"), format!("# 第{number}号\n\n{text}").into_bytes()),
            2 => {
                let body = format!(
                    "<html><body><article><h1>第{number}号</h1><p>{text}</p></article></body></html>"
                );
                (format!("{number}.html"), body.into_bytes())
            }
            3 => (
                format!("{number}.txt"),
                encoding_rs::BIG5
                    .encode(&format!("第{number}號火箭今日發射升空，任務圓滿成功。"))
                    .0
                    .into_owned(),
            ),
            4 => (format!("sub/{number}.txt"), [b"\xef\xbb\xbf".to_vec(), text.into_bytes()].concat()),
            5 => {
                let units: Vec<u8> =
                    "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
                (format!("{number}.txt"), units)
            }
            6 if number % 20 == 6 => {
                (format!("{number}.txt"), (0..=255u8).cycle().take(2000 + number).collect())
            }
            6 => (format!("{number}.txt"), vec![b' '; number]),
            _ => (format!("{number}.txt"), text.into_bytes()),
        };
        folder.write(&name, content);
        if number % 10 == 6 { invalid.push(name) } else { valid.push(name) }
    }
    (valid, invalid)
}

/// Returns varying but reproducible delays.
fn delays(seed: u64) -> impl Iterator<Item = Duration> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(100 + (state >> 33) % 500)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_ten_times_repeats_only_pages_in_flight() {
    const KILLS: usize = 10;
    /// The default of `--in-flight`, which bounds the pages between sending and storing, even if the disk is slow.
    const IN_FLIGHT: usize = 12;
    let folder = Folder::new();
    let (valid, invalid) = mixed_pages(&folder, 300);
    let (_server, proxy) = served(Duration::from_millis(2), forward_all()).await;
    let arguments = ["--format", "html", "--quiet", "--summary-chars", "20"];
    let mut killed_at_work = 0;
    for delay in delays(7).take(KILLS) {
        let mut child = folder.digest(&proxy.url(), &arguments).spawn().unwrap();
        tokio::time::sleep(delay).await;
        killed_at_work += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = output(folder.digest(&proxy.url(), &arguments)).await;
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));

    let mut expected: Vec<String> = valid.iter().map(|name| format!("{name}.html")).collect();
    expected.extend(["failures.jsonl", "index.html", "run.json"].map(str::to_owned));
    expected.sort();
    assert_eq!(folder.results(), expected);
    for name in &valid {
        let number = name.trim_start_matches("sub/").split('.').next().unwrap();
        let page = folder.read(&format!("{name}.html"));
        assert!(page.contains(&format!("第{number}")) && page.ends_with("</html>"), "{name}");
    }
    let mut named: Vec<String> = folder
        .failures()
        .iter()
        .map(|line| line["input"].as_str().unwrap().rsplit_once("/pages/").unwrap().1.to_owned())
        .collect();
    named.sort();
    let mut invalid = invalid;
    invalid.sort();
    assert_eq!(named, invalid);

    let mut times: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    proxy.take_received().into_iter().for_each(|page| *times.entry(page).or_default() += 1);
    let repeated: usize = times.values().map(|times| times - 1).sum();
    println!(
        "killed {killed_at_work} times during work; {} pages were sent, {repeated} of them again",
        times.len()
    );
    assert!(killed_at_work >= KILLS / 2, "the run ended too early: {killed_at_work}");
    assert!(
        repeated <= killed_at_work * IN_FLIGHT,
        "{repeated} pages were repeated after {killed_at_work} kills"
    );
    let journal = std::fs::read_to_string(folder.out().join(".yizhai/journal.jsonl")).unwrap();
    assert!(journal.lines().count() >= valid.len() - killed_at_work);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_finishes_items_in_flight_and_a_second_one_stops() {
    let folder = Folder::new();
    for number in 0..200 {
        folder.write(&format!("{number}.txt"), format!("第{number}枚火箭发射入轨。"));
    }
    let (_server, proxy) = served(Duration::from_millis(5), forward_all()).await;
    let interrupt = |child: &std::process::Child| {
        let killed =
            std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    };
    let started = || async {
        let child = folder.digest(&proxy.url(), &["--format", "json"]).spawn().unwrap();
        // The first results show that the run is at work.
        while !folder.out().join(".yizhai/digests").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        child
    };
    let child = started().await;
    interrupt(&child);
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{messages}");
    assert!(
        messages.contains("stopping:") && messages.contains("run the same command again to resume"),
        "{messages}"
    );
    let sent = proxy.take_received().len();
    let written = folder.results().iter().filter(|name| name.ends_with(".txt.json")).count();
    assert_eq!(written, sent, "items in flight were not finished");
    assert!(written < 200, "the run ended before the signal");

    let mut child = started().await;
    interrupt(&child);
    interrupt(&child);
    // Pending signals of the same kind are merged, so more are sent until the process has seen two.
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        interrupt(&child);
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(status.code(), Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_used_by_one_run_at_a_time() {
    let folder = Folder::new();
    folder.write("a.txt", "火箭发射入轨。".repeat(20));
    let (_server, proxy) = served(Duration::from_millis(20), forward_all()).await;
    let mut first = folder.digest(&proxy.url(), &[]).spawn().unwrap();
    while !folder.out().join(".yizhai/lock").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let second = output(folder.digest(&proxy.url(), &[])).await;
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("another run is writing to"), "{}", stderr(&second));
    first.kill().unwrap();
    first.wait().unwrap();
}
