//! `decide`: a schedule, its runs and the time in; what to make, what to delete and the next status out. Pure.
//!
//! One mark keeps every slot from being run twice: `slots.settledUntil`. It never falls, and no slot up to it starts
//! any more, but for those that are known not to have run (`settled`). A run that exists moves it past its slot, so it
//! does not matter whether the status was written before a restart. What is made is made first and told after; when
//! something was made, or could not be, `decide` is asked again with that in view.

mod account;
mod conditions;
mod start;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use json_patch::Patch;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::render::render;
use super::runs::{Run, seconds};
use super::slots::{self, Slots};
use crate::api::{
    CompactionJob, CompactionSchedule, CompactionScheduleStatus, ScheduleReason, SkipReason, SlotsStatus,
    condition, conditions as types,
};
use crate::controller::news::Notice;
use crate::controller::patch::of_schedule;

/// Told to people and to alerts, from a closed list.
mod event {
    pub const RUN_STARTED: &str = "RunStarted";
    pub const RUN_SUCCEEDED: &str = "RunSucceeded";
    pub const RUN_FAILED: &str = "RunFailed";
    pub const RUN_DELETED: &str = "RunDeleted";
    pub const RUN_REPLACED: &str = "RunReplaced";
    pub const RUN_SKIPPED: &str = "RunSkipped";
    pub const HALTED: &str = "Halted";
}

/// Why a slot was not run whose time was another one by then.
const CHANGED: &str = "schedule, timeZone or jitterSeconds was changed before it started";

