//! `yizhai bench`: measures prefill and decode speed, or the digest of whole pages.

use std::{io::Write as _, sync::Arc, time::Instant};

use anyhow::Context as _;
use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::{
    cli::{
        CommandOutcome,
        args::{BenchArgs, InputArgs},
        input::{InputSource, InputSources},
        memory,
        setup::{connection::ServerConnection, model},
    },
    config::ModelConfig,
    engine::EngineConfig,
    model::{Batch, KV_BLOCK_TOKENS, KvCache, Model, load_path},
    pb,
    task::Task,
};

pub(in crate::cli) async fn run(args: BenchArgs) -> anyhow::Result<CommandOutcome> {
    let config = ModelConfig::from(args.model.clone());
    if args.pages.is_empty() {
        tokio::task::spawn_blocking(move || measure_model(&args, &config)).await??;
    } else {
        let input = InputArgs { files: args.pages.clone(), ..InputArgs::default() };
        let sources = InputSources::new(&input, None)?;
        let connection = ServerConnection::in_process(config.options);
        connection.load_model(&config, true).await?;
        for source in &sources.list {
            print(&measure_page(&connection, &config, source).await?)?;
        }
        connection.close().await;
    }
    Ok(CommandOutcome::Complete)
}

/// Prints one JSON object and flushes it, so that a long run can be watched.
fn print(value: &Value) -> anyhow::Result<()> {
    let mut out = anstream::stdout();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}

/// Measures the model without the engine, for every batch size.
fn measure_model(args: &BenchArgs, config: &ModelConfig) -> anyhow::Result<()> {
    let located = model::locate(config.model(Task::Translation), false)?;
    let (_, mut model) = load_path(&located.path, &config.options)?;
    let positions = args.prompt + args.generate;
    anyhow::ensure!(
        positions <= model.max_positions(),
        "--prompt and --generate add up to {positions} tokens; the model supports at most {}",
        model.max_positions()
    );
    let blocks = positions.div_ceil(KV_BLOCK_TOKENS);
    let largest = args.batch.iter().copied().max().unwrap_or(1);
    let mut cache = model.new_cache(blocks * largest)?;
    for &size in &args.batch {
        let mut runs = (0..args.repeat)
            .map(|_| BenchRun::measure(model.as_mut(), &mut cache, size, args.prompt, args.generate))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let (prompt_tokens, generated_tokens) = (size * args.prompt, size * args.generate);
        let prefill = median(&mut runs, |run| run.prefill_seconds);
        let decode = median(&mut runs, |run| run.decode_seconds);
        print(&json!({
            "engine": "yizhai",
            "model": located.id,
            "device": config.options.device_name(),
            "cpu_features": config.options.cpu_features.to_string(),
            "kv_type": config.options.kv_type.to_string(),
            "batch": size,
            "runs": args.repeat,
            "prompt_tokens": prompt_tokens,
            "generated_tokens": generated_tokens,
            "prompt_tokens_per_second": rate(prompt_tokens, prefill),
            "generated_tokens_per_second": rate(generated_tokens, decode),
            "peak_memory_bytes": memory::peak_bytes(),
        }))?;
    }
    Ok(())
}

/// The times of one measurement.
struct BenchRun {
    prefill_seconds: f64,
    decode_seconds: f64,
}

