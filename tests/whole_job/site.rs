//! A bucket on one of the servers, and the program run against it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, ExpirationStatus, LifecycleRule,
    LifecycleRuleFilter,
};
use bytes::Bytes;
use compaction_operator::api::CompactionJob;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::common::{Embedded, Endpoint, Minio, Program, free_address, open_uploads, random};

/// Longer than any run takes; one that hangs is told from one that is slow.
const HANGS: Duration = Duration::from_mins(10);

pub struct Site {
    place: Place,
    bucket: String,
    /// Of manifests and states.
    files: TempDir,
}

enum Place {
    Program(Program, Endpoint),
    /// Has the server to itself, so that what is on its disk is its own.
    Minio(Minio, TempDir),
    /// Served by the test and by the program in turns.
    Folder(PathBuf, #[allow(dead_code)] TempDir),
}

impl Site {
    pub async fn of(program: Program) -> Self {
        if program == Program::Minio {
            return Self::minio().await;
        }
        let endpoint = tokio::task::spawn_blocking(move || program.endpoint())
            .await
            .unwrap();
        Self::new(Place::Program(program, endpoint.clone())).await
    }

    async fn minio() -> Self {
        let disk = tempfile::tempdir().unwrap();
        let path = disk.path().to_owned();
        let start = move || Minio::over(&path, free_address(), (random(), random()));
        let minio = tokio::task::spawn_blocking(start).await.unwrap();
        Self::new(Place::Minio(minio, disk)).await
    }

    pub async fn folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::new(Place::Folder(folder.path().to_owned(), folder)).await
    }

    async fn new(place: Place) -> Self {
        let site = Self {
            place,
            bucket: format!("bucket-{}", random()),
            files: tempfile::tempdir().unwrap(),
        };
        site.visit(async |bucket| {
            let create = bucket.client.create_bucket().bucket(&bucket.name);
            create.send().await.unwrap();
        })
        .await;
        site
    }

    pub fn is_slow(&self) -> bool {
        matches!(self.place, Place::Program(Program::Moto, _))
    }

    pub fn honours_conditional_deletes(&self) -> bool {
        !matches!(self.place, Place::Minio(..))
    }

    /// Of a server that goes on between visits.
    fn endpoint(&self) -> Option<&Endpoint> {
        match &self.place {
            Place::Program(_, endpoint) => Some(endpoint),
            Place::Minio(minio, _) => Some(&minio.endpoint),
            Place::Folder(..) => None,
        }
    }

    /// MinIO's.
    fn disk(&self) -> Option<PathBuf> {
        match &self.place {
            Place::Minio(_, disk) => Some(disk.path().to_owned()),
            Place::Program(..) | Place::Folder(..) => None,
        }
    }

    /// Looks into the bucket, or changes it, while the program does not run.
    pub async fn visit<T>(&self, visit: impl AsyncFnOnce(&Bucket) -> T) -> T {
        let bucket = |endpoint: &Endpoint| Bucket {
            client: endpoint.client(),
            name: self.bucket.clone(),
            disk: self.disk(),
        };
        if let Place::Folder(path, _) = &self.place {
            let (endpoint, server) = Embedded::serve(path).await;
            let seen = visit(&bucket(&endpoint)).await;
            server.stop().await;
            return seen;
        }
        visit(&bucket(self.endpoint().unwrap())).await
    }

