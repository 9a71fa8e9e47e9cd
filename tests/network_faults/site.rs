//! One job in a bucket of its own, and its way to the store: worker → gate → Toxiproxy → MinIO.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use aws_sdk_s3::Client;
use bytes::Bytes;
use compaction_operator::api::CompactionJob;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::process::Command;

use crate::common::goals::{Reads, WINDOW};
use crate::common::{Endpoint, random};
use crate::gate::Gate;
use crate::host::Host;
use crate::request::{Moment, Request};
use crate::run::{Run, read_job};
use crate::server::Server;
use crate::shape::Shape;
use crate::toxiproxy::{Toxiproxy, Way};

pub struct Site {
    pub server: Server,
    pub way: Way,
    pub gate: Gate,
    pub host: Host,
    bucket: String,
    shape: Shape,
    files: TempDir,
    traffic: Arc<Mutex<Traffic>>,
}

/// What the worker has asked of the store.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// Bytes of sources that were asked for.
    pub read: u64,
    /// Bytes of objects and parts that were sent.
    pub sent: u64,
    /// Names under which uploads were opened.
    opened: BTreeSet<String>,
    pub reads: Reads,
}

/// Of each output, in order: its name but for what depends on the job, and a hash of its bytes.
pub type Outputs = Vec<(String, String)>;

impl Site {
    pub async fn new(shape: Shape, server: Server, host: Host, spec: &Value) -> Self {
        let toxiproxy = tokio::task::spawn_blocking(Toxiproxy::shared).await.unwrap();
        let way = toxiproxy.way_to(server.address()).await;
        let bucket = format!("bucket-{}", random());
        let client = server.endpoint().client();
        client.create_bucket().bucket(&bucket).send().await.unwrap();
        put_all(&client, &bucket, &shape.sources()).await;
        let files = tempfile::tempdir().unwrap();
        let reads = Reads::new(&shape.sources(), state_path(files.path()));
        let traffic = Arc::new(Mutex::new(Traffic::new(reads)));
        let seen = {
            let traffic = Arc::clone(&traffic);
            move |request: Request| traffic.lock().unwrap().take(&request)
        };
        let gate = Gate::open(own_address(), way.address, &bucket, seen).await;
        let site = Self {
            server,
            way,
            gate,
            host,
            bucket,
            shape,
            files,
            traffic,
        };
        let through_the_gate = format!(
            "http://{}:{}",
            site.host.name(site.gate.address.ip()),
            site.gate.address.port()
        );
        site.hand_out_keys();
        site.write_manifest("job", &through_the_gate, spec);
        site.write_manifest("verify", &site.server.endpoint().url, spec);
        site
    }

    fn write_manifest(&self, name: &str, endpoint: &str, spec: &Value) {
        let mut job = json!({
            "apiVersion": "compaction.dev/v1alpha1",
            "kind": "CompactionJob",
            "metadata": {"name": "job"},
            "spec": self.shape.spec(),
        });
        job["spec"]["storage"] = json!({"s3": {"bucket": self.bucket, "endpoint": endpoint}});
        json_patch::merge(&mut job["spec"], spec);
        let text = serde_json::to_string_pretty(&job).unwrap();
        std::fs::write(self.manifest(name), text).unwrap();
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.files.path().join(format!("{name}.yaml"))
    }

    /// One that has the keys which are valid now.
    fn client(&self) -> Client {
        self.server.endpoint().client()
    }

    fn keys_file(&self) -> PathBuf {
        self.files.path().join("credentials")
    }

