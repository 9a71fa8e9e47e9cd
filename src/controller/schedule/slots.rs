//! The slots of a cron schedule in its time zone. Pure; reads no clock, and no time zone but the program's own.
//!
//! When clocks are changed (the rules are croner's, and those of the Open Cron Pattern Specification): a schedule of
//! one fixed time a day runs once on that day whatever happens, at the first moment after the gap if its time is left
//! out, at the first of both if its time comes twice. Any other schedule goes by the face of the clock: what is left
//! out has no slot, and what comes twice has two.

use std::sync::LazyLock;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, Zoned};

/// The database in the program: one answer wherever it runs.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Of slots that passed at one go no more are counted.
pub(super) const MAX_COUNTED: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("schedule {schedule:?} is not understood: {problem}")]
    Schedule { schedule: String, problem: String },
    #[error("schedule {0:?} never comes: no year has such a day")]
    Never(String),
    #[error("timeZone {0:?} is not in the time zone database; write a name such as Europe/Berlin")]
    Zone(String),
}

#[derive(Debug, Clone)]
pub(super) struct Slots {
    cron: Cron,
    zone: TimeZone,
}

impl Slots {
    /// `now`: a schedule that never comes after it is none.
    pub(super) fn new(schedule: &str, zone: &str, now: Timestamp) -> Result<Self, Error> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(schedule).map_err(|problem| Error::Schedule {
            schedule: schedule.to_owned(),
            problem: problem.to_string(),
        })?;
        let zone = ZONES.get(zone).map_err(|_| Error::Zone(zone.to_owned()))?;
        let slots = Self { cron, zone };
        match slots.next(now) {
            Some(_) => Ok(slots),
            None => Err(Error::Never(schedule.to_owned())),
        }
    }

    /// A moment as the clocks of the schedule's zone show it.
    pub(super) fn in_zone(&self, time: Timestamp) -> Zoned {
        time.to_zoned(self.zone.clone())
    }

    /// The first slot after `time`.
    pub(super) fn next(&self, time: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&self.in_zone(time), false).ok()?;
        Some(next.timestamp())
    }

    /// The latest slot that is not after `time`; found without a walk, however many there were before.
    pub(super) fn latest(&self, time: Timestamp) -> Option<Timestamp> {
        let latest = self
            .cron
            .find_previous_occurrence(&self.in_zone(time), true)
            .ok()?;
        Some(latest.timestamp())
    }

    /// The latest slot before `slot`.
    pub(super) fn before(&self, slot: Timestamp) -> Option<Timestamp> {
        let before = self
            .cron
            .find_previous_occurrence(&self.in_zone(slot), false)
            .ok()?;
        Some(before.timestamp())
    }

    /// How many slots are after `after` and not after `until`, as far as [`MAX_COUNTED`].
    pub(super) fn count(&self, after: Timestamp, until: Timestamp) -> usize {
        std::iter::successors(self.next(after), |slot| self.next(*slot))
            .take(MAX_COUNTED)
            .take_while(|slot| *slot <= until)
            .count()
    }
}

#[cfg(test)]
mod tests;
