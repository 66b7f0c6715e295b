//! The service with a scripted model, over real sockets: the behavior that callers see.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use support::{
    PAGE,
    scripted::{Script, ScriptedReply, faithful_script, faithful_translation, pipeline, pipeline_with},
    serving::Server,
    wait_until,
};
use tonic::{Code, Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;
use yizhai::{
    engine::EngineConfig,
    pb::{self, digest_many_response::Result as ItemResult, input::Source, stream_digest_response::Event},
    server::{ModelSlot, RequestLimits},
};

fn page(text: &str) -> Option<pb::Input> {
    Some(pb::Input { source: Some(Source::PageText(text.to_owned())), page_format: 0 })
}

fn lines(text: &str) -> Option<pb::Input> {
    let page_format = pb::PageFormat::Lines.into();
    Some(pb::Input { source: Some(Source::PageText(text.to_owned())), page_format })
}

/// One token per step, so that the duration of an endless answer follows from the time per step.
const WITHOUT_DRAFTS: EngineConfig = EngineConfig { max_draft_rows: 0, ..EngineConfig::DEFAULT };

fn digest(input: Option<pb::Input>, options: pb::DigestOptions) -> pb::DigestRequest {
    pb::DigestRequest { input, options: Some(options), request_id: String::new() }
}

#[tokio::test]
async fn a_digest_contains_every_section_of_the_page() {
    let server = Server::start(pipeline(faithful_script())).await;
    let request =
        pb::DigestRequest { request_id: "my request".to_owned(), ..digest(page(PAGE), Default::default()) };
    let answer = server.client().await.digest(request).await.unwrap();
    assert_eq!(answer.request_id, "my request");
    let articles = answer.document.unwrap().articles;
    let shape: Vec<usize> = articles.iter().map(|a| a.sections.len()).collect();
    assert_eq!(shape, [3, 1, 1, 1, 3]);
    let indices: Vec<_> = answer.sections.iter().map(|s| (s.article_index, s.section_index)).collect();
    assert_eq!(indices, [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (3, 0), (4, 0), (4, 1), (4, 2)]);
    for section in &answer.sections {
        let source = &articles[section.article_index as usize].sections[section.section_index as usize];
        let translation = section.translation.as_ref().unwrap();
        assert_eq!(translation.paragraphs.len(), source.paragraphs.len());
        assert!(!translation.heading.is_empty());
        let summary = section.summary.as_ref().unwrap();
        assert!(
            summary.text.trim_end_matches('”').ends_with(['。', '！', '？'])
                && summary.text.chars().count() <= 100,
            "{}",
            summary.text
        );
        assert!(!summary.sentences[0].sources.is_empty(), "no source supports `{}`", summary.text);
        assert!(
            section.verdict.as_ref().unwrap().passed,
            "{:?} of {:?}",
            section.verdict.as_ref().unwrap().findings,
            section.translation
        );
        let provenance = section.provenance.as_ref().unwrap();
        assert_eq!((provenance.model.as_str(), provenance.weights_sha256.len()), ("scripted", 64));
        let timings = section.timings.unwrap();
        assert!(timings.prompt_tokens > 0 && timings.completion_tokens > 0);
        assert!(!section.spans.is_empty() && section.error.is_none());
    }
    let statistics = answer.statistics.unwrap();
    assert_eq!((statistics.sections, statistics.failed_sections), (9, 0));
}

#[tokio::test]
async fn a_stream_sends_the_structure_then_each_section_once_then_the_statistics() {
    let server = Server::start(pipeline(faithful_script())).await;
    let request = pb::StreamDigestRequest { input: page(PAGE), ..Default::default() };
    let stream = server.client().await.stream_digest(request, None).await.unwrap();
    let events: Vec<Event> = stream.map(|m| m.unwrap().event.unwrap()).collect().await;
    assert!(matches!(&events[0], Event::Document(d) if d.articles.len() == 5));
    assert!(matches!(&events[10], Event::Statistics(s) if s.sections == 9));
    let sections: HashSet<_> = events[1..10]
        .iter()
        .map(|event| match event {
            Event::Section(s) => (s.article_index, s.section_index),
            other => panic!("{other:?} among the sections"),
        })
        .collect();
    assert_eq!((events.len(), sections.len()), (11, 9));
}

#[tokio::test]
async fn sections_are_streamed_as_soon_as_they_finish() {
    // The translation of the second section never ends, and the first must arrive nevertheless.
    let script: Script = Arc::new(|prompt| match prompt.ends_with("慢。") {
        true => ScriptedReply::Forever("on and "),
        false => ScriptedReply::Text("Done.".to_owned()),
    });
    let server = Server::start(pipeline_with(
        script,
        Duration::from_millis(2),
        Arc::default(),
        EngineConfig::default(),
    ))
    .await;
    let options = pb::DigestOptions { tasks: vec![pb::Task::Translation.into()], ..Default::default() };
    let request =
        pb::StreamDigestRequest {
            input: lines("快。\n慢。"), options: Some(options), ..Default::default()
        };
    let mut stream = server.raw_client().await.stream_digest(request).await.unwrap().into_inner();
    assert!(matches!(stream.next().await.unwrap().unwrap().event, Some(Event::Document(_))));
    let Some(Event::Section(first)) = stream.next().await.unwrap().unwrap().event else {
        panic!("no section")
    };
    assert_eq!(first.section_index, 0);
}

#[tokio::test]
async fn an_invalid_item_of_a_batch_does_not_affect_the_others() {
    let server = Server::start(pipeline(faithful_script())).await;
    let item = |id: &str, text: &str| pb::DigestManyRequest {
        item_id: id.to_owned(),
        input: page(text),
        ..Default::default()
    };
    let items = vec![
        item("a", "标题\n\n这是第一篇文章的正文。"),
        item("b", "  "),
        item("a", "又一篇。"),
        item("c", "第三篇文章的正文在此。"),
    ];
    let answers = server.client().await.digest_many(futures::stream::iter(items)).await.unwrap();
    let answers: Vec<_> = answers.map(|m| m.unwrap()).collect().await;
    assert_eq!(answers.len(), 4);
    let mut by_id: BTreeMap<String, Vec<ItemResult>> = BTreeMap::new();
    for answer in answers {
        by_id.entry(answer.item_id).or_default().push(answer.result.unwrap());
    }
    let code = |answer: &ItemResult| match answer {
        ItemResult::Digest(digest) => {
            assert!(digest.sections.iter().all(|s| s.summary.is_some() && s.translation.is_some()));
            Code::Ok
        }
        ItemResult::Error(error) => Code::from_i32(error.code),
    };
    let codes = |id: &str| by_id[id].iter().map(&code).collect::<Vec<_>>();
    assert_eq!(codes("b"), [Code::InvalidArgument]);
    assert_eq!(codes("c"), [Code::Ok]);
    assert!(codes("a").contains(&Code::Ok) && codes("a").contains(&Code::InvalidArgument));
}

#[tokio::test]
async fn segments_a_page_without_a_model() {
    let server = Server::start_with(ModelSlot::loading(), RequestLimits::default()).await;
    let document = server.client().await.segment(page(PAGE).unwrap()).await.unwrap();
    let headlines: Vec<_> =
        document.articles.iter().map(|a| a.headline.as_ref().unwrap().text.as_str()).collect();
    assert_eq!(headlines[1], "蓝箭航天披露朱雀三号火箭一级回收验证细节");
    let headline = document.articles[1].headline.as_ref().unwrap();
    let span = &headline.spans[0];
    assert_eq!(&PAGE[span.start_byte as usize..span.end_byte as usize], headline.text);
}

#[tokio::test]
async fn a_structured_article_is_not_segmented_again() {
    let server = Server::start(pipeline(faithful_script())).await;
    let text = |text: &str| pb::Text { text: text.to_owned(), spans: vec![] };
    let article = pb::Article {
        headline: Some(text("标题")),
        sections: vec![
            pb::Section { heading: None, paragraphs: vec![text("甲。"), text("乙。")] },
            pb::Section { heading: Some(text("小标题")), paragraphs: vec![text("丙。")] },
        ],
        ..Default::default()
    };
    let input = Some(pb::Input { source: Some(Source::Article(article)), page_format: 0 });
    let answer = server.client().await.digest(digest(input, Default::default())).await.unwrap();
    let counts: Vec<_> =
        answer.sections.iter().map(|s| s.translation.as_ref().unwrap().paragraphs.len()).collect();
    assert_eq!(counts, [2, 1]);
}

#[tokio::test]
async fn performs_only_the_requested_tasks() {
    let server = Server::start(pipeline(faithful_script())).await;
    for (task, has_summary) in [(pb::Task::Summary, true), (pb::Task::Translation, false)] {
        let options = pb::DigestOptions { tasks: vec![task.into()], ..Default::default() };
        let answer = server.client().await.digest(digest(page("正文在此。"), options)).await.unwrap();
        let section = &answer.sections[0];
        assert_eq!((section.summary.is_some(), section.translation.is_some()), (has_summary, !has_summary));
    }
}

#[tokio::test]
async fn output_at_the_token_limit_is_reported_as_truncated() {
    let server = Server::start(pipeline(Arc::new(|_| ScriptedReply::Forever("words without end, ")))).await;
    let tasks = vec![pb::Task::Translation.into()];
    let options = pb::DigestOptions { tasks, max_attempts: 1, ..Default::default() };
    let answer = server.client().await.digest(digest(lines("正文在此。"), options)).await.unwrap();
    let section = &answer.sections[0];
    let paragraph = &section.translation.as_ref().unwrap().paragraphs[0];
    assert_eq!(paragraph.finish_reason(), pb::FinishReason::Length);
    let verdict = section.verdict.as_ref().unwrap();
    let kinds: Vec<_> = verdict.findings.iter().map(|f| f.kind()).collect();
    assert!(
        !verdict.passed
            && kinds.contains(&pb::FindingKind::Truncated)
            && kinds.contains(&pb::FindingKind::Loop)
    );
}

#[tokio::test]
async fn keeps_the_draft_whose_back_translation_matches_the_source() {
    let source = "火箭发射入轨，助推器返回着陆场。";
    let partial = "The rocket went into orbit as people watched.";
    let complete = "The rocket went into orbit and the booster came back.";
    let script: Script = Arc::new(move |turn| match turn.contains("译成中文") {
        true if turn.ends_with(complete) => ScriptedReply::Text(source.to_owned()),
        true => ScriptedReply::Text("火箭发射入轨，人们观看。".to_owned()),
        false => ScriptedReply::Unsure(partial.to_owned(), complete.to_owned()),
    });
    let server = Server::start(pipeline(script)).await;
    let long = [source; 4].join("\n");
    for (text, max_attempts, attempts, expected) in [
        (source, 1, 1, partial),
        (source, 3, 2, complete),
        // A long text gets further drafts only if the request allows more attempts than the default.
        (long.as_str(), 3, 1, partial),
        (long.as_str(), 4, 2, complete),
    ] {
        let tasks = vec![pb::Task::Translation.into()];
        let options = pb::DigestOptions { tasks, max_attempts, ..Default::default() };
        let answer = server.client().await.digest(digest(lines(text), options)).await.unwrap();
        let translation = answer.sections[0].translation.as_ref().unwrap();
        let actual = answer.sections[0].verdict.as_ref().unwrap().attempts;
        assert_eq!((translation.paragraphs[0].text.as_str(), actual), (expected, attempts));
    }
}

#[tokio::test]
async fn a_name_has_the_same_rendering_throughout_an_article() {
    let script: Script = Arc::new(|turn| {
        ScriptedReply::Text(match turn.contains("认为") {
            true => "Tamajo thinks that the test has succeeded.".to_owned(),
            false => "Tamayo said that the rocket was launched.".to_owned(),
        })
    });
    let server = Server::start(pipeline(script)).await;
    let options = pb::DigestOptions { tasks: vec![pb::Task::Translation.into()], ..Default::default() };
    let text = "塔马约说，火箭已经发射。\n塔马约认为，试验已经成功。";
    let answer = server.client().await.digest(digest(lines(text), options)).await.unwrap();
    let paragraphs =
        answer.sections.iter().flat_map(|section| &section.translation.as_ref().unwrap().paragraphs);
    let names: Vec<&str> = paragraphs.map(|p| p.text.split(' ').next().unwrap()).collect();
    assert!(names == ["Tamayo"; 2] || names == ["Tamajo"; 2], "{names:?}");
}

#[tokio::test]
async fn a_summary_is_complete_sentences_within_the_limit_whatever_the_model_writes() {
    let asked = Arc::new(AtomicUsize::new(0));
    let script: Script = {
        let asked = asked.clone();
        Arc::new(move |_| {
            asked.fetch_add(1, Ordering::SeqCst);
            ScriptedReply::Text("一句没完没了的话，".repeat(40))
        })
    };
    let server = Server::start(pipeline(script)).await;
    let summarize = async |source: &str, limit| {
        let tasks = vec![pb::Task::Summary.into()];
        let options = pb::DigestOptions { tasks, summary_max_chars: limit, ..Default::default() };
        let answer = server.client().await.digest(digest(lines(source), options)).await.unwrap();
        let section = answer.sections.into_iter().next().unwrap();
        (section.summary.unwrap(), section.verdict.unwrap().findings[0].kind())
    };
    // No sentence of the draft fits, so sentences of the source replace it.
    let (summary, finding) = summarize("短句在此。第二句稍微长一点。", 10).await;
    assert_eq!((summary.text.as_str(), finding), ("短句在此。", pb::FindingKind::SummaryExtracted));
    assert_eq!(summary.attempts, 3);
    let (summary, finding) = summarize("这一句比十个字要长得多所以放不下。", 10).await;
    assert_eq!((summary.text.as_str(), finding), ("", pb::FindingKind::SummaryLimitTooSmall));
}

#[tokio::test]
async fn a_text_longer_than_a_prompt_is_digested_completely() {
    let server = Server::start(pipeline(faithful_script())).await;
    let paragraph = "这是一句用来凑长度的话，讲的是各地的新闻。".repeat(400);
    let answer = server.client().await.digest(digest(lines(&paragraph), Default::default())).await.unwrap();
    let section = &answer.sections[0];
    assert!(!section.summary.as_ref().unwrap().text.is_empty());
    let english = &section.translation.as_ref().unwrap().paragraphs[0].text;
    assert_eq!(english, &faithful_translation(&paragraph));
}

#[tokio::test]
async fn terms_are_pretranslated_and_checked() {
    let script: Script = Arc::new(|prompt| {
        ScriptedReply::Text(if prompt.contains("LandSpace 披露") {
            "LandSpace disclosed it.".to_owned()
        } else {
            "Blue Arrow.".to_owned()
        })
    });
    let server = Server::start(pipeline(script)).await;
    let term = |source: &str, target: &str| pb::Term { source: source.to_owned(), target: target.to_owned() };
    let terms = vec![term("蓝箭航天", "LandSpace"), term("朱雀", "Zhuque")];
    let options =
        pb::DigestOptions { terms, tasks: vec![pb::Task::Translation.into()], ..Default::default() };
    let answer =
        server.client().await.digest(digest(lines("蓝箭航天披露。\n朱雀三号。"), options)).await.unwrap();
    assert!(answer.sections[0].verdict.as_ref().unwrap().passed);
    let findings = &answer.sections[1].verdict.as_ref().unwrap().findings;
    let missing = &findings[0];
    assert_eq!(missing.kind(), pb::FindingKind::TermMissing);
    let span = missing.source_span.unwrap();
    let source = &"朱雀三号。"[span.start_byte as usize..span.end_byte as usize];
    assert_eq!((missing.expected.as_str(), missing.found.as_str()), (source, ""));
    assert!(missing.expected_english.starts_with("Zhuque"), "{}", missing.expected_english);
    assert!(missing.message.contains(&missing.expected), "{}", missing.message);
    assert_eq!(answer.sections[0].provenance.as_ref().unwrap().glossary_sha256.len(), 64);
}

#[tokio::test]
async fn a_translation_cannot_contain_chinese() {
    let stubborn: Script = Arc::new(|_| ScriptedReply::Text("It is 准入, “quoted” — and done。".to_owned()));
    let server = Server::start(pipeline(stubborn)).await;
    let options = pb::DigestOptions { tasks: vec![pb::Task::Translation.into()], ..Default::default() };
    let answer = server.client().await.digest(digest(lines("准入。"), options)).await.unwrap();
    let english = &answer.sections[0].translation.as_ref().unwrap().paragraphs[0].text;
    assert!(english.starts_with("It is ") && english.contains("“quoted” — and done"), "{english}");
    // The script insists on the remaining bytes of 准, which are not valid UTF-8 and become U+FFFD.
    assert!(!english.chars().any(|c| c >= '\u{3000}' && c != '\u{fffd}'), "{english}");
}

#[tokio::test]
async fn chat_markers_in_a_page_are_plain_text() {
    let seen = Arc::new(AtomicUsize::new(0));
    let script: Script = {
        let seen = seen.clone();
        Arc::new(move |prompt| {
            seen.fetch_add(usize::from(prompt.contains("<|im_end|>")), Ordering::SeqCst);
            ScriptedReply::Text("Fine.".to_owned())
        })
    };
    let server = Server::start(pipeline(script)).await;
    let options = pb::DigestOptions { tasks: vec![pb::Task::Translation.into()], ..Default::default() };
    server.client().await.digest(digest(lines("正文<|im_end|>之后。"), options)).await.unwrap();
    assert!(seen.load(Ordering::SeqCst) > 0, "the marker did not reach the model as text");
}

#[tokio::test]
async fn an_invalid_request_is_refused_with_the_name_of_the_field() {
    let server = Server::start(pipeline(faithful_script())).await;
    let options = |change: fn(&mut pb::DigestOptions)| {
        let mut options = pb::DigestOptions::default();
        change(&mut options);
        options
    };
    let sampling = |temperature, top_p| Some(pb::Sampling { temperature, top_p, ..Default::default() });
    let cases = [
        ("input", digest(None, Default::default())),
        ("input.source", digest(Some(pb::Input::default()), Default::default())),
        ("input", digest(page(" \n\u{3000}\n"), Default::default())),
        (
            "input.page_format",
            digest(Some(pb::Input { page_format: 99, ..page("文。").unwrap() }), Default::default()),
        ),
        ("options.tasks", digest(page("文。"), options(|o| o.tasks = vec![9]))),
        ("options.summary_max_chars", digest(page("文。"), options(|o| o.summary_max_chars = 9))),
        ("options.summary_max_chars", digest(page("文。"), options(|o| o.summary_max_chars = -1))),
        ("options.terms[0]", digest(page("文。"), options(|o| o.terms = vec![pb::Term::default()]))),
        (
            "options.sampling.temperature",
            digest(
                page("文。"),
                pb::DigestOptions { sampling: sampling(f64::NAN, 0.0), ..Default::default() },
            ),
        ),
        (
            "options.sampling.top_p",
            digest(page("文。"), pb::DigestOptions { sampling: sampling(1.0, 1.5), ..Default::default() }),
        ),
        (
            "request_id",
            pb::DigestRequest { request_id: "新".to_owned(), ..digest(page("文。"), Default::default()) },
        ),
    ];
    for (field, request) in cases {
        let status = server.raw_client().await.digest(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status}");
        let violations = status.get_details_bad_request().expect("BadRequest").field_violations;
        assert_eq!(violations[0].field, field, "{status}");
        let info = status.get_details_error_info().expect("ErrorInfo");
        assert_eq!(info.domain, "yizhai.v1");
    }
}

#[tokio::test]
async fn undecodable_bytes_and_pages_over_a_limit_are_refused() {
    let limits = RequestLimits { max_page_bytes: 1000, max_sections: 3, ..RequestLimits::default() };
    let server = Server::start_with(ModelSlot::ready(pipeline(faithful_script())), limits).await;
    let bytes = |bytes: Vec<u8>| Some(pb::Input { source: Some(Source::PageBytes(bytes)), page_format: 0 });
    let article = pb::Article {
        sections: vec![pb::Section {
            heading: None,
            paragraphs: vec![pb::Text { text: "长。".repeat(300), spans: vec![] }],
        }],
        ..Default::default()
    };
    let article = Some(pb::Input { source: Some(Source::Article(article)), page_format: 0 });
    let cases = [
        (bytes((0..=255).cycle().take(600).collect()), "byte"),
        (bytes("文".repeat(400).into_bytes()), "1000"),
        (article, "1000"),
        (lines("一。\n二。\n三。\n四。"), "3"),
    ];
    for (input, named) in cases {
        let status = server.raw_client().await.digest(digest(input, Default::default())).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(named), "{status}");
    }
}

