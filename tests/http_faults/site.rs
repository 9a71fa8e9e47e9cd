//! One job in a bucket of its own, run by the program through a proxy, and what is left of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::common::goals::{Reads, WINDOW};
use crate::common::{Endpoint, Minio, random};
use crate::fault::Rule;
use crate::operation::Verb;
use crate::proxy::Proxy;
use crate::shape::Shape;

/// Longer than any run takes; one that hangs is told from one that is slow.
pub const HANGS: Duration = Duration::from_mins(4);
/// Of a log, for whoever has to find out.
const LAST_LINES: usize = 40;

/// Name without the plan's hash, to digest.
pub type Outputs = BTreeMap<String, String>;

pub struct Site {
    shape: Shape,
    endpoint: Endpoint,
    pub client: Client,
    pub bucket: String,
    pub proxy: Proxy,
    /// Of manifests and states.
    files: TempDir,
    sources: Vec<String>,
}

/// What a command said, and how it ended.
pub struct Said {
    pub code: Option<i32>,
    pub text: String,
}

impl Site {
    /// A bucket with the sources of a shape, and a proxy in front of it.
    pub async fn new(shape: Shape, rules: &[Rule]) -> Self {
        let endpoint = Minio::shared().endpoint.clone();
        let client = endpoint.client();
        let bucket = format!("bucket-{}", random());
        client.create_bucket().bucket(&bucket).send().await.unwrap();
        let files = tempfile::tempdir().unwrap();
        let reads = Reads::new(shape.sources(), state_path(files.path(), "job"));
        let proxy = Proxy::start(&endpoint.url, &bucket, client.clone(), rules, reads).await;
        let mut site = Self {
            shape,
            endpoint,
            client,
            bucket,
            proxy,
            files,
            sources: Vec::new(),
        };
        let copies = shape.sources().iter().map(|(key, _)| {
            let copy = site.client.copy_object().bucket(&site.bucket).key(key);
            copy.copy_source(format!("{}/{key}", shape.name())).send()
        });
        let copies: Vec<_> = copies.collect();
        all(copies).await;
        site.sources
            .extend(shape.sources().iter().map(|(key, _)| key.clone()));
        site
    }

    /// Puts the sources of a shape into a bucket of its name, once for all cases.
    pub async fn put_sources(shape: Shape) {
        let client = Minio::shared().endpoint.client();
        let bucket = shape.name();
        client.create_bucket().bucket(bucket).send().await.unwrap();
        let puts = shape.sources().iter().map(|(key, bytes)| {
            let put = client.put_object().bucket(bucket).key(key);
            put.body(bytes.clone().into()).send()
        });
        all(puts.collect()).await;
    }

    pub async fn put(&mut self, objects: Vec<(String, Bytes)>) {
        self.sources.extend(objects.iter().map(|(key, _)| key.clone()));
        let puts = objects.into_iter().map(|(key, bytes)| {
            let put = self.client.put_object().bucket(&self.bucket);
            put.key(key).body(bytes.into()).send()
        });
        all(puts.collect()).await;
    }

    fn command(&self, job: &str, command: &str, more: &Value) -> Command {
        let mut spec = self.shape.spec(&self.bucket, &self.proxy.url);
        json_patch::merge(&mut spec, more);
        let job_yaml = json!({
            "apiVersion": "compaction.dev/v1alpha1",
            "kind": "CompactionJob",
            "metadata": {"name": job},
            "spec": spec,
        });
        let path = self.files.path().join(format!("{job}.yaml"));
        std::fs::write(&path, job_yaml.to_string()).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_compaction-operator"));
        program.arg(command).arg("-f").arg(path);
        program.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        program
            .env("AWS_ACCESS_KEY_ID", &self.endpoint.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.endpoint.secret_key);
        program.stdin(Stdio::null()).kill_on_drop(true);
        program.stdout(Stdio::piped()).stderr(Stdio::piped());
        program
    }

    /// Its log goes to a file: it is longer than what a pipe holds.
    pub fn start(&self, job: &str, more: &Value) -> Child {
        let mut run = self.command(job, "run", more);
        run.arg("--window").arg(WINDOW.to_string());
        run.env("COMPACTION_LOG", "compaction_operator=debug")
            .env("COMPACTION_LOG_FORMAT", "json")
            .stderr(File::create(self.log_path(job)).unwrap());
        run.spawn().unwrap()
    }

