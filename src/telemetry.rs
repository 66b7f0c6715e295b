//! Logs to stderr, because stdout is for results, and optionally traces to an OpenTelemetry collector.
//!
//! `cli` calls [`init`] once; the server links its spans to those of its callers with `adopt_remote_parent`.

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

/// The name of the service in traces, and the tracing target of its spans.
const SERVICE: &str = "yizhai";

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Human-readable text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Keeps tracing running. Flushes the remaining spans on drop.
#[derive(Debug, Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        // An unreachable collector must not make the program fail at exit.
        if let Some(traces) = &self.traces {
            let _ = traces.shutdown();
        }
    }
}

/// Starts logging, and tracing if `collector` is given: the address of an OTLP collector that speaks gRPC, such as
/// `http://127.0.0.1:4317`. `filter` has the syntax of tracing's `EnvFilter`, such as `info` or `yizhai=debug`. Must be
/// called within a Tokio runtime.
///
/// # Errors
/// Fails if the filter does not parse or the address of the collector is not valid.
pub fn init(filter: &str, format: LogFormat, collector: Option<&str>) -> anyhow::Result<Telemetry> {
    let filter = EnvFilter::try_new(filter).map_err(|e| {
        anyhow::anyhow!("invalid log filter `{filter}` ({e}); expected for example info or yizhai=debug")
    })?;
    let use_color = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let traces = collector.map(provider).transpose()?;
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(use_color);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // The log filter does not apply to traces.
    let traced = Targets::new().with_target(SERVICE, LevelFilter::INFO);
    let spans = traces
        .as_ref()
        .map(|traces| tracing_opentelemetry::layer().with_tracer(traces.tracer(SERVICE)).with_filter(traced));
    // A second call in one process, as in tests, keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).try_init();
    Ok(Telemetry { traces })
}

fn provider(collector: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(collector)
        .build()
        .with_context(|| format!("invalid collector address `{collector}`; expected http://HOST:PORT"))?;
    let resource = Resource::builder().with_service_name(SERVICE).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// Makes a span a child of the caller's span if the headers contain a `traceparent`.
pub(crate) fn adopt_remote_parent(span: &tracing::Span, headers: &http::HeaderMap) {
    if headers.contains_key("traceparent") {
        let parent = TraceContextPropagator::new().extract(&Headers(headers));
        // Fails if tracing is off, where there is nothing to link.
        let _ = span.set_parent(parent);
    }
}

/// Adapts the headers of a call to the propagator.
struct Headers<'a>(&'a http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
