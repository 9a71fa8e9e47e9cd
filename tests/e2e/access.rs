//! What may be asked for and by whom: rules of the resource, and rights of a worker.

use serde_json::{Value, json};

use crate::cluster::said;
use crate::site::{JOB, KEYS, Site, text_of};

#[test]
fn a_spec_that_cannot_be_carried_out_is_refused_with_a_remedy() {
    let site = Site::bare("invalid");
    let cases = [
        (
            json!({"output": {"prefix": "in/deeper/"}}),
            "may not contain each other",
        ),
        (json!({"statePrefix": "out/"}), "statePrefix may not contain"),
        (
            json!({"storage": {"s3": {"endpoint": "minio:9000"}}}),
            "must start with https:// or http://",
        ),
        (
            json!({"batch": {"backoffPeriodSeconds": 700}}),
            "may not exceed batch.maxBackoffPeriodSeconds",
        ),
        (
            json!({"template": {"spec": {"restartPolicy": "Always", "containers": []}}}),
            "restartPolicy can only be Never",
        ),
        (
            json!({"deduplicate": {"key": ["/id"]}, "maxFailedGroups": 1}),
            "maxFailedGroups must be 0 with deduplicate",
        ),
        (json!({"parallelism": 65}), "less than or equal to 64"),
        (json!({"source": {"prefix": "/in/"}}), "spec.source.prefix"),
        (json!({"surprise": true}), "surprise"),
    ];
    for (spec, words) in cases {
        let output = site.try_apply(&site.job(JOB, spec.clone()));
        assert!(!output.status.success(), "{spec} is accepted");
        assert!(said(&output).contains(words), "{spec}: {}", said(&output));
    }
    let long = site.try_apply(&site.job(&"x".repeat(47), json!({})));
    assert!(said(&long).contains("at most 46 characters"), "{}", said(&long));
}

#[test]
fn what_the_plan_depends_on_cannot_be_changed_and_the_rest_can() {
    let site = Site::bare("immutable");
    site.start(json!({"suspend": true}));
    let forbidden = [
        json!({"storage": {"s3": {"bucket": "another"}}}),
        json!({"source": {"include": ["**/*.txt"]}}),
        json!({"format": {"type": "Lines"}, "source": {"minObjectAgeSeconds": 7}}),
        json!({"output": {"targetObjectSize": "1Gi"}}),
        json!({"statePrefix": "elsewhere/"}),
        json!({"batch": {"size": "3Mi"}}),
        json!({"upload": {"partSize": "6Mi"}}),
        json!({"deduplicate": {"key": ["/id"]}}),
    ];
    for spec in forbidden {
        let patch = json!({"spec": spec}).to_string();
        let answer = site.refused(&["patch", "compactionjob", JOB, "--type", "merge", "-p", &patch]);
        assert!(answer.contains("create a new CompactionJob"), "{spec}: {answer}");
    }
    site.patch(
        JOB,
        &json!({"spec": {
            "parallelism": 2,
            "batch": {"uploadDeadlineSeconds": 60, "maxAttempts": 2},
            "read": {"concurrency": 3},
            "upload": {"concurrency": 2},
            "backoffLimit": 1,
            "ttlSecondsAfterFinished": 60,
            "retryToken": "x",
            "deletionPolicy": "Cleanup",
            "sourceDisposition": "Delete",
        }}),
    );
}

#[test]
fn a_workers_token_opens_nothing_but_its_own_job() {
    let site = Site::new("token");
    site.apply(&site.job(
        "other",
        json!({"suspend": true, "source": {"prefix": "else/"}, "output": {"prefix": "where/"}}),
    ));
    // Of its own account, while it waits for objects.
    crate::sources::put(&site.bucket, 12);
    site.start(json!({"mode": "PlanOnly"}));
    site.until_state(JOB, "Planned");
    let uid = text_of(&site.get("compactionjob", JOB)["metadata"]["uid"]);
    let account = format!("{JOB}-{}", &uid[..5]);
    let token = site.kubectl(&["create", "token", &account]);
    let token = token.trim();

    let with_token = |arguments: &[&str]| {
        let mut command = site.command(&["--token", token]);
        // The certificate of the kubeconfig would go before the token.
        command.env("KUBECONFIG", site.kubeconfig_without_user());
        command.args(arguments);
        command
    };
    let may = |arguments: &[&str]| {
        crate::cluster::run(&mut with_token(arguments));
    };
    let may_not = |arguments: &[&str]| {
        let answer = crate::cluster::refused(&mut with_token(arguments));
        assert!(answer.contains("orbidden"), "{arguments:?}: {answer}");
    };
    let status = json!({"status": {"observedGeneration": 1}}).to_string();
    let spec = json!({"spec": {"suspend": true}}).to_string();
    may(&["get", "compactionjob", JOB]);
    may(&[
        "patch",
        "compactionjob",
        JOB,
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ]);
    may_not(&["get", "compactionjob", "other"]);
    may_not(&[
        "patch",
        "compactionjob",
        "other",
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ]);
    may_not(&["patch", "compactionjob", JOB, "--type=merge", "-p", &spec]);
    may_not(&["delete", "compactionjob", JOB]);
    may_not(&["get", "compactionjobs"]);
    may_not(&["get", "secret", KEYS]);
    may_not(&["get", "pods"]);
    may_not(&["get", "configmaps"]);
    may_not(&["get", "roles"]);
    may_not(&["get", "events"]);
    may_not(&["create", "configmap", "x"]);
    may_not(&["create", "token", &account]);
    may_not(&["get", "namespaces"]);
    may_not(&["get", "compactionjobs", "--all-namespaces"]);

    let role: Value = site.get("role", &account);
    let granted = json!([
        {"apiGroups": ["compaction.dev"], "resources": ["compactionjobs"], "resourceNames": [JOB], "verbs": ["get"]},
        {"apiGroups": ["compaction.dev"], "resources": ["compactionjobs/status"], "resourceNames": [JOB], "verbs": ["get", "patch"]},
    ]);
    assert_eq!(role["rules"], granted);
}

#[test]
fn the_operator_reads_schedules_and_writes_nothing_but_their_status() {
    let site = Site::new("operator-rights");
    let account = format!("system:serviceaccount:{}:operator", site.namespace);
    let may = |verb: &str, what: &str| {
        let (what, part) = what.split_once('/').unwrap_or((what, ""));
        let part = format!("--subresource={part}");
        let asked = ["auth", "can-i", verb, what, &part, "--as", &account];
        let output = site.command(&asked).output().unwrap();
        said(&output).trim() == "yes"
    };
    for (verb, what) in [
        ("list", "compactionschedules"),
        ("watch", "compactionschedules"),
        ("patch", "compactionschedules/status"),
        ("create", "compactionjobs"),
        ("delete", "compactionjobs"),
    ] {
        assert!(may(verb, what), "{verb} {what}");
    }
    for (verb, what) in [
        ("create", "compactionschedules"),
        ("patch", "compactionschedules"),
        ("update", "compactionschedules"),
        ("delete", "compactionschedules"),
        ("update", "compactionschedules/status"),
        ("update", "compactionjobs"),
        ("get", "secrets"),
        ("list", "secrets"),
        ("get", "configmaps"),
    ] {
        assert!(!may(verb, what), "{verb} {what}");
    }
}
