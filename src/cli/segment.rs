//! `yizhai segment`: the structure of pages, without a model.

use std::io::Write as _;

use anyhow::Context as _;

use super::{
    Outcome,
    args::{OutputFormat, SegmentArgs},
    embedded::Connection,
    input::{Item, Source},
    output::structure::{self, Structure},
};
use crate::{client::Client, pb};

pub(super) async fn run(args: SegmentArgs) -> anyhow::Result<Outcome> {
    let sources = Source::all(&args.input)?;
    let connection = match &args.server {
        Some(address) => Connection::remote(address).await?,
        None => Connection::without_model()?,
    };
    let outcome = segment_all(&connection.client, &sources, args.format).await;
    connection.close().await;
    outcome
}

async fn segment_all(client: &Client, sources: &[Source], format: OutputFormat) -> anyhow::Result<Outcome> {
    let mut out = anstream::stdout();
    let mut whole: Vec<(pb::Document, Option<serde_json::Value>)> = Vec::new();
    let mut outcome = Outcome::Done;
    let items =
        sources.iter().map(|source| -> anyhow::Result<Box<dyn Iterator<Item = anyhow::Result<Item>>>> {
            Ok(if source.has_records() {
                Box::new(source.records()?)
            } else {
                Box::new(std::iter::once(source.page()))
            })
        });
    for items in items.collect::<anyhow::Result<Vec<_>>>()? {
        for item in items {
            let segmented = async {
                let Item { name, id, input } = item?;
                let document = client.segment(input).await.with_context(|| name.clone())?;
                Ok::<_, anyhow::Error>((id, document))
            };
            // One bad input among several is told, and the others go on.
            let (id, document) = match segmented.await {
                Ok(segmented) => segmented,
                Err(error) if sources.len() == 1 && !sources[0].has_records() => return Err(error),
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
            [only] if sources.len() == 1 => serde_json::to_string_pretty(only)?,
            all => serde_json::to_string_pretty(all)?,
        };
        writeln!(out, "{written}")?;
    }
    out.flush()?;
    Ok(outcome)
}
