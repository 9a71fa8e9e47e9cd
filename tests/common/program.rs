//! The built program as a process: a directory with a bucket, a manifest and a state file, and what a
//! `run` in it says. Takes no look inside the program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::Embedded;

/// Names of the bucket and of the prefixes, unless a test says otherwise.
pub const BUCKET: &str = "data";
pub const STATE_PREFIX: &str = "_compaction/";

/// A user's directory: `store/data/` is the bucket, `job.yaml` the manifest.
pub struct Workplace {
    dir: TempDir,
    store: PathBuf,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Ends the test unless the command ended with this code.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Ends the test unless every one of these is in what a user reads.
    #[track_caller]
    pub fn names(self, texts: &[&str]) -> Self {
        let all = format!("{}\n{}", self.stdout, self.stderr);
        for text in texts {
            assert!(all.contains(text), "{text:?} is not said: {self:#?}");
        }
        self
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Workplace {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        fs::create_dir_all(store.join(BUCKET)).unwrap();
        Self { dir, store }
    }

    /// With the store elsewhere.
    pub fn over(store: &Path) -> Self {
        fs::create_dir_all(store.join(BUCKET)).unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            store: store.to_owned(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn store(&self) -> &Path {
        &self.store
    }

    pub fn object(&self, key: &str) -> PathBuf {
        self.store.join(BUCKET).join(key)
    }

    /// Puts a file into the bucket as a user does.
    pub fn put(&self, key: &str, bytes: impl AsRef<[u8]>) {
        let path = self.object(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Every object whose key begins with `prefix`.
    pub fn objects(&self, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        let keys = self.keys(prefix);
        keys.into_iter()
            .map(|key| (key.clone(), fs::read(self.object(&key)).unwrap()))
            .collect()
    }

    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let bucket = self.store.join(BUCKET);
        let mut keys = Vec::new();
        let mut directories = vec![bucket.clone()];
        while let Some(directory) = directories.pop() {
            // A directory that has just become empty is removed.
            for entry in fs::read_dir(directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    let key = path.strip_prefix(&bucket).unwrap().to_str().unwrap().to_owned();
                    if key.starts_with(prefix) {
                        keys.push(key);
                    }
                }
            }
        }
        keys.sort();
        keys
    }

    /// The outputs, without the files beside the manifest.
    pub fn outputs(&self) -> BTreeMap<String, Vec<u8>> {
        let mut outputs = self.objects("out/");
        outputs.retain(|key, _| !key.starts_with("out/_compaction/"));
        outputs
    }

    /// The one manifest under the output prefix.
    pub fn manifest(&self) -> Value {
        let mut keys = self.keys("out/_compaction/");
        keys.retain(|key| key.ends_with("/manifest.json"));
        assert_eq!(keys.len(), 1, "{keys:?}");
        serde_json::from_slice(&fs::read(self.object(&keys[0])).unwrap()).unwrap()
    }

    /// Writes `job.yaml`: a job over `in/` and `out/` whose spec is changed by `spec`, as a merge patch.
    pub fn job(&self, spec: &Value) {
        let mut job = json!({
            "apiVersion": "compaction.dev/v1alpha1",
            "kind": "CompactionJob",
            "metadata": {"name": "job"},
            "spec": {
                "storage": {"s3": {"bucket": BUCKET}},
                "source": {"prefix": "in/", "minObjectAgeSeconds": 0},
                "output": {"prefix": "out/"},
                "batch": {"backoffPeriodSeconds": 0},
            },
        });
        json_patch::merge(&mut job["spec"], spec);
        self.write_manifest(&serde_json::to_string_pretty(&job).unwrap());
    }

    pub fn write_manifest(&self, text: &str) {
        fs::write(self.path("job.yaml"), text).unwrap();
    }

    /// `compaction-operator <command> -f job.yaml`, with nothing of this process's own credentials.
    pub fn command(&self, command: &str) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_compaction-operator"));
        program
            .arg(command)
            .arg("-f")
            .arg(self.path("job.yaml"))
            .current_dir(self.dir.path())
            .env_remove("COMPACTION_LOG")
            .stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                program.env_remove(name);
            }
        }
        program
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", self.path("no-aws-config"))
            .env("AWS_SHARED_CREDENTIALS_FILE", self.path("no-aws-credentials"));
        program
    }

    /// `run` over the embedded server.
    pub fn run_command(&self) -> Command {
        let mut command = self.command("run");
        command.arg("--store").arg(&self.store);
        command
    }

    pub fn run(&self) -> Said {
        self.run_command().output().unwrap().into()
    }

    /// A `run` in the background; its words are for [`finish`].
    pub fn start(&self) -> Child {
        self.run_command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Keys of the uploads that are open in the bucket. No server may be over the store.
    pub fn open_uploads(&self) -> Vec<String> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (endpoint, server) = Embedded::serve(&self.store).await;
            let list = endpoint.client().list_multipart_uploads().bucket(BUCKET);
            let listed = list.send().await.unwrap();
            server.stop().await;
            let uploads = listed.uploads.unwrap_or_default();
            uploads.into_iter().map(|upload| upload.key.unwrap()).collect()
        })
    }

    pub fn state_path(&self) -> PathBuf {
        self.path("job.state.json")
    }

    /// The job with its status, once there is one.
    pub fn read_state(&self) -> Option<Value> {
        let bytes = fs::read(self.state_path()).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    pub fn state(&self) -> Value {
        self.read_state().unwrap()
    }

    pub fn status(&self) -> Value {
        self.state()["status"].clone()
    }
}

/// Waits for a [`Workplace::start`].
pub fn finish(run: Child) -> Said {
    run.wait_with_output().unwrap().into()
}

/// The workers that `pid` has started and that have not ended.
pub fn children(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    // A child belongs to the thread that started it.
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let listed = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(
            listed
                .split_whitespace()
                .map(|child| child.parse::<u32>().unwrap()),
        );
    }
    children.retain(|child| is_worker(*child));
    children
}

/// Whether this process runs and is a worker of the program. A number may have gone to another process.
pub fn is_worker(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut arguments = line.split(|byte| *byte == 0);
    arguments.next() == Some(env!("CARGO_BIN_EXE_compaction-operator").as_bytes())
        && arguments.next() == Some(b"local-worker")
}

pub fn signal(pid: u32, signal: &str) {
    // The process may have ended by itself.
    Command::new("kill")
        .args([signal, &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .unwrap();
}

/// Looks until `look` finds something. Fails only when something is stuck for good.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..60_000 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    panic!("waited in vain for {what}");
}
