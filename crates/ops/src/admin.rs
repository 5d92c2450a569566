//! Health and metrics over HTTP.
//!
//! `/healthz` says that the process runs, `/readyz` that it takes players, `/metrics` what it counts. There is no password: the listener belongs on
//! loopback or a private network. It is guarded all the same: few connections at once, a deadline for each request and for each connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Router, routing::get};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::RelayMetrics;

/// Connections at once.
const MAX_ASKERS: usize = 64;

/// How long a request may take to come, also on a connection that has had one.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// The longest request.
const MAX_HEAD: usize = 16 * 1024;

/// How long a connection lasts at most, whatever its asker is busy with.
const ASKER_DEADLINE: Duration = Duration::from_secs(60);

/// How long answers may still take when the process ends.
const STOP_DEADLINE: Duration = Duration::from_secs(1);

/// A pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

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
        let service = TowerToHyperService::new(router);
        let places = Arc::new(Semaphore::new(MAX_ASKERS));
        let mut asking = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = asking.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let socket = match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, "the admin listener could not take a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Who finds no place is cut off: what they hold must not add up to the descriptors of players.
            let Ok(place) = places.clone().try_acquire_owned() else {
                continue;
            };
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_DEADLINE)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(socket), service.clone());
            asking.spawn(async move {
                // An asker who is gone, too slow or makes no sense is nobody's trouble.
                let _ = tokio::time::timeout(ASKER_DEADLINE, connection).await;
                drop(place);
            });
        }
        let finished = async { while asking.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(STOP_DEADLINE, finished).await;
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
