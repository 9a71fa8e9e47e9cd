//! What a test has to itself: a namespace, a bucket with its keys in a Secret, and an operator that watches this
//! namespace only.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Once;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{chart, feed, helm, image, kubectl, refused, run, said, store, store_for_pods, tree};
use crate::store::Bucket;
use crate::watch;

/// The release's name, and the Deployment's.
pub const OPERATOR: &str = "operator";
pub const KEYS: &str = "store-keys";
/// The job of a test that has one.
pub const JOB: &str = "job";

pub struct Site {
    pub namespace: String,
    pub bucket: Bucket,
    directory: TempDir,
}

impl Site {
    /// With everything that a job needs.
    pub fn new(name: &str) -> Self {
        let site = Self::bare(name);
        site.bucket.create();
        site.keys(&store().access_key, &store().secret_key);
        site.install(&[]);
        site
    }

    /// A namespace where jobs may be made. Bucket, keys and operator are still to come.
    pub fn bare(name: &str) -> Self {
        static CRDS: Once = Once::new();
        CRDS.call_once(|| {
            let crds = tree().join("crds");
            run(kubectl()
                .args(["apply", "--server-side", "--force-conflicts", "-f"])
                .arg(crds));
        });
        Self::namespace(name)
    }

    /// A namespace, and the name of a bucket.
    pub fn namespace(name: &str) -> Self {
        let namespace = format!("e2e-{name}");
        run(kubectl().args(["delete", "namespace", &namespace, "--ignore-not-found"]));
        run(kubectl().args(["create", "namespace", &namespace]));
        let site = Self {
            bucket: Bucket::named(&namespace),
            namespace,
            directory: tempfile::tempdir().unwrap(),
        };
        site.bucket.remove();
        site
    }

