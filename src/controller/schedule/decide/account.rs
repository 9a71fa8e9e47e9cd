//! What has become of runs: each end is counted once, and the oldest that are through are let go.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Deciding, Deletion, event};
use crate::api::{ActiveRun, LastRun, MAX_ACTIVE_RUNS, RunResult, conditions as types, set_condition};
use crate::controller::schedule::runs::{Run, RunState, Start, seconds};

impl Deciding<'_> {
    /// A run that the status does not know yet, or that it takes for active, is news.
    pub(super) fn account(&mut self) {
        let before = std::mem::take(&mut self.next.active);
        let was_active = |run: &Run| before.iter().any(|active| active.uid == run.uid);
        let mut runs: Vec<&Run> = self.observed.runs.iter().collect();
        runs.sort_by_key(|run| (run.scheduled, run.created));
        for run in runs {
            let is_new = !was_active(run) && self.is_unknown(run);
            if is_new {
                self.begin(run);
            }
            if is_new || was_active(run) {
                self.end(run);
            }
            if run.is_active() && self.next.active.len() < MAX_ACTIVE_RUNS {
                self.next.active.push(ActiveRun {
                    name: run.name.clone(),
                    uid: run.uid.clone(),
                });
            }
        }
        for gone in before {
            if self.observed.runs.iter().all(|run| run.uid != gone.uid) {
                self.lose(&gone);
            }
        }
        self.next.active.sort_by(|a, b| a.name.cmp(&b.name));
    }

    fn is_unknown(&self, run: &Run) -> bool {
        let status = &self.next;
        match run.start {
            Start::Slot(slot) => status.slots.as_ref().is_some_and(|slots| !slots.is_settled(slot)),
            Start::Manual(number) => status.manual_runs < number,
        }
    }

    /// What the spec asks for.
    pub(super) fn trigger(&self) -> Option<&String> {
        let trigger = self.observed.schedule.spec.manual_trigger.as_ref();
        trigger.filter(|trigger| !trigger.is_empty())
    }

    pub(super) fn obey_trigger(&mut self) {
        self.next.last_manual_trigger = self.trigger().cloned();
    }

    fn begin(&mut self, run: &Run) {
        self.began = true;
        let note = match run.start {
            Start::Slot(slot) => {
                self.next.last_schedule_time = Some(Time(slot));
                let mark = self.next.slots.as_mut().map(|slots| slots.settle(slot));
                self.begun.extend(mark.map(|mark| (mark, slot)));
                format!("{} begins, for {slot}", run.name)
            }
            Start::Manual(number) => {
                self.next.manual_runs = number;
                // The trigger may have been changed since.
                self.next.last_manual_trigger = run.trigger.clone().or_else(|| self.trigger().cloned());
                format!("{} begins, by manualTrigger", run.name)
            }
        };
        self.next.last_run = Some(LastRun {
            name: run.name.clone(),
            uid: run.uid.clone(),
            scheduled_time: Time(seconds(run.scheduled)),
            result: None,
            reason: String::new(),
        });
        self.tell(false, event::RUN_STARTED, note);
    }

    fn end(&mut self, run: &Run) {
        match &run.state {
            RunState::Active => {}
            RunState::Succeeded { reason, time } => {
                let last = self.next.last_successful_time.as_ref().map(|last| last.0);
                self.next.last_successful_time = Some(Time(last.map_or(*time, |last| last.max(*time))));
                self.next.consecutive_failures = 0;
                self.set_result(&run.uid, RunResult::Succeeded, reason);
                self.set_last_run_condition(true, reason, &run.name);
                self.tell(false, event::RUN_SUCCEEDED, format!("{}: {reason}", run.name));
            }
            RunState::Failed { reason, message } => {
                self.next.consecutive_failures = self.next.consecutive_failures.saturating_add(1);
                self.set_result(&run.uid, RunResult::Failed, reason);
                let note = format!("{}: {message}", run.name);
                self.set_last_run_condition(false, reason, &note);
                self.tell(
                    true,
                    event::RUN_FAILED,
                    format!("{}: {reason}: {message}", run.name),
                );
            }
        }
    }

    /// Deleted before its end, by the schedule or by somebody else.
    fn lose(&mut self, gone: &ActiveRun) {
        self.set_result(&gone.uid, RunResult::Deleted, "");
        let note = format!("{} is gone before its end", gone.name);
        self.tell(false, event::RUN_DELETED, note);
    }

    fn set_result(&mut self, uid: &str, result: RunResult, reason: &str) {
        if let Some(last) = self.next.last_run.as_mut().filter(|last| last.uid == uid) {
            last.result = Some(result);
            reason.clone_into(&mut last.reason);
        }
    }

    fn set_last_run_condition(&mut self, succeeded: bool, reason: &str, message: &str) {
        let generation = self.observed.schedule.metadata.generation.unwrap_or_default();
        set_condition(
            &mut self.next.conditions,
            types::LAST_RUN_SUCCEEDED,
            Some(succeeded),
            reason,
            &crate::api::bounded(message),
            generation,
            seconds(self.observed.now),
        );
    }

    /// The oldest that are more than the limits allow, and never one that has still to dispose of something.
    pub(super) fn trim_history(&mut self) {
        let spec = &self.observed.schedule.spec;
        let succeeded = |run: &&Run| matches!(run.state, RunState::Succeeded { .. });
        let failed = |run: &&Run| matches!(run.state, RunState::Failed { .. });
        self.trim(succeeded, spec.successful_jobs_history_limit);
        self.trim(failed, spec.failed_jobs_history_limit);
    }

    fn trim(&mut self, is_of_kind: impl Fn(&&Run) -> bool, limit: i32) {
        let mut runs: Vec<&Run> = self.observed.runs.iter().filter(is_of_kind).collect();
        runs.sort_by_key(|run| std::cmp::Reverse((run.created, run.scheduled)));
        let old = runs.into_iter().skip(usize::try_from(limit).unwrap_or_default());
        let deletions = old.filter(|run| run.is_through && !run.leaves).map(Deletion::of);
        self.delete.extend(deletions);
    }
}

impl Deletion {
    pub(super) fn of(run: &Run) -> Self {
        Self {
            name: run.name.clone(),
            uid: run.uid.clone(),
        }
    }
}