impl BenchRun {
    /// Prefills `size` prompts of `prompt` tokens, packed into full steps, and then decodes `generate` tokens of each.
    ///
    /// The tokens are arbitrary, as in the batched benchmark of llama.cpp; the output of the model is not used.
    fn measure(
        model: &mut dyn Model,
        cache: &mut KvCache,
        size: usize,
        prompt: usize,
        generate: usize,
    ) -> anyhow::Result<Self> {
        let vocab = model.vocab_size() as u32;
        let token = |number: usize, sequence: usize| (number as u32 * 7919 + sequence as u32 * 31) % vocab;
        let blocks_each = (prompt + generate).div_ceil(KV_BLOCK_TOKENS) as u32;
        let blocks: Vec<Arc<[u32]>> =
            (0..size as u32).map(|n| (n * blocks_each..(n + 1) * blocks_each).collect()).collect();
        let step_tokens = EngineConfig::default().max_step_tokens;
        let started = Instant::now();
        let mut batch = Batch::default();
        for (sequence, blocks) in blocks.iter().enumerate() {
            let mut start = 0;
            while start < prompt {
                let len = (prompt - start).min(step_tokens - batch.tokens.len());
                let tokens: Vec<u32> = (start..start + len).map(|n| token(n, sequence)).collect();
                start += len;
                batch.push(blocks.clone(), start - len, &tokens, usize::from(start == prompt));
                let is_last = sequence + 1 == size && start == prompt;
                if batch.tokens.len() == step_tokens || is_last {
                    forward(model, &std::mem::take(&mut batch), cache)?;
                }
            }
        }
        let prefilled = Instant::now();
        for position in prompt..prompt + generate {
            let mut batch = Batch::default();
            for (sequence, blocks) in blocks.iter().enumerate() {
                batch.push(blocks.clone(), position, &[token(position, sequence)], 1);
            }
            forward(model, &batch, cache)?;
        }
        Ok(Self {
            prefill_seconds: (prefilled - started).as_secs_f64(),
            decode_seconds: prefilled.elapsed().as_secs_f64(),
        })
    }
}

/// Runs a step and waits for its end: a GPU computes asynchronously.
fn forward(model: &mut dyn Model, batch: &Batch, cache: &mut KvCache) -> anyhow::Result<()> {
    Ok(model.forward(batch, cache)?.device().synchronize()?)
}

/// Digests a page through the in-process server, as `yizhai digest` does, and returns the measurements.
async fn measure_page(
    connection: &ServerConnection,
    config: &ModelConfig,
    source: &InputSource,
) -> anyhow::Result<Value> {
    use pb::stream_digest_response::Event;
    let item = source.page()?;
    let request = pb::StreamDigestRequest { input: Some(item.input), ..Default::default() };
    let started = Instant::now();
    let mut events = connection.client.stream_digest(request, None).await.context(item.name.clone())?;
    let mut first_section = None;
    let mut statistics = None;
    while let Some(message) = events.next().await {
        match message.with_context(|| item.name.clone())?.event {
            Some(Event::Section(_)) if first_section.is_none() => first_section = Some(started.elapsed()),
            Some(Event::Statistics(last)) => statistics = Some(last),
            _ => {}
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let statistics = statistics.context("the digest ended early")?;
    let count = |tokens: i64| usize::try_from(tokens).unwrap_or_default();
    Ok(json!({
        "engine": "yizhai",
        "page": item.name,
        "model": model::display_id(config)?,
        "device": config.options.device_name(),
        "cpu_features": config.options.cpu_features.to_string(),
        "kv_type": config.options.kv_type.to_string(),
        "batch": config.engine.max_sequences,
        "sections": statistics.sections,
        "seconds": rounded(seconds),
        "first_section_seconds": first_section.map(|time| rounded(time.as_secs_f64())),
        "prompt_tokens": statistics.prompt_tokens,
        "cached_tokens": statistics.cached_tokens,
        "generated_tokens": statistics.completion_tokens,
        "tokens_per_second": rate(count(statistics.prompt_tokens) + count(statistics.completion_tokens), seconds),
        "generated_tokens_per_second": rate(count(statistics.completion_tokens), seconds),
        "pages_per_hour": rounded(3600.0 / seconds),
        "peak_memory_bytes": memory::peak_bytes(),
    }))
}

fn median(runs: &mut [BenchRun], seconds: impl Fn(&BenchRun) -> f64) -> f64 {
    runs.sort_by(|a, b| seconds(a).total_cmp(&seconds(b)));
    seconds(&runs[runs.len() / 2])
}

fn rate(tokens: usize, seconds: f64) -> f64 {
    rounded(tokens as f64 / seconds)
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
