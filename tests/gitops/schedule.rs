//! What Flux and Argo CD make of schedules, over schedules that were recorded at each moment of their lives
//! (`tests/e2e/gitops_schedule.rs`). Only one is written here: that of a clock that was set back, which a test on a node
//! that others use cannot have.

use serde_json::{Value, json};

use crate::schedule_moment::{SCHEDULE_MOMENTS, ScheduleMoment};
use crate::verdict::{Verdict, verdicts};

fn judged(schedule: &Value) -> Verdict {
    verdicts(&[schedule]).remove(0)
}

#[test]
fn a_schedule_is_judged_right_at_each_moment_of_its_life() {
    let schedules: Vec<Value> = SCHEDULE_MOMENTS.iter().map(ScheduleMoment::recorded).collect();
    let objects: Vec<&Value> = schedules.iter().collect();
    let judged = SCHEDULE_MOMENTS.iter().zip(&schedules).zip(verdicts(&objects));
    for ((moment, schedule), verdict) in judged {
        moment.assert_judged(schedule, &verdict);
        assert!(
            !verdict.health.message.is_empty(),
            "{}: a user is told why",
            moment.name
        );
    }
}

#[test]
fn a_schedule_whose_clock_is_behind_is_waited_for() {
    let mut schedule = ScheduleMoment::named("succeeded").recorded();
    for condition in schedule["status"]["conditions"].as_array_mut().unwrap() {
        // As `controller/schedule/decide/conditions.rs` has it.
        match condition["type"].as_str() {
            Some("Ready") => condition["status"] = json!("False"),
            Some("Reconciling") => condition["status"] = json!("True"),
            _ => continue,
        }
        condition["reason"] = json!("ClockBehind");
    }
    let verdict = judged(&schedule);
    assert_eq!(
        (verdict.kstatus.as_str(), verdict.health.status.as_str()),
        ("InProgress", "Progressing")
    );
}

#[test]
fn an_action_on_a_schedule_changes_what_it_is_named_for() {
    let patch = |moment: &str, action: &str| {
        let mut schedule = ScheduleMoment::named(moment).recorded();
        // What Lua makes an empty list of.
        schedule["spec"]["jobTemplate"]["metadata"] = json!({"labels": {}});
        judged(&schedule).actions[action].clone()
    };
    assert_eq!(patch("succeeded", "suspend"), json!({"spec": {"suspend": true}}));
    assert_eq!(patch("suspended", "resume"), json!({"spec": {"suspend": false}}));
    let run = patch("suspended", "run");
    let trigger = run["spec"]["manualTrigger"].as_str().unwrap();
    assert_eq!(run, json!({"spec": {"manualTrigger": trigger}}));
    assert!(
        trigger.parse::<jiff::Timestamp>().is_ok(),
        "{trigger} says when it was"
    );
}
