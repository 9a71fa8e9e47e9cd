//! A proxy in front of a store that passes requests on unchanged, `Host` and all, since that is signed; but
//! for those on which a rule falls.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::common::goals::Reads;
use crate::fault::{Fault, Often, Rule};
use crate::operation::{Of, Operation, Verb};

type Stream = BufReader<TcpStream>;

/// Ends with the test that started it.
pub struct Proxy {
    pub url: String,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    /// `host:port` of the store.
    store: String,
    bucket: String,
    /// Speaks to the store itself.
    client: Client,
    rules: Vec<Rule>,
    healed: AtomicBool,
    seen: Mutex<Seen>,
    /// Keys of the records that the probe has made.
    of_probe: Mutex<BTreeSet<String>>,
    reads: Mutex<Reads>,
}

/// What has passed so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Per rule, the requests that it is about, and how many of them were struck.
    pub matched: Vec<usize>,
    pub struck: Vec<usize>,
    /// Bytes of objects and parts that the store took, and bytes of objects that it gave.
    pub written: u64,
    pub read: u64,
    /// Key and id of every upload that the store opened, told or not.
    pub uploads: Vec<(String, String)>,
    /// Of the last rule, which is the fault in question.
    pub first_fault: Option<Timestamp>,
    last_fault: Option<Instant>,
    /// From the last fault until a request passed on which it could have fallen.
    pub went_on: Option<Duration>,
}

impl Proxy {
    /// `store`: the URL of a store over http.
    pub async fn start(store: &str, bucket: &str, client: Client, rules: &[Rule], reads: Reads) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            store: store.strip_prefix("http://").unwrap().to_owned(),
            bucket: bucket.to_owned(),
            client,
            rules: rules.to_vec(),
            healed: AtomicBool::default(),
            seen: Mutex::new(Seen {
                matched: vec![0; rules.len()],
                struck: vec![0; rules.len()],
                ..Seen::default()
            }),
            of_probe: Mutex::default(),
            reads: Mutex::new(reads),
        });
        let accepting = {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(serve(client, Arc::clone(&shared)));
                }
            })
        };
        Self {
            url,
            shared,
            accepting: accepting.abort_handle(),
        }
    }

    pub fn heal(&self) {
        self.shared.healed.store(true, Ordering::SeqCst);
    }

    pub fn seen(&self) -> Seen {
        self.shared.seen.lock().unwrap().clone()
    }

    pub fn reads(&self) -> Reads {
        self.shared.reads.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    /// The fault of the first rule that strikes this request.
    fn strikes(&self, operation: &Operation) -> Option<Fault> {
        let mut seen = self.seen.lock().unwrap();
        let mut fault = None;
        for (index, rule) in self.rules.iter().enumerate() {
            if !rule.on.matches(operation) {
                continue;
            }
            seen.matched[index] += 1;
            let left = match rule.often {
                Often::Times(times) => seen.struck[index] < times,
                Often::UntilKnown | Often::ForEver => true,
            };
            let left = left && !self.healed.load(Ordering::SeqCst);
            if fault.is_none() && left && seen.matched[index] > rule.after {
                seen.struck[index] += 1;
                if index + 1 == self.rules.len() {
                    seen.first_fault.get_or_insert_with(Timestamp::now);
                }
                seen.last_fault = Some(Instant::now());
                seen.went_on = None;
                fault = Some(rule.fault);
            } else if fault.is_none() && seen.went_on.is_none() {
                seen.went_on = seen.last_fault.map(|fault| fault.elapsed());
            }
        }
        fault
    }
}

/// The head of a request or of an answer, and how long what follows is.
struct Head {
    text: String,
    body: Body,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunks,
    UntilClosed,
}

impl Head {
    async fn read(stream: &mut Stream) -> Option<Self> {
        let mut text = String::new();
        loop {
            let before = text.len();
            if stream.read_line(&mut text).await.ok()? == 0 {
                return None;
            }
            if text.len() - before == 2 {
                break;
            }
        }
        let mut head = Self {
            text,
            body: Body::UntilClosed,
        };
        if let Some(length) = head.header("content-length") {
            head.body = Body::Length(length.parse().unwrap());
        } else if head.header("transfer-encoding").is_some() {
            head.body = Body::Chunks;
        }
        Some(head)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// The last byte of the range that a request asks for.
    fn last_byte(&self) -> Option<u64> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.split_once('-')?.1.parse().ok()
    }

