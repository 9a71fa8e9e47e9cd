//! `/metrics`, `/livez` and `/readyz`. Reads nothing of a request but its path.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// The head of a request must be there by then.
const HEAD: Duration = Duration::from_secs(10);
const CONNECTIONS: usize = 64;
const PAUSE: Duration = Duration::from_millis(100);

/// What the endpoints answer from.
pub(super) trait Health: Send + Sync + 'static {
    fn metrics(&self) -> String;
}

/// Whether the controller can do its work, once it leads.
#[derive(Clone, Default)]
pub(super) struct Ready(Arc<AtomicBool>);

impl Ready {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

pub(super) async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, ready: Ready, health: Arc<impl Health>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (ready, health) = (ready.clone(), Arc::clone(&health));
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let (ready, health) = (ready.clone(), Arc::clone(&health));
                async move { Ok::<_, Infallible>(answer(&request, &ready, &*health)) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), answer);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, ready: &Ready, health: &impl Health) -> Response<String> {
    let (status, text) = match request.uri().path() {
        "/livez" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if ready.is() => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the CustomResourceDefinitions are not served yet\n".to_owned(),
        ),
        "/metrics" => (StatusCode::OK, health.metrics()),
        _ => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    if request.uri().path() == "/metrics" {
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    }
    response
}
