//! Toxiproxy as a process, and its HTTP interface: ways to a server on which bytes are lost, held up or cut off.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::{Guarded, build, free_address, random};

pub struct Toxiproxy {
    interface: SocketAddr,
    _server: Guarded,
}

impl Toxiproxy {
    /// One process for all faults; blocks until it answers.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Toxiproxy> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let interface = free_address();
        let (host, port) = (interface.ip().to_string(), interface.port().to_string());
        let program = build("toxiproxy").to_str().unwrap().to_owned();
        let command = [&program, "-host", &host, "-port", &port].map(str::to_owned);
        let mut server = Guarded::start(|_| command.to_vec(), &[]);
        let deadline = Instant::now() + Duration::from_mins(1);
        while std::net::TcpStream::connect(interface).is_err() {
            assert!(!server.has_ended(), "toxiproxy ended while starting");
            assert!(
                Instant::now() < deadline,
                "toxiproxy does not listen after a minute"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            interface,
            _server: server,
        }
    }

    /// A new way to a server, on which nothing happens yet.
    pub async fn way_to(&self, upstream: SocketAddr) -> Way {
        let name = random();
        let proxy = json!({"name": name, "listen": "127.0.0.1:0", "upstream": upstream, "enabled": true});
        let made = call(self.interface, "POST", "/proxies", Some(proxy)).await;
        Way {
            interface: self.interface,
            name,
            address: made["listen"].as_str().unwrap().parse().unwrap(),
        }
    }
}

/// Which bytes a toxic concerns.
#[derive(Debug, Clone, Copy)]
pub enum Stream {
    /// What the worker sends.
    Requests,
    /// What the server sends.
    Answers,
}

/// A proxy of Toxiproxy.
pub struct Way {
    interface: SocketAddr,
    name: String,
    pub address: SocketAddr,
}

impl Way {
    /// Puts a toxic on every connection, present and future, until [`Way::clear`].
    pub async fn poison(&self, kind: &str, stream: Stream, attributes: Value) {
        let stream = match stream {
            Stream::Requests => "upstream",
            Stream::Answers => "downstream",
        };
        let toxic = json!({
            "name": "toxic", "type": kind, "stream": stream, "toxicity": 1.0, "attributes": attributes,
        });
        let path = format!("/proxies/{}/toxics", self.name);
        call(self.interface, "POST", &path, Some(toxic)).await;
    }

    /// Removes the toxic. Connections that it has stopped are closed.
    pub async fn clear(&self) {
        let path = format!("/proxies/{}/toxics/toxic", self.name);
        call(self.interface, "DELETE", &path, None).await;
    }

    pub async fn close(&self) {
        call(self.interface, "DELETE", &format!("/proxies/{}", self.name), None).await;
    }
}

/// One request on a connection of its own; ends the test unless it succeeds.
async fn call(interface: SocketAddr, method: &str, path: &str, body: Option<Value>) -> Value {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {interface}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(interface).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap_or_default();
    assert!(status.starts_with('2'), "{method} {path}: {answer}");
    serde_json::from_str(body).unwrap_or_default()
}
