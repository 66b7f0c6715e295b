//! Load and faults over real sockets, against the scripted model of `support`, which has real tokens and steps but no
//! weights. Measurements are printed; no test asserts a speed.
//!
//! ```sh
//! YIZHAI_LOAD_SECONDS=600 cargo test --release --test load -- --ignored --nocapture --test-threads 1 NAME
//! ```
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all};
use prost::Message as _;
use support::{
    raw_codec::RawCodec,
    scripted::{Script, ScriptedReply, pipeline, pipeline_with},
    serving::{Server, server_config},
    wait_until,
};
use tokio::io::AsyncWriteExt;
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, server::TcpIncoming},
};
use tonic_types::StatusExt;
use yizhai::{
    engine::EngineConfig,
    pb::{
        self,
        digest_service_client::DigestServiceClient,
        digest_service_server::{DigestService, DigestServiceServer},
        input::Source,
        stream_digest_response::Event,
    },
    server::{ModelSlot, RequestLimits, ResultCache, ServerConfig},
};

/// Returns the duration of a run: YIZHAI_LOAD_SECONDS, or two minutes.
fn duration() -> Duration {
    let seconds = std::env::var("YIZHAI_LOAD_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(120))
}

/// Returns the resident memory of this process, which runs both server and clients, in MiB.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

fn input(text: &str) -> Option<pb::Input> {
    let page_format = pb::PageFormat::Lines.into();
    Some(pb::Input { source: Some(Source::PageText(text.to_owned())), page_format })
}

/// Returns a page of two sections that no other request contains.
fn page(number: u64) -> String {
    format!("编号{number}的稿件已经送到编辑部。\n编号{number}的照片也已经送到。")
}

/// Summarizes by quoting the first clause, and translates to a sentence with the number of the page.
fn quoting_script() -> Script {
    Arc::new(|prompt| {
        let (instruction, text) = prompt.rsplit_once("\n\n").unwrap();
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        ScriptedReply::Text(match instruction.contains("概括") {
            true => format!("{}。", text.split('。').next().unwrap()),
            false => format!("Number {digits} has arrived at the desk."),
        })
    })
}

/// Returns a model whose answers never end. Speculative drafts are off, because they would predict the answers and make
/// steps long.
fn endless() -> ModelSlot {
    let script: Script = Arc::new(|_| ScriptedReply::Forever("x "));
    let engine = EngineConfig { max_draft_rows: 0, ..EngineConfig::DEFAULT };
    ModelSlot::ready(pipeline_with(script, Duration::from_millis(2), Arc::default(), engine))
}

fn options() -> Option<pb::DigestOptions> {
    Some(pb::DigestOptions { max_attempts: 1, ..Default::default() })
}

fn request(number: u64) -> pb::DigestRequest {
    pb::DigestRequest {
        input: input(&page(number)),
        options: options(),
        request_id: format!("call-{number}"),
    }
}

/// Digests a page, with a stream if its number is odd, and returns its sections.
async fn sections(
    client: &mut DigestServiceClient<Channel>,
    number: u64,
) -> Result<Vec<pb::SectionDigest>, Status> {
    let request = request(number);
    if number.is_multiple_of(2) {
        let answer = client.digest(request).await?.into_inner();
        assert_eq!(answer.request_id, format!("call-{number}"));
        return Ok(answer.sections);
    }
    let pb::DigestRequest { input, options, request_id } = request;
    let mut stream =
        client.stream_digest(pb::StreamDigestRequest { input, options, request_id }).await?.into_inner();
    let mut sections = Vec::new();
    while let Some(message) = stream.next().await {
        if let Some(Event::Section(section)) = message?.event {
            sections.push(section);
        }
    }
    Ok(sections)
}

/// Returns `true` if these are exactly the sections of this page, each of them once.
fn belong_to(number: u64, mut sections: Vec<pb::SectionDigest>) -> bool {
    sections.sort_by_key(|section| section.section_index);
    let is_own = |section: &pb::SectionDigest| {
        let summary = section.summary.as_ref().map(|summary| summary.text.as_str());
        summary.is_some_and(|text| text.contains(&format!("编号{number}的")))
            && section.error.is_none()
            && section.translation.is_some()
    };
    sections.iter().map(|section| section.section_index).eq([0, 1]) && sections.iter().all(is_own)
}

/// A histogram of numbers below 60 000. Its size is constant, so the memory of the test itself does not grow.
struct FixedHistogram(Vec<AtomicU64>);

impl FixedHistogram {
    fn new() -> Self {
        Self((0..60_000).map(|_| AtomicU64::new(0)).collect())
    }

    fn count(&self, number: u64) {
        let index = usize::try_from(number).unwrap().min(self.0.len() - 1);
        self.0[index].fetch_add(1, Ordering::Relaxed);
    }

    fn percentile(&self, percent: u64) -> usize {
        let counts = || self.0.iter().map(|count| count.load(Ordering::Relaxed));
        let mut remaining = counts().sum::<u64>() * percent / 100;
        let reached = |count: u64| {
            remaining = remaining.saturating_sub(count);
            remaining == 0 && count > 0
        };
        counts().position(reached).unwrap_or_default()
    }
}

/// Measures the longest scheduling delay of a thread that only sleeps. The machine adds it to every measured wait.
fn measure_scheduling_delay(end: Instant) -> std::thread::JoinHandle<Duration> {
    const NAP: Duration = Duration::from_millis(5);
    std::thread::spawn(move || {
        let mut longest = Duration::ZERO;
        while Instant::now() < end {
            let start = Instant::now();
            std::thread::sleep(NAP);
            longest = longest.max(start.elapsed().saturating_sub(NAP));
        }
        longest
    })
}

/// Connects a client without an HPACK header table. By default HTTP/2 keeps up to 4 KiB of headers at each end, about 60
/// different `date`s: one for every second with an answer. That is a third of the memory growth in the first minute.
async fn client_without_header_table(server: &Server) -> DigestServiceClient<Channel> {
    let endpoint = Channel::from_shared(server.url()).unwrap().http2_header_table_size(0);
    DigestServiceClient::new(endpoint.connect().await.unwrap())
}

/// The results of one client.
#[derive(Default)]
struct ClientResults {
    answers: u32,
    waited: Duration,
    refused: usize,
    wrong: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn two_hundred_clients_at_once() {
    const CLIENTS: usize = 200;
    let server = Server::start(pipeline(quoting_script())).await;
    let numbers = Arc::new(AtomicU64::new(1));
    // Waits in milliseconds, and in answers to other clients during the wait. The latter shows unfair scheduling even if the
    // speed of the machine changes during the run.
    let (waits, overtakes) = (Arc::new(FixedHistogram::new()), Arc::new(FixedHistogram::new()));
    let answered = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + duration();
    let scheduling_delay = measure_scheduling_delay(end);
    let clients = join_all((0..CLIENTS).map(|_| client_without_header_table(&server))).await;
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let (numbers, waits, overtakes, answered) =
                (numbers.clone(), waits.clone(), overtakes.clone(), answered.clone());
            tokio::spawn(async move {
                let mut results = ClientResults::default();
                while Instant::now() < end {
                    let number = numbers.fetch_add(1, Ordering::Relaxed);
                    let (start, before) = (Instant::now(), answered.load(Ordering::Relaxed));
                    match sections(&mut client, number).await {
                        Ok(sections) if belong_to(number, sections.clone()) => {
                            let wait = start.elapsed();
                            results.answers += 1;
                            results.waited += wait;
                            waits.count(u64::try_from(wait.as_millis()).unwrap());
                            overtakes.count(answered.fetch_add(1, Ordering::Relaxed) - before);
                        }
                        Ok(sections) => results.wrong.push(format!("{number}: {sections:?}")),
                        Err(status) => match status.get_details_retry_info() {
                            Some(_) if status.code() == Code::ResourceExhausted => results.refused += 1,
                            _ => results.wrong.push(format!("{number}: {status:?}")),
                        },
                    }
                }
                results
            })
        })
        .collect();
    for fifth in 1..=5 {
        tokio::time::sleep(duration() / 5).await;
        println!(
            "{:.0?}: {:.1} MiB of memory for server and clients; {} answers per client",
            duration() / 5 * fifth,
            resident_mib(),
            answered.load(Ordering::Relaxed) / CLIENTS as u64
        );
    }
    let results: Vec<ClientResults> =
        join_all(tasks).await.into_iter().map(|results| results.unwrap()).collect();
    let wrong: Vec<&String> = results.iter().flat_map(|client| &client.wrong).collect();
    let answers: u32 = results.iter().map(|client| client.answers).sum();
    let refused: usize = results.iter().map(|client| client.refused).sum();
    let mut means: Vec<Duration> =
        results.iter().map(|client| client.waited / client.answers.max(1)).collect();
    means.sort_unstable();
    println!(
        "{CLIENTS} clients: {answers} answers, {refused} refused with RetryInfo, {} wrong or failed",
        wrong.len()
    );
    let [median, p99, longest] = [50, 99, 100].map(|percent| waits.percentile(percent));
    println!("wait for an answer: median {median} ms, p99 {p99} ms, maximum {longest} ms");
    let (median, longest) = (percentile(&means, 50), percentile(&means, 100));
    println!("mean wait per client: median {median:.1?}, maximum {longest:.1?}");
    let [median, p99, most] = [50, 99, 100].map(|percent| overtakes.percentile(percent));
    println!("answers to other clients during a wait: median {median}, p99 {p99}, maximum {most}");
    let answers = || results.iter().map(|client| client.answers);
    let (fewest, most) = (answers().min().unwrap(), answers().max().unwrap());
    println!("answers per client: minimum {fewest}, maximum {most}");
    println!("longest scheduling delay of an idle thread: {:.0?}", scheduling_delay.join().unwrap());
    assert!(wrong.is_empty(), "{:?}", &wrong[..wrong.len().min(5)]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "opens a thousand connections"]
async fn a_thousand_clients_disconnect_in_mid_stream() {
    const CLIENTS: usize = 1000;
    let limits =
        RequestLimits { max_requests: CLIENTS, max_requests_per_client: CLIENTS, ..RequestLimits::default() };
    let server = Server::start_with(endless(), limits).await;
    let streams = join_all((0..CLIENTS).map(async |number| {
        let mut client = server.raw_client().await;
        let request = pb::StreamDigestRequest {
            input: input(&page(number as u64)),
            options: options(),
            ..Default::default()
        };
        let mut stream = client.stream_digest(request).await.unwrap().into_inner();
        stream.next().await.unwrap().unwrap();
        stream
    }))
    .await;
    let full = format!("yizhai_engine_sequences_running {}\n", EngineConfig::DEFAULT.max_sequences);
    wait_until(|| server.metrics.text().contains(&full)).await;
    let values = |names: &[&str]| {
        let text = server.metrics.text();
        let lines =
            text.lines().filter(|line| names.iter().any(|name| line.starts_with(&format!("{name} "))));
        lines.map(str::to_owned).collect::<Vec<_>>().join(", ")
    };
    const BUSY: [&str; 5] = [
        "yizhai_requests_in_flight",
        "yizhai_engine_sequences_running",
        "yizhai_engine_sequences_waiting",
        "yizhai_engine_kv_tokens_reserved",
        "yizhai_connections",
    ];
    println!("{CLIENTS} streams: {}", values(&BUSY));
    let disconnected = Instant::now();
    drop(streams);
    let free = BUSY.map(|name| format!("{name} 0")).join(", ");
    wait_until(|| {
        let current = values(&BUSY);
        free.split(", ").all(|line| current.split(", ").any(|value| value == line))
    })
    .await;
    println!("{:.0?} after they disconnected: {}", disconnected.elapsed(), values(&BUSY));
}

/// A reproducible source of random bytes (a linear congruential generator).
struct Random(u64);

impl Random {
    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u8
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(u16::from_be_bytes([self.byte(), self.byte()])) % bound
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn random_bytes_and_mutated_messages() {
    let config = ServerConfig { web_origins: vec!["*".parse().unwrap()], ..server_config() };
    let server = Server::start_config(ModelSlot::ready(pipeline(quoting_script())), config).await;
    let end = Instant::now() + duration();
    let address = server.address;
    let bytes = tokio::spawn(async move {
        let mut random = Random(1);
        let mut connections = 0;
        while Instant::now() < end {
            let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
            let mut bytes: Vec<u8> = (0..1 + random.below(2000)).map(|_| random.byte()).collect();
            match connections % 3 {
                0 => {}
                // A valid beginning, so that the random bytes are parsed as frames of HTTP/2 or headers of HTTP/1.1.
                1 => drop(bytes.splice(..0, *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")),
                _ => drop(bytes.splice(..0, *b"POST /yizhai.v1.DigestService/Digest HTTP/1.1\r\n")),
            }
            let _ = socket.write_all(&bytes).await;
            connections += 1;
        }
        connections
    });
    let channel = server.channel().await;
    let mutated = tokio::spawn(async move {
        let mut random = Random(2);
        let mut codes: BTreeMap<String, usize> = BTreeMap::new();
        let article = pb::Article {
            headline: Some(pb::Text { text: "标题".to_owned(), spans: Vec::new() }),
            sections: vec![pb::Section {
                heading: None,
                paragraphs: vec![pb::Text { text: "正文。".to_owned(), spans: Vec::new() }],
            }],
            ..Default::default()
        };
        let article = Some(pb::Input { source: Some(Source::Article(article)), page_format: 0 });
        while Instant::now() < end {
            let rpc = ["Digest", "StreamDigest", "DigestMany", "Segment", "ListModels"][random.below(5)];
            let valid = match rpc {
                "ListModels" => {
                    pb::ListModelsRequest { page_size: 3, page_token: "1".to_owned() }.encode_to_vec()
                }
                "Segment" => pb::SegmentRequest { input: article.clone() }.encode_to_vec(),
                "DigestMany" => pb::DigestManyRequest {
                    item_id: "a".to_owned(),
                    input: article.clone(),
                    options: options(),
                    timeout_ms: 1000,
                }
                .encode_to_vec(),
                _ => pb::DigestRequest {
                    input: article.clone(),
                    options: options(),
                    request_id: "r".to_owned(),
                }
                .encode_to_vec(),
            };
            let mut mutated = valid;
            for _ in 0..1 + random.below(4) {
                let at = random.below(mutated.len());
                match random.below(3) {
                    0 => mutated[at] = random.byte(),
                    1 => mutated.truncate(at + 1),
                    _ => mutated.insert(at, random.byte()),
                }
            }
            let mut client = tonic::client::Grpc::new(channel.clone());
            client.ready().await.unwrap();
            let path = format!("/yizhai.v1.DigestService/{rpc}").parse().unwrap();
            let answered = client.server_streaming(Request::new(mutated), path, RawCodec).await;
            let code = match answered {
                Err(status) => status.code(),
                Ok(answer) => {
                    let rest: Vec<_> = answer.into_inner().collect().await;
                    rest.into_iter().find_map(Result::err).map_or(Code::Ok, |status| status.code())
                }
            };
            *codes.entry(format!("{code:?}")).or_default() += 1;
        }
        codes
    });
    // Meanwhile, a well-behaved client must receive every answer.
    let mut well_behaved = server.raw_client().await;
    let mut answers = 0;
    let memory_before = resident_mib();
    while Instant::now() < end {
        answers += 1;
        assert!(belong_to(answers, sections(&mut well_behaved, answers).await.unwrap()));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (connections, codes) = (bytes.await.unwrap(), mutated.await.unwrap());
    println!("{:.0?}: {connections} connections with random bytes", duration());
    println!("{} mutated messages were answered with {codes:?}", codes.values().sum::<usize>());
    println!(
        "{answers} correct answers to a well-behaved client; memory {memory_before:.1} MiB before, {:.1} MiB after",
        resident_mib()
    );
    let expected = ["Ok", "InvalidArgument", "NotFound", "DeadlineExceeded"];
    assert!(codes.keys().all(|code| expected.contains(&code.as_str())), "{codes:?}");
}

/// Answers every call with the same message, to measure tonic alone.
struct FixedResponse(pb::DigestResponse);

type EmptyStream<T> = futures::stream::Empty<Result<T, Status>>;

#[tonic::async_trait]
impl DigestService for FixedResponse {
    type StreamDigestStream = EmptyStream<pb::StreamDigestResponse>;
    type DigestManyStream = EmptyStream<pb::DigestManyResponse>;

    async fn digest(&self, _: Request<pb::DigestRequest>) -> Result<Response<pb::DigestResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    async fn segment(&self, _: Request<pb::SegmentRequest>) -> Result<Response<pb::SegmentResponse>, Status> {
        Ok(Response::new(pb::SegmentResponse { document: self.0.document.clone() }))
    }

    async fn stream_digest(
        &self,
        _: Request<pb::StreamDigestRequest>,
    ) -> Result<Response<Self::StreamDigestStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn digest_many(
        &self,
        _: Request<tonic::Streaming<pb::DigestManyRequest>>,
    ) -> Result<Response<Self::DigestManyStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_models(
        &self,
        _: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Measures calls per second for five seconds, with 8 concurrent calls over each of 8 connections, and prints the rate
/// and latencies.
async fn calls_per_second<F: Future<Output = ()> + Send>(
    label: &str,
    address: std::net::SocketAddr,
    call: impl Fn(DigestServiceClient<Channel>) -> F + Send + Sync + 'static,
) -> f64 {
    let start = Instant::now();
    let end = start + Duration::from_secs(5);
    let call = Arc::new(call);
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        for _ in 0..8 {
            let (client, call) = (DigestServiceClient::new(channel.clone()), call.clone());
            tasks.push(tokio::spawn(async move {
                let mut waits = Vec::new();
                while Instant::now() < end {
                    let sent = Instant::now();
                    call(client.clone()).await;
                    waits.push(sent.elapsed());
                }
                waits
            }));
        }
    }
    let mut waits: Vec<Duration> =
        join_all(tasks).await.into_iter().flat_map(|waits| waits.unwrap()).collect();
    waits.sort_unstable();
    let rate = waits.len() as f64 / start.elapsed().as_secs_f64();
    println!(
        "{label:28} {rate:7.0} calls/s, p50 {:7.2?}, p99 {:7.2?}",
        percentile(&waits, 50),
        percentile(&waits, 99)
    );
    rate
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints measurements"]
async fn overhead_of_the_service_over_bare_tonic() {
    let slot = ModelSlot::ready(pipeline(quoting_script()));
    let config = server_config();
    let cache = Some(ResultCache::new(64 << 20, "", config.metrics.clone()));
    let server = Server::start_config(slot, ServerConfig { cache, ..config }).await;
    let answer = server.raw_client().await.digest(request(0)).await.unwrap().into_inner();
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bare = socket.local_addr().unwrap();
    let echo =
        tonic::transport::Server::builder().add_service(DigestServiceServer::new(FixedResponse(answer)));
    tokio::spawn(echo.serve_with_incoming(TcpIncoming::from(socket).with_nodelay(Some(true))));
    let segment = |mut client: DigestServiceClient<Channel>| async move {
        client.segment(pb::SegmentRequest { input: input(&page(0)) }).await.map(drop).unwrap();
    };
    let known = |mut client: DigestServiceClient<Channel>| async move {
        client.digest(request(0)).await.map(drop).unwrap();
    };
    let numbers = Arc::new(AtomicU64::new(1));
    let new = move |mut client: DigestServiceClient<Channel>| {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        async move { client.digest(request(number)).await.map(drop).unwrap() }
    };
    for round in 1..=2 {
        println!("round {round}");
        let echo = calls_per_second("bare tonic, Segment", bare, segment).await;
        let ours = calls_per_second("yizhai, Segment", server.address, segment).await;
        println!("{:28} {:6.0} %", "", 100.0 * ours / echo);
        let echo = calls_per_second("bare tonic, Digest", bare, known).await;
        let ours = calls_per_second("yizhai, Digest from cache", server.address, known).await;
        println!("{:28} {:6.0} %", "", 100.0 * ours / echo);
        calls_per_second("yizhai, Digest, scripted", server.address, new.clone()).await;
    }
}
