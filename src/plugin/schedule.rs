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
    /// That of the spec.
    #[serde(skip)]
    pub generation: Option<i64>,
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
    pub observed_generation: i64,
    pub conditions: Vec<Condition>,
    pub effective_schedule: Option<String>,
    pub last_successful_time: Option<Time>,
    pub next_schedule_time: Option<Time>,
    pub missed_runs: i64,
    pub last_skip: Option<Skip>,
    pub consecutive_failures: i64,
    pub last_manual_trigger: Option<String>,
    pub manual_runs: i64,
    pub active: Vec<Run>,
    pub last_run: Option<Run>,
}

#[derive(Debug, Clone, Default, Deserialize)]
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
        let schedule = Self::deserialize(&object.data)?;
        Ok(Self {
            generation: object.metadata.generation,
            ..schedule
        })
    }

    /// Whether somebody has to change the spec, as it is now, before anything is run.
    fn is_stalled(&self) -> bool {
        let status = &self.status;
        let stalled = condition(&status.conditions, conditions::STALLED);
        Some(status.observed_generation) >= self.generation && stalled.is_some_and(|c| c.status == "True")
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

/// The state's word and message, as the operator has it.
pub(super) fn state(status: &Status) -> String {
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
    /// And why. Where the spec is at fault, the trigger is obeyed when that is mended.
    NotStarted(String),
}

/// `before`: the status at the last look, at which the trigger was not obeyed. `None`: it still is not, and may be yet.
pub(super) fn triggered(name: &str, trigger: &str, before: &Status, seen: &Schedule) -> Option<Triggered> {
    let status = &seen.status;
    if status.last_manual_trigger.as_deref() != Some(trigger) {
        return seen.is_stalled().then(|| Triggered::NotStarted(state(status)));
    }
    // The operator writes both at once.
    if status.manual_runs > before.manual_runs {
        return Some(Triggered::Started(format!("{name}-m{}", status.manual_runs)));
    }
    let why = status.last_skip.as_ref().map_or_else(|| state(status), why);
    Some(Triggered::NotStarted(why))
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

    /// A schedule of the second generation, at which the operator has looked.
    fn seen(status: Value) -> Schedule {
        let mut all = json!({"observedGeneration": 2});
        json_patch::merge(&mut all, &status);
        Schedule {
            status: serde_json::from_value(all).unwrap(),
            generation: Some(2),
            ..Schedule::default()
        }
    }

    fn condition_of(type_: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({
            "type": type_, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
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
    fn a_run_that_was_started_is_known_by_its_number() {
        let before = seen(json!({"lastManualTrigger": "old", "manualRuns": 1}));
        let became = |after: &Schedule| triggered("hourly", "new", &before.status, after);
        assert_eq!(became(&before), None, "it is still to come");
        let another = seen(json!({"lastManualTrigger": "of somebody else", "manualRuns": 2}));
        assert_eq!(became(&another), None);
        let started = seen(json!({"lastManualTrigger": "new", "manualRuns": 2}));
        assert_eq!(became(&started), Some(Triggered::Started("hourly-m2".to_owned())));
    }

    #[test]
    fn a_run_that_was_refused_is_told_with_the_reason_also_if_it_is_that_of_the_last_one() {
        let skip = json!({"reason": "JobRefused", "message": "no bucket"});
        let before = seen(json!({"lastManualTrigger": "old", "manualRuns": 1, "lastSkip": skip}));
        let refused = seen(json!({"lastManualTrigger": "new", "manualRuns": 1, "lastSkip": skip}));
        assert_eq!(
            triggered("hourly", "new", &before.status, &refused),
            Some(Triggered::NotStarted("JobRefused: no bucket".to_owned()))
        );
    }

    #[test]
    fn a_run_that_waits_for_a_change_of_the_spec_is_told_once_the_operator_has_seen_the_spec() {
        let conditions = json!([
            condition_of("Ready", "False", "InvalidTemplate", "${day} is not known"),
            condition_of("Stalled", "True", "InvalidTemplate", "${day} is not known"),
        ]);
        let mut after = seen(json!({"conditions": conditions}));
        let became = |after: &Schedule| triggered("hourly", "new", &Status::default(), after);
        let why = "InvalidTemplate: ${day} is not known".to_owned();
        assert_eq!(became(&after), Some(Triggered::NotStarted(why)));
        after.generation = Some(3);
        assert_eq!(became(&after), None, "that was said of an earlier spec");
    }

    #[test]
    fn a_run_that_waits_for_the_cluster_or_an_earlier_run_is_waited_for() {
        for reason in ["Waiting", "JobDenied"] {
            let conditions = json!([
                condition_of("Ready", "False", reason, "not now"),
                condition_of("Stalled", "False", reason, ""),
            ]);
            let after = seen(json!({"conditions": conditions}));
            assert_eq!(triggered("hourly", "new", &Status::default(), &after), None);
            assert_eq!(state(&after.status), format!("{reason}: not now"));
        }
    }
}
