//! The documented path, from installing for the whole cluster to uninstalling. Runs alone: there may be one
//! release that watches every namespace, and none beside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::{chart, feed, helm, image, kubectl, run, said, store, store_for_pods, tree};
use crate::site::{JOB, KEYS, Site, condition, has_ended, slow, sum, text_of};
use crate::sources::{assert_compacted, put};
use crate::watch;

const RELEASE: &str = "operator";
const CRD: &str = "compactionjobs.compaction.dev";
const LATER_FIELD: &str = "fieldOfALaterVersion";

/// `helm COMMAND operator` with a chart and the image that is tested.
fn release(command: &[&str], chart: &Path, namespace: &str) -> Command {
    let (repository, tag) = image();
    let mut release = helm();
    release
        .args(command)
        .arg(RELEASE)
        .arg(chart)
        .args(["--namespace", namespace, "--wait", "--timeout", "3m"])
        .args(["--set", &format!("image.repository={repository},image.tag={tag}")])
        .args(["--set", "fullnameOverride=operator"]);
    // What others have applied of the CRD is taken over.
    if command != ["upgrade"] {
        release.arg("--force-conflicts");
    }
    release
}

/// A CRD that others have applied is handed over as the chart's README says.
fn hand_over_crd(namespace: &str) {
    if !kubectl()
        .args(["get", "crd", CRD])
        .output()
        .unwrap()
        .status
        .success()
    {
        return;
    }
    let managed = "app.kubernetes.io/managed-by=Helm";
    run(kubectl().args(["label", "--overwrite", "crd", CRD, managed]));
    let name = format!("meta.helm.sh/release-name={RELEASE}");
    let namespace = format!("meta.helm.sh/release-namespace={namespace}");
    run(kubectl().args(["annotate", "--overwrite", "crd", CRD, &name, &namespace]));
}

/// The chart of a later version, whose job has one more field.
fn later_chart(directory: &Path) -> PathBuf {
    let later = directory.join("chart");
    run(Command::new("cp").arg("-R").arg(chart()).arg(&later));
    let crds = later.join("files/crds.yaml");
    let text = std::fs::read_to_string(&crds).unwrap();
    let documents = text.split("\n---\n").map(|document| {
        let mut crd: Value = serde_saphyr::from_str(document).unwrap();
        if crd["metadata"]["name"] == CRD {
            let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            schema["properties"]["spec"]["properties"][LATER_FIELD] = json!({"type": "string"});
        }
        serde_saphyr::to_string(&crd).unwrap()
    });
    let documents: Vec<_> = documents.collect();
    std::fs::write(&crds, documents.join("---\n")).unwrap();
    later
}

/// Whether the API server takes the later version's field and keeps it; nothing is changed.
fn takes_later_field(site: &Site) -> bool {
    let mut job = site.job("later", json!({}));
    job["spec"][LATER_FIELD] = json!("kept");
    let mut apply = site.command(&["apply", "--dry-run=server", "--output", "json", "-f", "-"]);
    let output = feed(&mut apply, &job);
    if !output.status.success() {
        assert!(said(&output).contains(LATER_FIELD), "{}", said(&output));
        return false;
    }
    let taken: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(taken["spec"][LATER_FIELD], "kept");
    true
}

/// Upgrades under a job that works: the workers of before go on, in their epochs, and fields of the later version
/// may be used.
fn upgrade(site: &Site, chart: &Path, namespace: &str) {
    assert!(
        !takes_later_field(site),
        "before the upgrade there is no such field"
    );
    let workers = running(site);
    run(release(&["upgrade"], chart, namespace).args(["--set", "log.filter=debug"]));
    let left = running(site);
    assert!(
        workers.iter().any(|worker| left.contains(worker)),
        "{workers:?}, {left:?}"
    );
    let before = site.get("compactionjob", JOB);
    site.until("a checkpoint of a worker from before", JOB, |job| {
        let shards = job["status"]["shards"].as_array()?.iter();
        let went_on = |(now, then): (&Value, &Value)| {
            let sequence = |shard: &Value| shard["checkpoint"]["sequence"].as_i64();
            now["epoch"] == then["epoch"] && now["holder"] == then["holder"] && sequence(now) > sequence(then)
        };
        let mut pairs = shards.zip(before["status"]["shards"].as_array()?);
        pairs.any(went_on).then_some(())
    });
    watch::ask("the later version's field", || {
        takes_later_field(site).then_some(())
    });
}

