//! For how long workers have run or could not, by the controller's clock against times that it wrote; how many
//! groups have failed; and what that ends.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::account::LOST;
use super::shard::Current;
use super::{Deciding, WorkerState};
use crate::api::{Reason, ShardStatus, condition, conditions as types};

/// What there is to say of a worker that has nothing to say of itself.
pub(super) const STARTING: &str = "a worker is starting";

impl Deciding<'_> {
    /// Seconds in which workers have run, to this moment.
    pub(super) fn active_seconds(&self) -> i64 {
        self.next.active_seconds_at(self.observed.now)
    }

    /// Starts, stops or keeps the clock of `activeSeconds`. It is written only then, not as it goes, and
    /// stands still from the publication on: what comes after that has no limit.
    pub(super) fn set_active(&mut self) {
        let now = self.observed.now;
        if !self.runs() || self.next.is_announced() {
            self.next.stop_active_clock(now);
        } else if self.next.active_since.as_ref().is_none_or(|since| since.0 > now) {
            self.next.active_since = Some(Time(now));
        }
        if let (Some(Time(since)), Some(limit)) = (&self.next.active_since, self.active_limit()) {
            let left = SignedDuration::from_secs(limit.saturating_sub(self.next.active_seconds));
            self.wake_at(since.saturating_add(left).unwrap_or(Timestamp::MAX));
        }
    }

    /// Ends the wait for a worker if one could start: also if nobody saw it run before it ended. What it found
    /// then, such as a store that is away, is not for this limit (I13).
    pub(super) fn end_pending(&mut self) {
        let ended = |shard: &ShardStatus| {
            shard.retry_time.is_none() && matches!(self.current(shard), Current::Ended(_))
        };
        if self.runs() || self.next.shards.iter().any(ended) {
            self.next.pending_since = None;
        }
    }

    /// Notes since when a worker is `wanted` and none runs. A backoff after one that ran is not the beginning
    /// of it; one after a worker that could not start does not end it. After the publication nobody waits.
    pub(super) fn set_pending(&mut self, wanted: bool) {
        if !wanted || self.runs() || self.next.is_announced() {
            self.next.pending_since = None;
        } else if self.next.pending_since.is_none() && !self.backs_off() {
            self.next.pending_since = Some(Time(self.observed.now));
        }
        if let Some(due) = self.pending_deadline() {
            self.wake_at(due);
        }
    }

    pub(super) fn reset_clocks(&mut self) {
        self.next.active_seconds = 0;
        self.next.active_since = None;
        self.next.pending_since = None;
        self.reset_estimate();
    }

    /// Every shard that has a duty waits for its retry time.
    fn backs_off(&self) -> bool {
        let waits = |time: &Option<Time>| time.as_ref().is_some_and(|time| time.0 > self.observed.now);
        let mut shards = self.next.shards.iter().peekable();
        shards.peek().is_some()
            && shards
                .filter(|shard| self.duty(shard.index).is_some())
                .all(|shard| waits(&shard.retry_time))
    }

    /// Neither limit holds for a job that has published: that is success.
    fn active_limit(&self) -> Option<i64> {
        let limit = self.observed.job.spec.total_active_deadline_seconds;
        limit.filter(|_| !self.next.is_announced() && !self.failed())
    }

    fn pending_deadline(&self) -> Option<Timestamp> {
        let limit = self.observed.job.spec.pending_deadline_seconds;
        let limit = limit.filter(|_| !self.next.is_announced() && !self.failed())?;
        let since = self.next.pending_since.as_ref()?.0;
        Some(
            since
                .saturating_add(SignedDuration::from_secs(limit))
                .unwrap_or(Timestamp::MAX),
        )
    }

    /// Fails a job of which more groups failed than may, or that has worked, or waited for workers, for longer
    /// than it may. `turn`: for which job it waits.
    pub(super) fn passes_limits(&mut self, turn: Option<&str>) -> bool {
        if self.observed.job.has_too_many_failed_groups() {
            let message = self.too_many_failed_groups();
            self.fail(Reason::TooManyFailedGroups, &message);
            return true;
        }
        if let Some(limit) = self
            .active_limit()
            .filter(|limit| self.active_seconds() >= *limit)
        {
            let away = condition(&self.next.conditions, types::STORAGE_ACCESSIBLE);
            let away = away.filter(|storage| storage.status == "False");
            let why = away.map_or_else(String::new, |storage| format!("; the store: {}", storage.message));
            let message = format!("workers have run for {limit} s; the checkpoints are kept{why}");
            self.fail(Reason::DeadlineExceeded, &message);
            return true;
        }
        if self.pending_deadline().is_none_or(|due| due > self.observed.now) {
            return false;
        }
        let limit = self
            .observed
            .job
            .spec
            .pending_deadline_seconds
            .unwrap_or_default();
        let why = turn.map(ToOwned::to_owned).or_else(|| self.why_none_runs());
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        let message = format!("no worker could start within {limit} s{why}");
        self.fail(Reason::PendingDeadlineExceeded, &message);
        true
    }

    fn too_many_failed_groups(&self) -> String {
        let (failed, limit) = (
            self.next.failed_groups(),
            self.observed.job.spec.max_failed_groups,
        );
        let last = self.next.last_failed_group.as_ref();
        let why = last.map_or("", |last| &last.message);
        format!(
            "{failed} groups failed and maxFailedGroups is {limit}; to go on without them, raise it and change retryToken; the last: {why}"
        )
    }

    /// What workers that wait, or were lost last, said.
    fn why_none_runs(&self) -> Option<String> {
        let lost = |worker: &super::WorkerView| match &worker.state {
            WorkerState::Lost(why) => Some(why.clone()),
            _ => None,
        };
        let last = self.next.failures.last().filter(|failure| failure.reason == LOST);
        self.why_waiting()
            .or_else(|| self.current_workers().find_map(lost))
            .or_else(|| last.map(|failure| failure.message.clone()))
    }

    /// What the first worker that could not start yet says.
    pub(super) fn why_waiting(&self) -> Option<String> {
        self.current_workers().find_map(|worker| match &worker.state {
            WorkerState::Waiting(why) if why.is_empty() => Some(STARTING.to_owned()),
            WorkerState::Waiting(why) => Some(why.clone()),
            _ => None,
        })
    }
}
