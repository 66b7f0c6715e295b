//! What the server counts, in Prometheus' form.
//!
//! One registry a server, no globals: several servers in one process (as in tests) do not mix. The engine's counts
//! are read at the moment of a scrape, from the engine that runs then. Every label is there from the start, at 0: of a
//! series that begins at 1, `increase` does not see the first.

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

use super::{RPCS, code_name};
use crate::{
    engine::EngineMetrics,
    pb,
    pipeline::SectionOutcome,
    server::{convert, model::ModelSlot},
    task::Task,
};

/// Times from a millisecond to ten minutes, in seconds.
const TIMES_S: [f64; 14] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 180.0, 600.0];

/// Which calls: by RPC and by gRPC code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::server) struct CallLabels {
    pub(in crate::server) rpc: &'static str,
    pub(in crate::server) code: &'static str,
}

/// Which calls: by RPC.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::server) struct RpcLabel {
    pub(in crate::server) rpc: &'static str,
}

/// Which result of a lookup or of a section.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::server) struct ResultLabel {
    pub(in crate::server) result: &'static str,
}

/// What becomes of a section.
const SECTION_RESULTS: [&str; 4] = ["done", "cached", "deadline", "failed"];
/// What a lookup in the result cache finds.
const LOOKUP_RESULTS: [&str; 4] = ["memory", "disk", "miss", "corrupt"];

/// Which findings.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::server) struct FindingLabels {
    pub(in crate::server) kind: &'static str,
    pub(in crate::server) task: &'static str,
}

impl FindingLabels {
    fn of(kind: pb::FindingKind, task: Task) -> Self {
        Self { kind: kind.as_str_name(), task: task.as_str() }
    }
}

/// The counts of one server; cheap to clone (every call does), all clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<MetricFamilies>);

