//! The digest of one page: writes its sections in page order, each as soon as it and its predecessors are complete.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail};
use futures::StreamExt as _;

use crate::{
    cli::{
        CommandOutcome,
        input::Item,
        output::{ResultLabels, ResultStream},
        progress::SectionProgress,
    },
    client::{Client, ClientError},
    pb::{self, stream_digest_response::Event},
};

/// The configuration of the digest of one page.
pub(super) struct PageRun<'a> {
    pub(super) client: Client,
    pub(super) item: &'a Item,
    pub(super) options: pb::DigestOptions,
    pub(super) timeout: Option<Duration>,
    pub(super) stream: ResultStream,
    pub(super) progress: SectionProgress,
    /// Findings make the command fail.
    pub(super) is_strict: bool,
}

/// Counts over the sections received so far.
#[derive(Debug, Default)]
struct SectionCounts {
    received: usize,
    failed: usize,
    with_findings: usize,
}

type Events = tonic::Streaming<pb::StreamDigestResponse>;

impl PageRun<'_> {
    /// Digests the page.
    ///
    /// If the server fails after it has completed sections, they are written and the outcome is `Partial`.
    ///
    /// # Errors
    /// Returns an error if no section succeeded.
    pub(super) async fn run(mut self) -> anyhow::Result<CommandOutcome> {
        let request = pb::StreamDigestRequest {
            input: Some(self.item.input.clone()),
            options: Some(std::mem::take(&mut self.options)),
            request_id: String::new(),
        };
        let started = self.client.stream_digest(request, self.timeout).await;
        let mut events = started.with_context(|| self.item.name.clone())?;
        let document = next_document(&mut events).await.with_context(|| self.item.name.clone())?;
        let mut counts = SectionCounts::default();
        let result = self.write_sections(&mut events, &document, &mut counts).await;
        self.stream.finish()?;
        match result? {
            Err(error) if counts.received == counts.failed => {
                Err(anyhow::Error::from(error).context(self.item.name.clone()))
            }
            Err(error) => {
                self.progress.error(&format!("{}: {error}", self.item.name));
                Ok(CommandOutcome::Partial)
            }
            Ok(()) => match counts.failed {
                0 if self.is_strict && counts.with_findings > 0 => Ok(CommandOutcome::Findings),
                0 => Ok(CommandOutcome::Complete),
                failed if failed == counts.received => {
                    bail!("nothing could be processed: {failed} sections failed")
                }
                _ => Ok(CommandOutcome::Partial),
            },
        }
    }

    /// Writes the page while its sections arrive. The outer error is one of writing, the inner one of the server.
    async fn write_sections(
        &mut self,
        events: &mut Events,
        document: &pb::Document,
        counts: &mut SectionCounts,
    ) -> anyhow::Result<Result<(), ClientError>> {
        let Self { item, stream, progress, .. } = self;
        let total = document.articles.iter().map(|article| article.sections.len()).sum();
        progress.set_total(total);
        let labels = ResultLabels { name: &item.name, id: item.id.as_ref(), is_named: false, index: None };
        let mut result = progress.suspend(|| stream.begin_result(labels, document))?;
        let mut order = PageOrder::new(document);
        let mut statistics = None;
        let received = loop {
            let event = match events.next().await {
                Some(Ok(message)) => message.event,
                // At the deadline, the server has sent an error for each unfinished section.
                Some(Err(status)) if status.code() == tonic::Code::DeadlineExceeded => break Ok(()),
                Some(Err(status)) => break Err(ClientError::from(status)),
                None => break Ok(()),
            };
            match event {
                Some(Event::Section(section)) => {
                    count(&section, counts, item, progress);
                    order.insert(section);
                    while let Some(section) = order.next() {
                        progress.suspend(|| result.section(&section))?;
                    }
                }
                Some(Event::Statistics(last)) => statistics = Some(last),
                Some(Event::Document(_)) | None => {}
            }
        };
        let received = received.and_then(|()| match order.written {
            written if written < total => Err(ClientError::StreamClosed("the digest")),
            _ => Ok(()),
        });
        let error = received.as_ref().err().map(ToString::to_string);
        progress.suspend(|| result.finish(statistics.as_ref(), error.as_deref()))?;
        if let Some(statistics) = &statistics {
            progress.line(&summary_line(item, document, statistics));
        }
        Ok(received)
    }
}

/// Waits for the structure of the page, which the server sends first.
async fn next_document(events: &mut Events) -> Result<pb::Document, ClientError> {
    while let Some(message) = events.next().await {
        if let Some(Event::Document(document)) = message?.event {
            return Ok(document);
        }
    }
    Err(ClientError::StreamClosed("the digest"))
}

/// Counts a section and reports it on stderr.
fn count(
    section: &pb::SectionDigest,
    counts: &mut SectionCounts,
    item: &Item,
    progress: &mut SectionProgress,
) {
    counts.received += 1;
    counts.with_findings += usize::from(section.verdict.as_ref().is_some_and(|v| !v.passed));
    progress.section_done(section.timings.as_ref().map_or(0, |t| t.completion_tokens));
    if let Some(error) = &section.error {
        counts.failed += 1;
        let (article, section) = (section.article_index + 1, section.section_index + 1);
        progress.error(&format!("{}: article {article}, section {section}: {}", item.name, error.message));
    }
}

/// Puts sections that arrive in any order into page order.
struct PageOrder<'a> {
    document: &'a pb::Document,
    /// Sections that wait for their predecessors, by article and section.
    early: BTreeMap<(i32, i32), pb::SectionDigest>,
    /// The article and the section that come next.
    position: (i32, i32),
    written: usize,
}

impl<'a> PageOrder<'a> {
    fn new(document: &'a pb::Document) -> Self {
        Self { document, early: BTreeMap::new(), position: (0, 0), written: 0 }
    }

    fn insert(&mut self, section: pb::SectionDigest) {
        self.early.insert((section.article_index, section.section_index), section);
    }

    /// Returns the next section in page order if it has arrived.
    fn next(&mut self) -> Option<pb::SectionDigest> {
        loop {
            let (article, section) = self.position;
            let current = self.document.articles.get(usize::try_from(article).ok()?)?;
            if usize::try_from(section).is_ok_and(|section| section < current.sections.len()) {
                let next = self.early.remove(&self.position)?;
                self.position = (article, section + 1);
                self.written += 1;
                return Some(next);
            }
            self.position = (article + 1, 0);
        }
    }
}

fn summary_line(item: &Item, document: &pb::Document, statistics: &pb::DigestStatistics) -> String {
    let seconds = statistics.total_time_ms as f64 / 1000.0;
    format!(
        "{}: {} articles, {} sections, {} failed, {} with findings; {} prompt and {} completion tokens in {seconds:.1} s",
        item.name,
        document.articles.len(),
        statistics.sections,
        statistics.failed_sections,
        statistics.sections_with_findings,
        statistics.prompt_tokens - statistics.cached_tokens,
        statistics.completion_tokens,
    )
}
