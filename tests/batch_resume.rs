//! Batches into a directory: nothing is lost and nothing done twice, whatever happens to the process.
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

fn nothing() -> Intercept {
    Arc::new(|_| None)
}

/// A real server over a scripted model, and a proxy that counts in front of it.
async fn served(step_time: Duration, intercept: Intercept) -> (Server, Proxy) {
    let pipeline =
        scripted::pipeline_with(faithful_script(), step_time, Arc::default(), EngineConfig::default());
    let server = Server::start(pipeline).await;
    let proxy = Proxy::start(server.client().await, intercept).await;
    (server, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_is_not_done_again_and_what_changed_is() {
    let folder = Folder::new();
    for name in ["a.txt", "b.txt", "deep/c.txt"] {
        folder.write(name, format!("{name}的火箭发射入轨。"));
    }
    folder.write("same.txt", "a.txt的火箭发射入轨。");
    folder.write("notes.pdf", "no page");
    let (_server, proxy) = served(Duration::ZERO, nothing()).await;
    let run = async |more: &'static [&'static str]| {
        let output = output(folder.digest(&proxy.url(), more)).await;
        assert!(output.status.success(), "{}", stderr(&output));
        (proxy.take_received().len(), stderr(&output))
    };
    let (sent, said) = run(&["--format", "json"]).await;
    assert_eq!(sent, 3, "the same text was sent twice");
    assert!(said.contains("skipped 1 file with other extensions"), "{said}");
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

    // Another format shows the same results; other options make others.
    assert_eq!(run(&["--format", "markdown"]).await.0, 0);
    assert!(folder.read("deep/c.txt.md").contains("**摘要** "));
    assert_eq!(run(&["--format", "json", "--summary-chars", "10"]).await.0, 3);
    assert_eq!(run(&["--format", "json", "--summary-chars", "10", "--tasks", "summary"]).await.0, 3);
    // And what was made before is still there.
    assert_eq!(run(&["--format", "json"]).await.0, 0);
    assert_eq!(folder.read("z.txt.json").replace("z.txt", "a.txt"), first, "written anew out of the store");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_reported_and_tried_again_only_when_asked() {
    let folder = Folder::new();
    folder.write("good.txt", "火箭发射入轨。");
    folder.write("unlucky.txt", "不走运的火箭。");
    folder.write("blank.txt", " \n");
    folder.write("r.jsonl", "{\"text\": \"卫星。\", \"id\": 7}\n{\"nothing\": 1}\n");
    let broken = Arc::new(AtomicBool::new(true));
    let intercept: Intercept = {
        let broken = broken.clone();
        Arc::new(move |item| {
            let is_it =
                String::from_utf8_lossy(&input_bytes(item.input.as_ref().unwrap())).contains("不走运");
            (is_it && broken.load(Ordering::SeqCst)).then(|| {
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
    let (code, said, sent) = run(&["--format", "markdown"]).await;
    assert_eq!((code, sent), (Some(3), 4), "{said}");
    assert!(
        said.contains("unlucky.txt: it took too long") && said.contains("2 done, 0 partly done, 3 failed"),
        "{said}"
    );
    let first = reasons();
    assert_eq!(first.keys().collect::<Vec<_>>(), ["blank.txt", "r.jsonl, line 2", "unlucky.txt"]);
    assert!(
        first["blank.txt"].contains("empty") && first["r.jsonl, line 2"].contains("\"text\""),
        "{first:?}"
    );
    assert_eq!(folder.results(), ["failures.jsonl", "good.txt.md", "r.jsonl/0000/0000001.md", "run.json"]);

    let (code, _, sent) = run(&["--format", "markdown"]).await;
    assert_eq!((code, sent), (Some(3), 0), "what failed is not tried again by itself");
    assert_eq!(reasons(), first);

    broken.store(false, Ordering::SeqCst);
    let (code, said, sent) = run(&["--format", "markdown", "--retry-failed"]).await;
    assert_eq!((code, sent), (Some(3), 2), "{said}");
    assert_eq!(reasons().keys().collect::<Vec<_>>(), ["blank.txt", "r.jsonl, line 2"]);
    assert!(folder.read("unlucky.txt.md").contains("不走运"));

    folder.write("blank.txt", "不再空白。");
    folder.write("r.jsonl", "{\"text\": \"卫星。\", \"id\": 7}\n");
    let (code, said, sent) = run(&["--format", "markdown"]).await;
    assert_eq!((code, sent), (Some(0), 1), "{said}");
    assert!(!folder.out().join("failures.jsonl").exists());
}

/// Pages of every kind and encoding; the names of the good ones and of the broken ones.
fn mixed_pages(folder: &Folder, count: usize) -> (Vec<String>, Vec<String>) {
    let (mut good, mut broken) = (Vec::new(), Vec::new());
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
        if number % 10 == 6 { broken.push(name) } else { good.push(name) }
    }
    (good, broken)
}

/// A small generator: the moments differ, the test does not.
fn moments(seed: u64) -> impl Iterator<Item = Duration> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(100 + (state >> 33) % 500)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_every_page_has_one_result_and_only_what_was_in_flight_is_done_twice() {
    const KILLS: usize = 10;
    /// The default of `--in-flight`. From being sent to being stored: a slow disk must not make it more.
    const IN_FLIGHT: usize = 12;
    let folder = Folder::new();
    let (good, broken) = mixed_pages(&folder, 300);
    let (_server, proxy) = served(Duration::from_millis(2), nothing()).await;
    let arguments = ["--format", "html", "--quiet", "--summary-chars", "20"];
    let mut killed_at_work = 0;
    for moment in moments(7).take(KILLS) {
        let mut child = folder.digest(&proxy.url(), &arguments).spawn().unwrap();
        tokio::time::sleep(moment).await;
        // Wherever it was: reading, waiting, writing, renaming.
        killed_at_work += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = output(folder.digest(&proxy.url(), &arguments)).await;
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));

    let mut expected: Vec<String> = good.iter().map(|name| format!("{name}.html")).collect();
    expected.extend(["failures.jsonl", "index.html", "run.json"].map(str::to_owned));
    expected.sort();
    assert_eq!(folder.results(), expected);
    for name in &good {
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
    let mut broken = broken;
    broken.sort();
    assert_eq!(named, broken);

    let mut times: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    proxy.take_received().into_iter().for_each(|page| *times.entry(page).or_default() += 1);
    let again: usize = times.values().map(|times| times - 1).sum();
    println!(
        "killed {killed_at_work} times at work; {} pages were sent, {again} of them once more",
        times.len()
    );
    assert!(killed_at_work >= KILLS / 2, "the run was over too soon: {killed_at_work}");
    assert!(
        again <= killed_at_work * IN_FLIGHT,
        "{again} pages were done again after {killed_at_work} kills"
    );
    let journal = std::fs::read_to_string(folder.out().join(".yizhai/journal.jsonl")).unwrap();
    assert!(journal.lines().count() >= good.len() - killed_at_work);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_finishes_what_is_in_flight_and_a_second_one_stops() {
    let folder = Folder::new();
    for number in 0..200 {
        folder.write(&format!("{number}.txt"), format!("第{number}枚火箭发射入轨。"));
    }
    let (_server, proxy) = served(Duration::from_millis(5), nothing()).await;
    let interrupt = |child: &std::process::Child| {
        let killed =
            std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    };
    let started = || async {
        let child = folder.digest(&proxy.url(), &["--format", "json"]).spawn().unwrap();
        // At work for sure: results are there.
        while !folder.out().join(".yizhai/digests").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        child
    };
    let child = started().await;
    interrupt(&child);
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("stopping:") && said.contains("run the same command again to resume"), "{said}");
    let sent = proxy.take_received().len();
    let written = folder.results().iter().filter(|name| name.ends_with(".txt.json")).count();
    assert_eq!(written, sent, "what was in flight was not finished");
    assert!(written < 200, "the signal came too late");

    let mut child = started().await;
    interrupt(&child);
    interrupt(&child);
    // Signals of one kind that come at once are one: again, until it has seen two.
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
async fn two_runs_do_not_share_a_directory() {
    let folder = Folder::new();
    folder.write("a.txt", "火箭发射入轨。".repeat(20));
    let (_server, proxy) = served(Duration::from_millis(20), nothing()).await;
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
