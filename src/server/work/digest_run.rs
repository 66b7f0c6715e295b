//! One job on its way through cache and pipeline: yields the digest of each section as it finishes.
//!
//! Created by `service` from a pipeline and a job. Every section has exactly one outcome: when the deadline passes, those
//! that are missing fail at once, without waiting for the engine's next step.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::Arc,
    time::Instant,
};

use futures::{Stream, StreamExt, stream};
use tonic::Status;

use super::cache::{CacheKey, ResultCache};
use crate::{
    document::Document,
    pb,
    pipeline::{Job, Pipeline, PipelineError, SectionOutcome},
    server::{
        convert,
        gate::deadline,
        observe::{Metrics, ResultLabel},
        status::from_rpc_status,
    },
};

type Outcomes = Pin<Box<dyn Stream<Item = SectionOutcome> + Send>>;
/// The indices of an article in its document and of a section in the article.
type SectionIndex = (usize, usize);

/// A parsed document and the digests of its sections as they finish. Dropping it cancels the remaining work.
pub(in crate::server) struct DigestRun {
    pub(in crate::server) request_id: String,
    pub(in crate::server) document: Arc<Document>,
    pub(in crate::server) sections: Pin<Box<dyn Stream<Item = pb::SectionDigest> + Send>>,
    /// The time from which the total time counts.
    pub(in crate::server) arrived: Instant,
}

impl DigestRun {
    /// Starts a job. Sections in the cache are not computed again.
    pub(in crate::server) async fn start(
        pipeline: &Pipeline,
        mut job: Job,
        request_id: String,
        arrived: Instant,
        cache: Option<ResultCache>,
        metrics: Metrics,
    ) -> Self {
        let (document, deadline) = (job.document.clone(), job.deadline);
        let (mut cached, missing) = match &cache {
            Some(cache) => look_up(cache, pipeline, &job).await,
            None => (Vec::new(), section_indices(&document).map(|index| (index, None)).collect()),
        };
        metrics.sections.get_or_create(&ResultLabel { result: "cached" }).inc_by(cached.len() as u64);
        cached.iter_mut().for_each(|(index, message)| convert::set_position(message, &document, *index));
        if missing.is_empty() {
            let sections = stream::iter(cached).map(|(_, message)| message).boxed();
            return Self { request_id, document, sections, arrived };
        }
        job.skip = Arc::new(cached.iter().map(|(index, _)| *index).collect());
        let expected = missing.keys().copied().collect();
        let outcomes = by_deadline(pipeline.digest(job).boxed(), expected, deadline);
        let computed = {
            let (document, request_id, metrics) = (document.clone(), request_id.clone(), metrics.clone());
            outcomes.map(move |outcome| {
                metrics.count_section(&outcome);
                let key = missing.get(&(outcome.article, outcome.section)).copied().flatten();
                let section = convert::outcome_message(outcome, &document, &request_id);
                if let (Some(cache), Some(key), None) = (&cache, key, &section.error) {
                    cache.put(key, &section);
                }
                section
            })
        };
        let cached = stream::iter(cached).map(|(_, message)| message);
        Self { request_id, document, sections: cached.chain(computed).boxed(), arrived }
    }

    /// Waits for all sections and returns the complete response. Fails only if every section failed.
    pub(in crate::server) async fn collect(self) -> Result<pb::DigestResponse, Status> {
        let Self { request_id, document, sections, arrived } = self;
        let mut sections: Vec<_> = sections.collect().await;
        let mut statistics = pb::DigestStatistics::default();
        sections.iter().for_each(|section| convert::add_section(&mut statistics, section));
        sections.sort_by_key(|section| (section.article_index, section.section_index));
        if statistics.sections > 0 && statistics.failed_sections == statistics.sections {
            let error = sections.into_iter().find_map(|section| section.error).unwrap_or_default();
            return Err(from_rpc_status(&error));
        }
        statistics.total_time_ms = millis_since(arrived);
        let document = Some(convert::document_message(&document));
        Ok(pb::DigestResponse { request_id, document, sections, statistics: Some(statistics) })
    }
}

/// Returns the elapsed time in milliseconds.
pub(in crate::server) fn millis_since(start: Instant) -> i64 {
    i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX)
}

fn section_indices(document: &Document) -> impl Iterator<Item = SectionIndex> {
    let sections = |(article, a): (usize, &crate::document::Article)| {
        std::iter::repeat(article).zip(0..a.sections.len())
    };
    document.articles.iter().enumerate().flat_map(sections)
}

/// Returns the cached sections of a job, and the others with the keys under which to store them.
async fn look_up(
    cache: &ResultCache,
    pipeline: &Pipeline,
    job: &Job,
) -> (Vec<(SectionIndex, pb::SectionDigest)>, BTreeMap<SectionIndex, Option<CacheKey>>) {
    let models_used = pipeline.models_used(job.tasks);
    let keys_of_article = |article| cache.keys(job, &models_used, pipeline.prompt_version(), article);
    let keys: Vec<CacheKey> = job.document.articles.iter().flat_map(keys_of_article).collect();
    let entries = cache.get(&keys).await;
    let (mut cached, mut missing) = (Vec::new(), BTreeMap::new());
    for ((index, key), entry) in section_indices(&job.document).zip(keys).zip(entries) {
        match entry {
            Some(message) => cached.push((index, message)),
            None => drop(missing.insert(index, Some(key))),
        }
    }
    (cached, missing)
}

/// Yields the outcomes that arrive before the deadline, and then a failure for each section that is still missing.
fn by_deadline(
    outcomes: Outcomes,
    expected: BTreeSet<SectionIndex>,
    deadline: Option<Instant>,
) -> impl Stream<Item = SectionOutcome> + Send {
    stream::unfold((Some(outcomes), expected), move |(mut outcomes, mut missing)| async move {
        if let Some(running) = &mut outcomes {
            if let Some(Some(outcome)) = deadline::before(deadline, running.next()).await {
                missing.remove(&(outcome.article, outcome.section));
                return Some((outcome, (outcomes, missing)));
            }
            // Dropping the stream cancels its sequences in the engine.
            outcomes = None;
        }
        let (article, section) = missing.pop_first()?;
        Some((SectionOutcome { article, section, result: Err(PipelineError::Deadline) }, (outcomes, missing)))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn every_section_has_one_outcome_even_if_the_engine_stalls() {
        let failed = |section| SectionOutcome {
            article: 0,
            section,
            result: Err(PipelineError::Engine("for the test".to_owned())),
        };
        let stalled = stream::iter([failed(1)]).chain(stream::pending()).boxed();
        let sections = (0..3).map(|section| (0, section)).collect();
        let deadline = Instant::now() + Duration::from_millis(20);
        let outcomes: Vec<_> = by_deadline(stalled, sections, Some(deadline)).collect().await;
        let is_overdue = |outcome: &SectionOutcome| matches!(outcome.result, Err(PipelineError::Deadline));
        let outcomes: Vec<_> = outcomes.iter().map(|o| (o.section, is_overdue(o))).collect();
        assert_eq!(outcomes, [(1, false), (0, true), (2, true)]);
    }
}
