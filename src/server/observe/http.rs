//! Metrics and probes over plain HTTP on a socket of their own: `/metrics` for Prometheus, `/livez` and `/readyz` for
//! orchestrators that do not support `grpc.health.v1`.

use std::io;

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use super::metrics::Metrics;
use crate::server::model::{ModelSlot, Readiness};

/// The content type of the OpenMetrics text format.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves metrics and probes until the future is dropped.
///
/// # Errors
/// Fails if the socket fails.
pub async fn serve(listener: TcpListener, metrics: Metrics, slot: ModelSlot) -> io::Result<()> {
    let text = move || async move { ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.text()) };
    let live = slot.clone();
    let routes = Router::new()
        .route("/metrics", get(text))
        .route(
            "/livez",
            get(move || async move { probe_response(!matches!(live.readiness(), Readiness::Failed(_))) }),
        )
        .route("/readyz", get(move || async move { probe_response(slot.is_ready()) }));
    axum::serve(listener, routes).await
}

fn probe_response(passed: bool) -> impl IntoResponse {
    match passed {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ok\n"),
    }
}
