//! What people and tools see of a schedule: its state, and the conditions that follow from it.

use jiff::SignedDuration;

use super::{Deciding, Standing, State, event};
use crate::api::{
    ScheduleReason, SkipReason, bounded, condition, conditions as types, confirm_conditions, set_condition,
};
use crate::controller::schedule::runs::seconds;
use crate::controller::schedule::slots::Slots;

/// By so much the clock may be behind what the status says without a word: clocks of two machines differ.
const BEHIND: SignedDuration = SignedDuration::from_secs(60);

impl Deciding<'_> {
    /// What was waiting when it was suspended is skipped. A trigger is obeyed.
    pub(super) fn suspended(&mut self, slots: &Slots, problem: Option<String>) -> State {
        let seen = self
            .observed
            .schedule
            .status
            .as_ref()
            .is_some_and(|s| s.slots.is_some());
        if seen && !self.was(ScheduleReason::Suspended) {
            self.skip_due(slots, SkipReason::Suspended, "suspend was set before it started");
        }
        let problem = match problem {
            Some(problem) => format!("; {problem}"),
            None if self.is_halted() => "; and halted, as too many runs in a row have failed".to_owned(),
            None => self
                .manual(slots)
                .map_or_else(String::new, |hold| format!("; {}", hold.message)),
        };
        let message = format!("no slot is run{problem}");
        State::new(ScheduleReason::Suspended, Standing::Well, message)
    }

    pub(super) fn halted(&mut self, slots: &Slots) -> State {
        self.skip_due(slots, SkipReason::Halted, "too many runs in a row have failed");
        if let Some(next) = slots.next(self.due()) {
            self.wake_at(self.start_of(next));
        }
        let message = format!(
            "{} runs in a row have failed; change the spec to go on, for example manualTrigger",
            self.next.consecutive_failures
        );
        State::new(ScheduleReason::Halted, Standing::Stalled, message)
    }

    /// The state of a schedule that starts runs.
    pub(super) fn state(&self, hold: Option<State>) -> State {
        if let Some(state) = hold.or_else(|| self.still_blocked()) {
            return state;
        }
        let ahead = self.mark().duration_since(self.observed.now);
        if ahead > BEHIND {
            let message = format!(
                "slots up to {} are dealt with, and the clock is behind that: no slot is run until then",
                self.mark()
            );
            return State::new(ScheduleReason::ClockBehind, Standing::Waits, message);
        }
        match &self.next.active[..] {
            [] => {
                let next = self.next.next_schedule_time.as_ref();
                let message =
                    next.map_or_else(String::new, |next| format!("the next run starts at {}", next.0));
                State::new(ScheduleReason::Scheduled, Standing::Well, message)
            }
            [run] => State::new(
                ScheduleReason::Running,
                Standing::Well,
                format!("{} is active", run.name),
            ),
            runs => {
                let message = format!("{} runs are active", runs.len());
                State::new(ScheduleReason::Running, Standing::Well, message)
            }
        }
    }

    /// What kept the last run from being made stands until one is made, or the spec is changed.
    fn still_blocked(&self) -> Option<State> {
        let blocked = [ScheduleReason::JobRefused, ScheduleReason::NameConflict];
        let reason = blocked.into_iter().find(|reason| self.was(*reason))?;
        let stalled = condition(&self.next.conditions, types::STALLED)?;
        let stands = !self.began && !self.is_changed();
        stands.then(|| State::new(reason, Standing::Stalled, stalled.message.clone()))
    }

    pub(super) fn set_conditions(&mut self, state: &State) {
        let is_halted = self.is_halted();
        let (reason, standing) = (state.reason, state.standing);
        self.set(
            types::READY,
            Some(standing == Standing::Well),
            reason,
            &state.message,
        );
        self.set(types::RECONCILING, Some(standing == Standing::Waits), reason, "");
        let stalled = standing == Standing::Stalled;
        self.set(
            types::STALLED,
            Some(stalled),
            reason,
            if stalled { &state.message } else { "" },
        );
        self.set(
            types::HALTED,
            Some(is_halted),
            reason,
            if is_halted { &state.message } else { "" },
        );
        if condition(&self.next.conditions, types::LAST_RUN_SUCCEEDED).is_none() {
            self.set(types::LAST_RUN_SUCCEEDED, None, ScheduleReason::NoRunYet, "");
        }
        confirm_conditions(&mut self.next.conditions, self.next.observed_generation);
        if is_halted && !self.was_halted() {
            self.tell(true, event::HALTED, state.message.clone());
        }
    }

    fn set(&mut self, type_: &str, status: Option<bool>, reason: ScheduleReason, message: &str) {
        let generation = self.next.observed_generation;
        set_condition(
            &mut self.next.conditions,
            type_,
            status,
            reason.as_str(),
            &bounded(message),
            generation,
            seconds(self.observed.now),
        );
    }
}
