//! How a job ends, and what is left of it.

use serde_json::{Value, json};

use crate::site::{JOB, Site, condition, has_ended, slow, worker};
use crate::sources::{assert_compacted, put, put_large, put_named};
use crate::watch;

const OBJECTS: usize = 60;

#[test]
fn a_job_that_is_deleted_in_the_middle_cleans_up_after_itself() {
    let site = Site::new("cleanup");
    put_large(&site.bucket, 120);
    let mut spec = slow();
    spec["output"]["targetObjectSize"] = json!("64Mi");
    spec["deletionPolicy"] = json!("Cleanup");
    site.start(spec);
    let open = |uploads: &[(String, String)]| {
        uploads
            .iter()
            .filter(|upload| site.bucket.is_open(upload))
            .count()
    };
    let uploads = site.until("an open upload", JOB, |_| {
        let uploads = site.bucket.recorded_uploads();
        (open(&uploads) > 0).then_some(uploads)
    });
    assert_ne!(condition(&site.get("compactionjob", JOB), "Succeeded").0, "True");
    site.kubectl(&["delete", "compactionjob", JOB, "--timeout=5m"]);
    assert_eq!(open(&uploads), 0);
    assert_eq!(site.bucket.keys("_compaction/"), [""; 0]);
    assert_eq!(site.bucket.keys("out/"), [""; 0]);
    assert_eq!(site.bucket.keys("in/").len(), 120);
}

#[test]
fn an_orphaned_jobs_objects_stay_until_a_later_job_finds_them() {
    let site = Site::new("orphan");
    put(&site.bucket, 600);
    site.start(slow());
    site.until_batches(JOB, 20);
    site.kubectl(&["delete", "compactionjob", JOB, "--timeout=1m"]);
    assert!(!site.bucket.keys("_compaction/").is_empty(), "its ledger stays");
    let pods = "app.kubernetes.io/name=compaction-worker";
    site.kubectl(&["wait", "pods", "--selector", pods, "--for=delete", "--timeout=3m"]);
    let manifests = site.bucket.keys("out/_compaction/");
    assert_eq!(manifests, [""; 0], "nothing is published");
}

#[test]
fn a_finished_job_is_deleted_after_its_time_and_one_created_anew_has_nothing_to_do() {
    let site = Site::new("ttl");
    put(&site.bucket, OBJECTS);
    site.start(json!({"ttlSecondsAfterFinished": 2}));
    site.kubectl(&["wait", "compactionjob", JOB, "--for=delete", "--timeout=5m"]);
    let outputs = site.bucket.keys("out/");
    assert_compacted(&site.bucket);

    site.start(json!({}));
    site.until_state(JOB, "NothingToCompact");
    let job = site.get("compactionjob", JOB);
    assert_eq!(condition(&job, "Succeeded").0, "True", "{job:#}");
    assert_eq!(site.bucket.keys("out/"), outputs);
    // What is new is compacted by the next one, and only that.
    put_named(&site.bucket, "second", 12);
    site.apply(&site.job("next", json!({})));
    site.until_succeeded("next");
    assert_eq!(
        site.get("compactionjob", "next")["status"]["plan"]["sourceObjects"],
        12
    );
    assert_compacted(&site.bucket);
}

#[test]
fn a_plan_is_shown_first_and_run_when_the_mode_is_changed() {
    let site = Site::new("plan-only");
    put(&site.bucket, OBJECTS);
    site.start(json!({"mode": "PlanOnly"}));
    site.until_state(JOB, "Planned");
    let plan = site.get("compactionjob", JOB)["status"]["plan"].clone();
    assert_eq!(plan["sourceObjects"], 60);
    assert_eq!(site.bucket.keys("out/"), [""; 0]);
    put_named(&site.bucket, "later", 6);
    site.patch(JOB, &json!({"spec": {"mode": "Execute"}}));
    site.until_succeeded(JOB);
    let job = site.get("compactionjob", JOB);
    assert_eq!(job["status"]["plan"], plan, "that plan is run");
    assert!(site.verify(json!({})).contains("60 sources"));
}

#[test]
fn ready_waits_for_what_the_user_said() {
    let site = Site::new("ready-when");
    put(&site.bucket, 600);
    let mut spec = slow();
    spec["readyWhen"] = json!("Succeeded");
    site.start(spec);
    site.until_batches(JOB, 10);
    let job = site.get("compactionjob", JOB);
    assert_eq!(condition(&job, "Ready").0, "False", "{job:#}");
    assert_eq!(condition(&job, "Reconciling").0, "True");
    site.patch(JOB, &json!({"spec": {"readyWhen": "Accepted"}}));
    site.until_condition(JOB, "Ready", "True");
    site.patch(JOB, &json!({"spec": {"readyWhen": "Succeeded"}}));
    site.until_condition(JOB, "Ready", "False");
    site.until_succeeded(JOB);
    site.until_condition(JOB, "Ready", "True");
}

