//! The servers that are measured against, each a process of its own, and the client that all use.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use compaction_operator::store::{AccessKeys, CredentialsFrom, Object, S3, Settings, Store};

use crate::block_on;
use crate::common::{Embedded, Endpoint, Minio};

pub const BUCKET: &str = "bench";

pub async fn store(endpoint: &Endpoint) -> Arc<dyn Store> {
    let mut settings = Settings::new(BUCKET);
    settings.endpoint = Some(endpoint.url.clone());
    settings.credentials = CredentialsFrom::Keys(AccessKeys {
        access_key: endpoint.access_key.clone(),
        secret_key: endpoint.secret_key.clone(),
    });
    Arc::new(S3::new(&settings).await.unwrap())
}

pub async fn list(store: &dyn Store, prefix: &str) -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    loop {
        let after = objects.last().map(|object| object.key.clone());
        let page = store.list(prefix, after.as_deref()).await.unwrap();
        objects.extend(page.objects);
        if !page.more {
            return objects;
        }
    }
}

/// Until standard input closes.
pub async fn serve(dir: &Path) {
    let (endpoint, _server) = Embedded::serve(dir).await;
    println!(
        "{}\n{}\n{}",
        endpoint.url, endpoint.access_key, endpoint.secret_key
    );
    tokio::task::spawn_blocking(|| std::io::stdin().lines().count())
        .await
        .unwrap();
}

#[derive(Clone, Copy)]
pub enum Kind {
    Minio,
    Embedded,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Minio => "minio",
            Self::Embedded => "embedded",
        }
    }
}

/// A server with an empty bucket.
pub struct Server {
    pub endpoint: Endpoint,
    /// Where the embedded server keeps objects, as files.
    pub directory: PathBuf,
    /// Ends it.
    _process: Box<dyn std::any::Any>,
}

impl Server {
    pub fn start(kind: Kind) -> Self {
        let server = match kind {
            Kind::Minio => {
                let minio = Minio::start();
                Self {
                    endpoint: minio.endpoint.clone(),
                    directory: PathBuf::new(),
                    _process: Box::new(minio),
                }
            }
            Kind::Embedded => EmbeddedProcess::start(),
        };
        let client = server.endpoint.client();
        block_on(client.create_bucket().bucket(BUCKET).send()).unwrap();
        server
    }

    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("AWS_ACCESS_KEY_ID", &self.endpoint.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.endpoint.secret_key)
            .env("BENCH_ENDPOINT", &self.endpoint.url)
            .stderr(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    pub fn clear(&self, prefix: &str) {
        block_on(async {
            let store = store(&self.endpoint).await;
            let keys: Vec<String> = list(&*store, prefix).await.into_iter().map(|o| o.key).collect();
            for keys in keys.chunks(1000) {
                store.delete(keys).await.unwrap();
            }
        });
    }
}

/// The embedded server in a process of its own.
struct EmbeddedProcess {
    directory: tempfile::TempDir,
    child: Child,
    _input: ChildStdin,
}

impl EmbeddedProcess {
    fn start() -> Server {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", directory.path().to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let endpoint = Endpoint {
            url: line(),
            access_key: line(),
            secret_key: line(),
        };
        let process = Self {
            directory,
            child,
            _input: input,
        };
        Server {
            endpoint,
            directory: process.directory.path().to_owned(),
            _process: Box::new(process),
        }
    }
}

impl Drop for EmbeddedProcess {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
