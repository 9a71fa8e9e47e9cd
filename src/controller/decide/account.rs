//! The end of a worker: whose fault it was, what it counts, and how long its successor waits.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Deciding;
use super::shard::Current;
use crate::api::{Failure, Reason, ShardStatus, bounded, condition, conditions as types, exit};

/// Whether `failure` stands for what failed for this reason in this batch of this shard.
pub(in crate::controller) fn is_same(failure: &Failure, reason: &str, shard: i32, batch: i64) -> bool {
    failure.reason == reason && (reason == LOST || (failure.shard, failure.batch) == (shard, batch))
}

/// The reason of the one failure that stands for all workers that were lost through nobody's fault.
pub(super) const LOST: &str = "Lost";
const MAX_FAILURES: usize = 16;
/// With what starting a worker takes, work goes on within a minute of the store's return. Seconds.
const ASKS_FOR_STORE: i64 = 45;

impl Deciding<'_> {
    /// Books the end of an epoch's worker.
    pub(super) fn account(&mut self, index: usize, current: &Current) {
        count(&mut self.next.shards[index], current);
        let batch = &self.observed.job.spec.batch;
        let shard = &self.next.shards[index];
        let failed_in_a_row = (shard.lost + shard.waits + shard.checkpoint.attempts).max(1);
        let backoff = batch
            .backoff_period_seconds
            .saturating_mul(1_i64 << (failed_in_a_row - 1).min(20));
        let backoff = SignedDuration::from_secs(backoff.min(self.longest_backoff(index, current)));
        let due = self.observed.now.saturating_add(backoff);
        let shard = &mut self.next.shards[index];
        shard.retry_time = Some(Time(due.unwrap_or(Timestamp::MAX)));
        shard.start_sequence = shard.checkpoint.sequence;
        self.judge(index, current);
        self.remember(index, current);
    }

    /// Seconds. While the store is away the first shard with work asks for it often, on behalf of all.
    fn longest_backoff(&self, index: usize, current: &Current) -> i64 {
        let batch = &self.observed.job.spec.batch;
        let away = matches!(current, Current::Ended(end) if end.code == Some(exit::STORAGE));
        let mut before = self.next.shards[..index].iter();
        if away && before.all(|shard| self.duty(shard.index).is_none()) {
            let often = ASKS_FOR_STORE.max(batch.backoff_period_seconds);
            return often.min(batch.max_backoff_period_seconds);
        }
        batch.max_backoff_period_seconds
    }

    /// A shard that has got on waits no more. If it did for the store, the others need not either; how often they waited
    /// stays counted, so that one to whom alone the store is closed does not go on at this pace.
    pub(super) fn end_waits_for_store(&mut self) {
        let mut is_back = false;
        for shard in self.next.shards.iter_mut().filter(|shard| shard.has_progressed()) {
            is_back |= shard.waits > 0;
            shard.waits = 0;
        }
        let away = condition(&self.next.conditions, types::STORAGE_ACCESSIBLE);
        if !is_back || away.is_none_or(|away| away.status == "True") {
            return;
        }
        let now = self.observed.now;
        for shard in self.next.shards.iter_mut().filter(|shard| shard.waits > 0) {
            if let Some(Time(retry)) = &mut shard.retry_time {
                *retry = now.min(*retry);
            }
        }
    }

    /// Whether the end of a worker ends the job, and what it says of the store.
    fn judge(&mut self, index: usize, current: &Current) {
        let Current::Ended(end) = current else { return };
        let spec = &self.observed.job.spec;
        let shard = &self.next.shards[index];
        let (index, lost, attempts) = (shard.index, shard.lost, shard.checkpoint.attempts);
        match end.code {
            Some(exit::STORAGE) => {
                let (type_, reason) = (types::STORAGE_ACCESSIBLE, Reason::Unreachable);
                self.set_condition(type_, Some(false), reason, &end.message);
            }
            Some(exit::FENCED | exit::DONE) => {}
            Some(exit::GIVE_UP) => self.fail(Reason::WorkFailed, &end.message),
            Some(exit::DEADLINE) if attempts >= spec.batch.max_attempts => {
                self.fail(Reason::UploadDeadlineExceeded, &end.message);
            }
            _ if lost > spec.backoff_limit => {
                let message = format!(
                    "shard {index} lost {lost} workers without a new checkpoint: {}",
                    end.message
                );
                self.fail(Reason::BackoffLimitExceeded, &message);
            }
            _ => {}
        }
    }

    /// Keeps what a worker said among the latest distinct failures. One that happens again becomes the latest.
    fn remember(&mut self, index: usize, current: &Current) {
        let shard = &self.next.shards[index];
        let (shard, batch) = (shard.index, shard.checkpoint.batch);
        let (reason, message) = match current {
            Current::Ended(end) if !matches!(end.code, Some(exit::FENCED | exit::DONE)) => {
                (end.reason.as_str(), &end.message)
            }
            Current::Lost(why) => (LOST, why),
            _ => return,
        };
        // A quota that stops every shard must not push out what failed by the work's own fault.
        let same = |f: &Failure| is_same(f, reason, shard, batch);
        let known = self.next.failures.iter().position(same);
        let count = known.map_or(0, |at| self.next.failures.remove(at).count);
        self.next.failures.push(Failure {
            shard,
            batch,
            reason: reason.to_owned(),
            message: bounded(message),
            count: count.saturating_add(1),
            time: Time(self.observed.now),
        });
        if self.next.failures.len() > MAX_FAILURES {
            self.next.failures.remove(0);
        }
    }
}

/// Counts an end as the work's own fault, as nobody's, or, for a deadline, not here: its attempts are counted.
fn count(shard: &mut ShardStatus, current: &Current) {
    if shard.has_progressed() {
        (shard.lost, shard.waits) = (0, 0);
    }
    match current {
        Current::Ended(end) => match end.code {
            Some(exit::STORAGE | exit::FENCED | exit::DONE) => shard.waits = shard.waits.saturating_add(1),
            Some(exit::DEADLINE) => {}
            _ => shard.lost = shard.lost.saturating_add(1),
        },
        // Evicted, its node lost, or never started.
        _ => shard.waits = shard.waits.saturating_add(1),
    }
}
