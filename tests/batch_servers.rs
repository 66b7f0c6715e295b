//! Batches over servers that are full, fail, or are killed during the run.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use support::{
    batch::{Folder, output, stderr, yizhai},
    proxy::{Intercept, Proxy, input_bytes},
    scripted::{self, faithful_script},
    serving::Server,
    tiny_gguf,
};
use tonic_types::StatusExt as _;
use yizhai::{engine::EngineConfig, pb::digest_many_response::Result as Answer};

async fn scripted_server(step_time: Duration) -> Server {
    let pipeline =
        scripted::pipeline_with(faithful_script(), step_time, Arc::default(), EngineConfig::default());
    Server::start(pipeline).await
}

fn pages(count: usize) -> Folder {
    let folder = Folder::new();
    for number in 0..count {
        folder.write(&format!("{number}.txt"), format!("第{number}枚火箭发射入轨。"));
    }
    folder
}

fn error(code: tonic::Code, retry: Option<Duration>) -> Answer {
    let details = tonic_types::ErrorDetails::with_retry_info(retry);
    let status = match retry {
        Some(_) => tonic::Status::with_error_details(code, "not now", details),
        None => tonic::Status::new(code, "not now"),
    };
    Answer::Error(yizhai::server::to_rpc_status(&status))
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_only_refusals_with_a_retry_delay() {
    let folder = pages(6);
    let refused = Arc::new(Mutex::new(HashSet::new()));
    let intercept: Intercept = Arc::new(move |item| {
        let page = String::from_utf8(input_bytes(item.input.as_ref().unwrap())).unwrap();
        let is_first = refused.lock().unwrap().insert(page.clone());
        match page.chars().nth(1).unwrap() {
            '1' if is_first => Some(error(tonic::Code::ResourceExhausted, Some(Duration::from_millis(300)))),
            '2' => Some(error(tonic::Code::ResourceExhausted, None)),
            '3' => Some(error(tonic::Code::InvalidArgument, None)),
            _ => None,
        }
    });
    let server = scripted_server(Duration::ZERO).await;
    let proxy = Proxy::start(server.client().await, intercept).await;
    let started = Instant::now();
    let output = output(folder.digest(&proxy.url(), &["--format", "json"])).await;
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(started.elapsed() >= Duration::from_millis(300), "it did not wait for the retry delay");
    let seen = proxy.take_received();
    let times = |digit: char| {
        seen.iter().filter(|page| String::from_utf8_lossy(page).starts_with(&format!("第{digit}"))).count()
    };
    assert_eq!((times('1'), times('2'), times('3')), (2, 1, 1));
    assert_eq!(folder.failures().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_crashes_servers_fails_after_three_attempts() {
    let folder = pages(8);
    let intercept: Intercept = Arc::new(move |item| {
        let page = String::from_utf8(input_bytes(item.input.as_ref().unwrap())).unwrap();
        page.starts_with("第5").then(|| error(tonic::Code::Internal, None))
    });
    let server = scripted_server(Duration::ZERO).await;
    let proxy = Proxy::start(server.client().await, intercept).await;
    let output = output(folder.digest(&proxy.url(), &["--format", "json"])).await;
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let failures = folder.failures();
    assert_eq!(failures.len(), 1);
    assert!(failures[0]["input"].as_str().unwrap().ends_with("5.txt"));
    let times =
        proxy.take_received().iter().filter(|page| String::from_utf8_lossy(page).starts_with("第5")).count();
    assert_eq!(times, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_servers_with_different_models() {
    let folder = pages(2);
    let one = scripted_server(Duration::ZERO).await;
    let mut other = Process::start();
    let both = format!("{},{}", one.url(), other.url);
    let output = output(folder.digest(&both, &[])).await;
    assert_eq!(output.status.code(), Some(1));
    let messages = stderr(&output);
    assert!(
        messages.contains("different models")
            && messages.contains(&one.url())
            && messages.contains(&other.url),
        "{messages}"
    );
    other.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_has_its_own_deadline() {
    let folder = pages(2);
    folder.write("long.txt", "很长的火箭新闻。".repeat(2000));
    let server = scripted_server(Duration::from_millis(4)).await;
    let output = output(folder.digest(&server.url(), &["--timeout", "1", "--format", "json"])).await;
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let failures = folder.failures();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(failures[0]["input"].as_str().unwrap().ends_with("long.txt"));
    assert!(failures[0]["error"].as_str().unwrap().contains("deadline"), "{failures:?}");
}

/// `yizhai serve` with the tiny model in its own process.
struct Process {
    child: Child,
    url: String,
}

impl Process {
    fn start() -> Self {
        let mut child =
            yizhai(&["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--threads", "1"])
                .env("YIZHAI_MODEL", tiny_gguf::path())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut url = None;
        loop {
            let line: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            match line["fields"]["message"].as_str().unwrap() {
                "listening" => url = Some(format!("http://{}", line["fields"]["address"].as_str().unwrap())),
                "serving" => break,
                _ => {}
            }
        }
        // Keeps reading, because the server would block on a full pipe.
        std::thread::spawn(move || lines.count());
        Self { child, url: url.unwrap() }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_items_of_a_killed_server_move_to_another() {
    let folder = pages(40);
    let (mut one, other) = (Process::start(), Process::start());
    let both = format!("{},{}", one.url, other.url);
    let arguments = ["--format", "json", "--summary-chars", "20", "--in-flight", "4", "--json-progress"];
    let mut child = folder.digest(&both, &arguments).spawn().unwrap();
    let mut events = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut next =
        || events.next().map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
    let mut items = 0;
    while items < 6 {
        items += usize::from(next().unwrap()["event"] == "item");
    }
    one.kill();
    let killed = Instant::now();
    let (mut reported, mut resumed) = (None, None);
    let mut last = serde_json::Value::Null;
    while let Some(event) = next() {
        if event["event"] == "note" && event["text"].as_str().unwrap().contains(&one.url) {
            reported.get_or_insert_with(|| killed.elapsed());
        }
        if event["event"] == "item" && reported.is_some() {
            resumed.get_or_insert_with(|| killed.elapsed());
        }
        last = event;
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    println!("reported after {reported:?}, next result after {resumed:?}");
    assert!(reported.is_some(), "the loss of {} was not reported", one.url);
    assert_eq!((&last["event"], &last["inputs"]["done"]), (&"end".into(), &40.into()));
    assert_eq!(folder.results().iter().filter(|name| name.ends_with(".txt.json")).count(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_server_does_not_stop_the_run() {
    let folder = pages(30);
    let server = scripted_server(Duration::from_millis(3)).await;
    let count = Arc::new(AtomicUsize::new(0));
    let proxy = {
        let count = count.clone();
        let intercept: Intercept = Arc::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            None
        });
        Proxy::start(server.client().await, intercept).await
    };
    // Nobody listens at the first address.
    let both = format!("http://127.0.0.1:1,{}", proxy.url());
    let output = output(folder.digest(&both, &["--format", "json"])).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(count.load(Ordering::SeqCst), 30);
}
