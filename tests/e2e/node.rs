//! What no API can do: processes are stopped and killed on the node, and the API server goes away. Needs the
//! directory of a cluster of `tests/cluster` in `E2E_NODE`, and runs alone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{kubectl, node, run, script};
use crate::site::{JOB, OPERATOR, Site, has_ended, slow, sum, text_of};
use crate::sources::{assert_compacted, put};
use crate::watch;

fn one_shard() -> Value {
    let mut spec = slow();
    spec["parallelism"] = json!(1);
    spec
}

/// Name and UID of the pod whose worker runs.
fn running_worker(site: &Site) -> (String, String) {
    let pods = site.workers();
    let pod = pods.iter().find(|pod| !has_ended(pod)).unwrap();
    (
        text_of(&pod["metadata"]["name"]),
        text_of(&pod["metadata"]["uid"]),
    )
}

#[test]
fn a_worker_that_stood_still_for_too_long_is_replaced_and_refused_once_when_it_goes_on() {
    let site = Site::new("stopped");
    put(&site.bucket, 600);
    let mut spec = one_shard();
    spec["batch"]["uploadDeadlineSeconds"] = json!(15);
    site.start(spec);
    site.until_batches(JOB, 20);
    let (name, uid) = running_worker(&site);
    let before = site.get("compactionjob", JOB);
    run(&mut script("signal.sh", &["STOP", &site.namespace, &name]));
    let epoch = sum(&before, "/epoch");
    site.until("a higher epoch", JOB, |job| {
        (sum(job, "/epoch") > epoch).then_some(())
    });
    let late = site.get("compactionjob", JOB);
    run(&mut script("signal.sh", &["CONT", &uid]));

    site.until("a refusal", JOB, |job| (sum(job, "/refused") >= 1).then_some(()));
    site.until_event(JOB, "DeadlineExceeded");
    site.until_event(JOB, "Fenced");
    site.until_succeeded(JOB);
    let job = site.get("compactionjob", JOB);
    assert_eq!(sum(&job, "/refused"), 1, "{job:#}");
    let failures = job["status"]["failures"].as_array().unwrap();
    assert!(
        failures.iter().any(|failure| failure["reason"] == "Stuck"),
        "{job:#}"
    );
    assert!(sum(&late, "/checkpoint/batch") < sum(&job, "/checkpoint/batch"));
    assert_compacted(&site.bucket);
}

#[test]
fn a_worker_that_stood_still_while_its_pod_was_deleted_by_force_is_refused_when_it_goes_on() {
    let site = Site::new("stopped-forced");
    put(&site.bucket, 400);
    site.start(one_shard());
    site.until_batches(JOB, 20);
    let (name, uid) = running_worker(&site);
    run(&mut script("signal.sh", &["STOP", &site.namespace, &name]));
    let epoch = sum(&site.get("compactionjob", JOB), "/epoch");
    // It would end the container of a pod that is gone.
    run(&mut script("daemon.sh", &["stop", "kubelet"]));
    site.kubectl(&["delete", "pod", &name, "--force", "--grace-period=0"]);
    site.until("a higher epoch", JOB, |job| {
        (sum(job, "/epoch") > epoch).then_some(())
    });
    run(&mut script("signal.sh", &["CONT", &uid]));
    let pod = format!("var/log/pods/{}_{name}_{uid}/worker/0.log", site.namespace);
    let last_words = watch::ask("the end of the late worker", || {
        let log = std::fs::read_to_string(node().join(&pod)).unwrap();
        let end = log.lines().find(|line| line.contains("worker ends"));
        end.map(str::to_owned)
    });
    run(&mut script("daemon.sh", &["start", "kubelet"]));
    site.until_succeeded(JOB);
    // By the fence; or, once the API server looks anew whether the pod of its token exists, by the API server.
    let refused = sum(&site.get("compactionjob", JOB), "/refused");
    if last_words.contains("\"code\":78") {
        assert_eq!(refused, 1, "{last_words}");
    } else {
        assert!(last_words.contains("401 Unauthorized"), "{last_words}");
        assert_eq!(refused, 0, "{last_words}");
    }
    assert_compacted(&site.bucket);
}

#[test]
fn an_operator_whose_process_is_killed_is_started_again_and_goes_on() {
    let site = Site::new("killed-process");
    put(&site.bucket, 600);
    site.start(slow());
    for batches in [20, 80] {
        site.until_batches(JOB, batches);
        let pods = site.list("pods", "app.kubernetes.io/name=compaction-operator");
        let pod = text_of(&pods[0]["metadata"]["name"]);
        let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64();
        run(&mut script("signal.sh", &["KILL", &site.namespace, &pod]));
        let before = restarts(&pods[0]);
        watch::until(
            "the operator to be started again",
            || site.command(&["get", "pod", &pod]),
            |pod| (restarts(pod) > before).then_some(()),
        );
        site.kubectl(&["rollout", "status", "deployment", OPERATOR, "--timeout=3m"]);
    }
    site.until_succeeded(JOB);
    assert_compacted(&site.bucket);
    assert_eq!(sum(&site.get("compactionjob", JOB), "/lost"), 0);
}

#[test]
fn workers_outlive_a_minute_without_an_api_server() {
    let site = Site::new("api-server-down");
    put(&site.bucket, 600);
    site.start(slow());
    site.until_batches(JOB, 20);
    run(&mut script("daemon.sh", &["stop", "kube-apiserver"]));
    // What is tested is this time, not what happens in it.
    std::thread::sleep(Duration::from_mins(1));
    run(&mut script("daemon.sh", &["start", "kube-apiserver"]));
    watch::ask("the API server to answer", || {
        let ready = kubectl().args(["get", "--raw", "/readyz"]).output().unwrap();
        ready.status.success().then_some(())
    });
    site.until_succeeded(JOB);
    assert_compacted(&site.bucket);
    let job = site.get("compactionjob", JOB);
    assert_eq!(sum(&job, "/lost"), 0, "nobody is charged: {job:#}");
}
