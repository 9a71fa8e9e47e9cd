//! The server: a reply for each request, as a script says.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use compaction_operator::store::{CredentialsFrom, ErrorKind, Result, S3, Settings};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Of every object, unless a script says otherwise.
pub(crate) const ETAG: &str = "\"e1\"";

/// A request as the server sees it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn is(&self, method: &str, target: &str) -> bool {
        self.method == method && self.target.contains(target)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What the server does with a request.
pub(crate) enum Reply {
    /// Status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// These bytes, and the connection is closed.
    Raw(&'static str),
    /// These bytes, and nothing more while the connection lasts.
    Stall(&'static str),
}

impl Reply {
    pub(crate) fn ok(body: impl Into<String>) -> Self {
        Self::Answer(200, vec![("etag", ETAG.into())], body.into())
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self::Answer(status, vec![], String::new())
    }

    /// The range of an object that was asked for.
    pub(crate) fn range(range: &str, body: &str) -> Self {
        let range = format!("bytes {range}/100");
        Self::Answer(
            206,
            vec![("etag", ETAG.to_owned()), ("content-range", range)],
            body.into(),
        )
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        let body = format!("<Error><Code>{code}</Code><Message>told you</Message></Error>");
        Self::Answer(status, vec![("x-amz-request-id", "R1".into())], body)
    }

    /// To a HEAD: the body is not sent, its length is.
    pub(crate) fn head(size: usize, token: &str) -> Self {
        let headers = vec![
            ("etag", ETAG.to_owned()),
            ("x-amz-meta-compaction-token", token.to_owned()),
        ];
        Self::Answer(200, headers, "-".repeat(size))
    }
}

/// The reply to a request, and to how many before it.
pub(crate) type Script = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// A server, and what it has seen.
pub(crate) struct Server {
    endpoint: String,
    keys: tempfile::TempDir,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    in_flight: AtomicUsize,
    peak: AtomicUsize,
}

impl Server {
    pub(crate) async fn start(script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = Self {
            endpoint,
            keys: keys("test"),
            seen: Arc::default(),
        };
        let (script, seen): (Arc<Script>, _) = (Arc::new(script), server.seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                seen.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, script.clone(), seen.clone()));
            }
        });
        server
    }

    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::new("bucket");
        settings.endpoint = Some(self.endpoint.clone());
        settings.credentials = CredentialsFrom::Directory(self.keys.path().to_owned());
        settings.retries.min_delay = Duration::from_millis(5);
        settings.retries.max_delay = Duration::from_millis(20);
        settings
    }

    /// Settings that do not wait long for a server that is silent.
    pub(crate) fn impatient(&self) -> Settings {
        let mut settings = self.settings();
        settings.deadlines.first_byte = Duration::from_millis(300);
        settings.deadlines.stall = Duration::from_millis(400);
        settings.deadlines.complete = Duration::from_millis(500);
        settings
    }

    pub(crate) async fn store(&self) -> S3 {
        S3::new(&self.settings()).await.unwrap()
    }

    pub(crate) async fn impatient_store(&self) -> S3 {
        S3::new(&self.impatient()).await.unwrap()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.requests().len()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// The most requests at one time since this was last asked.
    pub(crate) fn peak(&self) -> usize {
        self.seen.peak.swap(0, Ordering::SeqCst)
    }
}

/// What went wrong, where something has to.
pub(crate) fn kind<T: Debug>(outcome: Result<T>) -> ErrorKind {
    outcome.unwrap_err().kind
}

/// A mounted Secret.
pub(crate) fn keys(id: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("accessKeyId"), id).unwrap();
    std::fs::write(directory.path().join("secretAccessKey"), "hunter2").unwrap();
    directory
}

async fn serve(stream: TcpStream, script: Arc<Script>, seen: Arc<Seen>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = receive(&mut stream).await {
        let now = seen.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        seen.peak.fetch_max(now, Ordering::SeqCst);
        let before = {
            let mut requests = seen.requests.lock().unwrap();
            requests.push(request.clone());
            requests.len() - 1
        };
        // Long enough for requests that may overlap to do so.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let reply = script(&request, before);
        seen.in_flight.fetch_sub(1, Ordering::SeqCst);
        // A client that has gone away is no error of the server's.
        let sent = match &reply {
            Reply::Answer(status, headers, body) => {
                let body = if request.method == "HEAD" {
                    (body.len(), "")
                } else {
                    (body.len(), body.as_str())
                };
                stream.write_all(answer(*status, headers, body).as_bytes()).await
            }
            Reply::Raw(text) | Reply::Stall(text) => stream.write_all(text.as_bytes()).await,
        };
        match reply {
            Reply::Answer(..) if sent.is_ok() => {}
            Reply::Stall(_) => {
                let _ = stream.read_u8().await;
                return;
            }
            _ => return,
        }
    }
}

fn answer(status: u16, headers: &[(&'static str, String)], (length, body): (usize, &str)) -> String {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let headers = headers.concat();
    format!("HTTP/1.1 {status} whatever\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

/// `None` when the client has gone away.
async fn receive(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let first = line(stream).await?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = line(stream).await?.split_once(": ") {
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let body = String::from_utf8(body).unwrap();
    Some(Request {
        method,
        target,
        headers,
        body,
    })
}

async fn line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut text = String::new();
    let len = stream.read_line(&mut text).await.ok()?;
    (len > 0).then(|| text.trim_end().to_owned())
}
