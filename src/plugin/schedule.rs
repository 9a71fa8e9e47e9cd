//! What people are shown of a schedule, and what became of a run that they started. Pure. Reads only what it shows, so
//! that an operator of another version is understood.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use serde::Deserialize;

use super::words::{since, table, until};
use crate::api::{condition, conditions};

/// The fields that are shown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Schedule {
    pub spec: Spec,
    pub status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub schedule: String,
    pub suspend: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub conditions: Vec<Condition>,
    pub effective_schedule: Option<String>,
    pub last_successful_time: Option<Time>,
    pub next_schedule_time: Option<Time>,
    pub missed_runs: i64,
    pub last_skip: Option<Skip>,
    pub consecutive_failures: i64,
    pub last_manual_trigger: Option<String>,
    pub active: Vec<Run>,
    pub last_run: Option<Run>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Skip {
    /// Absent: a run that somebody had started.
    pub slot_time: Option<Time>,
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Run {
    pub name: String,
    pub uid: String,
    pub scheduled_time: Option<Time>,
    pub result: Option<String>,
    pub reason: String,
}

impl Schedule {
    pub(super) fn of(object: &DynamicObject) -> Result<Self, serde_json::Error> {
        Self::deserialize(&object.data)
    }
}

/// All of it.
pub(super) fn lines(object: &DynamicObject, schedule: &Schedule, now: Timestamp) -> Vec<String> {
    let (spec, status) = (&schedule.spec, &schedule.status);
    let mut facts = Vec::new();
    let mut add = |name: &str, text: Option<String>| {
        facts.extend(text.map(|text| vec![name.to_owned(), text]));
    };
    let created = object.creation_timestamp().map(|time| since(time.0, now));
    let age = created.map_or_else(String::new, |age| format!(", created {age} ago"));
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    add("Schedule", Some(format!("{name} in {namespace}{age}")));
    add("State", Some(state(status)));
    let slots = status.effective_schedule.as_ref().unwrap_or(&spec.schedule);
    add("Slots", Some(slots.clone()));
    let next = status.next_schedule_time.as_ref();
    add(
        "Next",
        next.map(|Time(time)| format!("in {} ({time})", until(*time, now))),
    );
    let active: Vec<_> = status.active.iter().map(|run| run.name.as_str()).collect();
    add("Active", (!active.is_empty()).then(|| active.join(", ")));
    add("Last run", status.last_run.as_ref().map(|run| last_run(run, now)));
    let success = status.last_successful_time.as_ref();
    add(
        "Last success",
        success.map(|time| format!("{} ago", since(time.0, now))),
    );
    let failures = status.consecutive_failures;
    add("Failures", (failures > 0).then(|| format!("{failures} in a row")));
    add("Missed", missed(status));
    let mut lines = table(&facts);
    if spec.suspend {
        lines.push(String::new());
        lines.push(format!(
            "to let it go on: kubectl compaction resume schedule/{name}"
        ));
    }
    lines
}

fn state(status: &Status) -> String {
    match condition(&status.conditions, conditions::READY) {
        Some(ready) if ready.message.is_empty() => ready.reason.clone(),
        Some(ready) => format!("{}: {}", ready.reason, ready.message),
        None => {
            "the operator has not looked at it yet; does it run, and does it watch this namespace?".to_owned()
        }
    }
}

fn last_run(run: &Run, now: Timestamp) -> String {
    let slot = run.scheduled_time.as_ref();
    let slot = slot.map_or_else(String::new, |time| format!(", {} ago", since(time.0, now)));
    let result = run.result.as_deref().unwrap_or("active");
    let reason = match run.reason.as_str() {
        "" => String::new(),
        reason if reason == result => String::new(),
        reason => format!(" ({reason})"),
    };
    format!("{}{slot}: {result}{reason}", run.name)
}

fn missed(status: &Status) -> Option<String> {
    let skip = status.last_skip.as_ref().map(|skip| {
        let slot = skip.slot_time.as_ref();
        let slot = slot.map_or_else(|| "a manual run".to_owned(), |Time(time)| time.to_string());
        format!("the last: {slot}, {}", why(skip))
    });
    match (status.missed_runs, skip) {
        (0, None) => None,
        (missed, None) => Some(missed.to_string()),
        (missed, Some(skip)) => Some(format!("{missed}; {skip}")),
    }
}

fn why(skip: &Skip) -> String {
    match skip.message.as_str() {
        "" => skip.reason.clone(),
        message => format!("{}: {message}", skip.reason),
    }
}

/// What became of a manual trigger.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Triggered {
    /// The job's name.
    Started(String),
    Skipped(String),
}

