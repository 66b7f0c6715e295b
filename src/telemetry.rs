//! Logs, always on stderr: stdout belongs to results; and, by choice, traces to an OpenTelemetry collector.

use anyhow::Context as _;
use clap::ValueEnum;
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator as _},
    trace::TracerProvider as _,
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    EnvFilter, Layer, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// The name of the service in traces, and of the spans' source.
const SERVICE: &str = "yizhai";

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Keeps what was started; sends the last spans on when it is dropped.
#[derive(Debug, Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        // A collector that cannot be reached is no reason to fail at the end.
        if let Some(traces) = &self.traces {
            let _ = traces.shutdown();
        }
    }
}

/// Starts logging, and tracing to the OTLP collector at `collector` (gRPC, such as `http://127.0.0.1:4317`).
/// `filter` is in the syntax of tracing's `EnvFilter`, such as `info` or `yizhai=debug`. Must be called within a runtime.
///
/// # Errors
/// When the filter does not parse, or the collector's address is none.
pub fn init(filter: &str, format: LogFormat, collector: Option<&str>) -> anyhow::Result<Telemetry> {
    let filter = EnvFilter::try_new(filter).map_err(|e| {
        anyhow::anyhow!("`{filter}` is no log filter ({e}); write for example info or yizhai=debug")
    })?;
    let colours = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let traces = collector.map(provider).transpose()?;
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // What is logged is no bound on what is traced.
    let traced = Targets::new().with_target(SERVICE, LevelFilter::INFO);
    let spans = traces
        .as_ref()
        .map(|traces| tracing_opentelemetry::layer().with_tracer(traces.tracer(SERVICE)).with_filter(traced));
    // A second start in one process (in tests) keeps the first.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).try_init();
    Ok(Telemetry { traces })
}

fn provider(collector: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter =
        SpanExporter::builder().with_tonic().with_endpoint(collector).build().with_context(|| {
            format!("`{collector}` is no address of a collector; write it as http://HOST:4317")
        })?;
    let resource = Resource::builder().with_service_name(SERVICE).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// Makes a span a child of the trace that the caller's `traceparent` names, where traces are sent on.
pub fn take_over_trace(span: &tracing::Span, headers: &http::HeaderMap) {
    if headers.contains_key("traceparent") {
        let parent = TraceContextPropagator::new().extract(&Headers(headers));
        // Without a collector there is nothing to be a child of.
        let _ = span.set_parent(parent);
    }
}

/// A call's headers, as the propagator wants to read them.
struct Headers<'a>(&'a http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
