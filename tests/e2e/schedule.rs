//! Schedules: jobs that are made at their time, each taking only what is new, whatever becomes of the operator.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cluster::{feed, said};
use crate::site::{KEYS, OPERATOR, Site, condition, text_of};
use crate::sources::{assert_compacted, put_named};
use crate::watch;

const SCHEDULE: &str = "every-minute";

/// A schedule over `in/` and `out/`, changed by `spec` as a merge patch.
pub fn schedule(site: &Site, name: &str, spec: Value) -> Value {
    let job = site.job(name, json!({}));
    let mut schedule = json!({
        "apiVersion": "compaction.dev/v1alpha1",
        "kind": "CompactionSchedule",
        "metadata": {"name": name},
        "spec": {
            "schedule": "* * * * *",
            "successfulJobsHistoryLimit": 20,
            "jobTemplate": {"metadata": {"labels": {"team": "e2e"}}, "spec": job["spec"]},
        },
    });
    json_patch::merge(&mut schedule["spec"], &spec);
    schedule
}

#[track_caller]
pub fn until<T>(site: &Site, what: &str, name: &str, look: impl FnMut(&Value) -> Option<T>) -> T {
    watch::until(what, || site.command(&["get", "compactionschedule", name]), look)
}

#[track_caller]
pub fn until_state(site: &Site, name: &str, state: &str) -> String {
    until(site, &format!("the state {state}"), name, |schedule| {
        let (_, reason, message) = condition(schedule, "Ready");
        (reason == state).then_some(message)
    })
}

/// Changes the spec.
#[track_caller]
pub fn edit(site: &Site, name: &str, spec: &Value) {
    let patch = json!({"spec": spec}).to_string();
    site.kubectl(&["patch", "compactionschedule", name, "--type=merge", "-p", &patch]);
}

pub fn runs(site: &Site, name: &str) -> Vec<Value> {
    site.list("compactionjobs", &format!("compaction.dev/schedule={name}"))
}

/// How many sources each run that has succeeded has compacted, if it was any.
fn compacted(site: &Site, name: &str) -> Vec<i64> {
    let succeeded = |run: &Value| condition(run, "Succeeded").0 == "True";
    let runs = runs(site, name).into_iter().filter(succeeded);
    let sources = runs.filter_map(|run| run["status"]["plan"]["sourceObjects"].as_i64());
    sources.filter(|sources| *sources > 0).collect()
}

fn names(runs: &[Value]) -> Vec<String> {
    runs.iter().map(|run| text_of(&run["metadata"]["name"])).collect()
}

/// Of each slot since the first one there is a run.
#[track_caller]
fn assert_in_a_row(site: &Site, name: &str) {
    let names = names(&runs(site, name));
    let minute = |name: &String| name.rsplit_once('-').unwrap().1.parse::<i64>().unwrap();
    let minutes: Vec<i64> = names.iter().map(minute).collect();
    let (first, last) = (minutes[0], minutes[minutes.len() - 1]);
    assert_eq!(minutes, (first..=last).collect::<Vec<_>>(), "{names:?}");
    let schedule = site.get("compactionschedule", name);
    assert_eq!(schedule["status"]["missedRuns"], 0, "{:#}", schedule["status"]);
}

/// Puts `objects` more objects, and waits until the runs have compacted `total` in all.
#[track_caller]
fn arrive(site: &Site, name: &str, objects: usize, total: i64) {
    put_named(&site.bucket, name, objects);
    watch::ask(&format!("{total} compacted sources"), || {
        (compacted(site, SCHEDULE).iter().sum::<i64>() == total).then_some(())
    });
}

fn scale(site: &Site, replicas: &str) {
    site.kubectl(&["scale", "deployment", OPERATOR, "--replicas", replicas]);
    site.kubectl(&["rollout", "status", "deployment", OPERATOR, "--timeout=3m"]);
}

