//! `yizhai digest`: summaries and translations of pages and articles.

use std::{collections::BTreeMap, fs::File, io::Write, time::Duration};

use anyhow::Context as _;
use futures::StreamExt as _;

use super::{
    Outcome,
    args::{DigestArgs, InputFormat, OutputFormat, Task},
    embedded::Connection,
    input::{Item, Source},
    output::{digest_json, digest_text},
    progress::Sections,
};
use crate::{
    client::{Client, ClientError},
    config::ModelConfig,
    pb,
};

pub(super) async fn run(args: DigestArgs) -> anyhow::Result<Outcome> {
    // Inputs are looked at first: a wrong name is told before a model is fetched.
    let sources = Source::all(&args.input)?;
    let first = match &sources[..] {
        [only] if !only.has_records() => Some(only.page()?),
        _ => None,
    };
    let connection = match &args.server {
        Some(address) => Connection::remote(address).await?,
        None => {
            if let Some(item) = &first {
                check(item).await?;
            }
            Connection::with_model(&ModelConfig::from(args.model.clone()), args.quiet).await?
        }
    };
    let mut run = Run {
        client: connection.client.clone(),
        options: options(&args),
        timeout: args.timeout,
        one_line_each: args.input.input_format == InputFormat::Lines
            && args.format == OutputFormat::Text
            && args.tasks.len() == 1,
        format: args.format,
        several: sources.len() > 1,
        out: output(&args)?,
        progress: Sections::new(args.quiet),
        whole: Vec::new(),
        done: 0,
        failed: 0,
    };
    let outcome = run.all(&sources, first).await;
    connection.close().await;
    outcome
}

/// Asks for the structure alone, which needs no model: what is no page is told before a model is fetched.
async fn check(item: &Item) -> anyhow::Result<()> {
    let connection = Connection::without_model()?;
    let segmented = connection.client.segment(item.input.clone()).await;
    connection.close().await;
    segmented.map(drop).with_context(|| item.name.clone())
}

fn options(args: &DigestArgs) -> pb::DigestOptions {
    let tasks = args.tasks.iter().map(|task| match task {
        Task::Summary => pb::Task::Summary.into(),
        Task::Translation => pb::Task::Translation.into(),
    });
    pb::DigestOptions {
        tasks: tasks.collect(),
        summary_max_chars: args.summary_chars,
        terms: args.terms.clone(),
        sampling: args.temperature.map(|temperature| pb::Sampling {
            temperature,
            seed: args.seed,
            ..pb::Sampling::default()
        }),
        // With a server elsewhere the model is its choice, unless one is named.
        model: match (&args.server, &args.model.model) {
            (Some(_), Some(crate::config::ModelRef::Id(id))) => id.clone(),
            _ => String::new(),
        },
        ..pb::DigestOptions::default()
    }
}

fn output(args: &DigestArgs) -> anyhow::Result<Box<dyn Write>> {
    Ok(match &args.output {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            // A file holds no colours.
            Box::new(anstream::StripStream::new(Box::new(file) as Box<dyn Write + Send>))
        }
        None => Box::new(anstream::stdout()),
    })
}

/// The state of one invocation.
struct Run {
    client: Client,
    options: pb::DigestOptions,
    timeout: Option<Duration>,
    /// Nothing but one result a line is written.
    one_line_each: bool,
    format: OutputFormat,
    /// Whether there are several inputs, so that each is named.
    several: bool,
    out: Box<dyn Write>,
    progress: Sections,
    /// What is written at the end, as one JSON array.
    whole: Vec<serde_json::Value>,
    /// Sections and inputs that were done and that failed.
    done: usize,
    failed: usize,
}

impl Run {
    async fn all(&mut self, sources: &[Source], mut first: Option<Item>) -> anyhow::Result<Outcome> {
        for source in sources {
            let outcome = if source.has_records() {
                self.records(source).await
            } else {
                match first.take().map_or_else(|| source.page(), Ok) {
                    Ok(item) => self.page(&item).await,
                    Err(error) => Err(error),
                }
            };
            match outcome {
                Err(error) if self.several && !is_output_error(&error) => {
                    self.failed += 1;
                    self.progress.error(&format!("{error:#}"));
                    self.write_failure(&source.name, None, &format!("{error:#}"))?;
                }
                other => other?,
            }
        }
        if self.format == OutputFormat::Json {
            let value = match self.several || self.whole.len() != 1 {
                true => std::mem::take(&mut self.whole).into(),
                false => self.whole.remove(0),
            };
            writeln!(self.out, "{}", serde_json::to_string_pretty(&value)?)?;
        }
        self.out.flush()?;
        match (self.done, self.failed) {
            (_, 0) => Ok(Outcome::Done),
            (0, failed) => anyhow::bail!("nothing could be done: {failed} failed"),
            _ => Ok(Outcome::Partial),
        }
    }

