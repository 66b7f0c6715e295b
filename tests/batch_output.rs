//! Batches: the choice of inputs, the order and format of results, and memory use.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::HashSet, fmt::Write as _, process::Stdio, sync::Arc, time::Duration};

use serde_json::Value;
use support::{
    batch::{Folder, output, stderr, stdout, yizhai},
    proxy::{Intercept, Proxy},
    scripted::{self, Script, ScriptedReply},
    serving::Server,
};
use yizhai::pb::{self, digest_many_response::Result as Digested};

/// Answers every item immediately with an empty digest.
fn empty_digests() -> Intercept {
    Arc::new(|_| {
        let document = pb::Document { articles: vec![pb::Article::default()], ..Default::default() };
        Some(Digested::Digest(pb::DigestResponse { document: Some(document), ..Default::default() }))
    })
}

async fn served(script: Script) -> Server {
    Server::start(scripted::pipeline(script)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn selects_files_from_directories_and_patterns() {
    let folder = Folder::new();
    for name in ["b.txt", "a.md", "deep/c.html", "deep/d.csv", ".hidden.txt", "deep/e.JSONL"] {
        folder.write(name, "{\"text\": \"火箭。\"}\n");
    }
    let server = served(scripted::faithful_script()).await;
    let proxy = Proxy::start(server.client().await, empty_digests()).await;
    let pages = folder.pages();
    let count_inputs = async |arguments: &[&str]| {
        let mut command =
            yizhai(&["digest", "--server", &proxy.url(), "--format", "jsonl", "--input-format", "text"]);
        command.args(arguments).current_dir(&pages);
        // With an explicit input format, files with any extension are read.
        let output = output(command).await;
        assert!(output.status.success(), "{}", stderr(&output));
        proxy.take_received().len()
    };
    assert_eq!(count_inputs(&["."]).await, 5, "all except hidden files");
    assert_eq!(count_inputs(&[".", "--include", "*.csv", "--include", "deep/*.html"]).await, 2);
    assert_eq!(count_inputs(&[".", "--exclude", "*.md", "--exclude", "**/deep/**"]).await, 1);
    assert_eq!(count_inputs(&["*.txt"]).await, 1);
    assert_eq!(count_inputs(&["**/*.{html,md}", "b.txt", "./b.txt"]).await, 3, "each file only once");
    let mut wrong = yizhai(&["digest", "nothing/*.txt", "--server", &proxy.url()]);
    wrong.current_dir(&pages);
    let wrong = output(wrong).await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(stderr(&wrong).contains("nothing/*.txt"), "{}", stderr(&wrong));
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_results_in_input_order_or_completion_order() {
    let folder = Folder::new();
    // The first takes longest.
    folder.write("a.txt", "很长的火箭新闻。".repeat(60));
    folder.write("b.txt", "卫星。");
    folder.write("c.txt", " ");
    let pipeline = scripted::pipeline_with(
        scripted::faithful_script(),
        Duration::from_millis(2),
        Arc::default(),
        Default::default(),
    );
    let server = Server::start(pipeline).await;
    let names = async |order: &str| {
        let mut command =
            yizhai(&["digest", "--server", &server.url(), "--format", "json", "--order", order]);
        command.arg(folder.pages());
        let output = output(command).await;
        assert_eq!(output.status.code(), Some(3));
        let results: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let name = |result: &Value| result["input"].as_str().unwrap().rsplit_once('/').unwrap().1.to_owned();
        results.as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names("given").await, ["a.txt", "b.txt", "c.txt"]);
    assert_eq!(names("done").await.last().unwrap(), "a.txt");
}

#[tokio::test(flavor = "multi_thread")]
async fn html_is_self_contained_and_escapes_the_source() {
    let folder = Folder::new();
    let attack = "<script>alert(1)</script>\"><img src=x onerror=alert(2)>";
    folder.write(
        "bad & \"good\" #1.txt",
        format!("营收557.4亿元{attack}，蓝箭航天增长14.8%。第二句。\n\n第二段。\n"),
    );
    let script: Script = Arc::new(|prompt| {
        let is_summary = prompt.split_once("\n\n").unwrap().0.contains("概括");
        ScriptedReply::Text(match is_summary {
            true => "蓝箭航天增长14.8%。".to_owned(),
            false => "LandSpace earned 55.74 billion yuan <b>&</b> grew 14.8%.".to_owned(),
        })
    });
    let server = served(script).await;
    let output =
        output(folder.digest(&server.url(), &["--format", "html", "--term", "蓝箭航天=LandSpace"])).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let page = folder.read("bad & \"good\" #1.txt.html");
    for markup in ["<script>alert", "<img", "<b>"] {
        assert!(!page.contains(markup), "{markup}");
    }
    assert!(
        page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"),
        "the text of the source is missing"
    );
    for outside in [" src=\"", "url(", "<link", "@import"] {
        assert!(!page.contains(outside), "the page loads an external resource: {outside}");
    }
    let values = |name: &str| -> Vec<String> {
        let opening = format!(" {name}=\"");
        let parts = page.split(opening.as_str()).skip(1);
        parts.map(|part| part.split('"').next().unwrap().to_owned()).collect()
    };
    let ids = values("id");
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "an id is duplicated");
    for link in values("href") {
        let found = match link.strip_prefix('#') {
            Some(id) => ids.iter().any(|other| other == id),
            None => link == "index.html",
        };
        assert!(found, "{link} has no target");
    }
    for text in ["557.4亿元", "55.74 billion yuan", "14.8%", "蓝箭航天", "LandSpace"] {
        assert!(page.contains(&format!("\">{text}</a>")), "{text} is not linked");
    }
    assert!(page.contains("lang=\"zh-Hans\"") && page.contains("<html lang=\"en\">"));
    let index = folder.read("index.html");
    assert!(index.contains("href=\"bad%20%26%20%22good%22%20%231.txt.html\"") && !index.contains("<img"));
    assert!(index.contains("蓝箭航天增长14.8%。"), "the index has no summary");
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_are_structured_in_json_and_marked_in_html() {
    let folder = Folder::new();
    folder.write("a.txt", "投资35亿元，建设工厂。");
    let script: Script =
        Arc::new(|_| ScriptedReply::Text("They invested 350 million yuan, CNN said.".to_owned()));
    let server = served(script).await;
    let arguments = |format| ["--format", format, "--tasks", "translation", "--max-attempts", "1"];
    let url = server.url();
    for format in ["json", "html"] {
        let output = output(folder.digest(&url, &arguments(format))).await;
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let digest: Value = serde_json::from_str(&folder.read("a.txt.json")).unwrap();
    let section = &digest["articles"][0]["sections"][0];
    let findings = section["verdict"]["findings"].as_array().unwrap();
    let fields = |key: &str| -> Vec<&Value> { findings.iter().map(|finding| &finding[key]).collect() };
    assert_eq!(fields("kind"), ["number_not_in_source", "number_missing", "name_not_in_source"]);
    assert_eq!(fields("expected"), [&Value::Null, &"35亿元".into(), &Value::Null]);
    assert_eq!(fields("expected_english"), [&Value::Null, &"3.5 billion yuan".into(), &Value::Null]);
    assert_eq!(fields("found"), [&"350 million yuan".into(), &Value::Null, &"CNN".into()]);
    assert_eq!(findings[1]["source_span"], serde_json::json!({ "start": 6, "end": 14 }));
    assert_eq!(findings[1]["paragraph_index"], 0);
    let page = folder.read("a.txt.html");
    for (finding, text) in findings.iter().zip(["350 million yuan", "35亿元", "CNN"]) {
        let mark = format!("<mark title=\"{}\">{text}</mark>", finding["message"].as_str().unwrap());
        assert!(page.contains(&mark), "{text} is not marked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_progress_has_one_object_per_line_and_quiet_prints_nothing() {
    let folder = Folder::new();
    folder.write("a.txt", "火箭发射入轨。");
    folder.write("b.txt", " ");
    let server = served(scripted::faithful_script()).await;
    let first = output(folder.digest(&server.url(), &["--json-progress"])).await;
    let events: Vec<Value> = stderr(&first).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let items: Vec<&Value> = events.iter().filter(|event| event["event"] == "item").collect();
    assert_eq!(items.len(), 2);
    let done = items.iter().find(|item| item["outcome"] == "done").unwrap();
    assert_eq!((&done["characters"], &done["from_store"]), (&7.into(), &false.into()));
    assert!(items.iter().any(|item| item["error"].as_str().is_some_and(|error| error.contains("empty"))));
    let end = events.last().unwrap();
    assert_eq!(
        (&end["event"], &end["inputs"]["done"], &end["inputs"]["failed"]),
        (&"end".into(), &1.into(), &1.into())
    );
    assert_eq!((&end["total_items"], &end["bytes"]), (&2.into(), &22.into()));

    std::fs::remove_file(folder.pages().join("b.txt")).unwrap();
    let second = output(folder.digest(&server.url(), &["--quiet"])).await;
    assert_eq!((second.status.code(), stderr(&second).as_str(), stdout(&second).as_str()), (Some(0), "", ""));
}

/// Returns the peak memory of a process in KiB.
fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn memory_use_does_not_grow_with_the_length_of_a_jsonl_file() {
    let folder = Folder::new();
    let record = |out: &mut String, number: usize| {
        writeln!(out, "{{\"id\": {number}, \"text\": \"第{number}篇。{}\"}}", "火箭发射入轨。".repeat(600))
            .unwrap();
    };
    let server = served(scripted::faithful_script()).await;
    let proxy = Proxy::start(server.client().await, empty_digests()).await;
    let mut peaks = Vec::new();
    for records in [400, 8_000] {
        let mut text = String::new();
        (0..records).for_each(|number| record(&mut text, number));
        folder.write("long.jsonl", &text);
        drop(text);
        let mut command = yizhai(&["digest", "--server", &proxy.url(), "--format", "jsonl", "--quiet"]);
        let child = command.arg(folder.pages().join("long.jsonl")).stdout(Stdio::null()).spawn();
        let mut child = child.unwrap();
        let mut peak = 0;
        let status = loop {
            peak = peak.max(peak_kib(child.id()).unwrap_or(0));
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        assert!(status.success());
        let seen = proxy.take_received();
        assert_eq!(seen.len(), records);
        assert!(seen.iter().all(|page| page.len() > 12_000));
        peaks.push(peak);
    }
    println!("{} KiB for 5 MB, {} KiB for 100 MB", peaks[0], peaks[1]);
    assert!(peaks[1] < peaks[0] + (24 << 10), "{peaks:?} KiB");
}
