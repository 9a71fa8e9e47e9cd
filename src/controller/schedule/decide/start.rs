//! Which slot or trigger starts a run now, and what becomes of those that do not.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{CHANGED, Deciding, Deletion, NotMade, Standing, State, event};
use crate::api::{
    CompactionJob, ConcurrencyPolicy, MAX_ACTIVE_RUNS, MissedRunPolicy, ScheduleReason, Skip, SkipReason,
    bounded,
};
use crate::controller::schedule::render;
use crate::controller::schedule::runs::{self, Run, manual_name, seconds, slot_name};
use crate::controller::schedule::slots::Slots;

/// With `missedRunPolicy: Skip` a slot that starts later than this was missed. More than another controller needs to
/// take over, so that one that does not lose slots.
const ON_TIME: SignedDuration = SignedDuration::from_secs(60);

impl Deciding<'_> {
    /// The run of a changed trigger. Returns what it waits for.
    pub(super) fn manual(&mut self, slots: &Slots) -> Option<State> {
        if self.trigger().is_none() || self.trigger() == self.next.last_manual_trigger.as_ref() {
            self.obey_trigger();
            return None;
        }
        let name = self.manual_name();
        match self.why_not_made(&name) {
            Some(NotMade::Denied(why)) => return Some(denied(&name, why)),
            Some(NotMade::Refused(why)) => {
                let why = why.clone();
                self.obey_trigger();
                return Some(self.give_up(None, 0, SkipReason::JobRefused, &why));
            }
            Some(NotMade::Conflict) | None => {}
        }
        let (schedule, now) = (self.observed.schedule, self.observed.now);
        let hold = self.hold("the run of manualTrigger", now);
        if hold.is_none() {
            return self.create(runs::of_trigger(schedule, slots, now, name));
        }
        hold
    }

    /// The name of the next run by a trigger. A number that belongs to somebody else is left to them.
    fn manual_name(&mut self) -> String {
        let schedule = self.observed.schedule.name_any();
        loop {
            let name = manual_name(&schedule, self.next.manual_runs.saturating_add(1));
            if self.why_not_made(&name) != Some(&NotMade::Conflict) {
                return name;
            }
            self.next.manual_runs = self.next.manual_runs.saturating_add(1);
        }
    }

    /// The latest slot that is due. Returns what it waits for. Earlier ones have had their chance.
    pub(super) fn slot(&mut self, slots: &Slots) -> Option<State> {
        if self.create.is_some() {
            return None;
        }
        let slot = self.due_slot(slots)?;
        if let Some(before) = self.pass_over(slots, self.mark(), slot) {
            self.settle(before);
        }
        if let Some(limit) = self.limit() {
            if self.due().duration_since(slot) > limit {
                let (reason, why) = self.why_too_late(limit);
                self.skip(Some(slot), 1, reason, &why);
                return None;
            }
            let latest = self
                .start_of(slot)
                .saturating_add(limit)
                .unwrap_or(Timestamp::MAX);
            self.wake_at(latest);
        }
        let name = slot_name(&self.observed.schedule.name_any(), slot);
        match self.why_not_made(&name) {
            Some(NotMade::Denied(why)) => return Some(denied(&name, why)),
            Some(NotMade::Refused(why)) => {
                let why = why.clone();
                return Some(self.give_up(Some(slot), 1, SkipReason::JobRefused, &why));
            }
            Some(NotMade::Conflict) => {
                return Some(self.give_up(Some(slot), 1, SkipReason::NameConflict, &conflict(&name)));
            }
            None => {}
        }
        let hold = self.hold(&format!("the slot {slot}"), self.start_of(slot));
        if hold.is_none() {
            return self.create(runs::of_slot(self.observed.schedule, slots, slot));
        }
        hold
    }

    fn due_slot(&self, slots: &Slots) -> Option<Timestamp> {
        slots.latest(self.due()).filter(|slot| *slot > self.mark())
    }

    fn create(&mut self, job: Result<CompactionJob, render::Error>) -> Option<State> {
        match job {
            Ok(job) => self.create = Some(Box::new(job)),
            // Told before: a template that can be rendered for one moment can be for another, but for an end of time.
            Err(error) => {
                let problem = error.to_string();
                return Some(State::new(
                    ScheduleReason::InvalidTemplate,
                    Standing::Stalled,
                    problem,
                ));
            }
        }
        None
    }

    fn why_not_made(&self, name: &str) -> Option<&NotMade> {
        let mut not_made = self.observed.not_made.iter();
        not_made.find(|(of, _)| of == name).map(|(_, why)| why)
    }

    /// Says for what a run that starts at `start` has to wait, and makes room where it replaces earlier ones.
    fn hold(&mut self, what: &str, start: Timestamp) -> Option<State> {
        let active: Vec<&Run> = self.observed.runs.iter().filter(|run| run.is_active()).collect();
        let first = active.first()?;
        let earlier = active.iter().copied().filter(|run| run.scheduled < start);
        let earlier: Vec<&Run> = earlier.collect();
        let message = match (self.observed.schedule.spec.concurrency_policy, &earlier[..]) {
            (ConcurrencyPolicy::Allow, _) if active.len() < MAX_ACTIVE_RUNS => return None,
            (ConcurrencyPolicy::Allow, _) => {
                format!("{what} waits: {MAX_ACTIVE_RUNS} runs are active, and no more may be")
            }
            (ConcurrencyPolicy::Replace, [one, ..]) => {
                self.replace(&earlier, what);
                format!("{what} waits until {}, which it replaces, is gone", one.name)
            }
            // What was started at that time or later is no earlier run.
            (ConcurrencyPolicy::Replace | ConcurrencyPolicy::Forbid, _) => {
                format!("{what} waits for {}, which is active", first.name)
            }
        };
        Some(State::new(ScheduleReason::Waiting, Standing::Well, message))
    }

    fn replace(&mut self, earlier: &[&Run], what: &str) {
        for run in earlier.iter().filter(|run| !run.leaves) {
            let note = format!("{} is deleted: {what} replaces it", run.name);
            self.tell(true, event::RUN_REPLACED, note);
            self.delete.push(Deletion::of(run));
        }
    }

    /// How late a slot may start.
    fn limit(&self) -> Option<SignedDuration> {
        let spec = &self.observed.schedule.spec;
        let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        match spec.missed_run_policy {
            MissedRunPolicy::RunOnce => deadline,
            MissedRunPolicy::Skip => Some(deadline.map_or(ON_TIME, |deadline| deadline.min(ON_TIME))),
        }
    }

    /// Why slots before the latest one were not run.
    fn why_passed_over(&self) -> (SkipReason, String) {
        if self.was(ScheduleReason::JobDenied) {
            return (
                SkipReason::JobDenied,
                "the cluster allowed no job before the next slot".to_owned(),
            );
        }
        if self.was(ScheduleReason::Waiting) || self.is_held() {
            let why = "an earlier run was active when the next slot came".to_owned();
            return (SkipReason::PreviousRunActive, why);
        }
        if self.is_moved() {
            return (SkipReason::ScheduleChanged, CHANGED.to_owned());
        }
        let why = "the operator did not run at its time, or the clock was set forward".to_owned();
        (SkipReason::Missed, why)
    }

    fn why_too_late(&self, limit: SignedDuration) -> (SkipReason, String) {
        let deadline = self.observed.schedule.spec.starting_deadline_seconds;
        let (reason, why) = self.why_passed_over();
        if deadline.is_some_and(|deadline| deadline <= limit.as_secs()) {
            let why = match reason {
                SkipReason::PreviousRunActive => "an earlier run is active",
                SkipReason::JobDenied => "the cluster allows no job",
                _ => &why,
            };
            let why = format!("could not start within {} s: {why}", limit.as_secs());
            return (SkipReason::StartingDeadlineExceeded, why);
        }
        (reason, why)
    }

    /// A run is active since before this look.
    fn is_held(&self) -> bool {
        let schedule = self.observed.schedule;
        let active = schedule
            .status
            .as_ref()
            .is_some_and(|status| !status.active.is_empty());
        active && schedule.spec.concurrency_policy == ConcurrencyPolicy::Forbid
    }

    /// Slots that a run passed over are told of after it was made.
    pub(super) fn tell_passed_over(&mut self, slots: &Slots) {
        for (mark, slot) in std::mem::take(&mut self.begun) {
            self.pass_over(slots, mark, slot);
        }
    }

    /// The slots between `mark` and `slot` have had their chance. Returns the last of them.
    fn pass_over(&mut self, slots: &Slots, mark: Timestamp, slot: Timestamp) -> Option<Timestamp> {
        let before = slots.before(slot).filter(|before| *before > mark)?;
        let (reason, why) = self.why_passed_over();
        self.tell_skip(Some(before), slots.count(mark, before), reason, &why);
        Some(before)
    }

    /// Every slot that is due.
    pub(super) fn skip_due(&mut self, slots: &Slots, reason: SkipReason, why: &str) {
        if let Some(slot) = self.due_slot(slots) {
            let count = slots.count(self.mark(), slot);
            self.skip(Some(slot), count, reason, why);
        }
    }

    /// No slot up to `slot` is run any more.
    fn skip(&mut self, slot: Option<Timestamp>, count: usize, reason: SkipReason, why: &str) {
        self.tell_skip(slot, count, reason, why);
        if let Some(slot) = slot {
            self.settle(slot);
        }
    }

    fn tell_skip(&mut self, slot: Option<Timestamp>, count: usize, reason: SkipReason, why: &str) {
        let count = i64::try_from(count).unwrap_or_default();
        self.next.missed_runs = self.next.missed_runs.saturating_add(count);
        self.next.last_skip = Some(Skip {
            slot_time: slot.map(Time),
            reason,
            message: bounded(why),
            time: Some(Time(seconds(self.observed.now))),
        });
        let what = match (slot, count) {
            (Some(slot), 1) => format!("the slot {slot}"),
            (Some(slot), _) => format!("{count} slots up to {slot}"),
            (None, _) => "the run of manualTrigger".to_owned(),
        };
        self.tell(
            true,
            event::RUN_SKIPPED,
            format!("{what}: {}: {why}", reason.as_str()),
        );
    }

    /// As the next run will be, unless somebody does something.
    fn give_up(&mut self, slot: Option<Timestamp>, count: usize, reason: SkipReason, why: &str) -> State {
        self.skip(slot, count, reason, why);
        let reason = match reason {
            SkipReason::NameConflict => ScheduleReason::NameConflict,
            _ => ScheduleReason::JobRefused,
        };
        State::new(reason, Standing::Stalled, why)
    }
}

fn denied(name: &str, why: &str) -> State {
    let message = format!("the cluster does not allow {name} now: {why}");
    State::new(ScheduleReason::JobDenied, Standing::Waits, message)
}

fn conflict(name: &str) -> String {
    format!("the CompactionJob {name} exists and belongs to somebody else; remove or rename it")
}
