//! One page: its sections are written in page order, each as soon as it and those before it are done.

use std::{collections::BTreeMap, io::Write, time::Duration};

use anyhow::Context as _;
use futures::StreamExt as _;

use crate::{
    cli::{
        Outcome,
        args::DigestFormat,
        input::Item,
        output::{digest_json, digest_text},
        progress::Sections,
    },
    client::{Client, ClientError},
    pb,
};

/// The digest of one page.
pub(super) struct Live<'a> {
    pub(super) client: Client,
    pub(super) item: &'a Item,
    pub(super) options: pb::DigestOptions,
    pub(super) timeout: Option<Duration>,
    /// Nothing but one result a line is written.
    pub(super) one_line_each: bool,
    pub(super) format: DigestFormat,
    pub(super) out: Box<dyn Write + Send>,
    pub(super) progress: Sections,
    /// Sections that failed.
    pub(super) failed: usize,
    /// Sections in which the checks found something.
    pub(super) with_findings: usize,
    /// Whether findings are a failure.
    pub(super) strict: bool,
}

impl Live<'_> {
    /// Fails when no section could be done.
    pub(super) async fn run(mut self) -> anyhow::Result<Outcome> {
        let page = self.stream().await.with_context(|| self.item.name.clone())?;
        if self.format == DigestFormat::Json {
            let item = self.item;
            let statistics = page.statistics.as_ref();
            let value =
                digest_json::whole(&item.name, item.id.as_ref(), &page.document, &page.written, statistics);
            writeln!(self.out, "{}", serde_json::to_string_pretty(&value)?)?;
        }
        self.out.flush()?;
        match (page.written.len() - self.failed, self.failed) {
            (_, 0) if self.strict && self.with_findings > 0 => Ok(Outcome::Findings),
            (_, 0) => Ok(Outcome::Done),
            (0, failed) => anyhow::bail!("nothing could be done: {failed} failed"),
            _ => Ok(Outcome::Partial),
        }
    }

    async fn stream(&mut self) -> anyhow::Result<Page> {
        use pb::stream_digest_response::Event;
        let request = pb::StreamDigestRequest {
            input: Some(self.item.input.clone()),
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
                }
                Some(Event::Section(digest)) => {
                    self.count(&digest);
                    page.waiting.insert((digest.article_index, digest.section_index), digest);
                    self.write_ready(&mut page)?;
                }
                Some(Event::Statistics(statistics)) => page.statistics = Some(statistics),
                None => {}
            }
        }
        if page.written.len() < page.document.articles.iter().map(|a| a.sections.len()).sum() {
            return Err(ClientError::BrokenOff("the digest").into());
        }
        if let Some(statistics) = &page.statistics {
            self.progress.line(&summary_line(self.item, &page.document, statistics));
        }
        Ok(page)
    }

    fn count(&mut self, digest: &pb::SectionDigest) {
        let tokens = digest.timings.as_ref().map_or(0, |t| t.completion_tokens);
        self.progress.section_done(tokens);
        self.with_findings += usize::from(digest.verdict.as_ref().is_some_and(|v| !v.passed));
        if let Some(error) = &digest.error {
            self.failed += 1;
            let (article, section) = (digest.article_index + 1, digest.section_index + 1);
            let message = &error.message;
            self.progress
                .error(&format!("{}: article {article}, section {section}: {message}", self.item.name));
        }
    }

    /// Writes the sections whose turn it is.
    fn write_ready(&mut self, page: &mut Page) -> anyhow::Result<()> {
        while let Some(digest) = page.next_ready() {
            let index = usize::try_from(digest.article_index).unwrap_or_default();
            let article = &page.document.articles[index];
            let out = &mut self.out;
            let write = || match self.format {
                DigestFormat::Text if self.one_line_each => digest_text::line(out, &digest),
                DigestFormat::Text => {
                    if digest.section_index == 0 {
                        digest_text::article(out, index, page.document.articles.len(), article)?;
                    }
                    digest_text::section(out, article, &digest)
                }
                DigestFormat::Jsonl => {
                    writeln!(out, "{}", digest_json::section(&self.item.name, article, &digest))
                }
                DigestFormat::Json | DigestFormat::Markdown | DigestFormat::Html => Ok(()),
            };
            self.progress.suspend(write)?;
            self.out.flush()?;
            page.written.push(digest);
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
