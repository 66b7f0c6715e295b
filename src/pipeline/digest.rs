//! Chains the stages: a job becomes a stream of section outcomes.
//!
//! Called by `server`. Sections run concurrently; the first one to finish comes first.

use std::{sync::Arc, time::Instant};

use futures::{FutureExt, Stream, StreamExt, stream};
use tracing::Instrument as _;

use super::{
    Job, ModelsUsed, Pipeline, PipelineError, SectionFinding, Summary, Translation, complete::Usage,
    translate::ArticleNames,
};

/// A sentence of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSentence {
    /// Index of the paragraph within the section.
    pub paragraph: usize,
    /// Index of the sentence within the paragraph.
    pub sentence: usize,
    /// The sentence.
    pub text: String,
}

/// The time and the tokens spent on a section.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Milliseconds from the start of the job to the first model step for the section.
    pub queue_time_ms: u64,
    /// Milliseconds from the first model step to the end.
    pub compute_time_ms: u64,
    /// Prompt tokens.
    pub prompt_tokens: usize,
    /// Prompt tokens found in the prefix cache.
    pub cached_tokens: usize,
    /// Completion tokens.
    pub completion_tokens: usize,
}

/// The digest of one section.
#[derive(Debug, Clone)]
pub struct SectionDigest {
    /// The summary, if requested.
    pub summary: Option<Summary>,
    /// The translation, if requested.
    pub translation: Option<Translation>,
    /// The findings of all checks.
    pub findings: Vec<SectionFinding>,
    /// The models that produced the results.
    pub models_used: ModelsUsed,
    /// The version of the prompts.
    pub prompt_version: String,
    /// SHA-256 of the glossary's terms; empty for an empty glossary.
    pub glossary_sha256: String,
    /// SHA-256 of the lexicon; empty for an empty lexicon.
    pub lexicon_sha256: String,
    /// Time and tokens.
    pub timings: Timings,
}

/// The result or the error of one section.
#[derive(Debug)]
pub struct SectionOutcome {
    /// Index of the article within the document.
    pub article: usize,
    /// Index of the section within the article.
    pub section: usize,
    /// The digest, or the reason why there is none.
    pub result: Result<SectionDigest, PipelineError>,
}

/// Totals over the outcomes of one job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// All sections.
    pub sections: usize,
    /// Sections that failed.
    pub failed: usize,
    /// Sections with findings.
    pub with_findings: usize,
    /// Prompt tokens.
    pub prompt_tokens: usize,
    /// Prompt tokens found in the prefix cache.
    pub cached_tokens: usize,
    /// Completion tokens.
    pub completion_tokens: usize,
}

impl Statistics {
    /// Adds one outcome.
    pub fn add(&mut self, outcome: &SectionOutcome) {
        self.sections += 1;
        match &outcome.result {
            Ok(digest) => {
                self.with_findings += usize::from(!digest.findings.is_empty());
                self.prompt_tokens += digest.timings.prompt_tokens;
                self.cached_tokens += digest.timings.cached_tokens;
                self.completion_tokens += digest.timings.completion_tokens;
            }
            Err(_) => self.failed += 1,
        }
    }
}

impl Pipeline {
    /// Digests the sections of a job, several at a time, and yields each outcome as soon as it is ready. Dropping the
    /// stream cancels the remaining sections.
    pub fn digest(&self, job: Job) -> impl Stream<Item = SectionOutcome> + Send + use<> {
        let arrived = Instant::now();
        let job = Arc::new(job);
        let sections: Vec<(usize, usize)> = job
            .document
            .articles
            .iter()
            .enumerate()
            .flat_map(|(article, a)| (0..a.sections.len()).map(move |section| (article, section)))
            .filter(|indices| !job.skip.contains(indices))
            .collect();
        // Twice the size of a batch, so that the engine never waits for the next section.
        let concurrency = 2 * self.engines().iter().map(|engine| engine.max_sequences()).max().unwrap_or(1);
        let pipeline = self.clone();
        let names: Arc<Vec<ArticleNames>> =
            Arc::new(job.document.articles.iter().map(|_| ArticleNames::default()).collect());
        stream::iter(sections)
            .map(move |(article, section)| {
                let (pipeline, job, names) = (pipeline.clone(), job.clone(), names.clone());
                async move {
                    let result =
                        pipeline.digest_section(&job, article, section, &names[article], arrived).await;
                    SectionOutcome { article, section, result }
                }
                .instrument(tracing::info_span!("section", article, section))
                .boxed()
            })
            .buffer_unordered(concurrency)
    }

    async fn digest_section(
        &self,
        job: &Job,
        article: usize,
        section: usize,
        names: &ArticleNames,
        arrived: Instant,
    ) -> Result<SectionDigest, PipelineError> {
        let article = &job.document.articles[article];
        let source = &article.sections[section];
        // The first section belongs to the headline unless it has a heading of its own.
        let heading = source
            .heading
            .as_ref()
            .or(article.headline.as_ref().filter(|_| section == 0))
            .map(|t| t.text.as_str());
        let has_text = source.paragraphs.iter().any(|p| !p.text.trim().is_empty());
        let translate = async {
            match job.tasks.translation {
                true => self.translate(job, heading, source, names).await.map(Some),
                false => Ok(None),
            }
        };
        let summarize = async {
            match job.tasks.summary && has_text {
                true => self.summarize(job, source).await.map(Some),
                false => Ok(None),
            }
        };
        let (translation, summary) = futures::try_join!(translate, summarize)?;
        let mut findings = Vec::new();
        let mut usage = Usage::default();
        let mut record = |found: Vec<SectionFinding>, cost: Usage| {
            findings.extend(found);
            usage = usage.plus(cost);
        };
        let summary = summary.map(|(summary, found, cost)| {
            record(found, cost);
            summary
        });
        let translation = translation.map(|(translation, found, cost)| {
            record(found, cost);
            translation
        });
        let started = usage.started.unwrap_or_else(Instant::now);
        Ok(SectionDigest {
            summary,
            translation,
            findings,
            models_used: self.models_used(job.tasks),
            prompt_version: self.prompt_version().to_owned(),
            glossary_sha256: job.glossary.sha256().to_owned(),
            lexicon_sha256: job.lexicon.sha256().to_owned(),
            timings: Timings {
                queue_time_ms: millis(arrived, started),
                compute_time_ms: millis(started, Instant::now()),
                prompt_tokens: usage.prompt_tokens,
                cached_tokens: usage.cached_tokens,
                completion_tokens: usage.completion_tokens,
            },
        })
    }
}

fn millis(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u64::MAX)
}
