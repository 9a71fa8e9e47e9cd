//! Each rule and bound of a schedule, as a user meets it.

use serde_json::{Value, json};

use super::ask;
use crate::api::{CompactionSchedule, ConcurrencyPolicy, MissedRunPolicy};

fn minimal() -> Value {
    json!({
        "apiVersion": "compaction.dev/v1alpha1",
        "kind": "CompactionSchedule",
        "metadata": {"name": "hourly"},
        "spec": {
            "schedule": "15 * * * *",
            "jobTemplate": {"spec": {
                "storage": {"s3": {"bucket": "bucket"}},
                "source": {"prefix": "in/"},
                "output": {"prefix": "out/"},
            }},
        },
    })
}

/// The minimal schedule with one field set.
fn with(path: &str, value: Value) -> CompactionSchedule {
    serde_json::from_value(ask::set(minimal(), path, value)).unwrap()
}

fn problems(path: &str, value: Value) -> Vec<String> {
    with(path, value).check(None).err().unwrap_or_default()
}

#[track_caller]
fn accepted(path: &str, value: Value) {
    let text = format!("{path} = {value}");
    ask::assert_accepted(&problems(path, value), &text);
}

/// Refused for one reason, which says this.
#[track_caller]
fn refused(path: &str, value: Value, message: &str) {
    let text = format!("{path} = {value}");
    ask::assert_refused(&problems(path, value), &text, message);
}

#[test]
fn a_minimal_schedule_is_accepted_with_the_documented_defaults() {
    let schedule: CompactionSchedule = serde_json::from_value(minimal()).unwrap();
    schedule.check(None).unwrap();
    let spec = schedule.spec;
    assert_eq!(spec.time_zone, "Etc/UTC");
    assert!(!spec.suspend);
    assert_eq!(spec.concurrency_policy, ConcurrencyPolicy::Forbid);
    assert_eq!(spec.missed_run_policy, MissedRunPolicy::RunOnce);
    assert_eq!(
        (spec.starting_deadline_seconds, spec.manual_trigger),
        (None, None)
    );
    assert_eq!(spec.jitter_seconds, 0);
    assert_eq!(
        (spec.successful_jobs_history_limit, spec.failed_jobs_history_limit),
        (3, 3)
    );
    assert_eq!(spec.suspend_after_consecutive_failures, 0);
}

#[test]
fn names_leave_room_for_the_slot_and_the_trigger() {
    accepted("metadata.name", json!("n".repeat(36)));
    refused("metadata.name", json!("n".repeat(37)), "at most 36 characters");
    for name in ["-29387040", "-m0123abcd"] {
        assert!(36 + name.len() <= 46, "the limit of a job");
    }
}

#[test]
fn a_schedule_has_five_fields_or_a_known_name() {
    for schedule in [
        "* * * * *",
        "*/15 2-4,6 1 JAN mon",
        "0 3 L * *",
        "0  3 * *  SUN",
        "@hourly",
        "@daily",
        "@weekly",
        "@monthly",
        "@yearly",
    ] {
        accepted("spec.schedule", json!(schedule));
    }
    for schedule in [
        "0 15 * * * *",
        "* * * *",
        "@every 1h",
        "@reboot",
        "@hourly * * * *",
        "hourly",
    ] {
        refused("spec.schedule", json!(schedule), "exactly five fields");
    }
    assert!(!problems("spec.schedule", json!("")).is_empty());
    refused(
        "spec.schedule",
        json!(format!("{} * * * *", "1,".repeat(62))),
        "longer than 128",
    );
}

#[test]
fn a_time_zone_has_a_field_of_its_own_and_a_name() {
    for schedule in [
        "TZ=Europe/Berlin 0 3 * * *",
        "CRON_TZ=UTC 0 3 * * *",
        "TZ=UTC @daily",
    ] {
        refused("spec.schedule", json!(schedule), "write it into timeZone");
    }
    for zone in [
        "Europe/Berlin",
        "Etc/GMT+5",
        "America/Argentina/Buenos_Aires",
        "UTC",
    ] {
        accepted("spec.timeZone", json!(zone));
    }
    refused("spec.timeZone", json!("Local"), "where the operator runs");
    for zone in ["", "Europe Berlin", "../../etc/passwd"] {
        refused("spec.timeZone", json!(zone), "does not match");
    }
}

#[test]
fn numbers_have_bounds() {
    for (path, minimum, maximum) in [
        ("spec.startingDeadlineSeconds", 10, 31_536_000),
        ("spec.jitterSeconds", 0, 86_400),
        ("spec.successfulJobsHistoryLimit", 0, 100),
        ("spec.failedJobsHistoryLimit", 0, 100),
        ("spec.suspendAfterConsecutiveFailures", 0, 1000),
    ] {
        accepted(path, json!(minimum));
        accepted(path, json!(maximum));
        let message = format!("{path}: {} is less than {minimum}", minimum - 1);
        refused(path, json!(minimum - 1), &message);
        let message = format!("{path}: {} is more than {maximum}", maximum + 1);
        refused(path, json!(maximum + 1), &message);
    }
    accepted("spec.manualTrigger", json!("t".repeat(63)));
    refused("spec.manualTrigger", json!("t".repeat(64)), "longer than 63");
}

#[test]
fn a_template_is_held_to_the_rules_of_a_job() {
    let path = "spec.jobTemplate.spec";
    refused(&format!("{path}.parallelism"), json!(65), "65 is more than 64");
    refused(
        &format!("{path}.output.prefix"),
        json!("in/out/"),
        "may not contain each other",
    );
    refused(
        &format!("{path}.mode"),
        json!("PlanOnly"),
        "jobTemplate.spec.mode can only be Execute",
    );
    accepted(&format!("{path}.ttlSecondsAfterFinished"), json!(60));
}

#[test]
fn prefixes_with_placeholders_pass_the_schema() {
    let path = "spec.jobTemplate.spec";
    for prefix in [
        "logs/date=${date:%Y-%m-%d}/",
        "${hoursAgo:2:%Y/%m/%d/%H}/",
        "${scheduledTime}/",
    ] {
        accepted(&format!("{path}.source.prefix"), json!(prefix));
        accepted(&format!("{path}.output.prefix"), json!(prefix));
        accepted(&format!("{path}.statePrefix"), json!(prefix));
    }
}

#[test]
fn everything_can_be_changed_also_what_a_job_could_not_change() {
    let old: CompactionSchedule = serde_json::from_value(minimal()).unwrap();
    for (path, value) in [
        ("spec.schedule", json!("@daily")),
        ("spec.timeZone", json!("Europe/Berlin")),
        ("spec.suspend", json!(true)),
        ("spec.concurrencyPolicy", json!("Replace")),
        ("spec.missedRunPolicy", json!("Skip")),
        ("spec.manualTrigger", json!("now")),
        ("spec.jobTemplate.metadata.labels.team", json!("a")),
        ("spec.jobTemplate.spec.source.prefix", json!("other/")),
        ("spec.jobTemplate.spec.storage.s3.bucket", json!("other")),
        ("spec.jobTemplate.spec.deduplicate", json!({"key": ["/id"]})),
    ] {
        let problems = with(path, value).check(Some(&old)).err().unwrap_or_default();
        assert_eq!(problems, Vec::<String>::new(), "{path}");
    }
}
