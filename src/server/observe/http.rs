//! What is watched over plain HTTP, on a socket of its own: `/metrics` for Prometheus, `/livez` and `/readyz` for
//! those that cannot ask `grpc.health.v1`.

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

/// OpenMetrics, as `prometheus-client` writes it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until it is dropped.
///
/// # Errors
/// When the socket fails.
pub async fn serve(listener: TcpListener, metrics: Metrics, slot: ModelSlot) -> io::Result<()> {
    let text = move || async move { ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics.text()) };
    let live = slot.clone();
    let routes = Router::new()
        .route("/metrics", get(text))
        .route(
            "/livez",
            get(move || async move { answer(!matches!(live.readiness(), Readiness::Failed(_))) }),
        )
        .route("/readyz", get(move || async move { answer(slot.is_ready()) }));
    axum::serve(listener, routes).await
}

fn answer(holds: bool) -> impl IntoResponse {
    match holds {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ok\n"),
    }
}
