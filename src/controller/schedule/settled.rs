//! Which slots are dealt with: all up to a mark that never falls, but for those that it passed over when time jumped
//! by more than a day, as it does when a clock is set far ahead. None of those was run, so a clock that is set back
//! to them goes on there. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::slots::Slots;
use crate::api::{MAX_PASSED_OVER, PassedOver, SlotsStatus};

/// What is shorter is waited for. Also: by so much the clock has to be set back before the end of what was passed
/// over, so that the end of an outage, or of `suspend`, is not undone by clocks that differ.
const FAR: SignedDuration = SignedDuration::from_hours(24);

impl SlotsStatus {
    /// Up to where slots are dealt with as a clock sees it that shows `time`.
    pub(super) fn mark(&self, time: Timestamp) -> Timestamp {
        let ahead = |passed: &&PassedOver| passed.before.0.duration_since(time) > FAR;
        let first = self.passed_over.iter().find(ahead);
        first.map_or(self.settled_until.0, |passed| passed.after.0)
    }

    pub(super) fn is_settled(&self, slot: Timestamp) -> bool {
        slot <= self.settled_until.0 && self.passed_over.iter().all(|passed| !holds(passed, slot))
    }

    /// Slots that are not after `time` are dealt with, as a clock sees them that shows it. Returns the mark before.
    pub(super) fn settle(&mut self, time: Timestamp) -> Timestamp {
        if let Some(position) = self.passed_over.iter().position(|passed| holds(passed, time)) {
            let PassedOver { after, before } = self.passed_over.remove(position);
            self.pass_over(after.0, time);
            self.pass_over(time, before.0);
            return after.0;
        }
        let mark = self.settled_until.0;
        if time > mark {
            self.pass_over(mark, time);
            self.settled_until = Time(time);
        }
        mark
    }

    /// Of more than may be remembered the shortest is forgotten.
    fn pass_over(&mut self, after: Timestamp, before: Timestamp) {
        if before.duration_since(after) <= FAR {
            return;
        }
        let (after, before) = (Time(after), Time(before));
        self.passed_over.push(PassedOver { after, before });
        self.passed_over.sort_by_key(|passed| passed.after.0);
        if self.passed_over.len() > MAX_PASSED_OVER {
            let lengths = self.passed_over.iter().map(length).enumerate();
            if let Some((shortest, _)) = lengths.min_by_key(|(_, length)| *length) {
                self.passed_over.remove(shortest);
            }
        }
    }

    /// Where there is no slot, none can be run.
    pub(super) fn forget_empty(&mut self, slots: &Slots) {
        let first = |passed: &PassedOver| slots.next(passed.after.0);
        self.passed_over
            .retain(|passed| first(passed).is_some_and(|slot| holds(passed, slot)));
    }
}

fn length(passed: &PassedOver) -> SignedDuration {
    passed.before.0.duration_since(passed.after.0)
}

fn holds(passed: &PassedOver, slot: Timestamp) -> bool {
    passed.after.0 < slot && slot < passed.before.0
}
