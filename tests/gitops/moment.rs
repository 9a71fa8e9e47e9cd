//! The moments in a job's life, what tools such as Flux have to make of each, and the jobs that were recorded in them.

// Each test program uses the part of this that it needs.
#![allow(dead_code)]

use std::path::PathBuf;

use serde_json::Value;

use super::verdict::{Verdict, verdicts};

/// The values of `readyWhen`, in the order of the verdicts below.
pub const READY_WHEN: [&str; 2] = ["Accepted", "Succeeded"];

pub struct Moment {
    /// Also the name of the record.
    pub name: &'static str,
    /// By `readyWhen`.
    kstatus: [&'static str; 2],
    expressions: &'static str,
    /// By `readyWhen`.
    health: [&'static str; 2],
    actions: &'static [&'static str],
}

const fn moment(
    name: &'static str,
    kstatus: [&'static str; 2],
    expressions: &'static str,
    health: [&'static str; 2],
    actions: &'static [&'static str],
) -> Moment {
    Moment {
        name,
        kstatus,
        expressions,
        health,
        actions,
    }
}

const SUSPEND: &[&str] = &["suspend"];
const RESUME: &[&str] = &["resume"];
const RETRY: &[&str] = &["retry"];

const fn not_accepted(name: &'static str) -> Moment {
    let (kstatus, health) = (["InProgress"; 2], ["Progressing"; 2]);
    moment(name, kstatus, "InProgress", health, SUSPEND)
}

const fn accepted(name: &'static str, actions: &'static [&'static str]) -> Moment {
    let (kstatus, health) = (["Current", "InProgress"], ["Healthy", "Progressing"]);
    moment(name, kstatus, "InProgress", health, actions)
}

const fn done(name: &'static str) -> Moment {
    moment(name, ["Current"; 2], "Current", ["Healthy"; 2], &[])
}

const fn failed(name: &'static str) -> Moment {
    moment(name, ["Failed"; 2], "Failed", ["Degraded"; 2], RETRY)
}

pub const MOMENTS: [Moment; 19] = [
    // No controller has seen it.
    not_accepted("created"),
    accepted("waiting-for-job", SUSPEND),
    not_accepted("starting"),
    not_accepted("planning"),
    accepted("planned", SUSPEND),
    accepted("running", SUSPEND),
    accepted("stopping", RESUME),
    moment(
        "suspended",
        ["Current", "InProgress"],
        "InProgress",
        ["Suspended"; 2],
        RESUME,
    ),
    accepted("requeueing", SUSPEND),
    accepted("publishing", SUSPEND),
    done("succeeded"),
    done("nothing-to-compact"),
    failed("failed-work"),
    failed("failed-groups"),
    failed("failed-pending"),
    failed("failed-deadline"),
    failed("failed-upload-deadline"),
    // Deleted, and a worker cleans up.
    moment(
        "deleted",
        ["Terminating"; 2],
        "InProgress",
        ["Progressing"; 2],
        &[],
    ),
    // The spec was changed, and no controller has seen that yet.
    moment(
        "edited",
        ["InProgress"; 2],
        "InProgress",
        ["Progressing"; 2],
        RESUME,
    ),
];

impl Moment {
    pub fn named(name: &str) -> &'static Self {
        let found = MOMENTS.iter().find(|moment| moment.name == name);
        found.unwrap_or_else(|| panic!("no moment is called {name}"))
    }

    /// Where the job is that was recorded in this moment.
    pub fn record(&self, ready_when: &str) -> PathBuf {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gitops/recorded");
        let folder = PathBuf::from(folder).join(ready_when.to_lowercase());
        folder.join(format!("{}.json", self.name))
    }

    pub fn recorded(&self, ready_when: &str) -> Value {
        let path = self.record(ready_when);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap()
    }

    /// Ends the test unless this is what the tools have to make of a job.
    #[track_caller]
    pub fn assert_judged(&self, job: &Value, verdict: &Verdict) {
        let ready_when = READY_WHEN
            .iter()
            .position(|value| job["spec"]["readyWhen"] == *value);
        let ready_when = ready_when.expect("the schema fills in readyWhen");
        let actions: Vec<&str> = verdict.actions.keys().map(String::as_str).collect();
        let found = (
            verdict.kstatus.as_str(),
            verdict.expressions.as_str(),
            verdict.health.status.as_str(),
            actions.as_slice(),
        );
        let wanted = (
            self.kstatus[ready_when],
            self.expressions,
            self.health[ready_when],
            self.actions,
        );
        assert_eq!(
            found, wanted,
            "{} with readyWhen: {}: {:#}",
            self.name, READY_WHEN[ready_when], job["status"]
        );
    }

    /// Judges one job.
    #[track_caller]
    pub fn judge(&self, job: &Value) {
        self.assert_judged(job, &verdicts(&[job])[0]);
    }
}
