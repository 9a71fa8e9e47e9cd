//! The moments in a schedule's life, what tools such as Flux have to make of each, and the schedules that were recorded
//! in them.

// Each test program uses the part of this that it needs.
#![allow(dead_code)]

use std::path::PathBuf;

use serde_json::Value;

use super::verdict::{Verdict, verdicts};

pub struct ScheduleMoment {
    /// Also the name of the record.
    pub name: &'static str,
    /// By kstatus, by the expressions, and by Argo CD.
    verdict: [&'static str; 3],
    actions: &'static [&'static str],
}

const ACTIVE: &[&str] = &["run", "suspend"];

const fn moment(name: &'static str, verdict: [&'static str; 3]) -> ScheduleMoment {
    let actions = ACTIVE;
    ScheduleMoment {
        name,
        verdict,
        actions,
    }
}

pub const SCHEDULE_MOMENTS: [ScheduleMoment; 12] = [
    // No controller has seen it.
    moment("created", ["InProgress", "InProgress", "Progressing"]),
    // It waits for its first slot.
    moment("scheduled", ["Current", "InProgress", "Healthy"]),
    // Its first run is active.
    moment("running", ["Current", "InProgress", "Healthy"]),
    moment("succeeded", ["Current", "Current", "Healthy"]),
    // The spec was changed, and no controller has seen that yet.
    moment("edited", ["InProgress", "InProgress", "Progressing"]),
    // The last run failed, and the next one comes.
    moment("failed", ["Current", "Failed", "Healthy"]),
    moment("halted", ["Failed", "Failed", "Degraded"]),
    // As a CronJob is.
    ScheduleMoment {
        actions: &["resume", "run"],
        ..moment("suspended", ["Current", "Failed", "Healthy"])
    },
    // A quota forbids the job.
    moment("denied", ["InProgress", "Failed", "Progressing"]),
    // A run waits for an earlier one.
    moment("waiting", ["Current", "Failed", "Healthy"]),
    moment("invalid-template", ["Failed", "Failed", "Degraded"]),
    ScheduleMoment {
        actions: &[],
        ..moment("deleted", ["Terminating", "InProgress", "Progressing"])
    },
];

impl ScheduleMoment {
    pub fn named(name: &str) -> &'static Self {
        let found = SCHEDULE_MOMENTS.iter().find(|moment| moment.name == name);
        found.unwrap_or_else(|| panic!("no moment is called {name}"))
    }

    /// Where the schedule is that was recorded in this moment.
    pub fn record(&self) -> PathBuf {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gitops/recorded/schedule");
        PathBuf::from(folder).join(format!("{}.json", self.name))
    }

    pub fn recorded(&self) -> Value {
        let path = self.record();
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap()
    }

    /// Ends the test unless this is what the tools have to make of a schedule.
    #[track_caller]
    pub fn assert_judged(&self, schedule: &Value, verdict: &Verdict) {
        let found = [&verdict.kstatus, &verdict.expressions, &verdict.health.status].map(String::as_str);
        let actions: Vec<&str> = verdict.actions.keys().map(String::as_str).collect();
        assert_eq!(
            (found, actions.as_slice()),
            (self.verdict, self.actions),
            "{}: {:#}",
            self.name,
            schedule["status"]
        );
    }

    /// Judges one schedule.
    #[track_caller]
    pub fn judge(&self, schedule: &Value) {
        self.assert_judged(schedule, &verdicts(&[schedule])[0]);
    }
}
