//! `decide` against a schedule, its jobs and a clock that a test moves by hand.

mod changes;
mod clock;
mod concurrency;
mod failures;
mod history;
mod kstatus;
mod manual;
mod missed;
mod property;
mod refused;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::api::{RunResult, set_condition};
use crate::controller::schedule::runs::Run;

/// A schedule and its jobs; what is decided is carried out on them.
#[derive(Clone)]
struct World {
    schedule: CompactionSchedule,
    jobs: Vec<CompactionJob>,
    now: Timestamp,
    /// What the API server says to a job of this name, or to any.
    refuses: BTreeMap<String, NotMade>,
    /// Names of the runs that were ever made.
    made: Vec<String>,
    notices: Vec<(&'static str, String)>,
    uids: u32,
}

impl World {
    /// A schedule of this spec, looked at once at the moment of its creation.
    fn new(spec: Value) -> Self {
        let mut world = Self::unseen(spec);
        world.step();
        world
    }

    fn unseen(spec: Value) -> Self {
        let mut schedule = json!({
            "apiVersion": "compaction.dev/v1alpha1",
            "kind": "CompactionSchedule",
            "metadata": {
                "name": "hourly", "namespace": "ns", "uid": "uid-1", "generation": 1, "resourceVersion": "1",
                "creationTimestamp": "2026-01-01T09:30:00Z",
            },
            "spec": {"schedule": "0 * * * *", "jobTemplate": {"spec": {
                "storage": {"s3": {"bucket": "bucket"}},
                "source": {"prefix": "in/${date:%H}/"},
                "output": {"prefix": "out/"},
            }}},
            "status": {"observedGeneration": -1},
        });
        json_patch::merge(&mut schedule["spec"], &spec);
        Self {
            schedule: serde_json::from_value(schedule).unwrap(),
            jobs: Vec::new(),
            now: "2026-01-01T09:30:00Z".parse().unwrap(),
            refuses: BTreeMap::new(),
            made: Vec::new(),
            notices: Vec::new(),
            uids: 0,
        }
    }

    fn runs(&self) -> Vec<Run> {
        let jobs = self.jobs.iter();
        jobs.filter_map(|job| Run::of(&self.schedule, job)).collect()
    }

    fn look(&self, not_made: &[(String, NotMade)]) -> Decision {
        decide(&Observed {
            schedule: &self.schedule,
            runs: &self.runs(),
            not_made,
            now: self.now,
        })
        .unwrap()
    }

    /// A whole pass, as `reconcile` makes it.
    fn step(&mut self) -> Decision {
        let decision = self.make();
        self.apply(&decision);
        for run in &decision.delete {
            self.jobs
                .retain(|job| job.metadata.uid.as_deref() != Some(run.uid.as_str()));
        }
        decision
    }

    /// A pass that ends before the status is written.
    fn make(&mut self) -> Decision {
        let mut not_made = Vec::new();
        for _ in 0..4 {
            let decision = self.look(&not_made);
            let Some(job) = decision.create.clone() else {
                return decision;
            };
            let name = job.name_any();
            let refused = self.refuses.get(&name).or_else(|| self.refuses.get("*"));
            match refused {
                Some(why) => not_made.push((name, why.clone())),
                None => self.create(*job),
            }
        }
        panic!("more is made than a trigger and a slot");
    }

    /// As the API server does: one of the same name stays.
    fn create(&mut self, mut job: CompactionJob) {
        let name = job.name_any();
        if self.jobs.iter().all(|there| there.name_any() != name) {
            self.uids += 1;
            job.metadata.uid = Some(format!("job-{}", self.uids));
            job.metadata.creation_timestamp = Some(Time(seconds(self.now)));
            assert!(!self.made.contains(&name), "{name} is made a second time");
            self.made.push(name);
            self.jobs.push(job);
        }
    }

    fn apply(&mut self, decision: &Decision) {
        let mut schedule = serde_json::to_value(&self.schedule).unwrap();
        json_patch::patch(&mut schedule, &decision.patch).unwrap();
        self.schedule = serde_json::from_value(schedule).unwrap();
        let notices = decision.notices.iter().map(|n| (n.reason, n.note.clone()));
        self.notices.extend(notices);
    }