    fn words(&self) -> (&str, &str) {
        let mut words = self.text.split(' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }
}

/// Serves one connection of a client by one connection to the store. `None` when one of them has ended.
async fn serve(client: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut client = BufReader::new(client);
    let mut store = None;
    loop {
        let request = Head::read(&mut client).await?;
        let (method, target) = request.words();
        let mut operation = Operation::of_request(method, target);
        let length = match request.body {
            Body::Length(length) => length,
            Body::Chunks | Body::UntilClosed => 0,
        };
        if let (Verb::Get, Of::Source, Some(last)) = (operation.verb, operation.of, request.last_byte()) {
            shared.reads.lock().unwrap().take(&operation.key, last);
        }
        let mut body = Vec::new();
        if operation.is_told_by_its_body() {
            (&mut client).take(length).read_to_end(&mut body).await.ok()?;
            let text = String::from_utf8_lossy(&body);
            operation.read_body(&text, &mut shared.of_probe.lock().unwrap());
        }
        let mut rest = (&mut client).take(length - body.len() as u64);
        match shared.strikes(&operation) {
            Some(fault @ (Fault::Error(..) | Fault::Bare(_) | Fault::Page(_) | Fault::InSuccess(_))) => {
                copy(&mut rest, &mut tokio::io::sink()).await?;
                client.write_all(answer(fault, method).as_bytes()).await.ok()?;
            }
            fault => {
                if fault == Some(Fault::UploadEnded) {
                    end_upload(&shared, &operation).await;
                }
                let store = match &mut store {
                    Some(store) => store,
                    None => store.insert(BufReader::new(TcpStream::connect(&shared.store).await.ok()?)),
                };
                store.write_all(request.text.as_bytes()).await.ok()?;
                store.write_all(&body).await.ok()?;
                copy(&mut rest, store).await?;
                let answer = Head::read(store).await?;
                Exchange {
                    shared: &shared,
                    operation: &operation,
                    sent: length,
                }
                .hand_back(method, answer, store, &mut client, fault)
                .await?;
            }
        }
    }
}

async fn end_upload(shared: &Shared, operation: &Operation) {
    let abort = shared.client.abort_multipart_upload().bucket(&shared.bucket);
    let abort = abort.key(&operation.key).set_upload_id(operation.upload.clone());
    abort.send().await.unwrap();
}

struct Exchange<'a> {
    shared: &'a Shared,
    operation: &'a Operation,
    sent: u64,
}

impl Exchange<'_> {
    /// Passes an answer on as it comes, and takes down what it says.
    async fn hand_back(
        &self,
        method: &str,
        answer: Head,
        store: &mut Stream,
        client: &mut Stream,
        fault: Option<Fault>,
    ) -> Option<()> {
        let (_, status) = answer.words();
        let body = match (method, status) {
            ("HEAD", _) | (_, "204" | "304") => Body::Length(0),
            _ => answer.body,
        };
        let success = status.starts_with('2');
        let small = self.operation.verb == Verb::Create || fault.is_some();
        if !small {
            client.write_all(answer.text.as_bytes()).await.ok()?;
            let passed = pass(body, store, client).await?;
            self.take_down(success, passed);
            return (body != Body::UntilClosed).then_some(());
        }
        let mut whole = Vec::new();
        pass(body, store, &mut whole).await?;
        self.take_down(success, whole.len() as u64);
        if success && self.operation.verb == Verb::Create {
            let text = String::from_utf8_lossy(&whole);
            let id = text.split("<UploadId>").nth(1).unwrap();
            let id = id.split("</UploadId>").next().unwrap().to_owned();
            let key = self.operation.key.clone();
            self.shared.seen.lock().unwrap().uploads.push((key, id));
        }
        match fault {
            Some(Fault::AnswerLost) => return None,
            Some(Fault::AnswerCut) => {
                client.write_all(answer.text.as_bytes()).await.ok()?;
                client.write_all(&whole[..whole.len() / 2]).await.ok()?;
                client.flush().await.ok()?;
                return None;
            }
            _ => {}
        }
        client.write_all(answer.text.as_bytes()).await.ok()?;
        client.write_all(&whole).await.ok()
    }

    fn take_down(&self, success: bool, given: u64) {
        let mut seen = self.shared.seen.lock().unwrap();
        match self.operation.verb {
            Verb::Put | Verb::UploadPart if success => seen.written += self.sent,
            Verb::Get if success => seen.read += given,
            _ => {}
        }
    }
}

/// Copies a body with its framing. Returns its length.
async fn pass(body: Body, from: &mut Stream, to: &mut (impl tokio::io::AsyncWrite + Unpin)) -> Option<u64> {
    match body {
        Body::Length(length) => copy(&mut from.take(length), to).await,
        Body::UntilClosed => copy(from, to).await,
        Body::Chunks => {
            let mut passed = 0;
            loop {
                let mut size = String::new();
                from.read_line(&mut size).await.ok()?;
                to.write_all(size.as_bytes()).await.ok()?;
                let length = u64::from_str_radix(size.trim(), 16).unwrap();
                // The line break after it, too.
                passed += copy(&mut from.take(length + 2), to).await? - 2;
                if length == 0 {
                    return Some(passed);
                }
            }
        }
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> Option<u64> {
    tokio::io::copy(from, to).await.ok()
}

fn answer(fault: Fault, method: &str) -> String {
    let xml = |code: &str| format!("<Error><Code>{code}</Code><Message>by the test</Message></Error>");
    let (status, kind, body) = match fault {
        Fault::Error(status, code) => (status, "application/xml", xml(code)),
        Fault::InSuccess("DeleteResult") => (200, "application/xml", DELETE_FAILED.to_owned()),
        Fault::InSuccess(code) => (200, "application/xml", xml(code)),
        Fault::Page(status) => (
            status,
            "text/html",
            "<html><body>gateway</body></html>".to_owned(),
        ),
        Fault::Bare(status) => (status, "text/plain", String::new()),
        Fault::AnswerLost | Fault::AnswerCut | Fault::UploadEnded => unreachable!("passes through"),
    };
    let length = body.len();
    let body = if method == "HEAD" { "" } else { &body };
    format!("HTTP/1.1 {status} Said\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// A bulk delete in which one key failed.
const DELETE_FAILED: &str = "<DeleteResult><Error><Key>some/key</Key><Code>InternalError</Code>\
    <Message>by the test</Message></Error></DeleteResult>";