    pub async fn run(&self, job: &str, more: &Value) -> Said {
        let said = end(self.start(job, more)).await;
        self.with_log(job, said)
    }

    fn log_path(&self, job: &str) -> PathBuf {
        self.files.path().join(format!("{job}.log"))
    }

    /// What a run of this job has said, with the last lines of its log for whoever has to find out.
    pub fn with_log(&self, job: &str, mut said: Said) -> Said {
        let log = std::fs::read_to_string(self.log_path(job)).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        said.text.push_str(&last.join("\n"));
        said
    }

    /// When an attempt at an operation of this kind, or of any, failed for the first time since then.
    pub fn failed_attempt(&self, job: &str, verb: Option<Verb>, since: Timestamp) -> Option<Timestamp> {
        let operation = verb.map(|verb| verb.to_string());
        let log = std::fs::read_to_string(self.log_path(job)).unwrap();
        let events = log.lines().filter_map(|line| serde_json::from_str(line).ok());
        let failed = events.filter(|event: &Value| {
            let fields = &event["fields"];
            let concerned = operation
                .as_ref()
                .is_none_or(|name| fields["operation"] == **name);
            concerned && fields["message"] == "attempt failed"
        });
        let mut times = failed.map(|event| event["timestamp"].as_str().unwrap().parse().unwrap());
        times.find(|time| *time >= since)
    }

    pub async fn verify(&self, job: &str) -> Said {
        end(self.command(job, "verify", &json!({})).spawn().unwrap()).await
    }