    /// Changes the spec, as a user does.
    fn edit(&mut self, spec: Value) {
        let mut schedule = serde_json::to_value(&self.schedule).unwrap();
        json_patch::merge(&mut schedule["spec"], &spec);
        self.schedule = serde_json::from_value(schedule).unwrap();
        let generation = self.schedule.metadata.generation.unwrap();
        self.schedule.metadata.generation = Some(generation + 1);
    }

    fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// The clock shows `time` of the first day, and a pass is made.
    fn at(&mut self, time: &str) -> Decision {
        self.now = moment(time);
        self.step()
    }

    fn end_as(&mut self, name: &str, type_: &str, reason: &str) {
        let now = self.now;
        let job = self.job(name);
        let status = job.status.get_or_insert_default();
        set_condition(
            &mut status.conditions,
            type_,
            Some(true),
            reason,
            "message",
            1,
            now,
        );
    }

    fn succeed(&mut self, name: &str) {
        self.end_as(name, types::SUCCEEDED, "Succeeded");
        let now = self.now;
        self.job(name).status.get_or_insert_default().completion_time = Some(Time(now));
    }

    fn fail(&mut self, name: &str) {
        self.end_as(name, types::STALLED, "WorkFailed");
    }

    fn job(&mut self, name: &str) -> &mut CompactionJob {
        let job = self.jobs.iter_mut().find(|job| job.name_any() == name);
        job.unwrap_or_else(|| panic!("{name} is not there"))
    }

    fn exists(&self, name: &str) -> bool {
        self.jobs.iter().any(|job| job.name_any() == name)
    }

    fn status(&self) -> &CompactionScheduleStatus {
        self.schedule.status.as_ref().unwrap()
    }

    /// Status and reason of a condition.
    fn condition(&self, type_: &str) -> (&str, &str) {
        condition(&self.status().conditions, type_).map_or(("", ""), |c| (&c.status, &c.reason))
    }

    fn state(&self) -> &str {
        self.condition(types::READY).1
    }

    fn message(&self) -> &str {
        condition(&self.status().conditions, types::READY).map_or("", |c| &c.message)
    }

    fn active(&self) -> Vec<&str> {
        self.status().active.iter().map(|run| run.name.as_str()).collect()
    }

    /// Slot and reason of the latest skip, and how many there were in all.
    fn skipped(&self) -> (String, &str, i64) {
        let skip = self.status().last_skip.as_ref();
        let slot = skip
            .and_then(|skip| skip.slot_time.as_ref())
            .map(|slot| clock(slot.0));
        let reason = skip.map_or("", |skip| skip.reason.as_str());
        (slot.unwrap_or_default(), reason, self.status().missed_runs)
    }

    fn told(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.notices)
            .into_iter()
            .map(|(reason, _)| reason)
            .collect()
    }
}

/// A time of the first day.
fn moment(time: &str) -> Timestamp {
    format!("2026-01-01T{time}Z").parse().unwrap()
}

fn clock(time: Timestamp) -> String {
    time.strftime("%H:%M").to_string()
}

/// The name of the run of a slot of the first day.
fn run(time: &str) -> String {
    slot_name("hourly", moment(&format!("{time}:00")))
}

use crate::controller::schedule::runs::slot_name;

#[test]
fn a_slot_makes_the_job_of_the_template_for_its_time() {
    let mut world = World::new(json!({
        "timeZone": "Europe/Berlin",
        "jobTemplate": {"metadata": {
            "labels": {"team": "a", "compaction.dev/schedule": "stolen"}, "annotations": {"note": "b"},
        }},
    }));
    assert_eq!((world.state(), world.made.len()), ("Scheduled", 0));
    assert_eq!(world.message(), "the next run starts at 2026-01-01T10:00:00Z");
    world.at("10:00:00");
    assert_eq!(world.made, ["hourly-29454360"]);
    let job = world.job("hourly-29454360").clone();
    assert_eq!(job.spec.source.prefix, "in/11/", "Berlin is an hour ahead");
    let metadata = job.metadata;
    let labels =
        json!({"team": "a", "compaction.dev/schedule": "hourly", "compaction.dev/schedule-uid": "uid-1"});
    assert_eq!(json!(metadata.labels), labels);
    let annotations = json!({"note": "b", "compaction.dev/scheduled-time": "2026-01-01T10:00:00Z"});
    assert_eq!(json!(metadata.annotations), annotations);
    let owner = &metadata.owner_references.unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.uid.as_str()),
        ("CompactionSchedule", "uid-1")
    );
    assert_eq!(
        (owner.controller, owner.block_owner_deletion),
        (Some(true), Some(true))
    );
    assert_eq!(metadata.namespace.as_deref(), Some("ns"));
}

