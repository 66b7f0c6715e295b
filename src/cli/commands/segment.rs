//! `yizhai segment`: the structure of pages.

use std::io::Write as _;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{
    cli::{
        CommandOutcome,
        args::{OutputFormat, SegmentArgs},
        input::{InputSources, Item},
        output::structure::{self, StructureJson},
        setup::connection::ServerConnection,
    },
    client::Client,
    model::ModelOptions,
    pb,
};

pub(in crate::cli) async fn run(args: SegmentArgs) -> anyhow::Result<CommandOutcome> {
    let sources = InputSources::new(&args.input, None)?;
    let connection = match &args.server {
        Some(address) => ServerConnection::remote(address).await?,
        None => ServerConnection::in_process(ModelOptions::default()),
    };
    let outcome = segment_all(&connection.client, &sources, args.format).await;
    connection.close().await;
    outcome
}

async fn segment_all(
    client: &Client,
    sources: &InputSources,
    format: OutputFormat,
) -> anyhow::Result<CommandOutcome> {
    let mut out = anstream::stdout();
    let mut documents: Vec<(pb::Document, Option<Value>)> = Vec::new();
    let mut outcome = CommandOutcome::Complete;
    for source in &sources.list {
        for item in source.items() {
            let segmented = async {
                let Item { name, id, input, .. } = item.map_err(|unreadable| unreadable.error)?;
                let document = client.segment(input).await.with_context(|| name.clone())?;
                Ok::<_, anyhow::Error>((id, document))
            };
            let (id, document) = match segmented.await {
                Ok(segmented) => segmented,
                Err(error) if sources.only_page().is_some() => return Err(error),
                // One invalid input among several does not stop the others.
                Err(error) => {
                    outcome = CommandOutcome::Partial;
                    anstream::eprintln!("yizhai: {error:#}");
                    if format == OutputFormat::Jsonl {
                        writeln!(out, "{}", json!({ "error": format!("{error:#}") }))?;
                    }
                    continue;
                }
            };
            match format {
                OutputFormat::Text => write!(out, "{}", structure::outline(&document))?,
                OutputFormat::Jsonl => {
                    let structure = StructureJson::new(&document, id.as_ref());
                    writeln!(out, "{}", serde_json::to_string(&structure)?)?;
                }
                OutputFormat::Json => documents.push((document, id)),
            }
        }
    }
    if format == OutputFormat::Json {
        let all: Vec<StructureJson<'_>> =
            documents.iter().map(|(document, id)| StructureJson::new(document, id.as_ref())).collect();
        let text = match all.as_slice() {
            [only] if !sources.are_several() => serde_json::to_string_pretty(only)?,
            all => serde_json::to_string_pretty(all)?,
        };
        writeln!(out, "{text}")?;
    }
    out.flush()?;
    Ok(outcome)
}