    /// The Secret that the job refers to.
    pub fn keys(&self, access_key: &str, secret_key: &str) {
        self.apply(&json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": KEYS},
            "stringData": {"accessKeyId": access_key, "secretAccessKey": secret_key},
        }));
    }

    /// Installs the operator, or upgrades it, and waits until it runs.
    pub fn install(&self, settings: &[&str]) {
        let (repository, tag) = image();
        let mut command = helm();
        command
            .args(["upgrade", "--install", OPERATOR])
            .arg(chart())
            .args(["--namespace", &self.namespace])
            .args(["--set", &format!("watch.namespaces={{{}}}", self.namespace)])
            .args([
                "--set",
                "crds.install=false",
                "--set",
                "fullnameOverride=operator",
            ])
            .args(["--set", &format!("image.repository={repository},image.tag={tag}")])
            .args(["--set", "resources.requests.cpu=10m"])
            .args(["--set", &format!("clusterId={}", self.namespace)])
            .args(["--wait", "--timeout", "3m"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        run(&mut command);
    }

    /// A job over `in/` and `out/` whose spec is changed by `spec`, as a merge patch.
    pub fn job(&self, name: &str, spec: Value) -> Value {
        let mut job = json!({
            "apiVersion": "compaction.dev/v1alpha1",
            "kind": "CompactionJob",
            "metadata": {"name": name},
            "spec": {
                "storage": {"s3": {
                    "endpoint": store_for_pods(),
                    "bucket": self.bucket.name,
                    "credentialsSecretRef": {"name": KEYS},
                }},
                "source": {"prefix": "in/", "minObjectAgeSeconds": 0},
                "output": {"prefix": "out/"},
                "upload": {"partSize": "5Mi"},
                "batch": {"backoffPeriodSeconds": 1},
                "template": {"spec": {"containers": [worker("128Mi")]}},
            },
        });
        json_patch::merge(&mut job["spec"], &spec);
        job
    }

    /// Applies [`JOB`].
    pub fn start(&self, spec: Value) {
        self.apply(&self.job(JOB, spec));
    }

    /// `kubectl` in this namespace.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = kubectl();
        command.args(["--namespace", &self.namespace]).args(arguments);
        command
    }

    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }

    /// What a `kubectl` that must fail says.
    #[track_caller]
    pub fn refused(&self, arguments: &[&str]) -> String {
        refused(&mut self.command(arguments))
    }

    #[track_caller]
    pub fn apply(&self, manifest: &Value) {
        let output = self.try_apply(manifest);
        assert!(
            output.status.success(),
            "{manifest:#} is refused: {}",
            said(&output)
        );
    }

    pub fn try_apply(&self, manifest: &Value) -> Output {
        feed(&mut self.command(&["apply", "-f", "-"]), manifest)
    }

    #[track_caller]
    pub fn patch(&self, job: &str, patch: &Value) {
        let patch = patch.to_string();
        self.kubectl(&["patch", "compactionjob", job, "--type", "merge", "-p", &patch]);
    }

    #[track_caller]
    pub fn get(&self, kind: &str, name: &str) -> Value {
        let text = self.kubectl(&["get", kind, name, "--output", "json"]);
        serde_json::from_str(&text).unwrap()
    }

    /// All objects of a kind, or those with a label.
    #[track_caller]
    pub fn list(&self, kind: &str, selector: &str) -> Vec<Value> {
        let text = self.kubectl(&["get", kind, "--selector", selector, "--output", "json"]);
        let mut list: Value = serde_json::from_str(&text).unwrap();
        serde_json::from_value(list["items"].take()).unwrap()
    }

    /// The worker pods that are there.
    pub fn workers(&self) -> Vec<Value> {
        self.list("pods", "app.kubernetes.io/name=compaction-worker")
    }

    /// Follows a job until `look` finds something. One that has failed meanwhile ends the test.
    #[track_caller]
    pub fn until<T>(&self, what: &str, job: &str, mut look: impl FnMut(&Value) -> Option<T>) -> T {
        watch::until(
            what,
            || self.command(&["get", "compactionjob", job]),
            |job| {
                let found = look(job);
                let failed = found.is_none() && has_failed(job);
                assert!(
                    !failed,
                    "waited for {what}, and the job failed: {:#}",
                    job["status"]
                );
                found
            },
        )
    }

    /// Waits for a status of a condition; returns its reason and message.
    #[track_caller]
    pub fn until_condition(&self, job: &str, type_: &str, status: &str) -> (String, String) {
        self.until(&format!("{type_}={status}"), job, |job| {
            let (is, reason, message) = condition(job, type_);
            (is == status).then_some((reason, message))
        })
    }

    /// Waits for the word that `kubectl get` shows as STATE; returns the message beside it.
    #[track_caller]
    pub fn until_state(&self, job: &str, state: &str) -> String {
        self.until(&format!("the state {state}"), job, |job| {
            let (_, reason, message) = condition(job, "Ready");
            (reason == state).then_some(message)
        })
    }

    #[track_caller]
    pub fn until_succeeded(&self, job: &str) {
        self.until_condition(job, "Succeeded", "True");
    }

    /// Waits until so many batches are done, of all shards together.
    #[track_caller]
    pub fn until_batches(&self, job: &str, batches: i64) {
        self.until(&format!("{batches} batches"), job, |job| {
            (sum(job, "/checkpoint/batch") >= batches).then_some(())
        });
    }

    /// Reasons and notes of the events on a job.
    pub fn events(&self, job: &str) -> Vec<(String, String)> {
        let text = self.kubectl(&["get", "events.v1.events.k8s.io", "--output", "json"]);
        let list: Value = serde_json::from_str(&text).unwrap();
        let events = list["items"].as_array().unwrap().iter();
        events
            .filter(|event| {
                event["regarding"]["name"] == job && event["regarding"]["kind"] == "CompactionJob"
            })
            .map(|event| (text_of(&event["reason"]), text_of(&event["note"])))
            .collect()
    }

    /// Waits for an event on a job; returns what it says.
    #[track_caller]
    pub fn until_event(&self, job: &str, reason: &str) -> String {
        watch::ask(&format!("the event {reason}"), || {
            let events = self.events(job);
            events
                .into_iter()
                .find(|(is, _)| is == reason)
                .map(|(_, note)| note)
        })
    }

    /// What `verify` says of a job, from outside of the cluster; it must be good.
    #[track_caller]
    pub fn verify(&self, spec: Value) -> String {
        run(&mut self.program("verify", spec))
    }

    /// A command of the program on [`JOB`], from outside of the cluster.
    pub fn program(&self, command: &str, spec: Value) -> Command {
        let mut job = self.job(JOB, spec);
        job["spec"]["storage"]["s3"]["endpoint"] = json!(store().url);
        job["spec"]["storage"]["s3"]["credentialsSecretRef"] = Value::Null;
        let manifest = self.directory.path().join("job.yaml");
        std::fs::write(&manifest, job.to_string()).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_compaction-operator"));
        program
            .args([command, "-f"])
            .arg(manifest)
            .env("AWS_ACCESS_KEY_ID", store().access_key)
            .env("AWS_SECRET_ACCESS_KEY", store().secret_key)
            .stdin(Stdio::null());
        program
    }

    /// What the operator answers to a GET.
    #[track_caller]
    pub fn operator_says(&self, path: &str) -> String {
        let service = format!(
            "/api/v1/namespaces/{}/services/{OPERATOR}:http/proxy/{path}",
            self.namespace
        );
        run(kubectl().args(["get", "--raw", &service]))
    }

    /// A kubeconfig that knows the cluster and nobody.
    pub fn kubeconfig_without_user(&self) -> PathBuf {
        let whole = run(kubectl().args(["config", "view", "--minify", "--raw", "--output", "json"]));
        let mut config: Value = serde_json::from_str(&whole).unwrap();
        config["users"] = json!([]);
        config["contexts"][0]["context"]["user"] = json!("");
        let path = self.directory.path().join("kubeconfig");
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// What one who looks for the cause of a failure asks for.
    fn tell(&self) {
        let look = |arguments: &[&str]| {
            let output = self.command(arguments).output().unwrap();
            eprintln!("$ kubectl {}\n{}", arguments.join(" "), said(&output));
        };
        look(&["get", "compactionschedules,compactionjobs", "--output", "yaml"]);
        look(&["get", "pods", "--output", "wide"]);
        look(&["get", "events", "--sort-by", ".lastTimestamp"]);
        let workers = "app.kubernetes.io/name=compaction-worker";
        look(&["logs", "--selector", workers, "--prefix", "--tail", "30"]);
        look(&["logs", "deployment/operator", "--tail", "100"]);
        look(&["logs", "--selector", "app.kubernetes.io/component=test"]);
    }
}

