//! The kubectl plugin as a user has it: `kubectl compaction …`, found by kubectl on the path.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{kubectl, refused, run, said, store};
use crate::site::{JOB, Site, slow, text_of};
use crate::sources::{assert_compacted, put};

/// A directory with the plugin and the name under which kubectl asks it for completions.
pub struct Plugin(TempDir);

impl Plugin {
    pub fn install() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_kubectl-compaction"));
        for name in ["kubectl-compaction", "kubectl_complete-compaction"] {
            std::os::unix::fs::symlink(program, directory.path().join(name)).unwrap();
        }
        Self(directory)
    }

    /// `kubectl WORD… compaction`, and what follows is the plugin's.
    fn kubectl(&self, words: &[&str]) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = std::iter::once(self.0.path().to_owned());
        let path = std::env::join_paths(own.chain(std::env::split_paths(&path))).unwrap();
        let mut command = kubectl();
        command.env("PATH", path).args(words);
        command
    }

    /// `kubectl compaction` in the site's namespace.
    fn command(&self, site: &Site, arguments: &[&str]) -> Command {
        let mut command = self.kubectl(&["compaction"]);
        command.args(arguments).args(["-n", &site.namespace]);
        command
    }

    #[track_caller]
    pub fn says(&self, site: &Site, arguments: &[&str]) -> String {
        run(&mut self.command(site, arguments))
    }

    #[track_caller]
    pub fn refuses(&self, site: &Site, arguments: &[&str]) -> String {
        refused(&mut self.command(site, arguments))
    }

    /// What a shell would be offered.
    pub fn completes(&self, words: &[&str]) -> Vec<String> {
        let said = run(self.kubectl(&["__complete", "compaction"]).args(words));
        said.lines().map(str::to_owned).collect()
    }
}

#[track_caller]
pub fn assert_contains(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted:?} is not in:\n{text}");
    }
}

/// Who has set a field of the spec.
pub fn managers_of(object: &Value, field: &str) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
    let has_field = |entry: &&Value| entry["fieldsV1"]["f:spec"][field].is_object();
    entries
        .filter(has_field)
        .map(|entry| text_of(&entry["manager"]))
        .collect()
}