    /// Starts `run` on a job of this name; `spec` adds to what all jobs here have.
    pub fn start(&self, name: &str, spec: &Value, format: &str) -> Child {
        let manifest = self.files.path().join(format!("{name}.yaml"));
        let job = self.job(name, spec);
        std::fs::write(&manifest, serde_json::to_string_pretty(&job).unwrap()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_compaction-operator"));
        command
            .args(["run", "--output", format, "--filename"])
            .arg(manifest);
        command.arg("--state").arg(self.state_path(name));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        if let Some(endpoint) = self.endpoint() {
            command.env("AWS_ACCESS_KEY_ID", &endpoint.access_key);
            command.env("AWS_SECRET_ACCESS_KEY", &endpoint.secret_key);
        }
        if let Place::Folder(path, _) = &self.place {
            command.arg("--store").arg(path);
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn job(&self, name: &str, spec: &Value) -> Value {
        let mut job = json!({
            "apiVersion": "compaction.dev/v1alpha1",
            "kind": "CompactionJob",
            "metadata": {"name": name},
            "spec": {
                "storage": {"s3": {"bucket": self.bucket}},
                "source": {"prefix": "in/", "minObjectAgeSeconds": 0},
                "output": {"prefix": "out/", "targetObjectSize": "12Mi"},
                "statePrefix": "state/",
                "batch": {"size": "2Mi", "backoffPeriodSeconds": 0},
                "upload": {"partSize": "5Mi"},
                "parallelism": 3,
            },
        });
        if let Some(endpoint) = self.endpoint() {
            job["spec"]["storage"]["s3"]["endpoint"] = json!(endpoint.url);
        }
        for (field, value) in spec.as_object().unwrap() {
            job["spec"][field] = value.clone();
        }
        job
    }

    fn state_path(&self, name: &str) -> PathBuf {
        self.files.path().join(format!("{name}.state.json"))
    }

    /// The job as its state file has it; `None` before there is one.
    pub fn state(&self, name: &str) -> Option<CompactionJob> {
        let state = std::fs::read(self.state_path(name)).ok()?;
        Some(serde_json::from_slice(&state).unwrap())
    }

    /// Runs a job that succeeds, and returns it as it was printed.
    pub async fn run(&self, name: &str, spec: &Value) -> CompactionJob {
        succeeded(self.start(name, spec, "json")).await
    }
}

pub async fn end(child: Child) -> Output {
    let output = tokio::time::timeout(HANGS, child.wait_with_output()).await;
    output.expect("the run hangs").unwrap()
}

/// The job that a run which succeeds has printed.
pub async fn succeeded(child: Child) -> CompactionJob {
    let Output {
        status,
        stdout,
        stderr,
    } = end(child).await;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    assert!(status.success(), "{status}: {said}");
    serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

pub struct Bucket {
    client: Client,
    name: String,
    /// Of the server, where that does not list uploads.
    disk: Option<PathBuf>,
}

impl Bucket {
    pub async fn put_all(&self, objects: impl IntoIterator<Item = (String, Bytes)>) {
        let puts = objects.into_iter().map(|(key, body)| {
            let put = self.client.put_object().bucket(&self.name);
            put.key(key).body(body.into()).send()
        });
        let mut puts = stream::iter(puts).buffer_unordered(16);
        while let Some(put) = puts.next().await {
            put.unwrap();
        }
    }

    pub async fn get(&self, key: &str) -> Bytes {
        let object = self.client.get_object().bucket(&self.name).key(key);
        let object = object
            .send()
            .await
            .unwrap_or_else(|error| panic!("{key}: {error:?}"));
        object.body.collect().await.unwrap().into_bytes()
    }

    /// Every key of the bucket with its ETag.
    pub async fn etags(&self) -> BTreeMap<String, String> {
        let list = self.client.list_objects_v2().bucket(&self.name);
        let mut pages = list.into_paginator().send();
        let mut etags = BTreeMap::new();
        while let Some(page) = pages.next().await {
            let objects = page.unwrap().contents.unwrap_or_default();
            etags.extend(
                objects
                    .into_iter()
                    .map(|object| (object.key.unwrap(), object.e_tag.unwrap())),
            );
        }
        etags
    }

    /// Gives the bucket a rule that aborts every upload after so many days.
    pub async fn abort_uploads_after(&self, days: i32) {
        let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(days);
        let rule = LifecycleRule::builder()
            .id("uploads")
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix("").build())
            .abort_incomplete_multipart_upload(abort.build());
        let rules = BucketLifecycleConfiguration::builder().rules(rule.build().unwrap());
        let put = self.client.put_bucket_lifecycle_configuration();
        let put = put
            .bucket(&self.name)
            .lifecycle_configuration(rules.build().unwrap());
        put.send().await.unwrap();
    }

    pub async fn open_uploads(&self) -> Vec<String> {
        if let Some(disk) = &self.disk {
            return open_uploads(disk);
        }
        let list = self.client.list_multipart_uploads().bucket(&self.name);
        let uploads = list.send().await.unwrap().uploads.unwrap_or_default();
        uploads.into_iter().filter_map(|upload| upload.key).collect()
    }
}