/// The counts themselves.
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
            request_time_s: Family::new_with_constructor(|| Histogram::new(TIMES_S)),
            in_flight: Gauge::default(),
            queued: Gauge::default(),
            request_bytes: Gauge::default(),
            queue_time_s: Histogram::new(TIMES_S),
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
        metrics.begin_at_zero();
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
    fn begin_at_zero(&self) {
        for rpc in RPCS {
            drop(self.request_time_s.get_or_create(&RpcLabel { rpc }));
            for code in (0..=16).map(tonic::Code::from_i32).map(code_name) {
                drop(self.requests.get_or_create(&CallLabels { rpc, code }));
            }
        }
        for kind in (1..).map_while(|kind| pb::FindingKind::try_from(kind).ok()) {
            for task in Task::ALL {
                drop(self.findings.get_or_create(&FindingLabels::of(kind, task)));
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
        r.register("requests", "Calls that ended, by RPC and gRPC code", self.requests.clone());
        r.register("request_seconds", "From the arrival of a call to its end", self.request_time_s.clone());
        r.register("requests_in_flight", "Requests that are worked on", self.in_flight.clone());
        r.register("requests_queued", "Requests that wait for a place", self.queued.clone());
        r.register(
            "request_bytes",
            "Bytes of requests that are being received or worked on",
            self.request_bytes.clone(),
        );
        r.register(
            "request_queue_seconds",
            "How long requests waited for a place",
            self.queue_time_s.clone(),
        );
        r.register("sections", "Sections that came to an end", self.sections.clone());
        r.register("findings", "What the checks found, by kind and task", self.findings.clone());
        r.register("summary_attempts", "How often the model was asked for a summary", self.attempts.clone());
        r.register("cache_lookups", "Sections looked up in the result cache", self.cache_lookups.clone());
        r.register(
            "cache_writes_failed",
            "Results that could not be kept on disk",
            self.cache_writes_failed.clone(),
        );
        r.register("connections", "Open connections", self.connections.clone());
        r.register("connections_refused", "Connections over the limit", self.connections_refused.clone());
        r.register("engine_restarts", "Times the engine was started again", self.engine_restarts.clone());
    }

    /// Shows the state of a model slot, and what its engine counts.
    pub(in crate::server) fn show(&self, slot: ModelSlot) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(EngineCollector { slot }));
    }

    /// Counts what became of a section.
    pub(in crate::server) fn count_section(&self, outcome: &SectionOutcome) {
        let result = match &outcome.result {
            Ok(digest) => {
                for found in &digest.findings {
                    let kind = convert::finding_kind(&found.finding.kind);
                    self.findings.get_or_create(&FindingLabels::of(kind, found.task)).inc();
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

    /// All counts as text, in OpenMetrics' form.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

/// Reads the running engine's counts.
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
        let descriptor =
            encoder.encode_descriptor("ready", "1 when the model answers", None, ready.metric_type())?;
        ready.encode(descriptor)?;
        let engines = self.slot.engine_metrics();
        // Engines are told apart where there are several.
        let label = |id: &str| (engines.len() > 1).then(|| ("model", id.to_owned())).into_iter().collect();
        let engines: Vec<(Vec<(&str, String)>, &EngineMetrics)> =
            engines.iter().map(|(id, metrics)| (label(id), metrics)).collect();
        let Some((_, first)) = engines.first() else { return Ok(()) };
        let mut show = |name: &str, help: &str, metric: for<'m> fn(&'m EngineMetrics) -> &'m dyn Encode| {
            let mut descriptor = encoder.encode_descriptor(name, help, None, metric(first).kind())?;
            engines.iter().try_for_each(|(labels, engine)| {
                metric(engine).encode_into(descriptor.encode_family(&labels.as_slice())?)
            })
        };
        show("engine_sequences_running", "Sequences that are being decoded", |m| &m.running)?;
        show("engine_sequences_waiting", "Sequences that wait in the engine", |m| &m.waiting)?;
        show("engine_kv_tokens_reserved", "Tokens reserved in the KV cache", |m| &m.kv_tokens_reserved)?;
        show("engine_kv_tokens", "Tokens that the KV cache holds", |m| &m.kv_tokens_total)?;
        show("engine_kv_bytes", "Bytes that the KV cache takes", |m| &m.kv_bytes)?;
        show("engine_prompt_tokens", "Tokens of prompts that were read", |m| &m.prompt_tokens)?;
        show("engine_cached_tokens", "Tokens of prompts that need not be read again", |m| &m.cached_tokens)?;
        show("engine_completion_tokens", "Tokens that were written", |m| &m.completion_tokens)?;
        show("engine_sequences_dropped", "Sequences given up for a gone reader or a deadline", |m| {
            &m.dropped
        })?;
        show("engine_queue_seconds", "From the arrival of a prompt to its first step", |m| &m.queue_time_s)?;
        show("engine_first_token_seconds", "From the arrival of a prompt to its first token", |m| {
            &m.first_token_time_s
        })?;
        show("engine_token_seconds", "Between the tokens of a sequence", |m| &m.token_time_s)?;
        show("engine_batch_size", "Sequences in a step", |m| &m.batch_size)?;
        show("engine_step_seconds", "How long a step takes", |m| &m.step_time_s)
    }
}

/// A metric of any type.
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
    fn every_label_is_there_before_anything_is_counted() {
        let text = Metrics::default().text();
        for line in [
            "yizhai_requests_total{rpc=\"Digest\",code=\"RESOURCE_EXHAUSTED\"} 0",
            "yizhai_requests_total{rpc=\"other\",code=\"UNAUTHENTICATED\"} 0",
            "yizhai_request_seconds_count{rpc=\"DigestMany\"} 0",
            "yizhai_findings_total{kind=\"FINDING_KIND_LIST_ITEMS_MISSING\",task=\"translation\"} 0",
            "yizhai_sections_total{result=\"failed\"} 0",
            "yizhai_cache_lookups_total{result=\"miss\"} 0",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
        }
        let findings = text.lines().filter(|line| line.starts_with("yizhai_findings_total{")).count();
        assert_eq!(findings, 2 * 15);
    }
}
