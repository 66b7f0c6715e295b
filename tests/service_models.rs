//! A server with a model for each task: who does what, what a request may choose, and what is told of it.
#![allow(clippy::unwrap_used)]

mod support;

use std::{sync::Arc, time::Duration};

use support::{
    scripted::{Script, ScriptedReply, faithful_script, pipeline_with_id},
    serving::{self, Server},
};
use tonic::Code;
use tonic_types::StatusExt;
use yizhai::{
    engine::EngineConfig,
    pb::{self, input::Source},
    pipeline::Pipeline,
    server::{Metrics, ModelSlot, ResultCache, ServerConfig},
    task::Tasks,
};

const SUMMARY_ONLY: Tasks = Tasks { summary: true, translation: false };

/// A model that is asked for summaries only, and one that can do both.
fn two_models() -> Pipeline {
    let one = |id, tasks, script| {
        pipeline_with_id(id, tasks, script, Duration::ZERO, Arc::default(), EngineConfig::default())
    };
    let summaries: Script = Arc::new(|_| ScriptedReply::Text("航天又有好消息。".to_owned()));
    one("scripted", Tasks::default(), faithful_script()).with_summary_model(one(
        "third",
        SUMMARY_ONLY,
        summaries,
    ))
}

fn request(model: &str, tasks: &[pb::Task]) -> pb::DigestRequest {
    let text =
        "今天一颗新的卫星在海上发射升空，随后顺利入轨。这颗卫星将用来观测海洋和天气，预计明年投入使用。";
    let input = pb::Input {
        source: Some(Source::PageText(text.repeat(4))),
        page_format: pb::PageFormat::Lines.into(),
    };
    let options = pb::DigestOptions {
        model: model.to_owned(),
        tasks: tasks.iter().map(|task| (*task).into()).collect(),
        max_attempts: 1,
        ..Default::default()
    };
    pb::DigestRequest { input: Some(input), options: Some(options), request_id: String::new() }
}

async fn section(server: &Server, request: pb::DigestRequest) -> pb::SectionDigest {
    server.client().await.digest(request).await.unwrap().sections.remove(0)
}

/// The models of the translation and of the summary, as the provenance tells them.
fn makers(section: &pb::SectionDigest) -> (&str, &str) {
    let provenance = section.provenance.as_ref().unwrap();
    assert_eq!(provenance.summary_model.is_empty(), provenance.summary_weights_sha256.is_empty());
    (&provenance.model, &provenance.summary_model)
}

#[tokio::test]
async fn each_task_is_done_by_its_model_and_a_request_may_name_one() {
    use pb::Task::{Summary, Translation};
    let server = Server::start(two_models()).await;
    let both = section(&server, request("", &[])).await;
    assert_eq!(makers(&both), ("scripted", "third"));
    assert_eq!(both.summary.as_ref().unwrap().text, "航天又有好消息。");
    assert_ne!(both.translation.as_ref().unwrap().paragraphs[0].text, "航天又有好消息。");
    assert_eq!(makers(&section(&server, request("", &[Translation])).await), ("scripted", ""));
    assert_eq!(makers(&section(&server, request("", &[Summary])).await), ("third", ""));
    assert_eq!(makers(&section(&server, request("third", &[Summary])).await), ("third", ""));
    let named = section(&server, request("scripted", &[])).await;
    assert_eq!(makers(&named), ("scripted", ""));
    assert_ne!(named.summary.unwrap().text, "航天又有好消息。");
}

#[tokio::test]
async fn a_model_is_not_asked_for_what_it_cannot_do() {
    let server = Server::start(two_models()).await;
    let mut raw = server.raw_client().await;
    for tasks in [vec![], vec![pb::Task::Translation]] {
        let status = raw.digest(request("third", &tasks)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("the model `third` cannot make translations"), "{status}");
        let violation = &status.get_details_bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, "options.tasks");
    }
    let status = raw.digest(request("another", &[])).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("`scripted`, `third`"), "{status}");
}

#[tokio::test]
async fn both_models_are_listed_and_counted() {
    let server = Server::start(two_models()).await;
    section(&server, request("", &[])).await;
    let models = server.client().await.list_models().await.unwrap();
    let told: Vec<_> = models.iter().map(|model| (model.id.as_str(), model.running)).collect();
    assert_eq!(told, [("scripted", true), ("third", true), ("another", false)]);
    let running =
        server.raw_client().await.list_models(pb::ListModelsRequest::default()).await.unwrap().into_inner();
    let running = running.running.unwrap();
    assert_eq!((running.model.as_str(), running.summary_model.as_str()), ("scripted", "third"));
    let text = server.metrics.text();
    for id in ["scripted", "third"] {
        let written = format!("engine_completion_tokens_total{{model=\"{id}\"}} ");
        let line = text.lines().find(|line| line.contains(&written)).unwrap_or_else(|| panic!("{text}"));
        assert!(!line.ends_with(" 0"), "{line}");
    }
}

#[tokio::test]
async fn the_cache_tells_the_models_apart() {
    let metrics = Metrics::default();
    let cache = Some(ResultCache::new(1 << 20, "", metrics.clone()));
    let config = ServerConfig { cache, metrics, ..serving::server_config() };
    let server = Server::start_config(ModelSlot::ready(two_models()), config).await;
    let is_cached = async |model| {
        let provenance = section(&server, request(model, &[])).await.provenance.unwrap();
        provenance.from_cache
    };
    assert!(!is_cached("").await);
    assert!(!is_cached("scripted").await, "its summary was made by another model");
    assert!(is_cached("").await);
    assert!(is_cached("scripted").await);
}
