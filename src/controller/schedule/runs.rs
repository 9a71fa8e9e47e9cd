//! A schedule's runs: their names, how they are made of the template, and what is seen of them. Pure.
//!
//! A run's name says for which slot it was made, or its number among those of triggers, so nothing is made twice whoever
//! tries, and what was made before a restart is known again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use super::render::{self, render};
use super::slots::Slots;
use crate::api::{CompactionJob, CompactionJobStatus, CompactionSchedule, condition, conditions};

/// Label of every run: the UID of its schedule.
pub(super) const SCHEDULE_UID: &str = "compaction.dev/schedule-uid";
const SCHEDULE: &str = "compaction.dev/schedule";
/// Annotations, for people; of a manual run they are also what is known of its start.
const SCHEDULED_TIME: &str = "compaction.dev/scheduled-time";
const MANUAL_TRIGGER: &str = "compaction.dev/manual-trigger";

/// What a run was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Slot(Timestamp),
    /// A trigger. They are numbered.
    Manual(i64),
}

/// What is seen of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub name: String,
    pub uid: String,
    pub start: Start,
    /// What a manual run was started by.
    pub trigger: Option<String>,
    /// Its slot. Of a manual run: when it was made, by the controller's clock.
    pub scheduled: Timestamp,
    pub created: Timestamp,
    pub state: RunState,
    /// It is told to go, and is still there.
    pub leaves: bool,
    /// Nothing is left to do, disposing included.
    pub is_through: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunState {
    Active,
    /// When its outputs were published, or nothing was found to do.
    Succeeded {
        reason: String,
        time: Timestamp,
    },
    Failed {
        reason: String,
        message: String,
    },
}

impl Run {
    /// `None`: the job belongs to somebody else.
    pub(super) fn of(schedule: &CompactionSchedule, job: &CompactionJob) -> Option<Self> {
        let uid = schedule.metadata.uid.as_deref()?;
        let owned = job.owner_references().iter().any(|owner| owner.uid == uid);
        // Without the label it is not found when it is looked for.
        if !owned || job.labels().get(SCHEDULE_UID).is_none_or(|label| label != uid) {
            return None;
        }
        let name = job.name_any();
        let start = start(&schedule.name_any(), &name)?;
        let status = job.status.as_ref();
        let created = job
            .creation_timestamp()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        Some(Self {
            uid: job.uid()?,
            start,
            trigger: job.annotations().get(MANUAL_TRIGGER).cloned(),
            scheduled: match start {
                Start::Slot(slot) => slot,
                Start::Manual(_) => scheduled_time(job).unwrap_or(created),
            },
            created,
            state: state(job),
            leaves: job.metadata.deletion_timestamp.is_some(),
            is_through: status.is_some_and(CompactionJobStatus::is_at_its_end),
            name,
        })
    }

    pub(super) fn is_active(&self) -> bool {
        self.state == RunState::Active
    }
}

fn scheduled_time(job: &CompactionJob) -> Option<Timestamp> {
    job.annotations().get(SCHEDULED_TIME)?.parse().ok()
}

/// What is published has succeeded, also if its sources could not be disposed of.
fn state(job: &CompactionJob) -> RunState {
    let conditions = job.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let is_true = |type_: &str| condition(conditions, type_).filter(|c| c.status == "True");
    if let Some(succeeded) = is_true(conditions::SUCCEEDED) {
        return RunState::Succeeded {
            reason: succeeded.reason.clone(),
            time: succeeded.last_transition_time.0,
        };
    }
    is_true(conditions::STALLED).map_or(RunState::Active, |stalled| RunState::Failed {
        reason: stalled.reason.clone(),
        message: stalled.message.clone(),
    })
}

/// `<schedule>-<minutes since 1970>`.
pub(super) fn slot_name(schedule: &str, slot: Timestamp) -> String {
    format!("{schedule}-{:08}", slot.as_second() / 60)
}

/// `<schedule>-m<number>`: not the trigger, which may be one that was there before.
pub(super) fn manual_name(schedule: &str, number: i64) -> String {
    format!("{schedule}-m{number}")
}

fn start(schedule: &str, name: &str) -> Option<Start> {
    let suffix = name.strip_prefix(schedule)?.strip_prefix('-')?;
    if let Some(number) = suffix.strip_prefix('m') {
        return number.parse().ok().map(Start::Manual);
    }
    let minutes: i64 = suffix.parse().ok()?;
    Some(Start::Slot(
        Timestamp::from_second(minutes.checked_mul(60)?).ok()?,
    ))
}

/// The job of a slot.
pub(super) fn of_slot(
    schedule: &CompactionSchedule,
    slots: &Slots,
    slot: Timestamp,
) -> Result<CompactionJob, render::Error> {
    job(schedule, slots, slot, slot_name(&schedule.name_any(), slot), None)
}

/// The job of a trigger, scheduled for now.
pub(super) fn of_trigger(
    schedule: &CompactionSchedule,
    slots: &Slots,
    now: Timestamp,
    name: String,
) -> Result<CompactionJob, render::Error> {
    let trigger = schedule.spec.manual_trigger.as_deref().unwrap_or_default();
    job(schedule, slots, now, name, Some(trigger))
}

fn job(
    schedule: &CompactionSchedule,
    slots: &Slots,
    scheduled: Timestamp,
    name: String,
    trigger: Option<&str>,
) -> Result<CompactionJob, render::Error> {
    let template = &schedule.spec.job_template;
    let mut labels = template.metadata.labels.clone();
    labels.extend(own([
        (SCHEDULE, schedule.name_any()),
        (SCHEDULE_UID, schedule.uid().unwrap_or_default()),
    ]));
    let mut annotations = template.metadata.annotations.clone();
    annotations.extend(own([(SCHEDULED_TIME, seconds(scheduled).to_string())]));
    annotations.extend(own(trigger.map(|trigger| (MANUAL_TRIGGER, trigger.to_owned()))));
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: schedule.namespace(),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: schedule.controller_owner_ref(&()).map(|owner| {
            vec![OwnerReference {
                block_owner_deletion: Some(true),
                ..owner
            }]
        }),
        ..ObjectMeta::default()
    };
    let spec = render(&template.spec, &slots.in_zone(seconds(scheduled)))?;
    Ok(CompactionJob {
        metadata,
        spec,
        status: None,
    })
}

fn own(pairs: impl IntoIterator<Item = (&'static str, String)>) -> BTreeMap<String, String> {
    let pairs = pairs.into_iter();
    pairs.map(|(key, value)| (key.to_owned(), value)).collect()
}

/// As Kubernetes writes a time.
pub(super) fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Whether the schedule's status tells of the job's end, so that it may go.
pub(super) fn is_accounted_for(schedule: &CompactionSchedule, job: &CompactionJob) -> bool {
    let (Some(run), Some(status)) = (Run::of(schedule, job), &schedule.status) else {
        return schedule.status.is_some();
    };
    let is_known = match run.start {
        Start::Slot(slot) => {
            let slots = status.slots.as_ref();
            slots.is_some_and(|slots| slots.is_settled(slot))
        }
        Start::Manual(number) => number <= status.manual_runs,
    };
    is_known && status.active.iter().all(|active| active.uid != run.uid)
}
