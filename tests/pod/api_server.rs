//! As much of an API server as a worker asks for: one job, read and patched over HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(Clone)]
pub struct ApiServer {
    /// The one job that there is; null when there is none.
    pub job: Arc<Mutex<Value>>,
    pub address: SocketAddr,
}

impl ApiServer {
    pub async fn start(job: Value) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let server = Self {
            job: Arc::new(Mutex::new(job)),
            address: listener.local_addr().unwrap(),
        };
        let serves = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = serves.clone();
                let answer = service_fn(move |request| {
                    let server = server.clone();
                    async move { Ok::<_, Infallible>(server.answer(request).await) }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                // A worker that ends drops its connections.
                tokio::spawn(async move { connection.await.ok() });
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// By which a client finds this server.
    pub fn kubeconfig(&self, path: &Path) {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": self.url()}}],
            "users": [{"name": "c", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        });
        std::fs::write(path, config.to_string()).unwrap();
    }

    /// The job's field at this path.
    pub fn at(&self, path: &str) -> Value {
        self.job
            .lock()
            .unwrap()
            .pointer(path)
            .cloned()
            .unwrap_or_default()
    }

    pub fn set(&self, path: &str, value: Value) {
        *self.job.lock().unwrap().pointer_mut(path).unwrap() = value;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<String> {
        let (head, body) = request.into_parts();
        let body = whole(body).await;
        let path = "/apis/compaction.dev/v1alpha1/namespaces/ns/compactionjobs/job";
        let mut job = self.job.lock().unwrap();
        let (code, answer) = match (&head.method, head.uri.path()) {
            _ if job.is_null() => failure(StatusCode::NOT_FOUND, "no such job"),
            (&Method::GET, asked) if asked == path => (StatusCode::OK, job.clone()),
            (&Method::PATCH, asked) if asked == format!("{path}/status") => {
                let patch: json_patch::Patch = serde_json::from_slice(&body).unwrap();
                match json_patch::patch(&mut job, &patch) {
                    Ok(()) => (StatusCode::OK, job.clone()),
                    Err(error) => failure(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
                }
            }
            _ => failure(StatusCode::FORBIDDEN, "a worker has no right to this"),
        };
        let response = Response::builder()
            .status(code)
            .header("content-type", "application/json");
        response.body(answer.to_string()).unwrap()
    }
}

async fn whole(mut body: Incoming) -> Vec<u8> {
    use futures::StreamExt as _;
    use hyper::body::Body as _;
    let frames = futures::stream::poll_fn(move |context| std::pin::Pin::new(&mut body).poll_frame(context));
    let data: Vec<Bytes> = frames
        .map(|frame| frame.unwrap().into_data().unwrap_or_default())
        .collect()
        .await;
    data.concat()
}

fn failure(code: StatusCode, message: &str) -> (StatusCode, Value) {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": message, "reason": code.canonical_reason(), "code": code.as_u16(),
    });
    (code, status)
}
