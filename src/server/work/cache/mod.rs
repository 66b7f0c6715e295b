//! The result cache: digests of sections in memory and optionally on disk.
//!
//! [`super::DigestRun`] looks up every section before it runs the pipeline. The key of an entry is a hash of everything
//! that the result depends on, so entries never need to be invalidated. An entry holds the message of a section without
//! its position in the page. An entry that cannot be read is a miss.

mod disk;

use std::{path::Path, sync::Arc};

use moka::sync::Cache;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

pub use disk::DiskError;

use crate::{
    document::{Article, Text},
    pb,
    pipeline::{Job, ModelsUsed},
    server::observe::{Metrics, ResultLabel},
};
use disk::DiskStore;

/// The version of the results. Increment it when the same input gives a different digest and no other part of the key
/// changes.
const VERSION: u32 = 2;

/// The key of an entry, a SHA-256.
pub(in crate::server) type CacheKey = [u8; 32];

/// The cache of one server. Cheap to clone; all clones share the entries.
#[derive(Clone)]
pub struct ResultCache {
    memory: Cache<CacheKey, Arc<[u8]>>,
    disk: Option<DiskStore>,
    /// The settings of this process that affect results, such as the data type of the KV cache.
    setup: Arc<str>,
    metrics: Metrics,
}

impl ResultCache {
    /// Creates a cache of at most `memory_bytes`. `setup` identifies the settings of this process that affect results.
    pub fn new(memory_bytes: u64, setup: &str, metrics: Metrics) -> Self {
        let memory = Cache::builder()
            .max_capacity(memory_bytes)
            .weigher(|_: &CacheKey, value: &Arc<[u8]>| {
                u32::try_from(size_of::<CacheKey>() + value.len()).unwrap_or(u32::MAX)
            })
            .build();
        Self { memory, disk: None, setup: setup.into(), metrics }
    }

    /// Adds a file of at most `max_bytes` of results. A corrupt file is moved aside and replaced.
    ///
    /// # Errors
    /// Fails if the file cannot be created or another process has it open.
    pub fn on_disk(mut self, path: &Path, max_bytes: u64) -> Result<Self, DiskError> {
        self.disk = Some(DiskStore::open(path, max_bytes, self.metrics.clone())?);
        Ok(self)
    }

    /// Returns the keys of an article's sections.
    pub(in crate::server) fn keys(
        &self,
        job: &Job,
        models_used: &ModelsUsed,
        prompt_version: &str,
        article: &Article,
    ) -> Vec<CacheKey> {
        let mut hasher = KeyHasher::default();
        hasher.field(&VERSION.to_string());
        hasher.field(env!("CARGO_PKG_VERSION"));
        hasher.field(&self.setup);
        for model in std::iter::once(&models_used.model).chain(&models_used.summary_model) {
            hasher.field(&model.id);
            hasher.field(&model.weights_sha256);
        }
        hasher.field(prompt_version);
        let options = (job.tasks, job.summary_max_chars, job.max_attempts, job.sampling);
        hasher.field(&format!("{options:?}"));
        hasher.field(job.glossary.sha256());
        hasher.field(job.lexicon.sha256());
        // The whole article and not the section alone, because the model may see its context.
        for text in
            [&article.kicker, &article.headline, &article.subtitle, &article.dateline, &article.byline]
        {
            hasher.element(text.as_ref());
        }
        for section in &article.sections {
            hasher.element(section.heading.as_ref());
            hasher.field(&section.paragraphs.len().to_string());
            section.paragraphs.iter().for_each(|paragraph| hasher.field(&paragraph.text));
        }
        let section_key = |section: usize| {
            let mut hash = hasher.0.clone();
            hash.update((section as u64).to_le_bytes());
            hash.finalize().into()
        };
        (0..article.sections.len()).map(section_key).collect()
    }

    /// Looks up entries. The messages carry no position.
    pub(in crate::server) async fn get(&self, keys: &[CacheKey]) -> Vec<Option<pb::SectionDigest>> {
        let mut found: Vec<Option<pb::SectionDigest>> =
            keys.iter().map(|key| self.memory.get(key).and_then(|bytes| decode(&bytes))).collect();
        self.count("memory", found.iter().flatten().count());
        let missing: Vec<usize> = (0..keys.len()).filter(|&index| found[index].is_none()).collect();
        if let (Some(disk), false) = (&self.disk, missing.is_empty()) {
            let missing_keys = missing.iter().map(|&index| keys[index]).collect();
            for (index, bytes) in missing.into_iter().zip(disk.get(missing_keys).await) {
                let Some(bytes) = bytes else { continue };
                found[index] = decode(&bytes);
                self.memory.insert(keys[index], bytes);
            }
        }
        self.count("miss", found.iter().filter(|entry| entry.is_none()).count());
        found
    }

    /// Stores a finished section.
    pub(in crate::server) fn put(&self, key: CacheKey, section: &pb::SectionDigest) {
        let without_position =
            pb::SectionDigest { article_index: 0, section_index: 0, spans: Vec::new(), ..section.clone() };
        let bytes: Arc<[u8]> = without_position.encode_to_vec().into();
        self.memory.insert(key, bytes.clone());
        if let Some(disk) = &self.disk {
            disk.put(key, bytes);
        }
    }