#[test]
fn a_job_is_watched_suspended_resumed_and_read_by_the_plugin() {
    let (site, plugin) = (Site::new("plugin"), Plugin::install());
    put(&site.bucket, 300);
    let mut spec = slow();
    spec["parallelism"] = json!(2);
    spec["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!("60m");
    site.start(spec);
    site.until_batches(JOB, 5);
    let shown = plugin.says(&site, &["status", JOB]);
    let pod = text_of(&site.workers()[0]["metadata"]["name"]);
    assert_contains(
        &shown,
        &[
            "State",
            "Running: ",
            "300 sources",
            " of 2 shards",
            "SHARD  STATE",
            "runs",
            &pod,
        ],
    );

    let suspended = plugin.says(&site, &["suspend", JOB]);
    assert_contains(
        &suspended,
        &["compactionjob.compaction.dev/job: spec.suspend is true now"],
    );
    let job = site.get("compactionjob", JOB);
    assert_eq!(job["spec"]["suspend"], true);
    let text = site.kubectl(&["get", "compactionjob", JOB, "-o", "json", "--show-managed-fields"]);
    let job: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(managers_of(&job, "f:suspend"), ["compaction-plugin"]);
    site.until_state(JOB, "Suspended");
    assert_contains(&plugin.says(&site, &["suspend", JOB]), &["already"]);
    assert_contains(
        &plugin.says(&site, &["status", JOB]),
        &["Suspended: ", "stopped", "kubectl compaction resume job"],
    );
    assert_contains(
        &plugin.refuses(&site, &["retry", JOB]),
        &["has not failed", "Suspended: "],
    );

    let start = |arguments: &[&str]| {
        let mut command = plugin.command(&site, arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let (mut watching, following) = (start(&["status", "-w", JOB]), start(&["logs", "-f", JOB]));
    let mut lines = BufReader::new(watching.stdout.take().unwrap());
    let mut watched = String::new();
    // Only then is it there to see what follows.
    while !watched.contains("Suspended: ") {
        assert_ne!(
            lines.read_line(&mut watched).unwrap(),
            0,
            "it ends with {watched}"
        );
    }
    plugin.says(&site, &["resume", JOB]);
    lines.read_to_string(&mut watched).unwrap();
    let ended = watching.wait_with_output().unwrap();
    assert!(ended.status.success(), "{watched}{}", said(&ended));
    assert_contains(
        &watched,
        &[
            "Running: ",
            "progress: [",
            // A worker that is there publishes faster than anybody looks.
            "Succeeded: 300 sources",
        ],
    );
    let followed = following.wait_with_output().unwrap();
    assert!(followed.status.success(), "{}", said(&followed));
    for shard in ["[0/", "[1/"] {
        assert_contains(&said(&followed), &[shard, "worker ends"]);
    }
    assert_compacted(&site.bucket);
    assert_contains(
        &plugin.says(&site, &["status", JOB]),
        &["Succeeded: ", "Published", "done"],
    );
    // What has ended needs no waiting for.
    assert_contains(&plugin.says(&site, &["status", "-w", JOB]), &["Succeeded: "]);
    site.kubectl(&["delete", "compactionjob", JOB]);
    assert_contains(
        &plugin.refuses(&site, &["status", "-w", JOB]),
        &["there is no job job in the namespace e2e-plugin, which has none"],
    );
}

#[test]
fn a_failed_job_is_told_by_the_plugin_and_retried() {
    let (site, plugin) = (Site::bare("plugin-retry"), Plugin::install());
    site.bucket.create();
    site.install(&[]);
    put(&site.bucket, 60);
    site.start(json!({"pendingDeadlineSeconds": 2}));
    let watched = plugin.command(&site, &["status", "-w", JOB]).output().unwrap();
    assert_eq!(watched.status.code(), Some(1), "{}", said(&watched));
    assert_contains(&said(&watched), &["PendingDeadlineExceeded: "]);
    assert_contains(
        &plugin.says(&site, &["status", JOB]),
        &["kubectl compaction retry job"],
    );

    site.keys(&store().access_key, &store().secret_key);
    site.patch(JOB, &json!({"spec": {"pendingDeadlineSeconds": null}}));
    let retried = plugin.says(&site, &["retry", JOB]);
    let token = text_of(&site.get("compactionjob", JOB)["spec"]["retryToken"]);
    assert_contains(&retried, &[&format!("spec.retryToken is {token} now")]);
    let watched = plugin.says(&site, &["status", "-w", JOB]);
    assert_contains(&watched, &["Succeeded: 60 sources"]);

    let refused = plugin.refuses(&site, &["status", "jbo"]);
    assert_contains(
        &refused,
        &["there is no job jbo in the namespace e2e-plugin-retry; there is job"],
    );
    assert_contains(&plugin.refuses(&site, &["suspend", "jbo"]), &["there is job"]);
    let nobody = site.kubeconfig_without_user();
    let nobody = nobody.to_str().unwrap();
    let refused = plugin.refuses(&site, &["status", JOB, "--kubeconfig", nobody]);
    assert_contains(&refused, &["system:anonymous", "docs/plugin.md"]);
    let refused = plugin.refuses(&site, &["suspend", JOB, "--as", "jane"]);
    assert_contains(&refused, &["you may not", "jane"]);

    let namespace = site.namespace.as_str();
    assert_eq!(plugin.completes(&["status", "-n", namespace, ""]), ["job", ":4"]);
    assert_eq!(plugin.completes(&["logs", "-n", namespace, "x"]), [":4"]);
    let namespaces = plugin.completes(&["status", "--namespace", "e2e-plugin-re"]);
    assert_eq!(namespaces, [namespace, ":4"]);
    assert_contains(&plugin.completes(&["re"]).join("\n"), &["resume\t", "retry\t"]);
}
