//! Jobs that cannot start or go on for what is not their fault: they wait, say why, charge nobody, and go on once
//! somebody has helped.

use serde_json::{Value, json};

use crate::cluster::store;
use crate::site::{JOB, KEYS, Site, condition, sum, text_of, worker};
use crate::sources::{assert_compacted, put};

const OBJECTS: usize = 60;

/// The job succeeds, and nothing was counted against it.
#[track_caller]
fn succeeds_uncharged(site: &Site) {
    site.until_succeeded(JOB);
    let job = site.get("compactionjob", JOB);
    assert_eq!(sum(&job, "/lost"), 0, "{job:#}");
    assert_compacted(&site.bucket);
}

/// Waits until the message of `Ready` has `text` in it.
#[track_caller]
fn until_said(site: &Site, text: &str) {
    site.until(&format!("{text:?} to be said"), JOB, |job| {
        let (_, _, message) = condition(job, "Ready");
        message.contains(text).then_some(())
    });
}

#[test]
fn an_image_that_cannot_be_pulled_is_named_and_replaced_by_an_edit() {
    let site = Site::new("image");
    put(&site.bucket, OBJECTS);
    let mut container = worker("128Mi");
    container["image"] = json!("localhost/no-such-image:1");
    site.start(json!({"template": {"spec": {"containers": [container]}}}));
    until_said(&site, "no-such-image");
    site.until_state(JOB, "Starting");
    site.patch(
        JOB,
        &json!({"spec": {"template": {"spec": {"containers": [worker("128Mi")]}}}}),
    );
    succeeds_uncharged(&site);
}

#[test]
fn a_worker_waits_for_a_secret_that_appears_later() {
    let site = Site::bare("secret");
    site.bucket.create();
    site.install(&[]);
    put(&site.bucket, OBJECTS);
    site.start(json!({}));
    until_said(&site, KEYS);
    site.keys(&store().access_key, &store().secret_key);
    succeeds_uncharged(&site);
}

#[test]
fn a_worker_waits_for_a_bucket_that_appears_later() {
    let site = Site::bare("bucket");
    site.keys(&store().access_key, &store().secret_key);
    site.install(&[]);
    site.start(json!({"batch": {"maxBackoffPeriodSeconds": 2}}));
    let (reason, message) = site.until_condition(JOB, "StorageAccessible", "False");
    assert_eq!(reason, "Unreachable");
    assert!(message.contains("bucket"), "{message}");
    site.bucket.create();
    put(&site.bucket, OBJECTS);
    // It may have found an empty bucket in between.
    site.until_condition(JOB, "StorageAccessible", "True");
    site.until_succeeded(JOB);
}

#[test]
fn wrong_keys_are_told_and_right_ones_are_taken_without_an_edit_of_the_job() {
    let site = Site::bare("keys");
    site.bucket.create();
    put(&site.bucket, OBJECTS);
    site.keys("nobody", "not-a-secret");
    site.install(&[]);
    site.start(json!({"batch": {"maxBackoffPeriodSeconds": 2}}));
    let (reason, message) = site.until_condition(JOB, "StorageAccessible", "False");
    assert_eq!(reason, "Unreachable");
    assert!(!message.contains("not-a-secret"), "{message}");
    site.keys(&store().access_key, &store().secret_key);
    succeeds_uncharged(&site);
    assert_eq!(
        condition(&site.get("compactionjob", JOB), "StorageAccessible").0,
        "True"
    );
}

#[test]
fn a_namespace_that_enforces_restricted_admits_operator_and_workers() {
    let site = Site::bare("restricted");
    let label = "pod-security.kubernetes.io/enforce=restricted";
    site.kubectl(&["label", "namespace", &site.namespace, label]);
    site.bucket.create();
    site.keys(&store().access_key, &store().secret_key);
    site.install(&[]);
    put(&site.bucket, OBJECTS);
    site.start(json!({}));
    succeeds_uncharged(&site);
}

#[test]
fn a_quota_that_forbids_pods_for_a_while_is_told_and_waited_for() {
    let site = Site::new("quota");
    put(&site.bucket, OBJECTS);
    let quota = |pods: &str| {
        site.apply(&json!({
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "pods"},
            "spec": {"hard": {"pods": pods}},
        }));
    };
    // The operator's own.
    quota("1");
    let mut spec = json!({"batch": {"maxBackoffPeriodSeconds": 2}});
    crate::watch::ask("the quota to be counted", || {
        let quota = site.get("resourcequota", "pods");
        (quota["status"]["used"]["pods"] == "1").then_some(())
    });
    spec["backoffLimit"] = json!(0);
    site.start(spec);
    until_said(&site, "exceeded quota");
    let failures = site.get("compactionjob", JOB)["status"]["failures"].clone();
    assert_eq!(failures[0]["reason"], "Lost", "{failures}");
    quota("10");
    succeeds_uncharged(&site);
}

#[test]
fn a_job_that_may_not_wait_for_ever_fails_and_says_for_what_it_waited() {
    let site = Site::bare("pending");
    site.bucket.create();
    site.install(&[]);
    put(&site.bucket, OBJECTS);
    site.start(json!({"pendingDeadlineSeconds": 5}));
    let (reason, message) = site.until_condition(JOB, "Stalled", "True");
    assert_eq!(reason, "PendingDeadlineExceeded");
    assert!(message.contains(KEYS), "{message}");
    site.until_event(JOB, "Failed");
    // Failed or not, it goes on when it is told to.
    site.keys(&store().access_key, &store().secret_key);
    site.patch(JOB, &json!({"spec": {"retryToken": "keys are there"}}));
    site.until_condition(JOB, "Stalled", "False");
    succeeds_uncharged(&site);
}

#[test]
fn overlapping_jobs_wait_for_each_other_and_say_for_whom() {
    let site = Site::new("overlap");
    put(&site.bucket, OBJECTS);
    site.apply(&site.job("one", json!({"suspend": true})));
    site.until_state("one", "Suspended");
    site.apply(&site.job(
        "two",
        json!({"source": {"prefix": "in/service=1/"}, "output": {"prefix": "other/"}}),
    ));
    let message = site.until_state("two", "WaitingForJob");
    assert!(message.contains(&format!("{}/one", site.namespace)), "{message}");
    site.until_event("two", "WaitingForJob");
    assert!(site.workers().is_empty());
    site.patch("one", &json!({"spec": {"suspend": false}}));
    site.until_succeeded("one");
    site.until_succeeded("two");
    let counts: Vec<Value> = ["one", "two"]
        .map(|job| site.get("compactionjob", job)["status"]["plan"]["sourceObjects"].clone())
        .into();
    assert_eq!(
        counts,
        [60, 10],
        "they have different outputs: {}",
        text_of(&counts[0])
    );
}