/// What is known of a schedule at one moment.
pub(super) struct Observed<'a> {
    pub schedule: &'a CompactionSchedule,
    pub runs: &'a [Run],
    /// Names of runs that could not be made in this pass, and why.
    pub not_made: &'a [(String, NotMade)],
    /// By the controller's clock.
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotMade {
    /// The API server takes no such job.
    Refused(String),
    /// The cluster does not allow it now.
    Denied(String),
    /// One of that name belongs to somebody else.
    Conflict,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decision {
    /// To be made before anything else; what comes of it is to be decided upon again.
    pub create: Option<Box<CompactionJob>>,
    /// May be empty. When it is refused, nothing else of the decision holds: observe again.
    pub patch: Patch,
    pub delete: Vec<Deletion>,
    pub notices: Vec<Notice>,
    /// When to look again if nothing happens before; `None`: only then.
    pub wake: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deletion {
    pub name: String,
    pub uid: String,
}

/// What the schedule needs next.
pub(super) fn decide(observed: &Observed<'_>) -> Result<Decision, serde_json::Error> {
    let schedule = observed.schedule;
    let mut deciding = Deciding {
        observed,
        next: schedule.status.clone().unwrap_or_default(),
        began: false,
        begun: Vec::new(),
        create: None,
        delete: Vec::new(),
        notices: Vec::new(),
        wake: None,
    };
    deciding.decide();
    Ok(Decision {
        patch: of_schedule(schedule, &deciding.next)?,
        create: deciding.create,
        delete: deciding.delete,
        notices: deciding.notices,
        wake: deciding.wake,
    })
}

struct Deciding<'a> {
    observed: &'a Observed<'a>,
    next: CompactionScheduleStatus,
    /// A run is seen for the first time.
    began: bool,
    /// Its slot, and the mark before it.
    begun: Vec<(Timestamp, Timestamp)>,
    create: Option<Box<CompactionJob>>,
    delete: Vec<Deletion>,
    notices: Vec<Notice>,
    wake: Option<Duration>,
}

/// The reason of `Ready`, what it means for those who wait, and the message.
struct State {
    reason: ScheduleReason,
    standing: Standing,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Well,
    /// Not well, and it may become so by itself.
    Waits,
    /// Somebody has to help.
    Stalled,
}

impl State {
    fn new(reason: ScheduleReason, standing: Standing, message: impl Into<String>) -> Self {
        Self {
            reason,
            standing,
            message: message.into(),
        }
    }
}

impl Deciding<'_> {
    fn decide(&mut self) {
        if self.observed.schedule.metadata.deletion_timestamp.is_some() {
            return;
        }
        self.begin_slots();
        self.account();
        let state = self.go_on();
        self.next.observed_generation = self.observed.schedule.metadata.generation.unwrap_or_default();
        self.set_conditions(&state);
        self.trim_history();
    }

    fn go_on(&mut self) -> State {
        let spec = &self.observed.schedule.spec;
        self.next.next_schedule_time = None;
        self.settle_changes();
        let slots = match Slots::new(&spec.schedule, &spec.time_zone, self.observed.now) {
            Ok(slots) => slots,
            Err(error) => {
                self.next.effective_schedule = None;
                return State::new(reason_of(&error), Standing::Stalled, error.to_string());
            }
        };
        self.tell_passed_over(&slots);
        self.lift_halt(&slots);
        self.next.effective_schedule = Some(self.effective_schedule());
        let state = self.start(&slots);
        if let Some(settled) = &mut self.next.slots {
            settled.forget_empty(&slots);
        }
        state
    }

    /// What is due, unless somebody or something keeps it from being run.
    fn start(&mut self, slots: &Slots) -> State {
        let spec = &self.observed.schedule.spec;
        let problem = render(&spec.job_template.spec, &slots.in_zone(self.observed.now)).err();
        let problem = problem.map(|problem| problem.to_string());
        if spec.suspend {
            return self.suspended(slots, problem);
        }
        if self.is_halted() {
            return self.halted(slots);
        }
        if let Some(problem) = problem {
            self.skip_due(slots, SkipReason::InvalidTemplate, &problem);
            return State::new(ScheduleReason::InvalidTemplate, Standing::Stalled, problem);
        }
        let hold = self.manual(slots).or_else(|| self.slot(slots));
        self.set_next(slots);
        self.state(hold)
    }

    /// Slots count from the creation of the schedule.
    fn begin_slots(&mut self) {
        let schedule = self.observed.schedule;
        let now = seconds(self.observed.now);
        let created = schedule.creation_timestamp().map_or(now, |time| time.0.min(now));
        self.next.slots.get_or_insert_with(|| SlotsStatus {
            schedule: schedule.spec.schedule.clone(),
            time_zone: schedule.spec.time_zone.clone(),
            settled_until: Time(created),
            passed_over: Vec::new(),
        });
    }

    /// Slots of another schedule, or of a time when none was to run, are not made up for. Those whose start is still to
    /// come are run.
    fn settle_changes(&mut self) {
        let (spec, now) = (&self.observed.schedule.spec, seconds(self.observed.now));
        let due = seconds(self.due());
        let Some(old) = self.next.slots.clone() else {
            return;
        };
        let was_suspended = self.was(ScheduleReason::Suspended);
        if old.schedule != spec.schedule || old.time_zone != spec.time_zone {
            if !was_suspended && let Ok(slots) = Slots::new(&old.schedule, &old.time_zone, now) {
                self.tell_passed_over(&slots);
                self.skip_due(&slots, SkipReason::ScheduleChanged, CHANGED);
            }
            self.settle(due);
            if let Some(slots) = &mut self.next.slots {
                spec.schedule.clone_into(&mut slots.schedule);
                spec.time_zone.clone_into(&mut slots.time_zone);
            }
        }
        if was_suspended && !spec.suspend {
            self.settle(due);
        }
    }

    /// Somebody has done something about the runs that failed.
    fn lift_halt(&mut self, slots: &Slots) {
        if self.was_halted() && self.is_changed() {
            self.skip_due(slots, SkipReason::Halted, "too many runs in a row had failed");
            self.next.consecutive_failures = 0;
        }
    }

    /// By the clock as it is now.
    fn mark(&self) -> Timestamp {
        self.mark_at(self.due())
    }

    fn mark_at(&self, time: Timestamp) -> Timestamp {
        let slots = self.next.slots.as_ref();
        slots.map_or(self.observed.now, |slots| slots.mark(time))
    }

    fn settle(&mut self, time: Timestamp) {
        if let Some(slots) = &mut self.next.slots {
            slots.settle(time);
        }
    }

    /// A slot starts so long after its time.
    fn jitter(&self) -> SignedDuration {
        let schedule = self.observed.schedule;
        let hash = Sha256::digest(schedule.uid().unwrap_or_default());
        let hash = hash
            .iter()
            .take(8)
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let longest = u64::try_from(schedule.spec.jitter_seconds).unwrap_or_default();
        SignedDuration::from_secs(i64::try_from(hash % (longest + 1)).unwrap_or_default())
    }

    /// The time by which slots are due.
    fn due(&self) -> Timestamp {
        self.observed
            .now
            .saturating_sub(self.jitter())
            .unwrap_or(self.observed.now)
    }

    fn effective_schedule(&self) -> String {
        let spec = &self.observed.schedule.spec;
        let (schedule, zone) = (&spec.schedule, &spec.time_zone);
        match self.jitter().as_secs() {
            0 => format!("{schedule} {zone}"),
            seconds => format!("{schedule} {zone} +{seconds}s"),
        }
    }

    /// When a slot starts.
    fn start_of(&self, slot: Timestamp) -> Timestamp {
        slot.saturating_add(self.jitter()).unwrap_or(Timestamp::MAX)
    }

    fn set_next(&mut self, slots: &Slots) {
        let next = slots.next(self.due().max(self.mark()));
        // At its time the clock may be where slots were run already.
        let next = next.and_then(|next| match self.mark_at(next) {
            mark if mark < next => Some(next),
            mark => slots.next(mark),
        });
        let next = next.map(|next| self.start_of(next));
        self.next.next_schedule_time = next.map(Time);
        if let Some(next) = next {
            self.wake_at(next);
        }
    }

    fn wake_at(&mut self, time: Timestamp) {
        let wait = Duration::try_from(time.duration_since(self.observed.now)).unwrap_or_default();
        self.wake = Some(self.wake.map_or(wait, |wake| wake.min(wait)));
    }

    /// Whether the spec is another one than that of the last look.
    fn is_changed(&self) -> bool {
        let seen = self
            .observed
            .schedule
            .status
            .as_ref()
            .map(|s| s.observed_generation);
        seen != self.observed.schedule.metadata.generation
    }

    /// Whether slots started at other times at the last look.
    fn is_moved(&self) -> bool {
        let status = self.observed.schedule.status.as_ref();
        let seen = status.and_then(|status| status.effective_schedule.as_ref());
        seen.is_some_and(|seen| *seen != self.effective_schedule())
    }

    /// What the last look found.
    fn was(&self, reason: ScheduleReason) -> bool {
        let conditions = self.observed.schedule.status.as_ref().map(|s| &s.conditions[..]);
        condition(conditions.unwrap_or_default(), types::READY).is_some_and(|c| c.reason == reason.as_str())
    }

    fn was_halted(&self) -> bool {
        let conditions = self.observed.schedule.status.as_ref().map(|s| &s.conditions[..]);
        condition(conditions.unwrap_or_default(), types::HALTED).is_some_and(|c| c.status == "True")
    }

    /// Too many runs in a row have failed.
    fn is_halted(&self) -> bool {
        let limit = self.observed.schedule.spec.suspend_after_consecutive_failures;
        limit > 0 && self.next.consecutive_failures >= limit
    }

    fn tell(&mut self, warning: bool, reason: &'static str, note: String) {
        self.notices.push(Notice {
            warning,
            reason,
            note,
        });
    }
}

fn reason_of(error: &slots::Error) -> ScheduleReason {
    match error {
        slots::Error::Zone(_) => ScheduleReason::InvalidTimeZone,
        slots::Error::Schedule { .. } | slots::Error::Never(_) => ScheduleReason::InvalidSchedule,
    }
}

#[cfg(test)]
mod tests;