/// Waits until the clock shows a second after `minute`.
fn wait_for(minute: Timestamp) {
    watch::ask(&format!("the slot {minute}"), || {
        (Timestamp::now() > minute + SignedDuration::from_secs(1)).then_some(())
    });
}

#[test]
fn each_slot_takes_only_new_work_through_a_restart_and_a_missed_slot() {
    let site = Site::new("schedule");
    site.apply(&schedule(&site, SCHEDULE, json!({})));
    for (name, total) in [("first", 24), ("second", 48), ("third", 72)] {
        arrive(&site, name, 24, total);
    }
    let sources = compacted(&site, SCHEDULE);
    assert!(sources.len() >= 3, "{sources:?}");
    assert_in_a_row(&site, SCHEDULE);
    let line = site.kubectl(&["get", "cpts", SCHEDULE]);
    for word in [
        "SCHEDULE",
        "STATE",
        "NEXT",
        "LAST SUCCESS",
        "ACTIVE",
        "AGE",
        "* * * * *",
    ] {
        assert!(line.contains(word), "{word} is not in {line}");
    }

    // Another operator goes on where this one was.
    for pod in site.list("pods", "app.kubernetes.io/name=compaction-operator") {
        let name = text_of(&pod["metadata"]["name"]);
        site.kubectl(&["delete", "pod", &name, "--force", "--grace-period=0"]);
    }
    arrive(&site, "fourth", 24, 96);

    // Of two slots without an operator, one is run.
    scale(&site, "0");
    let minute = Timestamp::now().as_second() / 60;
    let missed = Timestamp::from_second((minute + 1) * 60).unwrap();
    put_named(&site.bucket, "fifth", 24);
    let before = site.get("compactionschedule", SCHEDULE);
    wait_for(missed + SignedDuration::from_secs(60));
    scale(&site, "1");
    arrive(&site, "none", 0, 120);
    let after = until(&site, "a missed slot", SCHEDULE, |schedule| {
        schedule["status"]["lastSkip"]
            .is_object()
            .then(|| schedule.clone())
    });
    let count = |schedule: &Value| schedule["status"]["missedRuns"].as_i64().unwrap_or_default();
    assert_eq!(count(&after) - count(&before), 1, "{:#}", after["status"]);
    assert_eq!(after["status"]["lastSkip"]["reason"], "Missed");
    assert_eq!(after["status"]["lastSkip"]["slotTime"], missed.to_string());

    // Nothing was run twice, nothing taken twice, and nothing lost.
    assert_compacted(&site.bucket);
    let metrics = site.operator_says("metrics");
    for name in [
        "next_run_timestamp_seconds",
        "last_success_timestamp_seconds",
        "missed_runs_total",
        "consecutive_failures",
    ] {
        let series = format!(
            "compaction_schedule_{name}{{namespace=\"{}\",schedule=\"{SCHEDULE}\"}}",
            site.namespace
        );
        assert!(metrics.contains(&series), "{series} is not in {metrics}");
    }
    let events = site.kubectl(&[
        "get",
        "events",
        "--field-selector",
        "involvedObject.kind=CompactionSchedule",
    ]);
    for reason in ["RunStarted", "RunSucceeded", "RunSkipped"] {
        assert!(events.contains(reason), "{reason} is not in {events}");
    }

    // With the schedule go its jobs.
    site.kubectl(&["delete", "compactionschedule", SCHEDULE, "--timeout=2m"]);
    watch::ask("the end of the jobs", || {
        runs(&site, SCHEDULE).is_empty().then_some(())
    });
    watch::ask("the end of the series", || {
        (!site.operator_says("metrics").contains(SCHEDULE)).then_some(())
    });
}

