//! `yizhai digest`: summaries and translations of pages and articles. One page is written while it is being made
//! ([`live`]); more are a [`batch`](super::batch).

mod live;

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};

use super::{
    Outcome,
    args::{DigestArgs, DigestFormat, InputFormat, Order, Task},
    batch::{
        Run, Sink, Tally,
        directory::Directory,
        progress::{Progress, Style},
        store::Store,
        stream::{Array, Stream},
    },
    embedded::Connection,
    glossary,
    input::{Item, Sources},
    progress::Sections,
};
use crate::{
    client::{PoolMember, PoolSettings, ServerPool},
    config::{ModelChoice, ModelConfig, ModelRef},
    pb,
};

pub(super) async fn run(args: DigestArgs) -> anyhow::Result<Outcome> {
    let directory = args.output.as_deref().filter(|path| is_directory(path)).map(Path::to_owned);
    // Inputs are looked at first: a wrong name is told before a model is fetched.
    let sources = Sources::new(&args.input, directory.as_deref())?;
    let is_shown_live = matches!(args.format, DigestFormat::Text | DigestFormat::Json | DigestFormat::Jsonl);
    if let (Some(only), None, true) = (sources.only_page(), &directory, is_shown_live) {
        let item = only.page()?;
        return page(&args, &item).await;
    }
    if args.format == DigestFormat::Html && directory.is_none() && sources.only_page().is_none() {
        bail!("--format html writes a page for every input: say where with --output DIR");
    }
    if args.retry_failed && directory.is_none() {
        bail!("--retry-failed needs the directory of an earlier run: --output DIR");
    }
    batch(&args, sources, directory).await
}

/// Digests one page, section by section.
async fn page(args: &DigestArgs, item: &Item) -> anyhow::Result<Outcome> {
    if args.servers.is_empty() {
        check(item).await?;
    }
    let connection = connect(args).await?;
    let live = live::Live {
        client: connection.client.clone(),
        item,
        options: options(args)?,
        timeout: args.timeout,
        strict: args.strict,
        with_findings: 0,
        one_line_each: is_one_line_each(args),
        format: args.format,
        out: output(args.output.as_deref())?,
        progress: Sections::new(args.quiet || args.json_progress),
        failed: 0,
    };
    let outcome = live.run().await;
    connection.close().await;
    outcome
}

/// Digests many inputs.
async fn batch(args: &DigestArgs, sources: Sources, directory: Option<PathBuf>) -> anyhow::Result<Outcome> {
    let progress = Progress::new(match (args.quiet, args.json_progress) {
        (true, _) => Style::Quiet,
        (_, true) => Style::Json,
        _ => Style::People,
    });
    let options = options(args)?;
    let (store, sink): (_, Box<dyn Sink>) = match directory {
        Some(directory) => {
            let store = Arc::new(Store::open(&directory)?);
            let sink = Directory::new(directory, store.clone(), args.format)?;
            (Some(store), Box::new(sink))
        }
        None => {
            let sink = Stream {
                out: output(args.output.as_deref())?,
                format: args.format,
                one_line_each: is_one_line_each(args),
                line_an_item: sources.list.iter().all(|source| source.has_records()),
                named: sources.only_page().is_none(),
                several: sources.are_several(),
                progress: progress.clone(),
                array: Array::default(),
            };
            (None, Box::new(sink))
        }
    };
    let (targets, embedded) = targets(args).await?;
    let run = Run {
        sources,
        balanced: ServerPool::connect(targets).await?,
        settings: PoolSettings { options, timeout: args.timeout, window: args.in_flight },
        in_order: store.is_none() && args.order == Order::Given,
        store,
        retry_failed: args.retry_failed,
        sink,
        progress,
    };
    let tally = run.go().await;
    if let Some(embedded) = embedded {
        embedded.close().await;
    }
    outcome(&tally?, args.retry_failed, args.strict)
}

fn outcome(tally: &Tally, retry_failed: bool, strict: bool) -> anyhow::Result<Outcome> {
    match tally {
        Tally { done: 0, partial: 0, failed, .. } if *failed > 0 => {
            bail!("nothing could be done: {failed} failed")
        }
        Tally { partial: 0, failed: 0, broken_off: false, left, .. } if *left == 0 || retry_failed => {
            Ok(if strict && tally.findings > 0 { Outcome::Findings } else { Outcome::Done })
        }
        _ => Ok(Outcome::Partial),
    }
}

