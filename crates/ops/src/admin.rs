//! Health and metrics over HTTP.
//!
//! `/healthz` says that the process runs, `/readyz` that it takes players, `/metrics` what it counts. There is no password: the listener belongs on
//! loopback or a private network.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::RelayMetrics;

/// The admin listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to bind the admin listener on tcp {address}: choose another with --admin ADDR:PORT, or 127.0.0.1:0 for any free port"
)]
pub struct AdminError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The admin listener.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    state: Shared,
}

#[derive(Clone, Debug)]
struct Shared {
    metrics: RelayMetrics,
    ready: Arc<AtomicBool>,
}

impl Admin {
    /// Opens the listener; `ready` is what `/readyz` tells.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn bind(address: SocketAddr, metrics: RelayMetrics, ready: Arc<AtomicBool>) -> Result<Self, AdminError> {
        let fail = |source| AdminError { address, source };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        Ok(Self {
            listener,
            address,
            state: Shared { metrics, ready },
        })
    }

    /// Goes on with a listener that another process has opened.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn adopt(
        listener: std::net::TcpListener,
        metrics: RelayMetrics,
        ready: Arc<AtomicBool>,
    ) -> Result<Self, AdminError> {
        let address = listener.local_addr().unwrap_or_else(|_| ([0, 0, 0, 0], 0).into());
        let fail = |source| AdminError { address, source };
        listener.set_nonblocking(true).map_err(fail)?;
        let listener = TcpListener::from_std(listener).map_err(fail)?;
        Ok(Self {
            listener,
            address,
            state: Shared { metrics, ready },
        })
    }

    /// The listener, to hand over to another process.
    pub const fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// The address that it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is cancelled.
    pub async fn serve(self, stop: CancellationToken) {
        let router = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self.state);
        let serve = axum::serve(self.listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = serve.await {
            tracing::error!(%error, "the admin listener failed");
        }
    }
}

async fn ready(State(state): State<Shared>) -> (StatusCode, &'static str) {
    match state.ready.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

async fn metrics(State(state): State<Shared>) -> impl IntoResponse {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, FORMAT)], state.metrics.render())
}