#[test]
fn a_bad_source_fails_the_job_each_time_and_a_new_job_may_skip_it() {
    let site = Site::new("bad-source");
    put(&site.bucket, OBJECTS);
    // It begins like gzip and is cut short.
    let bad = "in/service=1/bad.json.gz";
    site.bucket
        .put(&[(bad.to_owned(), vec![0x1f, 0x8b, 8, 0, 0])].into());
    site.start(json!({"deletionPolicy": "Cleanup"}));
    let (reason, message) = site.until_condition(JOB, "Stalled", "True");
    assert_eq!(reason, "WorkFailed");
    assert!(message.contains(bad), "{message}");
    site.until_event(JOB, "Failed");
    site.patch(JOB, &json!({"spec": {"retryToken": "again"}}));
    let job = site.until("the second failure", JOB, |job| {
        let failed = condition(job, "Stalled").0 == "True";
        (failed && job["status"]["failures"][0]["count"] == 2).then(|| job.clone())
    });
    assert_eq!(job["status"]["failures"].as_array().unwrap().len(), 1, "{job:#}");
    // The last failed pod of a shard stays for its logs.
    watch::ask("one pod to be left", || (site.workers().len() == 1).then_some(()));
    // An output may have been finished before the bad source was met. It goes with the job.
    site.kubectl(&["delete", "compactionjob", JOB, "--timeout=3m"]);

    site.apply(&site.job("skips", json!({"source": {"onBadSource": "Skip"}})));
    site.until_succeeded("skips");
    let skips = site.get("compactionjob", "skips");
    assert_eq!(skips["status"]["progress"]["skippedSources"], 1, "{skips:#}");
    site.bucket.delete(vec![bad.to_owned()]);
    assert_compacted(&site.bucket);
}

#[test]
fn a_memory_limit_that_is_too_small_fails_the_job_and_the_job_says_which_one_is_enough() {
    let site = Site::new("small-memory");
    put(&site.bucket, OBJECTS);
    site.start(json!({"template": {"spec": {"containers": [worker("64Mi")]}}}));
    let (reason, message) = site.until_condition(JOB, "Stalled", "True");
    assert_eq!(reason, "WorkFailed");
    for words in [
        "a memory limit of 67108864 bytes is too small",
        "are needed",
        "spec.template",
    ] {
        assert!(message.contains(words), "{words} is not in {message}");
    }
    let failures = site.get("compactionjob", JOB)["status"]["failures"].clone();
    assert_eq!(
        (failures[0]["reason"].as_str(), failures[0]["count"].as_i64()),
        (Some("InvalidSpec"), Some(1)),
        "{failures:#}"
    );
    site.patch(
        JOB,
        &json!({"spec": {
            "retryToken": "more memory",
            "template": {"spec": {"containers": [worker("128Mi")]}},
        }}),
    );
    site.until_condition(JOB, "Stalled", "False");
    site.until_succeeded(JOB);
    assert_compacted(&site.bucket);
}

#[test]
fn sources_are_deleted_after_their_time_and_no_pod_waits_for_it() {
    let site = Site::new("delete-sources");
    put(&site.bucket, OBJECTS);
    site.start(json!({"sourceDisposition": "Delete", "sourceRetentionSeconds": 30, "allowUnconditionalDelete": true}));
    site.until_succeeded(JOB);
    assert_compacted(&site.bucket);
    watch::ask("the publishing worker to end", || {
        site.workers().iter().all(has_ended).then_some(())
    });
    let job = site.get("compactionjob", JOB);
    assert_eq!(job["status"]["dispose"], Value::Null, "its time has not come");
    assert_eq!(job["status"]["completionTime"], Value::Null);
    site.until("the end of disposing", JOB, |job| {
        (job["status"]["dispose"]["finished"] == true).then_some(())
    });
    assert_eq!(site.bucket.keys("in/"), [""; 0]);
    assert_eq!(site.get("compactionjob", JOB)["status"]["dispose"]["done"], 60);
    assert!(!site.bucket.keys("out/").is_empty());
}

#[test]
fn a_job_that_has_worked_for_too_long_stops_and_keeps_its_checkpoint() {
    let site = Site::new("active-deadline");
    put(&site.bucket, 600);
    let mut spec = slow();
    spec["totalActiveDeadlineSeconds"] = json!(6);
    site.start(spec);
    let (reason, _) = site.until_condition(JOB, "Stalled", "True");
    assert_eq!(reason, "DeadlineExceeded");
    site.patch(
        JOB,
        &json!({"spec": {"totalActiveDeadlineSeconds": null, "retryToken": "more time"}}),
    );
    site.until_condition(JOB, "Stalled", "False");
    site.until_succeeded(JOB);
    assert_compacted(&site.bucket);
}
