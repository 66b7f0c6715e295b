//! `yizhai digest`: summaries and translations of pages and articles.
//!
//! A single page on stdout or in a file is written while its sections are computed ([`page`]). Anything else is a
//! [`batch`](crate::cli::batch) run. Both use the same writers in [`output`](crate::cli::output).

mod page;

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};

use crate::{
    cli::{
        CommandOutcome,
        args::{DigestArgs, DigestFormat, Order},
        batch::{
            BatchProgress, BatchRun, OutputDirectory, ProgressMode, ResultSink, ResultStore, RunTotals,
            StreamSink,
        },
        input::{InputSources, Item},
        output::{DigestLayout, ResultStream, StreamShape},
        progress::SectionProgress,
        setup::{connection::ServerConnection, glossary, task_message},
    },
    client::{PoolMember, PoolSettings, ServerPool},
    config::{ModelChoice, ModelConfig, ModelRef},
    document::InputFormat,
    pb,
};
use page::PageRun;

pub(in crate::cli) async fn run(args: DigestArgs) -> anyhow::Result<CommandOutcome> {
    let directory = args.output.as_deref().filter(|path| is_directory(path)).map(Path::to_owned);
    // Inputs and options are checked before a model is downloaded or loaded.
    let sources = InputSources::new(&args.input, directory.as_deref())?;
    let options = digest_options(&args)?;
    let only_page = sources.only_page();
    if args.retry_failed && directory.is_none() {
        bail!("--retry-failed requires the directory of an earlier run: --output DIR");
    }
    if args.format == DigestFormat::Html && directory.is_none() && only_page.is_none() {
        bail!("--format html writes one page per input; with several inputs it requires --output DIR");
    }
    match (only_page, directory) {
        (Some(source), None) => digest_page(&args, options, &source.page()?).await,
        (_, directory) => digest_batch(&args, options, sources, directory).await,
    }
}

/// Digests one page and writes each section when it is complete.
async fn digest_page(
    args: &DigestArgs,
    options: pb::DigestOptions,
    item: &Item,
) -> anyhow::Result<CommandOutcome> {
    let connection = connect(args).await?;
    let outcome = digest_page_over(&connection, args, options, item).await;
    connection.close().await;
    outcome
}

async fn digest_page_over(
    connection: &ServerConnection,
    args: &DigestArgs,
    options: pb::DigestOptions,
    item: &Item,
) -> anyhow::Result<CommandOutcome> {
    if args.servers.is_empty() {
        // Report an invalid page before a model is downloaded or loaded. Segmenting needs no model.
        connection.client.segment(item.input.clone()).await.with_context(|| item.name.clone())?;
        connection.load_model(&model_config(args), args.quiet).await?;
    }
    let run = PageRun {
        client: connection.client.clone(),
        item,
        options,
        timeout: args.timeout,
        stream: ResultStream::begin(open_output(args)?, layout(args), StreamShape::Single)?,
        progress: SectionProgress::new(args.quiet || args.json_progress),
        is_strict: args.strict,
    };
    run.run().await
}

/// Digests many inputs.
async fn digest_batch(
    args: &DigestArgs,
    options: pb::DigestOptions,
    sources: InputSources,
    directory: Option<PathBuf>,
) -> anyhow::Result<CommandOutcome> {
    let progress = BatchProgress::new(match (args.quiet, args.json_progress) {
        (true, _) => ProgressMode::Quiet,
        (_, true) => ProgressMode::Json,
        _ => ProgressMode::Text,
    });
    let (store, sink): (_, Box<dyn ResultSink>) = match directory {
        Some(directory) => {
            let store = Arc::new(ResultStore::open(&directory)?);
            let sink = OutputDirectory::new(directory, store.clone(), args.format)?;
            (Some(store), Box::new(sink))
        }
        None => {
            let has_records = sources.list.iter().all(|source| source.has_records());
            let layout = match layout(args) {
                DigestLayout::JsonLines if has_records => DigestLayout::JsonLine,
                layout => layout,
            };
            let out = open_output(args)?;
            let open = Box::new(move |shape| ResultStream::begin(out, layout, shape));
            // The number of records in a JSONL file is unknown.
            let shape = (layout != DigestLayout::Json || sources.are_several()).then_some(StreamShape::Array);
            (None, Box::new(StreamSink::new(open, shape, true, progress.clone())?))
        }
    };
    let (targets, in_process) = connect_all(args).await?;
    let run = BatchRun {
        sources,
        balanced: ServerPool::connect(targets).await?,
        settings: PoolSettings { options, timeout: args.timeout, window: args.in_flight },
        in_order: store.is_none() && args.order == Order::Given,
        store,
        retry_failed: args.retry_failed,
        sink,
        progress,
    };
    let totals = run.run().await;
    if let Some(in_process) = in_process {
        in_process.close().await;
    }
    batch_outcome(&totals?, args.strict)
}

