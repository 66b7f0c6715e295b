//! The server's metrics, in the OpenMetrics text format.
//!
//! Each server has its own registry, so several servers in one process (as in tests) do not share counts. Metrics of the
//! engine are read from the running engine at the moment of a scrape. Every series exists from the start with the value
//! 0, because Prometheus' `increase` does not see the first increment of a series that starts at 1.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, text::encode},
    metrics::{MetricType, counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{code_name, rpc_label};
use crate::{
    engine::EngineMetrics,
    pb,
    pipeline::SectionOutcome,
    server::{convert, model::ModelSlot, rpc::Rpc},
    task::Task,
};

/// Histogram buckets from one millisecond to ten minutes, in seconds.
const TIME_BUCKETS_S: [f64; 14] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 180.0, 600.0];

/// The RPC and gRPC code of a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::server) struct CallLabels {
    pub(in crate::server) rpc: &'static str,
    pub(in crate::server) code: &'static str,
}

/// The RPC of a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::server) struct RpcLabel {
    pub(in crate::server) rpc: &'static str,
}

/// The outcome of a cache lookup or of a section.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::server) struct ResultLabel {
    pub(in crate::server) result: &'static str,
}

/// The outcomes of a section.
const SECTION_RESULTS: [&str; 4] = ["done", "cached", "deadline", "failed"];
/// The outcomes of a lookup in the result cache.
const LOOKUP_RESULTS: [&str; 4] = ["memory", "disk", "miss", "corrupt"];

/// The kind of a finding and the task whose output it is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::server) struct FindingLabels {
    pub(in crate::server) kind: &'static str,
    pub(in crate::server) task: &'static str,
}

impl FindingLabels {
    fn new(kind: pb::FindingKind, task: Task) -> Self {
        Self { kind: kind.as_str_name(), task: task.as_str() }
    }
}

/// The metrics of one server. Cheap to clone; all clones share the same counts.
#[derive(Clone)]
pub struct Metrics(Arc<MetricFamilies>);

/// The metrics behind [`Metrics`].
pub struct MetricFamilies {
    pub(in crate::server) requests: Family<CallLabels, Counter>,
    pub(in crate::server) request_time_s: Family<RpcLabel, Histogram>,
    pub(in crate::server) in_flight: Gauge,
    pub(in crate::server) queued: Gauge,
    pub(in crate::server) request_bytes: Gauge,
    pub(in crate::server) queue_time_s: Histogram,
    pub(in crate::server) sections: Family<ResultLabel, Counter>,
    pub(in crate::server) findings: Family<FindingLabels, Counter>,
    pub(in crate::server) attempts: Histogram,
    pub(in crate::server) cache_lookups: Family<ResultLabel, Counter>,
    pub(in crate::server) cache_writes_failed: Counter,
    pub(in crate::server) connections: Gauge,
    pub(in crate::server) connections_refused: Counter,
    pub(in crate::server) engine_restarts: Counter,
    registry: Mutex<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self(Arc::new(MetricFamilies {
            requests: Family::default(),
            request_time_s: Family::new_with_constructor(|| Histogram::new(TIME_BUCKETS_S)),
            in_flight: Gauge::default(),
            queued: Gauge::default(),
            request_bytes: Gauge::default(),
            queue_time_s: Histogram::new(TIME_BUCKETS_S),
            sections: Family::default(),
            findings: Family::default(),
            attempts: Histogram::new([1.0, 2.0, 3.0, 4.0, 6.0]),
            cache_lookups: Family::default(),
            cache_writes_failed: Counter::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            engine_restarts: Counter::default(),
            registry: Mutex::new(Registry::with_prefix("yizhai")),
        }));
        metrics.create_all_series();
        metrics.register();
        metrics
    }
}

impl Deref for Metrics {
    type Target = MetricFamilies;

    fn deref(&self) -> &MetricFamilies {
        &self.0
    }
}

impl Metrics {
    /// Creates every series, so that all are exported from the start.
    fn create_all_series(&self) {
        for rpc in Rpc::all().map(Some).chain([None]).map(rpc_label) {
            drop(self.request_time_s.get_or_create(&RpcLabel { rpc }));
            for code in (0..=16).map(tonic::Code::from_i32).map(code_name) {
                drop(self.requests.get_or_create(&CallLabels { rpc, code }));
            }
        }
        for kind in (1..).map_while(|kind| pb::FindingKind::try_from(kind).ok()) {
            for task in Task::ALL {
                drop(self.findings.get_or_create(&FindingLabels::new(kind, task)));
            }
        }
        for result in SECTION_RESULTS {
            drop(self.sections.get_or_create(&ResultLabel { result }));
        }
        for result in LOOKUP_RESULTS {
            drop(self.cache_lookups.get_or_create(&ResultLabel { result }));
        }
    }

    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let r = &mut *registry;
        let requests = self.requests.clone();
        r.register("requests", "Finished calls by RPC and gRPC code", requests);
        let time = self.request_time_s.clone();
        r.register("request_seconds", "Time from the arrival of a call to its end", time);
        r.register("requests_in_flight", "Requests being processed", self.in_flight.clone());
        r.register("requests_queued", "Requests waiting for a permit", self.queued.clone());
        let bytes = self.request_bytes.clone();
        r.register("request_bytes", "Bytes of requests being received or processed", bytes);
        let queue_time = self.queue_time_s.clone();
        r.register("request_queue_seconds", "Time that requests waited for a permit", queue_time);
        r.register("sections", "Finished sections by outcome", self.sections.clone());
        r.register("findings", "Findings of the checks by kind and task", self.findings.clone());
        r.register("summary_attempts", "Drafts that the model wrote for a summary", self.attempts.clone());
        r.register("cache_lookups", "Lookups in the result cache by outcome", self.cache_lookups.clone());
        let failed = self.cache_writes_failed.clone();
        r.register("cache_writes_failed", "Results that could not be written to the disk cache", failed);
        r.register("connections", "Open connections", self.connections.clone());
        let refused = self.connections_refused.clone();
        r.register("connections_refused", "Connections closed for exceeding the limit", refused);
        r.register("engine_restarts", "Restarts of the engine after a failure", self.engine_restarts.clone());
    }

    /// Exports the readiness of a model slot and the metrics of its engines.
    pub(in crate::server) fn register_slot(&self, slot: ModelSlot) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(EngineCollector { slot }));
    }

    /// Counts the outcome of a section and its findings.
    pub(in crate::server) fn count_section(&self, outcome: &SectionOutcome) {
        let result = match &outcome.result {
            Ok(digest) => {
                for found in &digest.findings {
                    let kind = convert::finding_kind(&found.finding.kind);
                    self.findings.get_or_create(&FindingLabels::new(kind, found.task)).inc();
                }
                if let Some(summary) = &digest.summary {
                    self.attempts.observe(summary.attempts as f64);
                }
                "done"
            }
            Err(crate::pipeline::PipelineError::Deadline) => "deadline",
            Err(_) => "failed",
        };
        self.sections.get_or_create(&ResultLabel { result }).inc();
    }

    /// Encodes all metrics in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

