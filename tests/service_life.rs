//! The lifecycle of a server: the probe of a new model, restarts of a failed engine, deadlines, metrics and health, and
//! the result cache.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use support::{
    scripted::{Script, ScriptedReply, faithful_script, pipeline, pipeline_with},
    serving::{Server, server_config},
    wait_until,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{Code, Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use yizhai::{
    engine::EngineConfig,
    pb::{self, input::Source, stream_digest_response::Event},
    pipeline::Pipeline,
    server::{self, Metrics, ModelSlot, Readiness, RequestLimits, RestartPolicy, ResultCache, ServerConfig},
};

fn lines(text: &str) -> Option<pb::Input> {
    let page_format = pb::PageFormat::Lines.into();
    Some(pb::Input { source: Some(Source::PageText(text.to_owned())), page_format })
}

fn digest(text: &str) -> pb::DigestRequest {
    pb::DigestRequest { input: lines(text), ..Default::default() }
}

async fn health(server: &Server, service: &str) -> ServingStatus {
    let mut client = HealthClient::new(server.channel().await);
    client.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap().into_inner().status()
}

const QUICK_RESTARTS: RestartPolicy = RestartPolicy {
    max_restarts: 2,
    first_backoff: Duration::from_millis(5),
    probe_timeout: Duration::from_secs(20),
};

/// Starts a server whose model is loaded by `load`, and again after a failure.
async fn supervised(load: impl Fn() -> Result<Pipeline, String> + Send + Sync + 'static) -> Server {
    let server = Server::start_with(ModelSlot::loading(), RequestLimits::default()).await;
    tokio::spawn(server::supervise(server.slot.clone(), QUICK_RESTARTS, server.metrics.clone(), load));
    server
}

/// Panics on 坏, produces NaN on 乱, and is obedient otherwise.
fn fragile() -> Script {
    let faithful = faithful_script();
    Arc::new(move |prompt| match prompt {
        _ if prompt.contains('坏') => ScriptedReply::Panic,
        _ if prompt.contains('乱') => ScriptedReply::Nan,
        _ => faithful(prompt),
    })
}

#[tokio::test]
async fn a_failed_engine_is_restarted_a_limited_number_of_times() {
    let server = supervised(|| Ok(pipeline(fragile()))).await;
    wait_until(|| matches!(server.slot.readiness(), Readiness::Ready(_))).await;
    for (text, restarts) in [("坏消息。", 1), ("乱码。", 2)] {
        let status = server.raw_client().await.digest(digest(text)).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{status}");
        // The typed client retries until the model is ready again.
        server.client().await.digest(digest("好消息。")).await.unwrap();
        let counted = format!("yizhai_engine_restarts_total {restarts}");
        assert!(server.metrics.text().contains(&counted), "{}", server.metrics.text());
        assert_eq!(health(&server, "").await, ServingStatus::Serving);
    }
    assert_eq!(health(&server, "liveness").await, ServingStatus::Serving);
    server.raw_client().await.digest(digest("坏消息。")).await.unwrap_err();
    // No restarts are left. Only a new process can help, so liveness fails.
    while health(&server, "liveness").await != ServingStatus::NotServing {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(health(&server, "").await, ServingStatus::NotServing);
    assert_eq!(
        server.raw_client().await.digest(digest("好消息。")).await.unwrap_err().code(),
        Code::Internal
    );
}

#[tokio::test]
async fn a_model_that_fails_the_probe_is_never_served() {
    let slot = ModelSlot::loading();
    let nan: Script = Arc::new(|_| ScriptedReply::Nan);
    let load = move || Ok::<_, String>(pipeline(nan.clone()));
    let error = server::supervise(slot.clone(), QUICK_RESTARTS, Metrics::default(), load).await.unwrap_err();
    assert!(error.contains("probe") && error.contains("NaN"), "{error}");
    assert!(matches!(slot.readiness(), Readiness::Loading));
}

#[tokio::test]
async fn a_batch_past_its_deadline_answers_every_item_it_received() {
    let script: Script = Arc::new(|prompt| match prompt.contains('慢') {
        true => ScriptedReply::Forever("on and "),
        false => ScriptedReply::Text("好。".to_owned()),
    });
    let engine = EngineConfig { max_draft_rows: 0, ..EngineConfig::DEFAULT };
    let slow = pipeline_with(script, Duration::from_millis(2), Arc::default(), engine);
    let engine = slow.engine().clone();
    let server = Server::start(slow).await;
    let slow_text = "慢".repeat(60);
    let item = |id: &str, text: &str| pb::DigestManyRequest {
        item_id: id.to_owned(),
        input: lines(text),
        options: Some(pb::DigestOptions { tasks: vec![pb::Task::Translation.into()], ..Default::default() }),
        ..Default::default()
    };
    // A third item never arrives.
    let items = futures::stream::iter([item("fast", "快。"), item("slow", &slow_text)])
        .chain(futures::stream::pending());
    let mut request = Request::new(items);
    request.set_timeout(Duration::from_millis(500));
    let answers: Vec<_> =
        server.raw_client().await.digest_many(request).await.unwrap().into_inner().collect().await;
    let [Ok(fast), Ok(slow), Err(end)] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((fast.item_id.as_str(), slow.item_id.as_str()), ("fast", "slow"));
    let Some(pb::digest_many_response::Result::Error(error)) = &slow.result else { panic!("{slow:?}") };
    assert_eq!((error.code, end.code()), (Code::DeadlineExceeded as i32, Code::DeadlineExceeded));
    wait_until(|| engine.running() + engine.waiting() == 0).await;
}

#[tokio::test]
async fn the_deadline_is_met_in_the_middle_of_a_long_step() {
    let engine = EngineConfig { max_draft_rows: 0, ..EngineConfig::DEFAULT };
    let slow = pipeline_with(faithful_script(), Duration::from_secs(3), Arc::default(), engine);
    let server = Server::start(slow).await;
    let message = pb::StreamDigestRequest { input: lines("一。\n二。"), ..Default::default() };
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_millis(600));
    let mut client = server.raw_client().await;
    let events: Vec<_> = client.stream_digest(request).await.unwrap().into_inner().collect().await;
    let unfinished: Vec<_> = events
        .iter()
        .filter_map(|event| match event.as_ref().ok()?.event.as_ref()? {
            Event::Section(section) => section.error.as_ref().map(|e| (section.section_index, e.code)),
            _ => None,
        })
        .collect();
    let overdue = Code::DeadlineExceeded as i32;
    assert_eq!(unfinished, [(0, overdue), (1, overdue)]);
    assert_eq!(events.last().unwrap().as_ref().unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn calls_sections_and_engine_steps_are_counted() {
    let server = Server::start(pipeline(faithful_script())).await;
    let mut client = server.raw_client().await;
    client.digest(digest("今天天气很好。\n明天也是。")).await.unwrap();
    client.digest(digest(" ")).await.unwrap_err();
    health(&server, "").await;
    let text = server.metrics.text();
    for line in [
        "yizhai_requests_total{rpc=\"Digest\",code=\"OK\"} 1",
        "yizhai_requests_total{rpc=\"Digest\",code=\"INVALID_ARGUMENT\"} 1",
        "yizhai_requests_total{rpc=\"Check\",code=\"OK\"} 1",
        "yizhai_request_seconds_count{rpc=\"Digest\"} 2",
        "yizhai_requests_in_flight 0",
        "yizhai_requests_queued 0",
        "yizhai_sections_total{result=\"done\"} 2",
        "yizhai_summary_attempts_count 2",
        "yizhai_ready 1",
        "yizhai_engine_sequences_running 0",
        "yizhai_engine_sequences_waiting 0",
        "yizhai_engine_kv_tokens 16384",
        "yizhai_engine_kv_tokens_reserved 0",
    ] {
        assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
    }
    let value = |name: &str| -> f64 {
        let line =
            text.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    for name in [
        "yizhai_engine_prompt_tokens_total",
        "yizhai_engine_completion_tokens_total",
        "yizhai_engine_queue_seconds_count",
        "yizhai_engine_first_token_seconds_count",
        "yizhai_engine_token_seconds_count",
        "yizhai_engine_batch_size_count",
        "yizhai_engine_step_seconds_count",
    ] {
        assert!(value(name) > 0.0, "{name}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn every_dashboard_query_uses_exported_series_and_labels() {
    let config = server_config();
    let cache = Some(ResultCache::new(1 << 20, "", config.metrics.clone()));
    // The translation lacks the number, so there is a finding.
    let slot = ModelSlot::ready(pipeline(Arc::new(|_| ScriptedReply::Text("It rose.".to_owned()))));
    let server = Server::start_config(slot, ServerConfig { cache, ..config }).await;
    server.raw_client().await.digest(digest("产值增长到35亿元。")).await.unwrap();
    let exported = server.metrics.text();
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../dashboards/yizhai.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    assert!(queries.len() >= panels.len());
    let name = regex::Regex::new(r"yizhai_\w+").unwrap();
    let labels = regex::Regex::new(r"by \(([^)]*)\)").unwrap();
    for query in queries {
        for series in name.find_iter(query).map(|found| found.as_str()) {
            let is_of_series =
                |line: &&str| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(['{', ' ']));
            let line = exported
                .lines()
                .find(is_of_series)
                .unwrap_or_else(|| panic!("{series} of `{query}` is not in\n{exported}"));
            for label in labels.captures_iter(query).flat_map(|by| by.get(1).unwrap().as_str().split(", ")) {
                assert!(line.contains(&format!("{label}=\"")), "{label} of `{query}` is not in `{line}`");
            }
        }
    }
}

#[tokio::test]
async fn a_disconnected_client_counts_as_cancelled_and_releases_its_permit() {
    let script: Script = Arc::new(|_| ScriptedReply::Forever("x "));
    let engine = EngineConfig { max_draft_rows: 0, ..EngineConfig::DEFAULT };
    let server = Server::start(pipeline_with(script, Duration::from_millis(2), Arc::default(), engine)).await;
    let request = pb::StreamDigestRequest { input: lines("文。"), ..Default::default() };
    let mut stream = server.raw_client().await.stream_digest(request).await.unwrap().into_inner();
    stream.next().await.unwrap().unwrap();
    wait_until(|| server.metrics.text().contains("yizhai_engine_sequences_running 2")).await;
    drop(stream);
    wait_until(|| {
        let text = server.metrics.text();
        text.contains("yizhai_engine_sequences_running 0")
            && text.contains("yizhai_engine_kv_tokens_reserved 0")
            && text.contains("yizhai_requests_in_flight 0")
            && text.contains("yizhai_requests_total{rpc=\"StreamDigest\",code=\"CANCELLED\"} 1")
    })
    .await;
}

/// Returns the response to a plain HTTP request.
async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).await.unwrap();
    response
}

#[tokio::test]
async fn metrics_readiness_and_liveness_are_served_over_http() {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let server = Server::start_config(ModelSlot::loading(), server_config()).await;
    tokio::spawn(server::serve_metrics(socket, server.metrics.clone(), server.slot.clone()));
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
    server.slot.fill(pipeline(faithful_script()));
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = get(address, "/metrics").await;
    assert!(
        metrics.contains("application/openmetrics-text") && metrics.contains("yizhai_ready 1"),
        "{metrics}"
    );
    server.slot.fail("for the test".to_owned());
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn a_full_server_serves_clients_fairly() {
    const CLIENTS: usize = 40;
    let limits = RequestLimits { max_requests: 4, max_queued: CLIENTS, ..RequestLimits::default() };
    let engine = EngineConfig { max_draft_rows: 0, ..EngineConfig::DEFAULT };
    let slow = pipeline_with(faithful_script(), Duration::from_millis(1), Arc::default(), engine);
    let server = Server::start_with(ModelSlot::ready(slow), limits).await;
    let done = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = futures::future::join_all((0..CLIENTS).map(|_| server.raw_client())).await;
    let tasks = clients.into_iter().map(|mut client| {
        let done = done.clone();
        tokio::spawn(async move {
            let mut answered = 0;
            while done.load(Ordering::SeqCst) < 10 * CLIENTS {
                client.digest(digest("短。")).await.unwrap();
                done.fetch_add(1, Ordering::SeqCst);
                answered += 1;
            }
            answered
        })
    });
    let mut answered: Vec<usize> =
        futures::future::join_all(tasks).await.into_iter().map(|n| n.unwrap()).collect();
    answered.sort_unstable();
    // Requests are served in order of arrival, so no client gets a third of the median or less.
    assert!(3 * answered[0] > answered[CLIENTS / 2], "{answered:?}");
}

#[tokio::test]
async fn cached_results_are_reused_and_marked_even_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("results.redb");
    let prompts = Arc::new(AtomicUsize::new(0));
    let counting = || -> Pipeline {
        let (faithful, prompts) = (faithful_script(), prompts.clone());
        pipeline(Arc::new(move |prompt| {
            prompts.fetch_add(1, Ordering::SeqCst);
            faithful(prompt)
        }))
    };
    let start = async || {
        let config = server_config();
        let cache = ResultCache::new(1 << 20, "", config.metrics.clone()).on_disk(&path, 1 << 20).unwrap();
        Server::start_config(ModelSlot::ready(counting()), ServerConfig { cache: Some(cache), ..config })
            .await
    };
    let from_cache = |answer: &pb::DigestResponse| -> Vec<bool> {
        answer.sections.iter().map(|s| s.provenance.as_ref().unwrap().from_cache).collect()
    };
    let page = "今天天气很好。\n明天也是。";
    let server = start().await;
    let first = server.raw_client().await.digest(digest(page)).await.unwrap().into_inner();
    assert_eq!(from_cache(&first), [false, false]);
    let before = prompts.load(Ordering::SeqCst);
    let again = server.raw_client().await.digest(digest(page)).await.unwrap().into_inner();
    assert_eq!((from_cache(&again), prompts.load(Ordering::SeqCst)), (vec![true, true], before));
    for (old, new) in first.sections.iter().zip(&again.sections) {
        assert_eq!((&old.summary, &old.translation), (&new.summary, &new.translation));
        assert_eq!(
            (&old.spans, &old.verdict, old.section_index),
            (&new.spans, &new.verdict, new.section_index)
        );
    }
    let options = Some(pb::DigestOptions { summary_max_chars: 50, ..Default::default() });
    let other = pb::DigestRequest { options, ..digest(page) };
    let other = server.raw_client().await.digest(other).await.unwrap().into_inner();
    assert_eq!(from_cache(&other), [false, false]);
    assert!(server.metrics.text().contains("yizhai_cache_lookups_total{result=\"memory\"} 2"));

    // A new server finds the results that the old one wrote.
    let mut server = server;
    server.begin_shutdown();
    server.serving.await.unwrap().unwrap();
    drop(server.slot);
    drop(server.metrics);
    let before = prompts.load(Ordering::SeqCst);
    let server = loop {
        // The file can be opened once the old server has released it.
        let config = server_config();
        if let Ok(cache) = ResultCache::new(1 << 20, "", config.metrics.clone()).on_disk(&path, 1 << 20) {
            let config = ServerConfig { cache: Some(cache), ..config };
            break Server::start_config(ModelSlot::ready(counting()), config).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let kept = server.raw_client().await.digest(digest(page)).await.unwrap().into_inner();
    assert_eq!((from_cache(&kept), prompts.load(Ordering::SeqCst)), (vec![true, true], before));
    assert!(server.metrics.text().contains("yizhai_cache_lookups_total{result=\"disk\"} 2"));
}
