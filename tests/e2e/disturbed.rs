//! Work that is disturbed: workers and operators die in the middle, and the result is the same.

use serde_json::{Value, json};

use crate::site::{JOB, OPERATOR, Site, condition, has_ended, slow, sum, text_of, worker};
use crate::sources::{assert_compacted, put};
use crate::watch;

/// Small batches in several shards.
fn several_shards() -> Value {
    json!({
        "parallelism": 3,
        "batch": {"size": "8Ki"},
        "output": {"targetObjectSize": "64Ki"},
    })
}

#[test]
fn several_shards_compact_thousands_of_objects() {
    let site = Site::new("several-shards");
    put(&site.bucket, 3000);
    site.start(several_shards());
    site.kubectl(&[
        "wait",
        "compactionjob",
        JOB,
        "--for=condition=Succeeded",
        "--timeout=5m",
    ]);

    let job = site.get("compactionjob", JOB);
    assert_eq!(job["status"]["plan"]["sourceObjects"], 3000);
    assert_eq!(job["status"]["shards"].as_array().unwrap().len(), 3);
    assert_eq!(condition(&job, "Ready").1, "Succeeded");
    let line = site.kubectl(&["get", "cptj", JOB]);
    let batches = sum(&job, "/totalBatches");
    for word in [
        "STATE",
        "PROGRESS",
        "ETA",
        "AGE",
        "Succeeded",
        &format!("{batches}/{batches}"),
    ] {
        assert!(line.contains(word), "{word} is not in {line}");
    }
    for reason in ["Planned", "WorkerStarted", "Published"] {
        site.until_event(JOB, reason);
    }
    assert_compacted(&site.bucket);
    assert!(site.verify(several_shards()).contains("3000 sources"));

    let answer = |path: &str| site.operator_says(path);
    assert_eq!(
        (answer("livez").as_str(), answer("readyz").as_str()),
        ("ok\n", "ok\n")
    );
    let metrics = answer("metrics");
    let count = |name: &str| {
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {metrics}"))
            .parse::<i64>()
            .unwrap()
    };
    assert_eq!(count("compaction_batches_total"), batches);
    assert!(count("compaction_workers_started_total") >= 3);
    assert_eq!(count(r#"compaction_jobs{state="Succeeded"}"#), 1);
}

#[test]
fn workers_deleted_by_force_go_on_unseen_and_double_nothing() {
    let site = Site::new("forced");
    put(&site.bucket, 600);
    site.start(slow());
    for batches in [20, 60, 100] {
        site.until_batches(JOB, batches);
        site.kubectl(&[
            "delete",
            "pods",
            "--selector",
            "app.kubernetes.io/name=compaction-worker",
            "--force",
            "--grace-period=0",
        ]);
    }
    site.until_succeeded(JOB);
    assert_compacted(&site.bucket);
    let job = site.get("compactionjob", JOB);
    assert!(sum(&job, "/epoch") >= 6, "workers were replaced: {job:#}");
    site.until_event(JOB, "Resumed");
}

#[test]
fn an_operator_that_is_killed_takes_up_what_it_finds() {
    let site = Site::new("operator-killed");
    put(&site.bucket, 600);
    site.start(slow());
    for batches in [10, 60] {
        site.until_batches(JOB, batches);
        let pods = site.list("pods", "app.kubernetes.io/name=compaction-operator");
        let workers = names(&site.workers());
        for pod in names(&pods) {
            site.kubectl(&["delete", "pod", &pod, "--force", "--grace-period=0"]);
        }
        site.kubectl(&["rollout", "status", "deployment", OPERATOR, "--timeout=3m"]);
        let now = names(&site.workers());
        assert!(
            workers.iter().any(|worker| now.contains(worker)),
            "workers outlive it: {workers:?}, {now:?}"
        );
    }
    site.until_succeeded(JOB);
    assert_compacted(&site.bucket);
    let job = site.get("compactionjob", JOB);
    assert_eq!(sum(&job, "/lost"), 0);
    assert_eq!(job["status"]["failures"], Value::Null);
}

#[test]
fn a_suspended_job_has_no_pods_and_goes_on_where_it_was() {
    let site = Site::new("suspended");
    put(&site.bucket, 600);
    site.start(slow());
    site.until_batches(JOB, 20);
    site.patch(JOB, &json!({"spec": {"suspend": true}}));
    site.until_condition(JOB, "Suspended", "True");
    assert!(site.workers().iter().all(has_ended), "{:#?}", site.workers());
    let job = site.get("compactionjob", JOB);
    let batches = sum(&job, "/checkpoint/batch");
    assert!(batches >= 20, "{job:#}");
    assert_eq!((sum(&job, "/lost"), sum(&job, "/waits")), (0, 0));
    site.until_event(JOB, "Suspended");

    site.patch(JOB, &json!({"spec": {"suspend": false}}));
    let least = site.until("a worker", JOB, |job| {
        let running = condition(job, "Suspended").0 == "False";
        running.then(|| sum(job, "/checkpoint/batch"))
    });
    assert!(least >= batches, "{least} after {batches}");
    site.until_succeeded(JOB);
    assert_compacted(&site.bucket);
    let job = site.get("compactionjob", JOB);
    assert_eq!(
        (sum(&job, "/lost"), job["status"]["failures"].is_null()),
        (0, true)
    );
}

#[test]
fn no_more_workers_run_than_parallelism_allows() {
    let site = Site::new("parallelism");
    put(&site.bucket, 600);
    let mut spec = slow();
    spec["parallelism"] = json!(3);
    site.start(spec);
    site.until_batches(JOB, 10);
    site.patch(JOB, &json!({"spec": {"parallelism": 1}}));
    site.kubectl(&[
        "delete",
        "pods",
        "--selector",
        "app.kubernetes.io/name=compaction-worker",
    ]);
    let mut seen = std::collections::BTreeMap::new();
    watch::until(
        "the end of the job",
        || {
            site.command(&[
                "get",
                "pods",
                "--selector",
                "app.kubernetes.io/name=compaction-worker",
            ])
        },
        |pod| {
            seen.insert(
                text_of(&pod["metadata"]["name"]),
                !has_ended(pod) && pod["metadata"]["deletionTimestamp"].is_null(),
            );
            let alive = seen.values().filter(|alive| **alive).count();
            assert!(alive <= 1, "{seen:?}");
            let job = site.get("compactionjob", JOB);
            (condition(&job, "Succeeded").0 == "True").then_some(())
        },
    );
    assert_compacted(&site.bucket);
}

#[test]
fn a_worker_killed_for_memory_is_told_of_and_goes_on_with_more() {
    let site = Site::new("memory");
    let large: Vec<u8> = (0..200_000)
        .flat_map(|n| format!("{{\"id\":{n},\"large\":true}}\n").into_bytes())
        .collect();
    let objects = (0..24).map(|n| {
        (
            format!("in/{n:03}.json"),
            [format!("{{\"object\":{n}}}\n").as_bytes(), &large].concat(),
        )
    });
    site.bucket.put(&objects.collect());
    // A window that is not that of the container's memory.
    let mut container = worker("40Mi");
    container["env"] = json!([{"name": "COMPACTION_WINDOW", "value": "256Mi"}]);
    site.start(json!({"backoffLimit": 1, "template": {"spec": {"containers": [container]}}}));
    site.until_condition(JOB, "Stalled", "True");
    let job = site.get("compactionjob", JOB);
    assert_eq!(condition(&job, "Stalled").1, "BackoffLimitExceeded", "{job:#}");
    let failures = job["status"]["failures"].as_array().unwrap();
    let killed = failures.iter().find(|failure| failure["reason"] == "OOMKilled");
    let killed = killed.unwrap_or_else(|| panic!("{job:#}"));
    assert!(
        text_of(&killed["message"]).contains("raise the memory limit"),
        "{killed}"
    );
    site.until_event(JOB, "WorkerLost");

    site.patch(
        JOB,
        &json!({"spec": {
            "retryToken": "more memory",
            "template": {"spec": {"containers": [worker("160Mi")]}},
        }}),
    );
    site.until_succeeded(JOB);
}

fn names(pods: &[Value]) -> Vec<String> {
    pods.iter().map(|pod| text_of(&pod["metadata"]["name"])).collect()
}