/// Exports the metrics of the running engines at each scrape.
struct EngineCollector {
    slot: ModelSlot,
}

impl fmt::Debug for EngineCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EngineCollector")
    }
}

impl Collector for EngineCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let ready = Gauge::<i64>::default();
        ready.set(i64::from(self.slot.is_ready()));
        let descriptor = encoder.encode_descriptor(
            "ready",
            "1 if the model is ready, otherwise 0",
            None,
            ready.metric_type(),
        )?;
        ready.encode(descriptor)?;
        let engines = self.slot.engine_metrics();
        // With one engine the series need no label.
        let label = |id: &str| (engines.len() > 1).then(|| ("model", id.to_owned())).into_iter().collect();
        let engines: Vec<(Vec<(&str, String)>, &EngineMetrics)> =
            engines.iter().map(|(id, metrics)| (label(id), metrics)).collect();
        let Some((_, first)) = engines.first() else { return Ok(()) };
        let mut export = |name: &str, help: &str, metric: for<'m> fn(&'m EngineMetrics) -> &'m dyn Encode| {
            let mut descriptor = encoder.encode_descriptor(name, help, None, metric(first).kind())?;
            engines.iter().try_for_each(|(labels, engine)| {
                metric(engine).encode_into(descriptor.encode_family(&labels.as_slice())?)
            })
        };
        export("engine_sequences_running", "Running sequences", |m| &m.running)?;
        export("engine_sequences_waiting", "Sequences waiting to be scheduled", |m| &m.waiting)?;
        export("engine_kv_tokens_reserved", "Reserved tokens of the KV cache", |m| &m.kv_tokens_reserved)?;
        export("engine_kv_tokens", "Capacity of the KV cache in tokens", |m| &m.kv_tokens_total)?;
        export("engine_kv_bytes", "Memory of the KV cache in bytes", |m| &m.kv_bytes)?;
        export("engine_prompt_tokens", "Prompt tokens processed in prefill", |m| &m.prompt_tokens)?;
        export("engine_cached_tokens", "Prompt tokens taken from the prefix cache", |m| &m.cached_tokens)?;
        export("engine_completion_tokens", "Generated tokens", |m| &m.completion_tokens)?;
        export(
            "engine_sequences_dropped",
            "Sequences cancelled because the client disconnected or the deadline passed",
            |m| &m.dropped,
        )?;
        export("engine_queue_seconds", "Time from the submission of a prompt to its first step", |m| {
            &m.queue_time_s
        })?;
        export(
            "engine_first_token_seconds",
            "Time from the submission of a prompt to its first generated token",
            |m| &m.first_token_time_s,
        )?;
        export("engine_token_seconds", "Time between two tokens of a sequence", |m| &m.token_time_s)?;
        export("engine_batch_size", "Sequences per step", |m| &m.batch_size)?;
        export("engine_step_seconds", "Duration of a step", |m| &m.step_time_s)
    }
}

/// A metric of any type, for use behind a reference.
trait Encode {
    fn kind(&self) -> MetricType;
    fn encode_into(&self, encoder: MetricEncoder<'_>) -> fmt::Result;
}

impl<M: EncodeMetric> Encode for M {
    fn kind(&self) -> MetricType {
        self.metric_type()
    }

    fn encode_into(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.encode(encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_exists_before_anything_is_counted() {
        let text = Metrics::default().text();
        for line in [
            "yizhai_requests_total{rpc=\"Digest\",code=\"RESOURCE_EXHAUSTED\"} 0",
            "yizhai_requests_total{rpc=\"other\",code=\"UNAUTHENTICATED\"} 0",
            "yizhai_request_seconds_count{rpc=\"DigestMany\"} 0",
            "yizhai_request_seconds_count{rpc=\"ServerReflectionInfo\"} 0",
            "yizhai_findings_total{kind=\"FINDING_KIND_LIST_ITEMS_MISSING\",task=\"translation\"} 0",
            "yizhai_sections_total{result=\"failed\"} 0",
            "yizhai_cache_lookups_total{result=\"miss\"} 0",
        ] {
            assert!(text.lines().any(|exported| exported == line), "{line} is not in\n{text}");
        }
        let findings = text.lines().filter(|line| line.starts_with("yizhai_findings_total{")).count();
        assert_eq!(findings, 2 * 16);
    }
}