    /// The job as its state file has it.
    pub fn state(&self, job: &str) -> Value {
        let bytes = std::fs::read(state_path(self.files.path(), job)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Message of a condition.
    pub fn condition(&self, job: &str, type_: &str) -> String {
        let state = self.state(job);
        let mut conditions = state["status"]["conditions"].as_array().unwrap().iter();
        let condition = conditions.find(|condition| condition["type"] == type_).unwrap();
        condition["message"].as_str().unwrap().to_owned()
    }

    pub async fn get(&self, key: &str) -> Vec<u8> {
        let object = self.client.get_object().bucket(&self.bucket).key(key);
        let object = object.send().await.unwrap();
        object.body.collect().await.unwrap().to_vec()
    }

    async fn keys(&self) -> BTreeSet<String> {
        let list = self.client.list_objects_v2().bucket(&self.bucket);
        let pages: Vec<_> = list.into_paginator().send().try_collect().await.unwrap();
        let objects = pages
            .into_iter()
            .flat_map(|page| page.contents.unwrap_or_default());
        objects.map(|object| object.key.unwrap()).collect()
    }

    /// The digests of what a job's manifest names.
    pub async fn outputs(&self, job: &str) -> Outputs {
        let manifest = self.manifest(job).await;
        let mut outputs = Outputs::new();
        for output in manifest["outputs"].as_array().unwrap() {
            let key = output["key"].as_str().unwrap();
            let digest = hex::encode(Sha256::digest(self.get(key).await));
            assert_eq!(outputs.insert(without_hash(key), digest), None, "{key}");
        }
        outputs
    }

    pub async fn manifest(&self, job: &str) -> Value {
        let key = format!("{}manifest.json", self.directory(job));
        serde_json::from_slice(&self.get(&key).await).unwrap()
    }

    fn directory(&self, job: &str) -> String {
        let state = self.state(job);
        let uid = state["metadata"]["uid"].as_str().unwrap();
        format!("out/_compaction/{uid}/")
    }

    /// What is in the bucket beside the sources and what published jobs leave: nothing, unless something
    /// leaks. The last job has taken over the consumed lists of the others.
    pub async fn leaks(&self, jobs: &[&str]) -> Vec<String> {
        let mut expected: BTreeSet<String> = self.sources.iter().cloned().collect();
        expected.insert(format!("{}consumed.jsonl", self.directory(jobs.last().unwrap())));
        for job in jobs {
            let directory = self.directory(job);
            expected.extend(["manifest.json", "_SUCCESS"].map(|file| format!("{directory}{file}")));
            let manifest = self.manifest(job).await;
            let outputs = manifest["outputs"].as_array().unwrap().iter();
            expected.extend(outputs.map(|output| output["key"].as_str().unwrap().to_owned()));
        }
        let found = self.keys().await;
        let missing = expected.difference(&found).map(|key| format!("missing: {key}"));
        let leaked = found.difference(&expected).map(|key| format!("left: {key}"));
        let mut wrong: Vec<String> = missing.chain(leaked).collect();
        for (key, id) in self.proxy.seen().uploads {
            if self.parts(&key, &id).await.is_some() {
                wrong.push(format!("open upload of {key}"));
            }
        }
        wrong
    }

    /// Empties the bucket: those of all cases together would fill a small disk.
    pub async fn empty(&self) {
        let objects = self.keys().await.into_iter();
        let objects = objects.map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
        let delete = Delete::builder()
            .set_objects(Some(objects.collect()))
            .build()
            .unwrap();
        let deleted = self.client.delete_objects().bucket(&self.bucket).delete(delete);
        let deleted = deleted.send().await.unwrap();
        assert!(deleted.errors().is_empty(), "{:?}", deleted.errors());
    }

    /// ETags of the parts of an upload, if it is open.
    async fn parts(&self, key: &str, id: &str) -> Option<Vec<String>> {
        let parts = self
            .client
            .list_parts()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(id);
        match parts.send().await {
            Ok(listed) => {
                let parts = listed.parts.unwrap_or_default();
                Some(parts.into_iter().map(|part| part.e_tag.unwrap()).collect())
            }
            Err(error) => {
                let error = error.into_service_error();
                assert_eq!(error.meta().code(), Some("NoSuchUpload"), "{error:?}");
                None
            }
        }
    }

    /// What the checkpoint claims to be stored and is not. The checkpoint must not move meanwhile.
    pub async fn untrue_claims(&self, job: &str) -> Vec<String> {
        let state = self.state(job);
        let checkpoint = &state["status"]["shards"][0]["checkpoint"];
        let Some(name) = checkpoint["body"].as_str().filter(|name| !name.is_empty()) else {
            return Vec::new();
        };
        let uid = state["metadata"]["uid"].as_str().unwrap();
        let ledger = format!("_compaction/local/{uid}/");
        let body: Value = serde_json::from_slice(&self.get(&format!("{ledger}{name}")).await).unwrap();
        let keys = self.keys().await;
        let mut untrue = Vec::new();
        for output in body["finished"].as_array().unwrap() {
            if !keys.contains(output["key"].as_str().unwrap()) {
                untrue.push(format!("finished: {output}"));
            }
        }
        let open = &body["open"];
        if let Some(tail) = open["tail"]["name"].as_str() {
            let bytes = self.get(&format!("{ledger}{tail}")).await;
            if hex::encode(Sha256::digest(bytes)) != open["tail"]["sha256"] {
                untrue.push(format!("tail: {tail}"));
            }
        }
        let upload = &open["upload"]["open"];
        if let Some(id) = upload["id"].as_str() {
            let listed = self.parts(open["key"].as_str().unwrap(), id).await;
            for part in upload["parts"].as_array().unwrap() {
                if listed
                    .as_ref()
                    .is_some_and(|listed| !listed.iter().any(|p| part == p))
                {
                    untrue.push(format!("part: {part}"));
                }
            }
        }
        untrue
    }
}

fn state_path(files: &Path, job: &str) -> PathBuf {
    files.join(format!("{job}.state.json"))
}

/// `out/large/part-0123456789ab-000-00000.log` without the hash, which the job's UID is part of.
fn without_hash(key: &str) -> String {
    let (directory, name) = key.split_once("part-").unwrap();
    format!("{directory}{}", &name[12..])
}

/// A few requests at a time.
async fn all<T, E: std::fmt::Debug>(requests: Vec<impl Future<Output = Result<T, E>>>) {
    let sent = stream::iter(requests).buffer_unordered(4);
    sent.try_for_each(async |_| Ok(())).await.unwrap();
}

pub async fn end(child: Child) -> Said {
    let output = tokio::time::timeout(HANGS, child.wait_with_output()).await;
    let output = output.expect("the command hangs").unwrap();
    Said {
        code: output.status.code(),
        text: format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}
