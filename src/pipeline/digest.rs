//! The one place where the stages are chained: a job becomes a stream of section outcomes.

use std::{sync::Arc, time::Instant};

use futures::{FutureExt, Stream, StreamExt, stream};
use tracing::Instrument as _;

use super::{
    Job, Makers, Pipeline, PipelineError, SectionFinding, Summary, Translation, complete::Usage,
    translate::Names,
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

/// Where the time of a section went, and what it cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the start of the job to the first model step for the section, in milliseconds.
    pub queue_time_ms: u64,
    /// From then to the end, in milliseconds.
    pub compute_time_ms: u64,
    /// Tokens of the prompts.
    pub prompt_tokens: usize,
    /// Those of them that were not read again, because a prompt before began with the same ones.
    pub cached_tokens: usize,
    /// Tokens written by the model.
    pub completion_tokens: usize,
}

/// The digest of one section.
#[derive(Debug, Clone)]
pub struct SectionDigest {
    /// The summary, when it was asked for.
    pub summary: Option<Summary>,
    /// The translation, when it was asked for.
    pub translation: Option<Translation>,
    /// What the checks found.
    pub findings: Vec<SectionFinding>,
    /// The models that made it.
    pub makers: Makers,
    /// The version of the prompts.
    pub prompt_version: String,
    /// SHA-256 over the terms; empty without terms.
    pub glossary_sha256: String,
    /// Where the time went.
    pub timings: Timings,
}

/// What became of one section.
#[derive(Debug)]
pub struct SectionOutcome {
    /// Index of the article within the document.
    pub article: usize,
    /// Index of the section within the article.
    pub section: usize,
    /// Its digest, or why there is none.
    pub result: Result<SectionDigest, PipelineError>,
}

/// Sums over the outcomes of one job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Sections.
    pub sections: usize,
    /// Sections that failed.
    pub failed: usize,
    /// Sections with findings.
    pub with_findings: usize,
    /// Tokens of the prompts.
    pub prompt_tokens: usize,
    /// Those of them that were not read again, because a prompt before began with the same ones.
    pub cached_tokens: usize,
    /// Tokens written by the model.
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
    /// Digests every section of a job, several at a time; each outcome comes in the moment it is there.
    /// Dropping the stream cancels what is left.
    pub fn digest(&self, job: Job) -> impl Stream<Item = SectionOutcome> + Send + use<> {
        let arrived = Instant::now();
        let job = Arc::new(job);
        let sections: Vec<(usize, usize)> = job
            .document
            .articles
            .iter()
            .enumerate()
            .flat_map(|(article, a)| (0..a.sections.len()).map(move |section| (article, section)))
            .filter(|place| !job.skip.contains(place))
            .collect();
        // Twice the sequences that run together, so that the engine never waits for the next section.
        let at_once = 2 * self.engines().iter().map(|engine| engine.max_sequences()).max().unwrap_or(1);
        let pipeline = self.clone();
        let names: Arc<Vec<Names>> =
            Arc::new(job.document.articles.iter().map(|_| Names::default()).collect());
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
            .buffer_unordered(at_once)
    }

    async fn digest_section(
        &self,
        job: &Job,
        article: usize,
        section: usize,
        names: &Names,
        arrived: Instant,
    ) -> Result<SectionDigest, PipelineError> {
        let article = &job.document.articles[article];
        let source = &article.sections[section];
        // The first section stands under the headline, the others under headings of their own.
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
        let mut note = |found: Vec<SectionFinding>, used: Usage| {
            findings.extend(found);
            usage = usage.plus(used);
        };
        let summary = summary.map(|(summary, found, used)| {
            note(found, used);
            summary
        });
        let translation = translation.map(|(translation, found, used)| {
            note(found, used);
            translation
        });
        let started = usage.started.unwrap_or_else(Instant::now);
        Ok(SectionDigest {
            summary,
            translation,
            findings,
            makers: self.makers(job.tasks),
            prompt_version: self.prompt_version().to_owned(),
            glossary_sha256: job.glossary.sha256().to_owned(),
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
