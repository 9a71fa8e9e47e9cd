//! The worker as a pod runs it: the program itself, an API server and a store over HTTP. What it is told by
//! flags, what it says by its exit code and its termination message, and what signals mean.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api_server;
#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use api_server::ApiServer;
use common::program::{Said, finish, signal, wait_for};
use common::{Embedded, free_address};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A pod's surroundings: the job on its server, the store, and the files that the kubelet mounts.
struct Cluster {
    api: ApiServer,
    store: Embedded,
    files: TempDir,
}

const MESSAGE: &str = "termination-log";

impl Cluster {
    async fn new() -> Self {
        Self::with(20, 20_000, &json!({"prefix": "out/"})).await
    }

    /// A job of so many batches of so many lines, planned by nobody yet, whose first epoch has begun.
    async fn with(batches: u32, lines: u32, output: &Value) -> Self {
        let store = Embedded::start().await;
        let bucket = store.bucket("bucket");
        fs::create_dir(bucket.join("in")).unwrap();
        for number in 0..batches {
            let mut text = String::new();
            for line in 0..lines {
                writeln!(text, "{number:04}-{line:06}").unwrap();
            }
            fs::write(bucket.join(format!("in/{number:04}.log")), text).unwrap();
        }
        let api = ApiServer::start(json!({
            "apiVersion": "compaction.dev/v1alpha1", "kind": "CompactionJob",
            "metadata": {"name": "job", "namespace": "ns", "uid": "uid-1", "generation": 1},
            "spec": {
                "storage": {"s3": {"bucket": "bucket", "endpoint": store.endpoint.url}},
                "source": {"prefix": "in/", "minObjectAgeSeconds": 0},
                "output": output,
                "batch": {"size": "100Ki"},
                "upload": {"partSize": "5Mi"},
            },
            "status": {"observedGeneration": 1, "shards": [{
                "index": 0, "epoch": 1, "holder": "", "refused": 0, "totalBatches": 0,
                "checkpoint": {"sequence": 0, "batch": 0, "bytesRead": 0, "bytesWritten": 0},
            }]},
        }))
        .await;
        let files = tempfile::tempdir().unwrap();
        api.kubeconfig(&files.path().join("kubeconfig"));
        fs::create_dir(files.path().join("keys")).unwrap();
        fs::write(files.path().join("keys/accessKeyId"), &store.endpoint.access_key).unwrap();
        fs::write(
            files.path().join("keys/secretAccessKey"),
            &store.endpoint.secret_key,
        )
        .unwrap();
        // The kubelet makes this file; nothing else does.
        fs::write(files.path().join(MESSAGE), "").unwrap();
        Self { api, store, files }
    }