    /// Digests a page; its sections are written in page order, each as soon as it and those before it are done.
    async fn page(&mut self, item: &Item) -> anyhow::Result<()> {
        self.stream(item).await.with_context(|| item.name.clone())
    }

    async fn stream(&mut self, item: &Item) -> anyhow::Result<()> {
        use pb::stream_digest_response::Event;
        let request = pb::StreamDigestRequest {
            input: Some(item.input.clone()),
            options: Some(self.options.clone()),
            request_id: String::new(),
        };
        let mut events = self.client.stream_digest(request, self.timeout).await?;
        let mut page = Page::default();
        while let Some(message) = events.next().await {
            let message = match message {
                // The sections that were not finished have been told one by one.
                Err(status) if status.code() == tonic::Code::DeadlineExceeded => break,
                other => other.map_err(ClientError::from)?,
            };
            match message.event {
                Some(Event::Document(document)) => {
                    self.progress.expect(document.articles.iter().map(|a| a.sections.len()).sum());
                    page.document = document;
                    if self.several && self.format == OutputFormat::Text && !self.one_line_each {
                        self.progress.suspend(|| writeln!(self.out, "═══ {}\n", item.name))?;
                    }
                }
                Some(Event::Section(digest)) => {
                    self.count(item, &digest);
                    page.waiting.insert((digest.article_index, digest.section_index), digest);
                    self.write_ready(item, &mut page)?;
                }
                Some(Event::Statistics(statistics)) => page.statistics = Some(statistics),
                None => {}
            }
        }
        if page.written.len() < page.document.articles.iter().map(|a| a.sections.len()).sum() {
            return Err(ClientError::BrokenOff("the digest").into());
        }
        if self.format == OutputFormat::Json {
            self.whole.push(digest_json::whole(
                item,
                &page.document,
                &page.written,
                page.statistics.as_ref(),
            ));
        }
        if let Some(statistics) = &page.statistics {
            self.progress.line(&summary_line(item, &page.document, statistics));
        }
        Ok(())
    }

    fn count(&mut self, item: &Item, digest: &pb::SectionDigest) {
        let tokens = digest.timings.as_ref().map_or(0, |t| t.completion_tokens);
        self.progress.section_done(tokens);
        match &digest.error {
            None => self.done += 1,
            Some(error) => {
                self.failed += 1;
                let (article, section) = (digest.article_index + 1, digest.section_index + 1);
                let message = &error.message;
                self.progress
                    .error(&format!("{}: article {article}, section {section}: {message}", item.name));
            }
        }
    }

    /// Writes the sections whose turn it is.
    fn write_ready(&mut self, item: &Item, page: &mut Page) -> anyhow::Result<()> {
        while let Some(digest) = page.next_ready() {
            let index = usize::try_from(digest.article_index).unwrap_or_default();
            let article = &page.document.articles[index];
            let out = &mut self.out;
            let write = || match self.format {
                OutputFormat::Text if self.one_line_each => digest_text::line(out, &digest),
                OutputFormat::Text => {
                    if digest.section_index == 0 {
                        digest_text::article(out, index, page.document.articles.len(), article)?;
                    }
                    digest_text::section(out, article, &digest)
                }
                OutputFormat::Jsonl => writeln!(out, "{}", digest_json::section(item, article, &digest)),
                OutputFormat::Json => Ok(()),
            };
            self.progress.suspend(write)?;
            self.out.flush()?;
            page.written.push(digest);
        }
        Ok(())
    }

