//! What Flux and Argo CD see of schedules, by their own libraries. Records and is held against records as
//! `tests/e2e/gitops.rs` does with jobs.

use serde_json::{Value, json};

use crate::cluster::store;
use crate::gitops::{is_observed, reason, record, says};
use crate::schedule::{edit, schedule, until};
use crate::schedule_moment::ScheduleMoment;
use crate::site::{Site, condition};
use crate::sources::put;
use crate::verdict::verdicts;
use crate::watch::{self, Life};

const SCHEDULE: &str = "kept-in-git";

/// Ends the test unless the tools make of this schedule what they have to in this moment.
#[track_caller]
fn seen(moment: &str, schedule: &Value) {
    let moment = ScheduleMoment::named(moment);
    moment.judge(schedule);
    record(&moment.record(), schedule);
    let recorded = moment.recorded();
    let is = |schedule: &Value| (says(schedule), schedule["spec"]["suspend"].clone());
    assert_eq!(
        is(schedule),
        is(&recorded),
        "{} is as it was recorded",
        moment.name
    );
}

fn now(site: &Site) -> Value {
    site.get("compactionschedule", SCHEDULE)
}

/// The schedule once it is in this state, with this status of `LastRunSucceeded`.
#[track_caller]
fn in_state(site: &Site, state: &str, last_run: &str) -> Value {
    until(site, &format!("{state} and {last_run}"), SCHEDULE, |schedule| {
        let is = is_observed(schedule) && reason(schedule) == state;
        (is && condition(schedule, "LastRunSucceeded").0 == last_run).then(|| schedule.clone())
    })
}

fn trigger(site: &Site, text: &str) {
    edit(site, SCHEDULE, &json!({"manualTrigger": text}));
}

#[test]
fn a_schedule_is_judged_right_all_its_life() {
    let site = Site::bare("gitops-schedule");
    site.bucket.create();
    site.keys(&store().access_key, &store().secret_key);
    put(&site.bucket, 24);
    // Its slots are far away.
    let spec = json!({"schedule": "0 0 29 2 *", "suspendAfterConsecutiveFailures": 2});
    site.apply(&schedule(&site, SCHEDULE, spec));
    let life = Life::follow(site.command(&["get", "compactionschedule", SCHEDULE]));
    seen("created", &now(&site));

    site.install(&[]);
    seen("scheduled", &in_state(&site, "Scheduled", "Unknown"));
    trigger(&site, "one");
    seen("running", &in_state(&site, "Running", "Unknown"));
    seen("succeeded", &in_state(&site, "Scheduled", "True"));

    // They begin like gzip and are cut short.
    let bad = |name: &str| (format!("in/bad/{name}.json.gz"), vec![0x1f, 0x8b, 8, 0, 0]);
    site.bucket.put(&["a", "b"].map(bad).into());
    trigger(&site, "two");
    seen("failed", &in_state(&site, "Scheduled", "False"));
    trigger(&site, "three");
    seen("halted", &in_state(&site, "Halted", "False"));
    edit(&site, SCHEDULE, &json!({"suspend": true}));
    seen("suspended", &in_state(&site, "Suspended", "False"));
    edit(&site, SCHEDULE, &json!({"suspend": false}));
    in_state(&site, "Scheduled", "False");

    allow_jobs(&site, "0");
    trigger(&site, "four");
    seen("denied", &in_state(&site, "JobDenied", "False"));
    // Its run does not end by itself.
    let no_keys = json!({"storage": {"s3": {"credentialsSecretRef": {"name": "no-such-secret"}}}});
    edit(&site, SCHEDULE, &json!({"jobTemplate": {"spec": no_keys}}));
    allow_jobs(&site, "20");
    in_state(&site, "Running", "False");
    trigger(&site, "five");
    seen("waiting", &in_state(&site, "Waiting", "False"));

    let unknown = json!({"source": {"prefix": "${day}/"}});
    edit(&site, SCHEDULE, &json!({"jobTemplate": {"spec": unknown}}));
    seen("invalid-template", &in_state(&site, "InvalidTemplate", "False"));
    delete(&site);

    let life = life.until("the deletion", |schedule| {
        schedule["metadata"]["deletionTimestamp"].is_string()
    });
    let edited =
        |schedule: &&Value| !is_observed(schedule) && condition(schedule, "LastRunSucceeded").0 == "True";
    seen("edited", life.iter().find(edited).unwrap());
    assert_judged_well(&life);
}

/// How many jobs may exist in the namespace.
fn allow_jobs(site: &Site, jobs: &str) {
    const JOBS: &str = "count/compactionjobs.compaction.dev";
    site.apply(&json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "jobs"},
        "spec": {"hard": {JOBS: jobs}},
    }));
    watch::ask("the quota to be counted", || {
        let quota = site.get("resourcequota", "jobs");
        (quota["status"]["hard"][JOBS] == jobs && quota["status"]["used"][JOBS].is_string()).then_some(())
    });
}

/// Something keeps it for a moment, as its runs may.
fn delete(site: &Site) {
    let finalizers = |names: Value| {
        let patch = json!({"metadata": {"finalizers": names}}).to_string();
        site.kubectl(&[
            "patch",
            "compactionschedule",
            SCHEDULE,
            "--type=merge",
            "-p",
            &patch,
        ]);
    };
    finalizers(json!(["e2e.compaction.dev/kept"]));
    site.kubectl(&["delete", "compactionschedule", SCHEDULE, "--wait=false"]);
    let deleted = now(site);
    finalizers(json!(null));
    seen("deleted", &deleted);
}

/// Nobody is told that it is well before it was looked at, nor that it has failed while it starts runs.
#[track_caller]
fn assert_judged_well(life: &[Value]) {
    let objects: Vec<&Value> = life.iter().collect();
    for (schedule, verdict) in life.iter().zip(verdicts(&objects)) {
        let told = format!("{verdict:#?} of {schedule:#}");
        let stalled = ["Halted", "InvalidTemplate"].contains(&reason(schedule).as_str());
        let observed = is_observed(schedule);
        assert!(observed || verdict.kstatus != "Current", "{told}");
        assert!(observed || verdict.health.status != "Healthy", "{told}");
        assert!(stalled || verdict.kstatus != "Failed", "{told}");
        assert!(stalled || verdict.health.status != "Degraded", "{told}");
    }
}