#[test]
fn a_suspended_schedule_runs_by_hand_and_says_why_a_job_is_refused() {
    let site = Site::new("schedule-by-hand");
    put_named(&site.bucket, "first", 24);
    let suspended = |spec: Value| {
        let mut all = json!({"suspend": true, "timeZone": "Australia/Lord_Howe"});
        json_patch::merge(&mut all, &spec);
        schedule(&site, "by-hand", all)
    };
    site.apply(&suspended(json!({})));
    until_state(&site, "by-hand", "Suspended");
    assert_eq!(runs(&site, "by-hand").len(), 0);
    site.kubectl(&["wait", "compactionschedule", "by-hand", "--for=condition=Ready"]);

    let trigger = |text: &str| edit(&site, "by-hand", &json!({"manualTrigger": text}));
    trigger("once");
    until(&site, "a run that succeeded", "by-hand", |schedule| {
        (schedule["status"]["lastRun"]["result"] == "Succeeded").then_some(())
    });
    assert_compacted(&site.bucket);
    let [run] = &runs(&site, "by-hand")[..] else {
        panic!("{:#?}", runs(&site, "by-hand"))
    };
    assert_eq!(
        run["metadata"]["annotations"]["compaction.dev/manual-trigger"],
        "once"
    );
    assert_eq!(run["metadata"]["labels"]["team"], "e2e");
    let schedule = site.get("compactionschedule", "by-hand");
    assert_eq!(schedule["status"]["lastManualTrigger"], "once");
    assert_eq!(schedule["status"]["active"], Value::Null);

    // What the template becomes is refused: source and output are the same.
    let clash = json!({"jobTemplate": {"spec": {
        "source": {"prefix": "${date:in}/"},
        "output": {"prefix": "in/out/"},
    }}});
    site.apply(&suspended(clash));
    trigger("twice");
    let refused = until(&site, "a refusal", "by-hand", |schedule| {
        let skip = &schedule["status"]["lastSkip"];
        (skip["reason"] == "JobRefused").then(|| text_of(&skip["message"]))
    });
    assert!(refused.contains("may not contain each other"), "{refused}");
    let unknown = json!({"jobTemplate": {"spec": {"source": {"prefix": "${day}/"}}}});
    site.apply(&suspended(unknown));
    until(&site, "a message", "by-hand", |schedule| {
        let (_, _, message) = condition(schedule, "Ready");
        message.contains("${day} is not known").then_some(())
    });
}

/// Waits until this run, which a trigger has started, has succeeded.
#[track_caller]
fn until_run_succeeded(site: &Site, name: &str, run: &str) {
    until(site, &format!("the success of {run}"), name, |schedule| {
        let last = &schedule["status"]["lastRun"];
        (last["name"] == run && last["result"] == "Succeeded").then_some(())
    });
}

#[test]
fn runs_that_are_through_are_deleted_but_for_as_many_as_are_to_be_kept() {
    let site = Site::new("schedule-history");
    put_named(&site.bucket, "first", 24);
    // Its slots are far away.
    let spec = json!({"schedule": "0 0 29 2 *", "successfulJobsHistoryLimit": 1});
    site.apply(&schedule(&site, "history", spec));
    for number in 1..=3 {
        edit(&site, "history", &json!({"manualTrigger": number.to_string()}));
        until_run_succeeded(&site, "history", &format!("history-m{number}"));
    }
    watch::ask("the end of the older runs", || {
        (names(&runs(&site, "history")) == ["history-m3"]).then_some(())
    });
    assert_compacted(&site.bucket);
}

#[test]
fn a_run_that_cannot_start_is_replaced_by_the_next_one() {
    let site = Site::new("schedule-replace");
    put_named(&site.bucket, "first", 24);
    let keys = |name: &str| json!({"storage": {"s3": {"credentialsSecretRef": {"name": name}}}});
    let spec = json!({
        "schedule": "0 0 29 2 *",
        "concurrencyPolicy": "Replace",
        "manualTrigger": "one",
        "jobTemplate": {"spec": keys("no-such-secret")},
    });
    site.apply(&schedule(&site, "replace", spec));
    until_state(&site, "replace", "Running");
    assert_eq!(names(&runs(&site, "replace")), ["replace-m1"]);
    let mended = json!({"manualTrigger": "two", "jobTemplate": {"spec": keys(KEYS)}});
    edit(&site, "replace", &mended);
    until_run_succeeded(&site, "replace", "replace-m2");
    assert_eq!(names(&runs(&site, "replace")), ["replace-m2"]);
    assert_compacted(&site.bucket);
    let schedule = site.get("compactionschedule", "replace");
    assert_eq!(schedule["status"]["missedRuns"], 0);
    let events = site.kubectl(&[
        "get",
        "events",
        "--field-selector",
        "involvedObject.kind=CompactionSchedule",
    ]);
    assert!(
        events.contains("replace-m1 is deleted: the run of manualTrigger replaces it"),
        "{events}"
    );
}