    /// Digests the lines of a JSONL input over one stream; the results are written in the order of the lines.
    async fn records(&mut self, source: &Source) -> anyhow::Result<()> {
        use pb::digest_many_response::Result as Answer;
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let (told, mut items) = tokio::sync::mpsc::unbounded_channel();
        let records = source.records()?;
        let options = self.options.clone();
        // Reading blocks, so it has a thread of its own; the channel holds it back.
        let reading = tokio::task::spawn_blocking(move || {
            for (index, record) in records.enumerate() {
                let request = record.as_ref().ok().map(|item| pb::DigestManyRequest {
                    item_id: index.to_string(),
                    input: Some(item.input.clone()),
                    options: Some(options.clone()),
                    timeout_ms: 0,
                });
                let item = record.map(|item| Item { input: pb::Input::default(), ..item });
                if told.send(item).is_err() {
                    return;
                }
                if let Some(request) = request
                    && sender.blocking_send(request).is_err()
                {
                    return;
                }
            }
        });
        let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut answers = self.client.digest_many(requests).await?;
        let mut waiting: BTreeMap<usize, Answer> = BTreeMap::new();
        let mut next = 0;
        while let Some(item) = items.recv().await {
            let item = match item {
                Ok(item) => item,
                Err(error) => {
                    self.failed += 1;
                    self.progress.error(&format!("{error:#}"));
                    self.write_failure(&source.name, None, &format!("{error:#}"))?;
                    next += 1;
                    continue;
                }
            };
            let answer = loop {
                if let Some(answer) = waiting.remove(&next) {
                    break answer;
                }
                let message = answers.next().await.ok_or(ClientError::BrokenOff("the batch"))?;
                let message = message.map_err(ClientError::from)?;
                let index =
                    message.item_id.parse().context("the server answered an item that was not sent")?;
                waiting.extend(message.result.map(|result| (index, result)));
            };
            next += 1;
            match answer {
                Answer::Digest(digest) => self.write_record(&item, &digest)?,
                Answer::Error(error) => {
                    self.failed += 1;
                    self.progress.error(&format!("{}: {}", item.name, error.message));
                    self.write_failure(&item.name, item.id.as_ref(), &error.message)?;
                }
            }
        }
        reading.await?;
        Ok(())
    }

    /// Writes the result of one JSONL record.
    fn write_record(&mut self, item: &Item, response: &pb::DigestResponse) -> anyhow::Result<()> {
        let document = response.document.clone().unwrap_or_default();
        self.progress.expect(response.sections.len());
        for digest in &response.sections {
            self.count(item, digest);
        }
        let value = || digest_json::whole(item, &document, &response.sections, response.statistics.as_ref());
        match self.format {
            OutputFormat::Json => self.whole.push(value()),
            OutputFormat::Jsonl => {
                let line = value();
                self.progress.suspend(|| writeln!(self.out, "{line}"))?;
            }
            OutputFormat::Text => {
                let mut page = Page { document, ..Page::default() };
                let sections = response.sections.iter().cloned();
                page.waiting.extend(sections.map(|s| ((s.article_index, s.section_index), s)));
                self.progress.suspend(|| writeln!(self.out, "═══ {}\n", item.name))?;
                self.write_ready(item, &mut page)?;
            }
        }
        self.out.flush()?;
        Ok(())
    }

    /// Keeps the place of an input that failed in what is written for machines.
    fn write_failure(
        &mut self,
        name: &str,
        id: Option<&serde_json::Value>,
        error: &str,
    ) -> anyhow::Result<()> {
        let value = digest_json::failure(name, id, error);
        match self.format {
            OutputFormat::Json => self.whole.push(value),
            OutputFormat::Jsonl => writeln!(self.out, "{value}")?,
            OutputFormat::Text => {}
        }
        Ok(())
    }
}

/// A page while its sections come in.
#[derive(Default)]
struct Page {
    document: pb::Document,
    statistics: Option<pb::DigestStatistics>,
    /// Done, but not their turn yet, by article and section.
    waiting: BTreeMap<(i32, i32), pb::SectionDigest>,
    /// Written, in page order.
    written: Vec<pb::SectionDigest>,
}

impl Page {
    /// The next section in page order, if it is done.
    fn next_ready(&mut self) -> Option<pb::SectionDigest> {
        let (mut article, mut section) =
            self.written.last().map_or((0, 0), |last| (last.article_index, last.section_index + 1));
        while let Ok(index) = usize::try_from(article)
            && let Some(current) = self.document.articles.get(index)
        {
            if usize::try_from(section).is_ok_and(|section| section < current.sections.len()) {
                return self.waiting.remove(&(article, section));
            }
            (article, section) = (article + 1, 0);
        }
        None
    }
}

fn summary_line(item: &Item, document: &pb::Document, statistics: &pb::DigestStatistics) -> String {
    let seconds = statistics.total_time_ms as f64 / 1000.0;
    format!(
        "{}: {} articles, {} sections, {} failed, {} with findings; {} tokens read, {} written in {seconds:.1} s",
        item.name,
        document.articles.len(),
        statistics.sections,
        statistics.failed_sections,
        statistics.sections_with_findings,
        statistics.prompt_tokens - statistics.cached_tokens,
        statistics.completion_tokens,
    )
}

fn is_output_error(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<std::io::Error>())
}
