//! One job on its way: the outcomes of its sections as they come, all of them by the deadline.
//!
//! Made by `service` out of a pipeline and a job. Whatever happens, every section has exactly one outcome: at the
//! deadline those that are missing are told as such, without waiting for the engine's next step.

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
/// Where a section stands: indices of article and section.
type SectionIndex = (usize, usize);

/// The parsed document and the digests of its sections as they come.
pub(in crate::server) struct DigestRun {
    pub(in crate::server) request_id: String,
    pub(in crate::server) document: Arc<Document>,
    pub(in crate::server) sections: Pin<Box<dyn Stream<Item = pb::SectionDigest> + Send>>,
    pub(in crate::server) arrived: Instant,
}

impl DigestRun {
    /// Starts a job with what the cache does not hold. Dropping it cancels what is left.
    pub(in crate::server) async fn start(
        pipeline: &Pipeline,
        mut job: Job,
        request_id: String,
        arrived: Instant,
        cache: Option<ResultCache>,
        metrics: Metrics,
    ) -> Self {
        let (document, deadline) = (job.document.clone(), job.deadline);
        let (mut known, missing) = match &cache {
            Some(cache) => look_up(cache, pipeline, &job).await,
            None => (Vec::new(), places(&document).map(|place| (place, None)).collect()),
        };
        metrics.sections.get_or_create(&ResultLabel { result: "cached" }).inc_by(known.len() as u64);
        known.iter_mut().for_each(|(place, message)| convert::place(message, &document, *place));
        if missing.is_empty() {
            let sections = stream::iter(known).map(|(_, message)| message).boxed();
            return Self { request_id, document, sections, arrived };
        }
        job.skip = Arc::new(known.iter().map(|(place, _)| *place).collect());
        let places = missing.keys().copied().collect();
        let outcomes = by_deadline(pipeline.digest(job).boxed(), places, deadline);
        let made = {
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
        let known = stream::iter(known).map(|(_, message)| message);
        Self { request_id, document, sections: known.chain(made).boxed(), arrived }
    }

    /// Waits for every section. Fails only when all of them did.
    pub(in crate::server) async fn whole(self) -> Result<pb::DigestResponse, Status> {
        let Self { request_id, document, sections, arrived } = self;
        let mut sections: Vec<_> = sections.collect().await;
        let mut statistics = pb::DigestStatistics::default();
        sections.iter().for_each(|section| convert::add(&mut statistics, section));
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

/// Milliseconds since then.
pub(in crate::server) fn millis_since(then: Instant) -> i64 {
    i64::try_from(then.elapsed().as_millis()).unwrap_or(i64::MAX)
}

fn places(document: &Document) -> impl Iterator<Item = SectionIndex> {
    let sections = |(article, a): (usize, &crate::document::Article)| {
        std::iter::repeat(article).zip(0..a.sections.len())
    };
    document.articles.iter().enumerate().flat_map(sections)
}

/// The sections of a job that the cache holds, and those that it does not, each with the name that it will have there.
async fn look_up(
    cache: &ResultCache,
    pipeline: &Pipeline,
    job: &Job,
) -> (Vec<(SectionIndex, pb::SectionDigest)>, BTreeMap<SectionIndex, Option<CacheKey>>) {
    let models_used = pipeline.models_used(job.tasks);
    let key = |article| cache.keys(job, &models_used, pipeline.prompt_version(), article);
    let keys: Vec<CacheKey> = job.document.articles.iter().flat_map(key).collect();
    let found = cache.get(&keys).await;
    let (mut known, mut missing) = (Vec::new(), BTreeMap::new());
    for ((place, key), entry) in places(&job.document).zip(keys).zip(found) {
        match entry {
            Some(message) => known.push((place, message)),
            None => drop(missing.insert(place, Some(key))),
        }
    }
    (known, missing)
}

/// The outcomes that come in time; then, for every section that is missing, that it is overdue.
fn by_deadline(
    outcomes: Outcomes,
    sections: BTreeSet<SectionIndex>,
    deadline: Option<Instant>,
) -> impl Stream<Item = SectionOutcome> + Send {
    stream::unfold((Some(outcomes), sections), move |(mut outcomes, mut missing)| async move {
        if let Some(running) = &mut outcomes {
            if let Some(Some(outcome)) = deadline::before(deadline, running.next()).await {
                missing.remove(&(outcome.article, outcome.section));
                return Some((outcome, (outcomes, missing)));
            }
            // Dropped here, so that the engine is free of it.
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
    async fn every_section_has_one_outcome_even_when_the_engine_is_silent() {
        let failed = |section| SectionOutcome {
            article: 0,
            section,
            result: Err(PipelineError::Engine("for the test".to_owned())),
        };
        let silent = stream::iter([failed(1)]).chain(stream::pending()).boxed();
        let sections = (0..3).map(|section| (0, section)).collect();
        let deadline = Instant::now() + Duration::from_millis(20);
        let outcomes: Vec<_> = by_deadline(silent, sections, Some(deadline)).collect().await;
        let told: Vec<_> =
            outcomes.iter().map(|o| (o.section, matches!(o.result, Err(PipelineError::Deadline)))).collect();
        assert_eq!(told, [(1, false), (0, true), (2, true)]);
    }
}