fn batch_outcome(totals: &RunTotals, is_strict: bool) -> anyhow::Result<CommandOutcome> {
    match totals {
        RunTotals { done: 0, partial: 0, failed, .. } if *failed > 0 => {
            bail!("nothing could be processed: {failed} failed")
        }
        RunTotals { partial: 0, failed: 0, interrupted: false, .. } => {
            let has_findings = is_strict && totals.sections_with_findings > 0;
            Ok(if has_findings { CommandOutcome::Findings } else { CommandOutcome::Complete })
        }
        _ => Ok(CommandOutcome::Partial),
    }
}

/// Connects to the first server that is reachable, or starts one in this process if none is given.
async fn connect(args: &DigestArgs) -> anyhow::Result<ServerConnection> {
    let Some((last, others)) = args.servers.split_last() else {
        return Ok(ServerConnection::in_process(model_config(args).options));
    };
    for address in others {
        match ServerConnection::remote(address).await {
            Err(error) => tracing::warn!("{error:#}"),
            connected => return connected,
        }
    }
    ServerConnection::remote(last).await
}

/// Returns the servers of a batch. If none is given, starts one in this process, which the caller must close.
async fn connect_all(args: &DigestArgs) -> anyhow::Result<(Vec<PoolMember>, Option<ServerConnection>)> {
    if !args.servers.is_empty() {
        return Ok((args.servers.iter().cloned().map(PoolMember::Address).collect(), None));
    }
    let config = model_config(args);
    let connection = ServerConnection::in_process(config.options);
    connection.load_model(&config, args.quiet || args.json_progress).await?;
    let target = PoolMember::Connected {
        name: "the in-process server".to_owned(),
        client: Box::new(connection.client.clone()),
    };
    Ok((vec![target], Some(connection)))
}

/// Returns the models of the requested tasks.
fn model_config(args: &DigestArgs) -> ModelConfig {
    ModelConfig::from(args.model.clone()).for_tasks(&args.tasks)
}

fn digest_options(args: &DigestArgs) -> anyhow::Result<pb::DigestOptions> {
    let (glossary, mut terms) = glossary::for_request(&args.glossaries)?;
    terms.extend(args.terms.iter().cloned());
    Ok(pb::DigestOptions {
        tasks: args.tasks.iter().map(|task| task_message(*task)).collect(),
        summary_max_chars: args.summary_chars,
        terms,
        glossary,
        lexicon: if args.lexicon == "builtin" { String::new() } else { args.lexicon.clone() },
        max_attempts: args.max_attempts,
        sampling: args.temperature.map(|temperature| pb::Sampling {
            temperature,
            seed: args.seed,
            ..pb::Sampling::default()
        }),
        model: requested_model(args)?,
    })
}

/// Returns the id of the model to request from a remote server. Empty means the choice of the server.
fn requested_model(args: &DigestArgs) -> anyhow::Result<String> {
    if args.servers.is_empty() {
        return Ok(String::new());
    }
    match args.model.model.last() {
        Some(ModelChoice { task: Some(_), .. }) => bail!(
            "--model TASK=ID chooses models to load in this process; with --server, use --model ID to request one of \
             the models of the server"
        ),
        Some(ModelChoice { model: ModelRef::Id(id), .. }) => Ok(id.clone()),
        _ => Ok(String::new()),
    }
}

/// Returns the layout of results on stdout or in one file.
fn layout(args: &DigestArgs) -> DigestLayout {
    match DigestLayout::from(args.format) {
        DigestLayout::Text if args.input.input_format == InputFormat::Lines && args.tasks.len() == 1 => {
            DigestLayout::TextLines
        }
        layout => layout,
    }
}

/// Opens the output file, or stdout. A file gets no colors.
fn open_output(args: &DigestArgs) -> anyhow::Result<Box<dyn Write + Send>> {
    Ok(match &args.output {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Box::new(anstream::StripStream::new(Box::new(file) as Box<dyn Write + Send>))
        }
        None => Box::new(anstream::stdout()),
    })
}

/// Returns `true` if the value of `--output` means a directory.
fn is_directory(path: &Path) -> bool {
    let ends_in_slash = path.as_os_str().to_string_lossy().ends_with(std::path::MAIN_SEPARATOR);
    path.is_dir() || ends_in_slash || (path.extension().is_none() && !path.exists())
}