    fn pod(&self, holder: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_compaction-operator"));
        command.arg("worker");
        command.args(["--namespace", "ns", "--job", "job", "--job-uid", "uid-1"]);
        command.args(["--shard", "0", "--cluster", "c1"]);
        command
            .arg("--epoch")
            .arg(self.api.at("/status/shards/0/epoch").to_string());
        command
            .arg("--credentials-dir")
            .arg(self.files.path().join("keys"));
        command
            .arg("--termination-message")
            .arg(self.files.path().join(MESSAGE));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("KUBECONFIG", self.files.path().join("kubeconfig"));
        command.env("POD_UID", holder);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a pod until its end: its exit code, and what the kubelet would take from its file.
    fn run(&self, command: &mut Command) -> Value {
        self.end(command.spawn().unwrap())
    }

    fn end(&self, pod: Child) -> Value {
        let said: Said = finish(pod);
        let message = fs::read_to_string(self.files.path().join(MESSAGE)).unwrap();
        assert!(message.len() <= 4096);
        let end: Value = serde_json::from_str(&message).unwrap_or_else(|_| panic!("{message:?} {said:?}"));
        assert_eq!(end["code"], json!(said.code), "{said:?}");
        end
    }

    /// As the controller does before it makes the next pod.
    fn next_epoch(&self) {
        let epoch = self.api.at("/status/shards/0/epoch").as_i64().unwrap();
        self.api.set("/status/shards/0/epoch", json!(epoch + 1));
        self.api.set("/status/shards/0/holder", json!(""));
    }

    /// Every file of the bucket, by key.
    fn keys(&self) -> BTreeSet<String> {
        let bucket = self.store.folder.path().join("bucket");
        let mut keys = BTreeSet::new();
        let mut directories = vec![bucket.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    keys.insert(path.strip_prefix(&bucket).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        keys
    }

    async fn open_uploads(&self) -> usize {
        let list = self.store.endpoint.client().list_multipart_uploads();
        let answer = list.bucket("bucket").send().await.unwrap();
        answer.uploads.unwrap_or_default().len()
    }

    /// As the controller does when a job with `deletionPolicy: Cleanup` is deleted and its pods are gone.
    fn delete(&self) {
        self.next_epoch();
        let epoch = self.api.at("/status/shards/0/epoch");
        let mut job = self.api.job.lock().unwrap();
        job["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        job["metadata"]["finalizers"] = json!(["compaction.dev/cleanup"]);
        job["status"]["cleanUpEpoch"] = epoch;
    }

    fn written(&self) -> Vec<u8> {
        self.content_of("out")
    }

    fn sources(&self) -> Vec<u8> {
        self.content_of("in")
    }

    /// The content of all objects of a directory, in the order of their keys.
    fn content_of(&self, directory: &str) -> Vec<u8> {
        let directory = self.store.folder.path().join("bucket").join(directory);
        let mut files: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.retain(|path| path.is_file());
        files.sort();
        files.iter().flat_map(|path| fs::read(path).unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_does_what_is_open_and_says_that_it_is_done() {
    let cluster = Cluster::new().await;
    let end = cluster.run(&mut cluster.pod("pod-1"));
    assert_eq!(end, json!({"code": 0, "reason": "Done", "message": ""}));
    assert_eq!(cluster.api.at("/status/shards/0/holder"), "pod-1");
    assert_eq!(cluster.api.at("/status/publish/announced"), true);
    assert!(cluster.written() == cluster.sources());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_told_by_the_environment() {
    let cluster = Cluster::new().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_compaction-operator"));
    command
        .arg("worker")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let path = |name: &str| cluster.files.path().join(name).to_str().unwrap().to_owned();
    command.envs([
        ("KUBECONFIG", path("kubeconfig").as_str()),
        ("COMPACTION_NAMESPACE", "ns"),
        ("COMPACTION_JOB", "job"),
        ("COMPACTION_JOB_UID", "uid-1"),
        ("COMPACTION_SHARD", "0"),
        ("COMPACTION_EPOCH", "1"),
        ("POD_UID", "pod-1"),
        ("COMPACTION_CLUSTER", "c1"),
        ("COMPACTION_GRACE_SECONDS", "30"),
        ("COMPACTION_CREDENTIALS_DIR", path("keys").as_str()),
        ("COMPACTION_WINDOW", "64Mi"),
        ("COMPACTION_TERMINATION_MESSAGE", path(MESSAGE).as_str()),
    ]);
    assert_eq!(cluster.run(&mut command)["reason"], "Done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_a_file_for_its_message_ends_all_the_same() {
    let cluster = Cluster::new().await;
    fs::remove_file(cluster.files.path().join(MESSAGE)).unwrap();
    let mut pod = cluster.pod("pod-1");
    let said = finish(pod.spawn().unwrap());
    said.ends_with(0);
    assert!(!cluster.files.path().join(MESSAGE).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_place_is_taken_is_fenced() {
    let cluster = Cluster::new().await;
    let mut late = cluster.pod("late");
    cluster.next_epoch();
    let end = cluster.run(&mut late);
    assert_eq!((&end["code"], &end["reason"]), (&json!(78), &json!("Fenced")));
    assert_eq!(cluster.api.at("/status/shards/0/refused"), 1);
    assert_eq!(cluster.api.at("/status/shards/0/holder"), "");

    cluster.api.set("/metadata/uid", json!("uid-2"));
    assert_eq!(cluster.run(&mut cluster.pod("pod"))["code"], 78);
    assert_eq!(cluster.api.at("/status/shards/0/refused"), 1, "another job");
    *cluster.api.job.lock().unwrap() = Value::Null;
    assert_eq!(cluster.run(&mut late)["message"], "fenced: the job is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_cannot_work_ends_the_job_and_the_keys_do_not() {
    let cluster = Cluster::new().await;
    let end = cluster.run(cluster.pod("pod-1").args(["--window", "16Mi"]));
    assert_eq!(
        (&end["code"], &end["reason"]),
        (&json!(64), &json!("InvalidSpec"))
    );

    cluster.next_epoch();
    fs::remove_file(cluster.files.path().join("keys/accessKeyId")).unwrap();
    let end = cluster.run(&mut cluster.pod("pod-2"));
    assert_eq!(
        (&end["code"], &end["reason"]),
        (&json!(76), &json!("StorageError"))
    );
    assert!(end["message"].as_str().unwrap().contains("credentials"), "{end}");

    cluster.next_epoch();
    let end = cluster.run(cluster.pod("pod-3").args(["--ca-bundle", "/nowhere/ca.crt"]));
    assert_eq!(
        (&end["code"], &end["reason"]),
        (&json!(64), &json!("CannotStart"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_asked_to_stop_ends_at_a_checkpoint_and_the_next_one_goes_on() {
    // Far more than is done before the pointer moves for the first time.
    let batches = 600;
    for name in ["-TERM", "-INT"] {
        let cluster = Cluster::with(batches, 9_000, &json!({"prefix": "out/"})).await;
        let pod = cluster.pod("pod-1").spawn().unwrap();
        let batch = || cluster.api.at("/status/shards/0/checkpoint/batch").as_i64();
        wait_for("a batch", || batch().filter(|batch| *batch > 0));
        signal(pod.id(), name);
        let end = cluster.end(pod);
        assert_eq!((&end["code"], &end["reason"]), (&json!(0), &json!("Stopped")));
        assert!(cluster.api.at("/status/publish").is_null());
        let done = batch().unwrap();
        assert!(done < i64::from(batches), "{done}");

        cluster.next_epoch();
        assert_eq!(cluster.run(&mut cluster.pod("pod-2"))["reason"], "Done");
        assert!(cluster.written() == cluster.sources());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_reaches_no_checkpoint_drops_its_work_before_its_grace_ends() {
    let cluster = Cluster::new().await;
    // It takes connections, and no more.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    cluster
        .api
        .set("/spec/storage/s3/endpoint", json!(endpoint.clone()));
    let pod = cluster
        .pod("pod-1")
        .args(["--grace-seconds", "6"])
        .spawn()
        .unwrap();
    wait_for("the claim", || {
        (cluster.api.at("/status/shards/0/holder") == "pod-1").then_some(())
    });
    let connected = silent.accept().unwrap();
    signal(pod.id(), "-TERM");
    signal(pod.id(), "-TERM");
    let end = cluster.end(pod);
    assert_eq!((&end["code"], &end["reason"]), (&json!(0), &json!("Stopped")));
    assert!(end["message"].as_str().unwrap().contains("in time"), "{end}");
    assert_eq!(cluster.api.at("/status/shards/0/checkpoint/sequence"), 0);
    drop(connected);
}

/// With finished outputs, and with an upload that is open.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_job_that_is_deleted_before_its_end_only_what_others_own_is_left() {
    for (batches, lines, target) in [(600, 9_000, "500Ki"), (200, 60_000, "1Gi")] {
        let output = json!({"prefix": "out/", "targetObjectSize": target});
        let cluster = Cluster::with(batches, lines, &output).await;
        let pod = cluster.pod("pod-1").spawn().unwrap();
        wait_for("some batches", || {
            let batch = cluster.api.at("/status/shards/0/checkpoint/batch").as_i64();
            batch.filter(|batch| *batch > 8)
        });
        signal(pod.id(), "-KILL");
        finish(pod);
        let begun =
            cluster.keys().iter().any(|key| key.starts_with("out/")) || cluster.open_uploads().await > 0;
        assert!(
            begun
                && cluster
                    .keys()
                    .iter()
                    .any(|key| key.starts_with("_compaction/c1/uid-1/"))
        );
        // The name is right, but not what is behind it.
        let plan = cluster.api.at("/status/plan/sha256");
        let foreign = format!("out/part-{}-000-99999.log", &plan.as_str().unwrap()[..12]);
        fs::create_dir_all(cluster.store.folder.path().join("bucket/out")).unwrap();
        fs::write(cluster.store.folder.path().join("bucket").join(&foreign), "mine").unwrap();

        cluster.delete();
        assert_eq!(cluster.run(&mut cluster.pod("pod-2"))["reason"], "Done");
        assert_eq!(cluster.api.at("/status/dispose/finished"), true);
        let keys = cluster.keys();
        let others: Vec<&String> = keys
            .iter()
            .filter(|key| !key.starts_with("in/") && !key.starts_with(".compaction"))
            .collect();
        assert_eq!(others, [&foreign]);
        let sources = keys.iter().filter(|key| key.starts_with("in/")).count();
        assert_eq!(sources, batches as usize);
        assert_eq!(cluster.open_uploads().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_to_publish_outlives_the_job() {
    for announced in [true, false] {
        let cluster = Cluster::new().await;
        // So the worker waits for leave, and its ledger is there when the job is deleted.
        cluster.api.job.lock().unwrap()["spec"]["sourceDisposition"] = json!("Delete");
        assert_eq!(cluster.run(&mut cluster.pod("pod-1"))["reason"], "Done");
        let success = "out/_compaction/uid-1/_SUCCESS";
        if !announced {
            cluster.api.set("/status/publish/announced", json!(false));
            fs::remove_file(cluster.store.folder.path().join("bucket").join(success)).unwrap();
        }
        cluster.delete();
        assert_eq!(cluster.run(&mut cluster.pod("pod-2"))["reason"], "Done");
        assert!(cluster.keys().contains(success));
        assert_eq!(cluster.api.at("/status/publish/announced"), true);
        assert!(cluster.written() == cluster.sources());
        assert!(!cluster.keys().iter().any(|key| key.starts_with("_compaction/")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_lines_of_json_where_that_is_asked_for() {
    let cluster = Cluster::new().await;
    let mut pod = cluster.pod("pod-1");
    pod.env("COMPACTION_LOG", "info,s3s=off")
        .env("COMPACTION_LOG_FORMAT", "json");
    let said = finish(pod.spawn().unwrap()).ends_with(0);
    let messages: Vec<Value> = said
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let says = |what: &str| {
        messages
            .iter()
            .any(|message| message["fields"]["message"] == what)
    };
    assert!(says("worker starts") && says("duty begins") && says("worker ends"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_is_what_is_answered_with_200() {
    let cluster = Cluster::new().await;
    let ready = |url: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_compaction-operator"));
        Said::from(command.args(["ready", "--url", url]).output().unwrap())
    };
    let job = "/apis/compaction.dev/v1alpha1/namespaces/ns/compactionjobs/job";
    ready(&format!("{}{job}", cluster.api.url()))
        .ends_with(0)
        .names(&["200 OK"]);
    ready(&format!("{}/other", cluster.api.url()))
        .ends_with(1)
        .names(&["403"]);
    ready(&format!("http://{}", free_address())).ends_with(1);
    ready("no url").ends_with(2);
}