#[test]
fn a_job_that_a_policy_denies_is_made_when_the_policy_is_gone() {
    let site = Site::new("schedule-denied");
    put_named(&site.bucket, "first", 24);
    let name = site.namespace.as_str();
    let (policy, binding) = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding");
    let apply = |kind: &str, spec: Value| {
        site.apply(&json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }));
    };
    // Without a reason of its own, it answers as a rule of the resource does.
    apply(
        policy,
        json!({
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["compaction.dev"],
                "apiVersions": ["*"],
                "operations": ["CREATE"],
                "resources": ["compactionjobs"],
            }]},
            "validations": [{"expression": "false", "message": "nothing is compacted today"}],
        }),
    );
    let only_here = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}});
    apply(
        binding,
        json!({"policyName": name, "validationActions": ["Deny"], "matchResources": only_here}),
    );
    let probe = site.job("probe", json!({}));
    watch::ask("the policy to be enforced", || {
        let mut create = site.command(&["create", "--dry-run=server", "-f", "-"]);
        let said = said(&feed(&mut create, &probe));
        said.contains("nothing is compacted today").then_some(())
    });

    let spec = json!({"schedule": "0 0 29 2 *", "manualTrigger": "one"});
    site.apply(&schedule(&site, "denied", spec));
    let message = until_state(&site, "denied", "JobDenied");
    assert!(message.contains("nothing is compacted today"), "{message}");
    site.kubectl(&["delete", &format!("{policy},{binding}"), name]);
    until_run_succeeded(&site, "denied", "denied-m1");
    assert_compacted(&site.bucket);
}

#[test]
fn a_schedule_that_cannot_be_meant_is_refused_with_a_remedy() {
    let site = Site::bare("schedule-invalid");
    let cases = [
        (json!({"schedule": "0 15 * * * *"}), "exactly five fields"),
        (json!({"schedule": "@every 1h"}), "exactly five fields"),
        (
            json!({"schedule": "TZ=Europe/Berlin 0 3 * * *"}),
            "write it into timeZone",
        ),
        (json!({"timeZone": "Local"}), "where the operator runs"),
        (
            json!({"startingDeadlineSeconds": 9}),
            "greater than or equal to 10",
        ),
        (
            json!({"jobTemplate": {"spec": {"mode": "PlanOnly"}}}),
            "can only be Execute",
        ),
        (
            json!({"jobTemplate": {"spec": {"output": {"prefix": "in/out/"}}}}),
            "may not contain each other",
        ),
        (
            json!({"jobTemplate": {"spec": {"parallelism": 65}}}),
            "less than or equal to 64",
        ),
        (json!({"surprise": true}), "surprise"),
    ];
    for (spec, words) in cases {
        let output = site.try_apply(&schedule(&site, "odd", spec.clone()));
        assert!(!output.status.success(), "{spec} is accepted");
        assert!(said(&output).contains(words), "{spec}: {}", said(&output));
    }
    let long = site.try_apply(&schedule(&site, &"x".repeat(37), json!({})));
    assert!(said(&long).contains("at most 36 characters"), "{}", said(&long));

    // A template may be changed where a job may not.
    site.apply(&schedule(&site, "changed", json!({"suspend": true})));
    let other = json!({"jobTemplate": {"spec": {"source": {"prefix": "other/"}, "storage": {"s3": {"bucket": "other"}}}}});
    site.apply(&schedule(&site, "changed", other));
}
