//! `yizhai segment`: the structure of pages, without a model.

use std::io::Write as _;

use anyhow::Context as _;

use super::{
    Outcome,
    args::{OutputFormat, SegmentArgs},
    embedded::Connection,
    input::{Item, Sources},
    output::structure::{self, Structure},
};
use crate::{client::Client, pb};

pub(super) async fn run(args: SegmentArgs) -> anyhow::Result<Outcome> {
    let sources = Sources::new(&args.input, None)?;
    let connection = match &args.server {
        Some(address) => Connection::remote(address).await?,
        None => Connection::without_model()?,
    };
    let outcome = segment_all(&connection.client, &sources, args.format).await;
    connection.close().await;
    outcome
}

async fn segment_all(client: &Client, sources: &Sources, format: OutputFormat) -> anyhow::Result<Outcome> {
    let mut out = anstream::stdout();
    let mut whole: Vec<(pb::Document, Option<serde_json::Value>)> = Vec::new();
    let mut outcome = Outcome::Done;
    for source in &sources.list {
        for item in source.items() {
            let segmented = async {
                let Item { name, id, input, .. } = item.map_err(|unreadable| unreadable.error)?;
                let document = client.segment(input).await.with_context(|| name.clone())?;
                Ok::<_, anyhow::Error>((id, document))
            };
            // One bad input among several is told, and the others go on.
            let (id, document) = match segmented.await {
                Ok(segmented) => segmented,
                Err(error) if sources.only_page().is_some() => return Err(error),
                Err(error) => {
                    outcome = Outcome::Partial;
                    anstream::eprintln!("yizhai: {error:#}");
                    if format == OutputFormat::Jsonl {
                        writeln!(out, "{}", serde_json::json!({ "error": format!("{error:#}") }))?;
                    }
                    continue;
                }
            };
            match format {
                OutputFormat::Text => write!(out, "{}", structure::drawing(&document))?,
                OutputFormat::Jsonl => {
                    writeln!(out, "{}", serde_json::to_string(&Structure::of(&document, id.as_ref()))?)?;
                }
                OutputFormat::Json => whole.push((document, id)),
            }
        }
    }
    if format == OutputFormat::Json {
        let all: Vec<Structure<'_>> =
            whole.iter().map(|(document, id)| Structure::of(document, id.as_ref())).collect();
        let written = match all.as_slice() {
            [only] if !sources.are_several() => serde_json::to_string_pretty(only)?,
            all => serde_json::to_string_pretty(all)?,
        };
        writeln!(out, "{written}")?;
    }
    out.flush()?;
    Ok(outcome)
}