    /// Replaces the file that the program has its keys from by one with those that are valid now.
    pub fn hand_out_keys(&self) {
        let Endpoint {
            access_key,
            secret_key,
            ..
        } = self.server.endpoint();
        let new = self.files.path().join("credentials.new");
        let text =
            format!("[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.keys_file()).unwrap();
    }

    /// The program, in the surroundings that the test gives it.
    fn program(&self) -> Command {
        let mut program = self.host.command(env!("CARGO_BIN_EXE_compaction-operator"));
        program
            .env("AWS_SHARED_CREDENTIALS_FILE", self.keys_file())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("COMPACTION_LOG", "compaction_operator=debug")
            .env("COMPACTION_LOG_FORMAT", "json");
        program
    }

    pub fn start(&self) -> Run {
        let mut program = self.program();
        program.args(["run", "--output", "json", "--filename"]);
        program.arg(self.manifest("job"));
        program.arg("--window").arg(WINDOW.to_string());
        Run::start(program, state_path(self.files.path()))
    }

    pub fn traffic(&self) -> Traffic {
        self.traffic.lock().unwrap().clone()
    }

    pub fn job(&self) -> CompactionJob {
        read_job(&state_path(self.files.path())).unwrap()
    }

    /// Whether the program's own `verify` finds every record once.
    pub async fn verify(&self) -> Result<(), String> {
        let mut program = self.program();
        program
            .arg("verify")
            .arg("--filename")
            .arg(self.manifest("verify"));
        let verified = program.stdin(Stdio::null()).output().await.unwrap();
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        let failed = || format!("verify: {}: {said}", verified.status);
        verified.status.success().then_some(()).ok_or_else(failed)
    }

    pub async fn outputs(&self) -> Outputs {
        let (mut outputs, client) = (Vec::new(), self.client());
        for key in self.keys().await.into_iter().filter(|key| is_output(key)) {
            let object = client.get_object().bucket(&self.bucket).key(&key);
            let bytes = object
                .send()
                .await
                .unwrap()
                .body
                .collect()
                .await
                .unwrap()
                .into_bytes();
            let mut name: Vec<&str> = key.split('-').collect();
            // part-<plan>-<shard>-<number>
            name.remove(1);
            outputs.push((name.join("-"), hex::encode(Sha256::digest(&bytes))));
        }
        outputs
    }

    async fn keys(&self) -> BTreeSet<String> {
        let list = self.client().list_objects_v2().bucket(&self.bucket);
        let mut pages = list.into_paginator().send();
        let mut keys = BTreeSet::new();
        while let Some(page) = pages.next().await {
            let objects = page.unwrap().contents.unwrap_or_default();
            keys.extend(objects.into_iter().filter_map(|object| object.key));
        }
        keys
    }

    /// What is in the bucket beside sources, outputs and what publishes them, and uploads that are open.
    pub async fn left_over(&self) -> Vec<String> {
        let uid = self.job().metadata.uid.unwrap();
        let published = ["manifest.json", "_SUCCESS", "consumed.jsonl"];
        let published = published.map(|name| format!("out/_compaction/{uid}/{name}"));
        let wanted = |key: &String| key.starts_with("in/") || is_output(key) || published.contains(key);
        let mut left_over: Vec<String> = self.keys().await.into_iter().filter(|key| !wanted(key)).collect();
        // MinIO tells uploads only to those who ask for the very key.
        for key in self.traffic().opened {
            let list = self
                .client()
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .prefix(&key);
            let open = list.send().await.unwrap().uploads.unwrap_or_default();
            left_over.extend(open.iter().map(|_| format!("an open upload of {key}")));
        }
        left_over
    }

    pub async fn remove(self) {
        self.gate.refuse().await;
        self.way.close().await;
        let keys = stream::iter(self.keys().await);
        let client = self.client();
        let delete = |key: String| client.delete_object().bucket(&self.bucket).key(key).send();
        keys.for_each_concurrent(8, async |key| drop(delete(key).await.unwrap()))
            .await;
        client.delete_bucket().bucket(&self.bucket).send().await.unwrap();
    }
}

impl Traffic {
    fn new(reads: Reads) -> Self {
        Self {
            read: 0,
            sent: 0,
            opened: BTreeSet::new(),
            reads,
        }
    }

    fn take(&mut self, request: &Request) {
        if request.is_at(Moment::Opening) {
            self.opened.insert(request.key.clone());
        }
        self.sent += request.length;
        if let Some((first, last)) = request.range.filter(|_| request.is_at(Moment::Reading)) {
            self.read += last - first + 1;
            self.reads.take(&request.key, last);
        }
    }
}

fn state_path(files: &Path) -> PathBuf {
    files.join("job.state.json")
}

fn is_output(key: &str) -> bool {
    key.starts_with("out/") && !key.starts_with("out/_compaction/")
}

/// An address that can be given up and taken again: connections of others come from 127.0.0.1.
pub fn own_address() -> SocketAddr {
    let [a, b, c] = [(); 3].map(|()| fastrand::u8(1..255));
    let listener = TcpListener::bind((Ipv4Addr::new(127, a, b, c), 0)).unwrap();
    listener.local_addr().unwrap()
}

async fn put_all(client: &Client, bucket: &str, objects: &[(String, Bytes)]) {
    let puts = objects.iter().cloned().map(|(key, body)| {
        let put = client.put_object().bucket(bucket).key(key);
        put.body(body.into()).send()
    });
    let mut puts = stream::iter(puts).buffer_unordered(8);
    while let Some(put) = puts.next().await {
        put.unwrap();
    }
}