    fn count(&self, result: &'static str, lookups: usize) {
        self.metrics.cache_lookups.get_or_create(&ResultLabel { result }).inc_by(lookups as u64);
    }
}

/// Hashes everything that a result depends on, field by field.
#[derive(Default)]
struct KeyHasher(Sha256);

impl KeyHasher {
    fn field(&mut self, text: &str) {
        self.tagged_field("", text);
    }

    /// Hashes an optional element of an article. An empty element differs from an absent one.
    fn element(&mut self, text: Option<&Text>) {
        match text {
            Some(text) => self.tagged_field("=", &text.text),
            None => self.tagged_field("", ""),
        }
    }

    /// Hashes a field with its length, so that different fields never produce the same bytes.
    fn tagged_field(&mut self, tag: &str, text: &str) {
        self.0.update(((tag.len() + text.len()) as u64).to_le_bytes());
        self.0.update(tag);
        self.0.update(text);
    }
}

/// Decodes an entry and marks it as read from the cache, with timings of zero.
fn decode(bytes: &[u8]) -> Option<pb::SectionDigest> {
    let mut section = pb::SectionDigest::decode(bytes).ok()?;
    section.provenance.get_or_insert_default().from_cache = true;
    section.timings = Some(pb::Timings::default());
    Some(section)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        document::{self, InputFormat},
        engine::Sampling,
        glossary::{Glossary, Term},
        pipeline::ModelInfo,
        task::Tasks,
    };

    fn job(text: &str) -> Job {
        Job::new(document::parse_text(text, InputFormat::Lines, &document::Limits::default()).unwrap())
    }

    #[test]
    fn keys_differ_in_everything_that_the_result_depends_on() {
        let cache = ResultCache::new(1 << 20, "f16", Metrics::default());
        let info = |id: &str, hash: &str| {
            let (id, weights_sha256) = (id.to_owned(), hash.to_owned());
            Arc::new(ModelInfo { id, weights_sha256, tasks: Tasks::default() })
        };
        let model = |id: &str, hash: &str| ModelsUsed { model: info(id, hash), summary_model: None };
        let key = |cache: &ResultCache, job: &Job, models_used: &ModelsUsed, version: &str| {
            cache.keys(job, models_used, version, &job.document.articles[0])[0]
        };
        let with_summaries = |id: &str| ModelsUsed { summary_model: Some(info(id, "h")), ..model("m", "h") };
        let base = key(&cache, &job("甲。"), &model("m", "h"), "1");
        assert_eq!(base, key(&cache, &job("甲。"), &model("m", "h"), "1"));
        let glossary = std::sync::Arc::new(Glossary::new([Term::new("甲", "A")]));
        let random = Sampling::Random { temperature: 1.0, top_p: 1.0, top_k: None, seed: 1 };
        let others = [
            key(&cache, &job("乙。"), &model("m", "h"), "1"),
            key(&cache, &job("甲。"), &model("n", "h"), "1"),
            key(&cache, &job("甲。"), &model("m", "i"), "1"),
            key(&cache, &job("甲。"), &model("m", "h"), "2"),
            key(&cache, &job("甲。"), &with_summaries("m"), "1"),
            key(&cache, &job("甲。"), &with_summaries("n"), "1"),
            key(&cache, &Job { glossary, ..job("甲。") }, &model("m", "h"), "1"),
            key(&cache, &Job { max_attempts: 1, ..job("甲。") }, &model("m", "h"), "1"),
            key(&cache, &Job { summary_max_chars: 99, ..job("甲。") }, &model("m", "h"), "1"),
            key(&cache, &Job { sampling: random, ..job("甲。") }, &model("m", "h"), "1"),
            key(
                &cache,
                &Job { tasks: Tasks { summary: false, translation: true }, ..job("甲。") },
                &model("m", "h"),
                "1",
            ),
            key(&ResultCache::new(1, "int8", Metrics::default()), &job("甲。"), &model("m", "h"), "1"),
        ];
        let distinct: std::collections::HashSet<CacheKey> = others.into_iter().chain([base]).collect();
        assert_eq!(distinct.len(), others.len() + 1);
    }

    #[tokio::test]
    async fn memory_is_bounded_and_hits_are_marked() {
        let cache = ResultCache::new(1000, "", Metrics::default());
        let section = pb::SectionDigest {
            section_index: 7,
            summary: Some(pb::Summary { text: "摘要。".repeat(10), ..Default::default() }),
            ..Default::default()
        };
        for n in 0..100 {
            cache.put([n; 32], &section);
        }
        cache.memory.run_pending_tasks();
        assert!(cache.memory.weighted_size() <= 1000 && cache.memory.entry_count() > 0);
        cache.put([1; 32], &section);
        cache.memory.run_pending_tasks();
        let found = (0..100).find_map(|n| cache.memory.get(&[n; 32])).unwrap();
        let found = decode(&found).unwrap();
        assert!(found.provenance.unwrap().from_cache && found.section_index == 0);
        assert_eq!(found.summary, section.summary);
    }
}