#[test]
fn the_status_tells_of_a_run_from_its_start_to_its_end() {
    let mut world = World::new(json!({}));
    assert_eq!(
        world.condition(types::LAST_RUN_SUCCEEDED),
        ("Unknown", "NoRunYet")
    );
    world.at("10:00:00");
    let name = run("10:00");
    assert_eq!((world.state(), world.active()), ("Running", vec![name.as_str()]));
    let status = world.status();
    assert_eq!(status.observed_generation, 1);
    assert_eq!(status.effective_schedule.as_deref(), Some("0 * * * * Etc/UTC"));
    assert_eq!(clock(status.last_schedule_time.as_ref().unwrap().0), "10:00");
    assert_eq!(clock(status.next_schedule_time.as_ref().unwrap().0), "11:00");
    let last = status.last_run.as_ref().unwrap();
    assert_eq!(
        (last.name.as_str(), last.result, clock(last.scheduled_time.0)),
        (name.as_str(), None, "10:00".to_owned())
    );
    world.now = moment("10:07:00");
    world.succeed(&name);
    world.at("10:08:00");
    assert_eq!((world.state(), world.active()), ("Scheduled", vec![]));
    assert_eq!(world.condition(types::LAST_RUN_SUCCEEDED), ("True", "Succeeded"));
    let status = world.status();
    assert_eq!(clock(status.last_successful_time.as_ref().unwrap().0), "10:07");
    let last = status.last_run.as_ref().unwrap();
    assert_eq!(
        (last.result, last.reason.as_str()),
        (Some(RunResult::Succeeded), "Succeeded")
    );
    assert_eq!(world.told(), ["RunStarted", "RunSucceeded"]);
}

#[test]
fn a_look_at_which_nothing_is_due_changes_nothing_and_says_when_to_look_again() {
    let mut world = World::new(json!({}));
    world.at("09:59:30");
    let decision = world.look(&[]);
    assert_eq!(
        (decision.create, decision.patch.0.len(), decision.delete.len()),
        (None, 0, 0)
    );
    assert_eq!(decision.wake, Some(Duration::from_secs(30)));
}

#[test]
fn a_deleted_schedule_starts_nothing_more() {
    let mut world = World::new(json!({}));
    world.schedule.metadata.deletion_timestamp = Some(Time(world.now));
    let decision = world.at("10:00:00");
    assert_eq!((world.made.len(), decision.patch.0.len()), (0, 0));
}

#[test]
fn every_run_starts_the_same_while_after_its_slot() {
    let mut world = World::new(json!({"jitterSeconds": 600}));
    let jitter = world.look(&[]).wake.unwrap().as_secs() as i64 - 1800;
    assert!((1..=600).contains(&jitter), "{jitter}");
    let effective = world.status().effective_schedule.clone().unwrap();
    assert_eq!(effective, format!("0 * * * * Etc/UTC +{jitter}s"));
    for hour in [10, 11, 12] {
        world.now = moment(&format!("{hour}:00:00")) + SignedDuration::from_secs(jitter - 1);
        world.step();
        assert!(!world.exists(&run(&format!("{hour}:00"))));
        world.pass(1);
        world.step();
        let name = run(&format!("{hour}:00"));
        assert!(world.exists(&name), "the name is the slot's");
        world.succeed(&name);
    }
    let mut other = World::unseen(json!({"jitterSeconds": 600}));
    other.schedule.metadata.uid = Some("uid-2".to_owned());
    other.step();
    assert_ne!(
        other.status().effective_schedule.as_deref(),
        Some(effective.as_str())
    );
}