/// `before`: the status when the trigger was set. `None`: the operator has not dealt with the trigger yet.
pub(super) fn triggered(name: &str, trigger: &str, before: &Status, status: &Status) -> Option<Triggered> {
    if status.last_manual_trigger.as_deref() != Some(trigger) {
        return None;
    }
    let is_manual = |run: &&Run| run.name.starts_with(&format!("{name}-m"));
    let was_there = |run: &&Run| {
        let mut earlier = before.active.iter().chain(&before.last_run);
        earlier.any(|earlier| earlier.uid == run.uid)
    };
    let mut runs = status.last_run.iter().chain(&status.active);
    if let Some(run) = runs.find(|run| is_manual(run) && !was_there(run)) {
        return Some(Triggered::Started(run.name.clone()));
    }
    let skip = status.last_skip.as_ref().filter(|skip| skip.slot_time.is_none());
    let skip = skip.filter(|_| status.last_skip != before.last_skip)?;
    Some(Triggered::Skipped(why(skip)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(status: Value) -> String {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "compaction.dev/v1alpha1", "kind": "CompactionSchedule",
            "metadata": {"name": "hourly", "namespace": "lake", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"schedule": "@hourly", "suspend": true},
            "status": status,
        }))
        .unwrap();
        let schedule = Schedule::of(&object).unwrap();
        lines(&object, &schedule, "2026-01-01T03:10:00Z".parse().unwrap()).join("\n")
    }

    fn status(status: Value) -> Status {
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn a_schedule_is_shown_with_its_runs_and_what_it_missed() {
        let text = shown(json!({
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Suspended", "message": "no slot runs",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
            "effectiveSchedule": "@hourly in Etc/UTC",
            "nextScheduleTime": "2026-01-01T04:00:00Z",
            "lastSuccessfulTime": "2026-01-01T02:05:00Z",
            "missedRuns": 2,
            "lastSkip": {"slotTime": "2026-01-01T01:00:00Z", "reason": "PreviousRunActive"},
            "consecutiveFailures": 1,
            "active": [{"name": "hourly-29454240", "uid": "a"}],
            "lastRun": {"name": "hourly-29454240", "uid": "a", "scheduledTime": "2026-01-01T03:00:00Z"},
        }));
        let wanted = "\
Schedule      hourly in lake, created 3h10m ago
State         Suspended: no slot runs
Slots         @hourly in Etc/UTC
Next          in 50m (2026-01-01T04:00:00Z)
Active        hourly-29454240
Last run      hourly-29454240, 10m ago: active
Last success  1h5m ago
Failures      1 in a row
Missed        2; the last: 2026-01-01T01:00:00Z, PreviousRunActive

to let it go on: kubectl compaction resume schedule/hourly";
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_schedule_without_a_status_says_that_nobody_looked() {
        let text = shown(json!({}));
        assert!(text.contains("has not looked at it yet"), "{text}");
        assert!(text.contains("Slots     @hourly"), "{text}");
    }

    #[test]
    fn a_run_that_was_started_is_told_from_earlier_ones() {
        let before = status(json!({
            "lastManualTrigger": "old", "lastRun": {"name": "hourly-m00000001", "uid": "a"},
        }));
        assert_eq!(triggered("hourly", "new", &before, &before), None);
        let seen = status(json!({
            "lastManualTrigger": "new", "lastRun": {"name": "hourly-m00000001", "uid": "a"},
        }));
        assert_eq!(
            triggered("hourly", "new", &before, &seen),
            None,
            "it is still to come"
        );
        let started = status(json!({
            "lastManualTrigger": "new",
            "lastRun": {"name": "hourly-29454240", "uid": "c"},
            "active": [{"name": "hourly-m00000001", "uid": "a"}, {"name": "hourly-m00000002", "uid": "b"}],
        }));
        assert_eq!(
            triggered("hourly", "new", &before, &started),
            Some(Triggered::Started("hourly-m00000002".to_owned()))
        );
    }

    #[test]
    fn a_run_that_was_refused_is_told_with_the_reason() {
        let before = status(json!({"lastSkip": {"reason": "JobDenied", "message": "a quota"}}));
        let same = status(
            json!({"lastManualTrigger": "new", "lastSkip": {"reason": "JobDenied", "message": "a quota"}}),
        );
        assert_eq!(triggered("hourly", "new", &before, &same), None);
        let skipped = status(
            json!({"lastManualTrigger": "new", "lastSkip": {"reason": "JobRefused", "message": "no bucket"}}),
        );
        assert_eq!(
            triggered("hourly", "new", &before, &skipped),
            Some(Triggered::Skipped("JobRefused: no bucket".to_owned()))
        );
    }
}
