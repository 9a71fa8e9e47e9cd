//! What Flux and Argo CD make of schedules: over statuses written by the rules of `controller/schedule/decide/conditions.rs`.

use serde_json::{Value, json};

use crate::verdict::{Verdict, verdicts};

/// A schedule whose conditions have these statuses, in the order Ready, Reconciling, Stalled, Halted, `LastRunSucceeded`.
fn schedule(suspend: bool, statuses: [&str; 5]) -> Value {
    let types = ["Ready", "Reconciling", "Stalled", "Halted", "LastRunSucceeded"];
    let conditions = types.iter().zip(statuses);
    let conditions: Vec<Value> = conditions
        .map(|(type_, status)| json!({"type": type_, "status": status, "reason": "Any", "message": "any"}))
        .collect();
    json!({
        "apiVersion": "compaction.dev/v1alpha1",
        "kind": "CompactionSchedule",
        "metadata": {"name": "logs", "generation": 1},
        "spec": {"suspend": suspend, "jobTemplate": {"metadata": {"labels": {}}}},
        "status": {"observedGeneration": 1, "conditions": conditions},
    })
}

fn judged(schedule: &Value) -> Verdict {
    verdicts(&[schedule]).remove(0)
}

#[test]
fn a_schedule_is_judged_right_in_every_state() {
    let mut unseen = schedule(false, ["True", "False", "False", "False", "True"]);
    unseen["status"] = json!({"observedGeneration": -1});
    let mut deleted = schedule(false, ["True", "False", "False", "False", "True"]);
    deleted["metadata"]["deletionTimestamp"] = json!("2026-11-24T20:00:00Z");
    let cases = [
        (unseen, ["InProgress", "InProgress", "Progressing"]),
        (deleted, ["Terminating", "Current", "Progressing"]),
        // It waits for its first slot.
        (
            schedule(false, ["True", "False", "False", "False", "Unknown"]),
            ["Current", "InProgress", "Healthy"],
        ),
        (
            schedule(false, ["True", "False", "False", "False", "True"]),
            ["Current", "Current", "Healthy"],
        ),
        // The last run failed, and the next one comes.
        (
            schedule(false, ["True", "False", "False", "False", "False"]),
            ["Current", "Failed", "Healthy"],
        ),
        // A slot waits for an earlier run, or for the cluster to allow its job.
        (
            schedule(false, ["False", "True", "False", "False", "True"]),
            ["InProgress", "Current", "Progressing"],
        ),
        // Suspended, as a CronJob is.
        (
            schedule(true, ["True", "False", "False", "False", "True"]),
            ["Current", "Current", "Healthy"],
        ),
        // Halted after runs that failed, or its template refused.
        (
            schedule(false, ["False", "False", "True", "True", "False"]),
            ["Failed", "Failed", "Degraded"],
        ),
    ];
    for (schedule, wanted) in cases {
        let verdict = judged(&schedule);
        let found = [&verdict.kstatus, &verdict.expressions, &verdict.health.status].map(String::as_str);
        assert_eq!(found, wanted, "{schedule:#}");
    }
}

#[test]
fn an_action_on_a_schedule_changes_what_it_is_named_for() {
    let running = judged(&schedule(false, ["True", "False", "False", "False", "True"])).actions;
    assert_eq!(running["suspend"], json!({"spec": {"suspend": true}}));
    assert!(!running.contains_key("resume"));
    let suspended = judged(&schedule(true, ["True", "False", "False", "False", "True"])).actions;
    assert_eq!(suspended["resume"], json!({"spec": {"suspend": false}}));
    assert!(!suspended.contains_key("suspend"));
    let trigger = &suspended["run"]["spec"]["manualTrigger"];
    assert_eq!(suspended["run"], json!({"spec": {"manualTrigger": trigger}}));
    assert!(trigger.as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
}
