//! Translates all sources with one candidate, through an in-process server as `yizhai digest` uses it.

use std::time::Instant;

use crate::{
    cli::{output::evaluation::CandidateRun, progress::SectionProgress, setup::connection::ServerConnection},
    client::{DigestItem, PoolEvent, PoolMember, PoolSettings, ServerPool},
    config::ModelConfig,
    evaluation::EvaluationPair,
    pb,
};

/// Loads a candidate and translates the sources, each as an input of its own.
///
/// # Errors
/// Returns an error if the candidate cannot be loaded, or the server fails as a whole.
pub(super) async fn translate(
    config: &ModelConfig,
    pairs: &[EvaluationPair],
    max_attempts: i32,
    quiet: bool,
    progress: SectionProgress,
) -> anyhow::Result<CandidateRun> {
    let connection = ServerConnection::in_process(config.options);
    let translations = match connection.load_model(config, quiet).await {
        Ok(()) => translate_over(&connection, config, pairs, max_attempts, progress).await,
        Err(error) => Err(error),
    };
    connection.close().await;
    translations
}

async fn translate_over(
    connection: &ServerConnection,
    config: &ModelConfig,
    pairs: &[EvaluationPair],
    max_attempts: i32,
    mut progress: SectionProgress,
) -> anyhow::Result<CandidateRun> {
    let member = PoolMember::Connected {
        name: "the in-process server".to_owned(),
        client: Box::new(connection.client.clone()),
    };
    let options = pb::DigestOptions {
        tasks: vec![pb::Task::Translation.into()],
        max_attempts,
        ..pb::DigestOptions::default()
    };
    // Twice the size of a batch, so that the engine never waits for the next sentence.
    let window = 2 * config.engine.max_sequences;
    progress.set_total(pairs.len());
    let pool = ServerPool::connect(vec![member]).await?;
    let started = Instant::now();
    let (items, mut events) = pool.start(PoolSettings { options, timeout: None, window });
    let inputs: Vec<DigestItem> = (0..).zip(pairs).map(|(id, pair)| item(id, &pair.source)).collect();
    tokio::spawn(async move {
        for input in inputs {
            // The run has ended early if the items are not received; its last event says why.
            if items.send(input).await.is_err() {
                return;
            }
        }
    });
    let mut sections: Vec<Option<Result<pb::SectionDigest, String>>> = pairs.iter().map(|_| None).collect();
    let mut completion_tokens = 0;
    while let Some(event) = events.recv().await {
        match event {
            PoolEvent::Done { id, result } => {
                let section =
                    result.map_err(|failure| failure.message).and_then(|digest| only_section(*digest));
                let tokens = section.as_ref().ok().and_then(|s| s.timings.as_ref());
                let tokens = tokens.map_or(0, |timings| timings.completion_tokens);
                completion_tokens += u64::try_from(tokens).unwrap_or_default();
                progress.section_done(tokens);
                if let Some(slot) = usize::try_from(id).ok().and_then(|id| sections.get_mut(id)) {
                    *slot = Some(section);
                }
            }
            PoolEvent::Note(note) => progress.line(&note),
            PoolEvent::GaveUp(error) => return Err(error.into()),
        }
    }
    let unanswered = || Err("the server did not answer".to_owned());
    Ok(CandidateRun {
        sections: sections.into_iter().map(|section| section.unwrap_or_else(unanswered)).collect(),
        seconds: started.elapsed().as_secs_f64(),
        completion_tokens,
        peak_memory_bytes: None,
    })
}

fn item(id: u64, source: &str) -> DigestItem {
    let input = pb::Input {
        source: Some(pb::input::Source::PageText(source.to_owned())),
        page_format: pb::PageFormat::Lines.into(),
    };
    DigestItem { id, input }
}

/// Returns the section of a digest of one line, or the reason why it failed.
fn only_section(digest: pb::DigestResponse) -> Result<pb::SectionDigest, String> {
    let section = digest.sections.into_iter().next().ok_or("the digest has no section")?;
    match &section.error {
        Some(error) => Err(error.message.clone()),
        None => Ok(section),
    }
}