/// The example of the documentation, with what it says is to be changed.
fn example(site: &Site) -> Value {
    let text = std::fs::read_to_string(tree().join("examples/operator/job.yaml")).unwrap();
    let mut job: Value = serde_saphyr::from_str(&text).unwrap();
    job["metadata"]["name"] = json!(JOB);
    job["spec"]["storage"]["s3"] = json!({
        "endpoint": store_for_pods(),
        "bucket": site.bucket.name,
        "credentialsSecretRef": {"name": KEYS},
    });
    job["spec"]["source"] = json!({"prefix": "in/", "minObjectAgeSeconds": 0});
    job["spec"]["output"]["prefix"] = json!("out/");
    json_patch::merge(&mut job["spec"], &slow());
    job
}

#[test]
fn what_is_installed_for_the_whole_cluster_can_be_watched_upgraded_and_uninstalled() {
    let operator = Site::namespace("install");
    let site = Site::namespace("install-jobs");
    hand_over_crd(&operator.namespace);
    run(&mut release(&["install"], &chart(), &operator.namespace));
    operator.kubectl(&["rollout", "status", "deployment/operator", "--timeout=2m"]);
    run(helm().args(["test", RELEASE, "--namespace", &operator.namespace]));

    site.bucket.create();
    put(&site.bucket, 900);
    site.keys(&store().access_key, &store().secret_key);
    site.apply(&example(&site));
    site.until_batches(JOB, 10);
    let line = site.kubectl(&["get", "compactionjob", JOB]);
    assert!(line.contains("Running"), "{line}");
    let wide = site.kubectl(&["get", "compaction", "--output", "wide"]);
    assert!(wide.contains("SHARDS") && wide.contains("MESSAGE"), "{wide}");

    site.patch(JOB, &json!({"spec": {"suspend": true}}));
    site.kubectl(&[
        "wait",
        "compactionjob",
        JOB,
        "--for=condition=Suspended",
        "--timeout=3m",
    ]);
    site.patch(JOB, &json!({"spec": {"suspend": false}}));
    site.until_condition(JOB, "Suspended", "False");

    let done = sum(&site.get("compactionjob", JOB), "/checkpoint/batch");
    site.until_batches(JOB, done + 10);
    let later = tempfile::tempdir().unwrap();
    upgrade(&site, &later_chart(later.path()), &operator.namespace);

    // Without one, jobs and CRD stay, and workers finish what they do.
    run(helm().args(["uninstall", RELEASE, "--wait", "--namespace", &operator.namespace]));
    run(kubectl().args(["get", "crd", CRD]));
    let job = site.get("compactionjob", JOB);
    assert_ne!(
        condition(&job, "Succeeded").0,
        "True",
        "it is in the middle: {job:#}"
    );
    site.until_batches(JOB, sum(&job, "/checkpoint/batch") + 10);

    run(&mut release(&["install"], &chart(), &operator.namespace));
    site.until_succeeded(JOB);
    assert_compacted(&site.bucket);
    assert_eq!(sum(&site.get("compactionjob", JOB), "/lost"), 0);
    site.kubectl(&["delete", "compactionjob", JOB, "--timeout=2m"]);
    assert_eq!(site.bucket.keys("_compaction/"), [""; 0]);
}

/// Names of the workers that run.
fn running(site: &Site) -> Vec<String> {
    let pods = site.workers().into_iter().filter(|pod| !has_ended(pod));
    pods.map(|pod| text_of(&pod["metadata"]["name"])).collect()
}