#[tokio::test]
async fn an_unknown_model_or_glossary_is_not_found() {
    let server = Server::start(pipeline(faithful_script())).await;
    let model = pb::DigestOptions { model: "gpt".to_owned(), ..Default::default() };
    let glossary = pb::DigestOptions { glossary: "sports".to_owned(), ..Default::default() };
    for (options, kind, name) in [(model, "model", "gpt"), (glossary, "glossary", "sports")] {
        let status = server.raw_client().await.digest(digest(page("文。"), options)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        let resource = status.get_details_resource_info().expect("ResourceInfo");
        assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), (kind, name));
    }
}

async fn health(server: &Server) -> ServingStatus {
    let mut client = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest { service: "yizhai.v1.DigestService".to_owned() };
    client.check(request).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn requests_are_unavailable_with_retry_info_while_the_model_loads() {
    let server = Server::start_with(ModelSlot::loading(), RequestLimits::default()).await;
    let status =
        server.raw_client().await.digest(digest(page("文。"), Default::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().is_some());
    assert_eq!(health(&server).await, ServingStatus::NotServing);
    // The typed client retries.
    let client = server.client().await;
    let waiting = tokio::spawn(async move { client.digest(digest(page("文。"), Default::default())).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.slot.fill(pipeline(faithful_script()));
    assert_eq!(waiting.await.unwrap().unwrap().sections.len(), 1);
    assert_eq!(health(&server).await, ServingStatus::Serving);
}

#[tokio::test]
async fn a_full_server_refuses_requests_of_all_connections_at_once() {
    let limits = RequestLimits { max_requests: 1, max_queued: 0, ..RequestLimits::default() };
    let slow = pipeline_with(
        Arc::new(|_| ScriptedReply::Forever("x ")),
        Duration::from_millis(5),
        Arc::default(),
        EngineConfig::default(),
    );
    let server = Server::start_with(ModelSlot::ready(slow), limits).await;
    let request = pb::StreamDigestRequest { input: lines("文。"), ..Default::default() };
    let mut first = server.raw_client().await.stream_digest(request).await.unwrap().into_inner();
    first.next().await.unwrap().unwrap();
    let status =
        server.raw_client().await.digest(digest(page("文。"), Default::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.get_details_retry_info().is_some());
    drop(first);
    // The permit is released soon after the client disconnects.
    let segment =
        || async { server.raw_client().await.segment(pb::SegmentRequest { input: page("文。") }).await };
    while segment().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_engine_is_free_after_a_client_disconnects() {
    let script: Script = Arc::new(|_| ScriptedReply::Forever("x "));
    let endless = pipeline_with(script, Duration::from_millis(2), Arc::default(), WITHOUT_DRAFTS);
    let engine = endless.engine().clone();
    let server = Server::start(endless).await;
    let request = pb::StreamDigestRequest { input: page(PAGE), ..Default::default() };
    let mut stream = server.raw_client().await.stream_digest(request).await.unwrap().into_inner();
    stream.next().await.unwrap().unwrap();
    wait_until(|| engine.running() > 0 && engine.waiting() > 0).await;
    drop(stream);
    wait_until(|| engine.running() + engine.waiting() == 0).await;
}

#[tokio::test]
async fn at_the_deadline_finished_sections_are_sent_and_the_others_fail() {
    let script: Script = Arc::new(|prompt| match prompt.contains('慢') {
        true => ScriptedReply::Forever("on and "),
        false => ScriptedReply::Text("Done.".to_owned()),
    });
    let server =
        Server::start(pipeline_with(script, Duration::from_millis(2), Arc::default(), WITHOUT_DRAFTS)).await;
    let options = pb::DigestOptions { tasks: vec![pb::Task::Translation.into()], ..Default::default() };
    // Long enough that the endless answer does not reach the token limit before the deadline.
    let text = format!("快。\n{}", "慢".repeat(60));
    let message =
        pb::StreamDigestRequest { input: lines(&text), options: Some(options.clone()), ..Default::default() };
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_millis(400));
    let mut stream = server.raw_client().await.stream_digest(request).await.unwrap().into_inner();
    let (mut finished, mut overdue) = (0, 0);
    let last = loop {
        match stream.next().await.unwrap() {
            Ok(message) => match message.event {
                Some(Event::Section(section)) => match section.error {
                    None => finished += 1,
                    Some(error) => {
                        assert_eq!(error.code, Code::DeadlineExceeded as i32);
                        overdue += 1;
                    }
                },
                _ => continue,
            },
            Err(status) => break status,
        }
    };
    assert_eq!((finished, overdue, last.code()), (1, 1, Code::DeadlineExceeded), "{last}");
    let mut unary = Request::new(digest(lines(&"慢".repeat(60)), options));
    unary.set_timeout(Duration::from_millis(300));
    let status = server.raw_client().await.digest(unary).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

#[tokio::test]
async fn an_engine_failure_is_an_internal_error_and_fails_readiness() {
    let script: Script = Arc::new(|prompt| {
        if prompt.contains("坏") { ScriptedReply::Panic } else { ScriptedReply::Text("Good.".into()) }
    });
    let server = Server::start(pipeline(script)).await;
    assert_eq!(health(&server).await, ServingStatus::Serving);
    let request = || digest(page("坏消息。"), Default::default());
    let status = server.raw_client().await.digest(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    let info = status.get_details_error_info().unwrap();
    assert!(info.metadata.contains_key("request_id") && !status.message().contains("src/"), "{status}");
    while health(&server).await != ServingStatus::NotServing {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.raw_client().await.digest(request()).await.unwrap_err().code(), Code::Internal);
}

#[tokio::test]
async fn a_shutdown_finishes_the_requests_in_flight() {
    let slow =
        pipeline_with(faithful_script(), Duration::from_millis(5), Arc::default(), EngineConfig::default());
    let mut server = Server::start(slow).await;
    let client = server.client().await;
    let request = pb::StreamDigestRequest { input: page("正文在此，不长。"), ..Default::default() };
    let mut stream = client.stream_digest(request, None).await.unwrap();
    stream.next().await.unwrap().unwrap();
    server.begin_shutdown();
    let rest: Vec<_> = stream.map(|m| m.unwrap()).collect().await;
    assert!(matches!(rest.last().unwrap().event, Some(Event::Statistics(_))));
    server.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn lists_running_models_first_and_in_pages() {
    let server = Server::start(pipeline(faithful_script())).await;
    let models = server.client().await.list_models().await.unwrap();
    assert_eq!(
        models.iter().map(|m| (m.id.as_str(), m.running)).collect::<Vec<_>>(),
        [("scripted", true), ("another", false), ("third", false)]
    );
    let mut raw = server.raw_client().await;
    let first = raw
        .list_models(pb::ListModelsRequest { page_size: 2, ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first.models.len(), 2);
    let next = pb::ListModelsRequest { page_size: 2, page_token: first.next_page_token };
    let second = raw.list_models(next).await.unwrap().into_inner();
    assert_eq!((second.models.len(), second.next_page_token.as_str()), (1, ""));
    let invalid = pb::ListModelsRequest { page_size: -1, ..Default::default() };
    assert_eq!(raw.list_models(invalid).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn reflection_lists_the_services() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let server = Server::start(pipeline(faithful_script())).await;
    let mut client = ServerReflectionClient::new(server.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        client.server_reflection_info(futures::stream::iter([request])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.next().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services")
    };
    let names: HashSet<_> = list.service.iter().map(|s| s.name.as_str()).collect();
    assert!(
        names.contains("yizhai.v1.DigestService") && names.contains("grpc.health.v1.Health"),
        "{names:?}"
    );
}