/// Asks for the structure alone, which needs no model: what is no page is told before a model is fetched.
async fn check(item: &Item) -> anyhow::Result<()> {
    let connection = Connection::without_model()?;
    let segmented = connection.client.segment(item.input.clone()).await;
    connection.close().await;
    segmented.map(drop).with_context(|| item.name.clone())
}

/// The first server that can be reached, or one in this process.
async fn connect(args: &DigestArgs) -> anyhow::Result<Connection> {
    let Some((last, others)) = args.servers.split_last() else {
        return Connection::with_model(&model(args), args.quiet).await;
    };
    for address in others {
        match Connection::remote(address).await {
            Err(error) => tracing::warn!("{error:#}"),
            reached => return reached,
        }
    }
    Connection::remote(last).await
}

/// The servers of a batch; the one in this process, if it is that one, is to be closed at the end.
async fn targets(args: &DigestArgs) -> anyhow::Result<(Vec<PoolMember>, Option<Connection>)> {
    if !args.servers.is_empty() {
        return Ok((args.servers.iter().cloned().map(PoolMember::Address).collect(), None));
    }
    let connection = Connection::with_model(&model(args), args.quiet || args.json_progress).await?;
    let target = PoolMember::Connected {
        name: "the server in this process".to_owned(),
        client: Box::new(connection.client.clone()),
    };
    Ok((vec![target], Some(connection)))
}

/// The models of the tasks that are asked for.
fn model(args: &DigestArgs) -> ModelConfig {
    let tasks: Vec<_> = args.tasks.iter().map(|&task| task.into()).collect();
    ModelConfig::from(args.model.clone()).for_tasks(&tasks)
}

fn options(args: &DigestArgs) -> anyhow::Result<pb::DigestOptions> {
    let (glossary, mut terms) = glossary::of_request(&args.glossaries)?;
    terms.extend(args.terms.iter().cloned());
    let tasks = args.tasks.iter().map(|task| match task {
        Task::Summary => pb::Task::Summary.into(),
        Task::Translation => pb::Task::Translation.into(),
    });
    Ok(pb::DigestOptions {
        tasks: tasks.collect(),
        summary_max_chars: args.summary_chars,
        terms,
        glossary,
        max_attempts: args.max_attempts,
        sampling: args.temperature.map(|temperature| pb::Sampling {
            temperature,
            seed: args.seed,
            ..pb::Sampling::default()
        }),
        model: model_of_server(args)?,
    })
}

/// The model that a server elsewhere is asked for: its own choice, unless one is named.
fn model_of_server(args: &DigestArgs) -> anyhow::Result<String> {
    if args.servers.is_empty() {
        return Ok(String::new());
    }
    match args.model.model.last() {
        Some(ModelChoice { task: Some(_), .. }) => bail!(
            "--model TASK=ID says what is loaded here; the server has models of its own, of which --model ID names one"
        ),
        Some(ModelChoice { model: ModelRef::Id(id), .. }) => Ok(id.clone()),
        _ => Ok(String::new()),
    }
}

/// Whether exactly one line is written for every line that was read.
fn is_one_line_each(args: &DigestArgs) -> bool {
    args.input.input_format == InputFormat::Lines
        && args.format == DigestFormat::Text
        && args.tasks.len() == 1
}

fn output(path: Option<&Path>) -> anyhow::Result<Box<dyn Write + Send>> {
    Ok(match path {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            // A file holds no colours.
            Box::new(anstream::StripStream::new(Box::new(file) as Box<dyn Write + Send>))
        }
        None => Box::new(anstream::stdout()),
    })
}

/// Whether results are written into it rather than to it.
fn is_directory(path: &Path) -> bool {
    let ends_in_slash = path.as_os_str().to_string_lossy().ends_with(std::path::MAIN_SEPARATOR);
    path.is_dir() || ends_in_slash || (path.extension().is_none() && !path.exists())
}
