//! Worker pods of jobs with and without a template.

use serde_json::{Value, json};

use super::*;

fn job(spec: Value) -> CompactionJob {
    let mut job = json!({
        "apiVersion": "compaction.dev/v1alpha1",
        "kind": "CompactionJob",
        "metadata": {"name": "events", "namespace": "data", "uid": "0123456789"},
        "spec": {
            "storage": {"s3": {"bucket": "bucket"}},
            "source": {"prefix": "in/"},
            "output": {"prefix": "out/"},
        },
    });
    json_patch::merge(&mut job["spec"], &spec);
    serde_json::from_value(job).unwrap()
}

fn pod(spec: Value) -> Value {
    let settings = PodSettings {
        image: "operator:1".to_owned(),
        cluster: "east".to_owned(),
        ..PodSettings::default()
    };
    serde_json::to_value(worker_pod(&job(spec), 3, 7, &settings)).unwrap()
}

#[test]
fn a_pod_is_named_and_labelled_after_its_epoch_and_owned_by_the_job() {
    let pod = pod(json!({}));
    assert_eq!(pod["metadata"]["name"], "events-01234-3-7");
    assert_eq!(pod["metadata"]["labels"]["compaction.dev/job-uid"], "0123456789");
    assert_eq!(pod["metadata"]["labels"]["compaction.dev/shard"], "3");
    assert_eq!(pod["metadata"]["labels"]["compaction.dev/epoch"], "7");
    let owner = &pod["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["uid"], &owner["controller"]),
        (&json!("0123456789"), &json!(true))
    );
}

#[test]
fn the_longest_names_fit() {
    let mut job = job(json!({}));
    job.metadata.name = Some("j".repeat(46));
    let name = pod_name(&job, 63, 1_000_000);
    assert!(name.len() <= 63, "{name} has {} characters", name.len());
}

#[test]
fn without_a_template_everything_is_what_restricted_demands() {
    let pod = pod(json!({}));
    let spec = &pod["spec"];
    assert_eq!(spec["restartPolicy"], "Never");
    assert_eq!(spec["serviceAccountName"], "events-01234");
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        spec["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let container = &spec["containers"][0];
    assert_eq!(container["image"], "operator:1");
    assert_eq!(container["resources"]["limits"]["memory"], "256Mi");
    assert_eq!(
        container["securityContext"],
        json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        })
    );
    let arguments = container["args"].as_array().unwrap();
    for wanted in [
        "worker",
        "--job-uid=0123456789",
        "--shard=3",
        "--epoch=7",
        "--cluster=east",
    ] {
        assert!(
            arguments.contains(&json!(wanted)),
            "{wanted} is not in {arguments:?}"
        );
    }
}

#[test]
fn what_a_template_sets_stays_and_the_rest_is_filled_in() {
    let template = json!({"template": {
        "metadata": {"labels": {"team": "data", "compaction.dev/epoch": "99"}},
        "spec": {
            "serviceAccountName": "compactor",
            "nodeSelector": {"pool": "spot"},
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 20,
            "securityContext": {"runAsUser": 1000},
            "containers": [
                {"name": "proxy", "image": "proxy:2"},
                {"name": "worker", "resources": {"limits": {"memory": "1Gi"}}, "args": ["else"],
                 "env": [{"name": "COMPACTION_LOG", "value": "debug"}]},
            ],
        },
    }});
    let pod = pod(template);
    assert_eq!(pod["metadata"]["labels"]["team"], "data");
    assert_eq!(
        pod["metadata"]["labels"]["compaction.dev/epoch"], "7",
        "ours are ours"
    );
    let spec = &pod["spec"];
    assert_eq!(spec["nodeSelector"]["pool"], "spot");
    assert_eq!(spec["serviceAccountName"], "compactor");
    assert_eq!(spec["restartPolicy"], "Never", "a worker is never started twice");
    assert_eq!(
        spec["securityContext"],
        json!({"runAsUser": 1000, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})
    );
    assert_eq!(spec["containers"].as_array().unwrap().len(), 2);
    let worker = &spec["containers"][1];
    assert_eq!(worker["resources"], json!({"limits": {"memory": "1Gi"}}));
    assert_eq!(worker["args"][0], "worker");
    assert!(
        worker["args"]
            .as_array()
            .unwrap()
            .contains(&json!("--grace-seconds=20"))
    );
    let levels: Vec<_> = worker["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| e["name"] == "COMPACTION_LOG")
        .collect();
    assert_eq!(levels, [&json!({"name": "COMPACTION_LOG", "value": "debug"})]);
}

#[test]
fn a_secret_and_a_ca_bundle_are_mounted_by_reference() {
    let pod = pod(json!({"storage": {"s3": {
        "credentialsSecretRef": {"name": "keys"}, "caBundleConfigMapRef": {"name": "ca"},
    }}}));
    let volumes = &pod["spec"]["volumes"];
    assert_eq!(volumes[0]["secret"]["secretName"], "keys");
    assert_eq!(volumes[1]["configMap"]["name"], "ca");
    let worker = &pod["spec"]["containers"][0];
    assert_eq!(worker["volumeMounts"][0]["readOnly"], true);
    let arguments = worker["args"].as_array().unwrap();
    assert!(arguments.contains(&json!("--credentials-dir=/etc/compaction/credentials")));
    assert!(arguments.contains(&json!("--ca-bundle=/etc/compaction/ca/ca.crt")));
}

#[test]
fn a_job_that_must_not_be_disrupted_says_so_to_the_autoscalers() {
    let usual = &pod(json!({}))["metadata"]["annotations"];
    assert!(usual["karpenter.sh/do-not-disrupt"].is_null());
    let annotations = &pod(json!({"disruptionPolicy": "Avoid"}))["metadata"]["annotations"];
    assert_eq!(
        annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"],
        "false"
    );
    assert_eq!(annotations["karpenter.sh/do-not-disrupt"], "true");
}

#[test]
fn a_pod_is_current_until_the_template_or_the_settings_change() {
    let settings = PodSettings {
        image: "operator:1".to_owned(),
        ..PodSettings::default()
    };
    let pod = worker_pod(&job(json!({})), 0, 1, &settings);
    assert!(is_current(&pod, &job(json!({})), 0, 1, &settings));
    let suspended = job(json!({"suspend": true, "backoffLimit": 9}));
    assert!(is_current(&pod, &suspended, 0, 1, &settings), "no part of a pod");
    let template = json!({"template": {"spec": {"containers": [{"name": "worker", "image": "mine:2"}]}}});
    assert!(!is_current(&pod, &job(template), 0, 1, &settings));
    let newer = PodSettings {
        image: "operator:2".to_owned(),
        ..PodSettings::default()
    };
    assert!(!is_current(&pod, &job(json!({})), 0, 1, &newer));
}