/// Leaves nothing, but for a namespace that is being deleted.
impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        let mut clean_up = vec![
            // While there is an operator to take off their finalizers.
            self.command(&[
                "delete",
                "compactionschedules,compactionjobs",
                "--all",
                "--timeout",
                "60s",
            ]),
            helm(),
            self.command(&["delete", "namespace", &self.namespace, "--wait=false"]),
        ];
        clean_up[1].args([
            "uninstall",
            OPERATOR,
            "--ignore-not-found",
            "--namespace",
            &self.namespace,
        ]);
        for command in &mut clean_up {
            let output = command.output().unwrap();
            if !output.status.success() {
                eprintln!("{command:?}: {}", said(&output));
            }
        }
        if !std::thread::panicking() {
            self.bucket.remove();
        }
    }
}

/// The container that compacts, with little to ask of the node, so that many run beside each other.
pub fn worker(memory: &str) -> Value {
    json!({
        "name": "worker",
        "resources": {"requests": {"cpu": "10m", "memory": memory}, "limits": {"memory": memory}},
    })
}

/// A job of several shards and hundreds of batches that works for long enough to be disturbed.
pub fn slow() -> Value {
    let mut container = worker("128Mi");
    container["resources"]["limits"]["cpu"] = json!("30m");
    json!({
        "parallelism": 3,
        "batch": {"size": "1Ki"},
        "read": {"concurrency": 1},
        "output": {"targetObjectSize": "64Ki"},
        "template": {"spec": {"containers": [container]}},
    })
}

/// Status, reason and message of a condition; empty where there is none.
pub fn condition(job: &Value, type_: &str) -> (String, String, String) {
    let conditions = job["status"]["conditions"].as_array();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == type_);
    let text = |field: &str| {
        found
            .map(|condition| text_of(&condition[field]))
            .unwrap_or_default()
    };
    (text("status"), text("reason"), text("message"))
}

/// As the job is now: what was said of an earlier spec may be over.
fn has_failed(job: &Value) -> bool {
    let observed = job["status"]["observedGeneration"] == job["metadata"]["generation"];
    observed && condition(job, "Stalled").0 == "True"
}

/// A number of every shard, added up.
pub fn sum(job: &Value, pointer: &str) -> i64 {
    let shards = job["status"]["shards"].as_array().into_iter().flatten();
    shards
        .map(|shard| shard.pointer(pointer).and_then(Value::as_i64).unwrap_or_default())
        .sum()
}

/// Whether the worker of a pod has ended; its pod says so a moment later.
pub fn has_ended(pod: &Value) -> bool {
    let ended = |phase: &str| pod["status"]["phase"] == phase;
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten();
    let terminated = |status: &Value| status["name"] == "worker" && status["state"]["terminated"].is_object();
    ended("Succeeded") || ended("Failed") || statuses.into_iter().any(terminated)
}

pub fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
