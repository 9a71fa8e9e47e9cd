//! `gc` beside an operator, told who lives by kubectl, as docs/ledger.md has it.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::cluster::{kubectl, said};
use crate::site::{JOB, Site, slow, text_of};
use crate::sources::{assert_compacted_to, put_large, put_plain};

/// `kubectl get … | compaction-operator gc … --live -`, and whether kubectl succeeded.
fn piped(site: &Site, kubectl: &mut Command, arguments: &[&str]) -> (bool, Output) {
    let list = ["get", "compactionjobs", "--all-namespaces", "-o"];
    kubectl.args(list).arg("jsonpath={.items[*].metadata.uid}");
    let mut living = kubectl.stdout(Stdio::piped()).spawn().unwrap();
    let mut gc = site.program("gc", json!({}));
    gc.args(["--cluster-id", &site.namespace, "--live", "-", "-o", "json"])
        .args(arguments)
        .stdin(living.stdout.take().unwrap());
    let output = gc.output().unwrap();
    (living.wait().unwrap().success(), output)
}

/// What `gc` reports, and of each ledger its job's name, UID and state.
#[track_caller]
fn swept(site: &Site, arguments: &[&str]) -> (Value, Vec<[String; 3]>) {
    let (listed, output) = piped(site, &mut kubectl(), arguments);
    assert!(listed && output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ledgers = report["ledgers"].as_array().unwrap().iter();
    let mut states: Vec<_> = ledgers
        .map(|ledger| {
            assert_eq!(ledger["job"]["namespace"], site.namespace, "{report:#}");
            [&ledger["job"]["name"], &ledger["jobUid"], &ledger["state"]].map(text_of)
        })
        .collect();
    states.sort();
    (report, states)
}

/// Starts [`JOB`] and deletes it, without a clean-up, while an upload is open. Returns its UID and its open uploads.
fn delete_in_the_middle(site: &Site) -> (String, Vec<(String, String)>) {
    put_large(&site.bucket, 120);
    let mut spec = slow();
    spec["output"]["targetObjectSize"] = json!("64Mi");
    spec["deletionPolicy"] = json!("Orphan");
    site.start(spec);
    let open = || {
        let mut uploads = site.bucket.recorded_uploads();
        uploads.retain(|upload| site.bucket.is_open(upload));
        uploads
    };
    let uid = site.until("an open upload", JOB, |job| {
        (!open().is_empty()).then(|| text_of(&job["metadata"]["uid"]))
    });
    site.kubectl(&["delete", "compactionjob", JOB, "--timeout=1m"]);
    let pods = "app.kubernetes.io/name=compaction-worker";
    site.kubectl(&["wait", "pods", "--selector", pods, "--for=delete", "--timeout=3m"]);
    (uid, open())
}

#[test]
fn the_ledger_of_a_deleted_job_is_swept_and_a_suspended_job_keeps_its_own_and_goes_on() {
    let site = Site::new("gc");
    let (gone, uploads) = delete_in_the_middle(&site);
    assert!(!uploads.is_empty(), "no upload was left open");

    put_plain(&site.bucket, "kept/", 300, 4 << 10);
    let mut spec = slow();
    json_patch::merge(
        &mut spec,
        &json!({"source": {"prefix": "kept/"}, "output": {"prefix": "kept-out/"}}),
    );
    site.apply(&site.job("kept", spec));
    site.until_batches("kept", 20);
    site.patch("kept", &json!({"spec": {"suspend": true}}));
    site.until_condition("kept", "Suspended", "True");
    let kept = text_of(&site.get("compactionjob", "kept")["metadata"]["uid"]);

    let states = |of_gone: &str| {
        let row = |name: &str, uid: &str, state: &str| [name, uid, state].map(ToOwned::to_owned);
        [row(JOB, &gone, of_gone), row("kept", &kept, "Live")]
    };
    let ledgers = site.bucket.keys("_compaction/");
    assert_eq!(swept(&site, &["--delete"]).1, states("Recent"));
    let (report, found) = swept(&site, &["--min-age-seconds", "0"]);
    assert_eq!(found, states("Abandoned"));
    let mut ledgers_found = report["ledgers"].as_array().unwrap().iter();
    let of_gone = ledgers_found.find(|ledger| ledger["jobUid"] == gone).unwrap();
    // One whose worker ended before it had recorded the id is found too.
    let open = of_gone["openUploads"].as_u64().unwrap();
    assert!(open >= uploads.len() as u64, "{report:#}");

    let old = ["--min-age-seconds", "0", "--delete"];
    let mut nowhere = kubectl();
    nowhere.args(["--server", "https://127.0.0.1:1"]);
    let (listed, refused) = piped(&site, &mut nowhere, &old);
    assert_eq!(
        (listed, refused.status.code()),
        (false, Some(2)),
        "{}",
        said(&refused)
    );
    assert_eq!(site.bucket.keys("_compaction/"), ledgers, "something was swept");

    assert_eq!(swept(&site, &old).1, states("Swept"));
    let mut left = ledgers;
    left.retain(|key| key.contains(&kept));
    assert_eq!(site.bucket.keys("_compaction/"), left);
    for upload in &uploads {
        assert!(!site.bucket.is_open(upload), "{upload:?}");
    }

    site.patch("kept", &json!({"spec": {"suspend": false}}));
    site.until_succeeded("kept");
    assert_compacted_to(&site.bucket, "kept/", "kept-out/");
}
