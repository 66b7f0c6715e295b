//! A server with a model for each task: which model performs which task, which models a request may select, and what the
//! server reports about them.
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

/// One model that supports both tasks, and one that only summarizes.
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

/// Returns the models of the translation and of the summary according to the provenance.
fn models_used(section: &pb::SectionDigest) -> (&str, &str) {
    let provenance = section.provenance.as_ref().unwrap();
    assert_eq!(provenance.summary_model.is_empty(), provenance.summary_weights_sha256.is_empty());
    (&provenance.model, &provenance.summary_model)
}

#[tokio::test]
async fn each_task_uses_its_own_model_unless_the_request_selects_one() {
    use pb::Task::{Summary, Translation};
    let server = Server::start(two_models()).await;
    let both = section(&server, request("", &[])).await;
    assert_eq!(models_used(&both), ("scripted", "third"));
    assert_eq!(both.summary.as_ref().unwrap().text, "航天又有好消息。");
    assert_ne!(both.translation.as_ref().unwrap().paragraphs[0].text, "航天又有好消息。");
    assert_eq!(models_used(&section(&server, request("", &[Translation])).await), ("scripted", ""));
    assert_eq!(models_used(&section(&server, request("", &[Summary])).await), ("third", ""));
    assert_eq!(models_used(&section(&server, request("third", &[Summary])).await), ("third", ""));
    let named = section(&server, request("scripted", &[])).await;
    assert_eq!(models_used(&named), ("scripted", ""));
    assert_ne!(named.summary.unwrap().text, "航天又有好消息。");
}

#[tokio::test]
async fn a_task_that_the_model_does_not_support_is_refused() {
    let server = Server::start(two_models()).await;
    let mut raw = server.raw_client().await;
    for tasks in [vec![], vec![pb::Task::Translation]] {
        let status = raw.digest(request("third", &tasks)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("the model `third` cannot translate"), "{status}");
        let violation = &status.get_details_bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, "options.tasks");
    }
    let status = raw.digest(request("another", &[])).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("`scripted`, `third`"), "{status}");
}

#[tokio::test]
async fn both_models_are_listed_and_measured() {
    let server = Server::start(two_models()).await;
    section(&server, request("", &[])).await;
    let models = server.client().await.list_models().await.unwrap();
    let listed: Vec<_> = models.iter().map(|model| (model.id.as_str(), model.running)).collect();
    assert_eq!(listed, [("scripted", true), ("third", true), ("another", false)]);
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
async fn the_cache_distinguishes_the_models() {
    let metrics = Metrics::default();
    let cache = Some(ResultCache::new(1 << 20, "", metrics.clone()));
    let config = ServerConfig { cache, metrics, ..serving::server_config() };
    let server = Server::start_config(ModelSlot::ready(two_models()), config).await;
    let is_cached = async |model| {
        let provenance = section(&server, request(model, &[])).await.provenance.unwrap();
        provenance.from_cache
    };
    assert!(!is_cached("").await);
    assert!(!is_cached("scripted").await, "the cached summary is of another model");
    assert!(is_cached("").await);
    assert!(is_cached("scripted").await);
}
