//! One shard: whether its worker makes progress, how it ended, and when the next one starts.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Deciding, MAX_MESSAGE_CHARS, WorkerEnd, WorkerState, WorkerView};
use crate::api::{Failure, Reason, ShardStatus, conditions as types, exit};

/// How much longer than a batch's deadline its worker is waited for.
const LATE: Duration = Duration::from_secs(30);
const MAX_FAILURES: usize = 16;

/// The worker of a shard's current epoch.
enum Current<'a> {
    /// No epoch has begun.
    None,
    Running,
    Ended(&'a WorkerEnd),
    /// It was never seen, or is gone without a word.
    Gone,
}

impl Deciding<'_> {
    /// Whatever became of the workers so far is dealt with; their successors need not wait for it.
    pub(super) fn begin_anew(&mut self) {
        for index in 0..self.next.shards.len() {
            if self.next.shards[index].epoch > 0 {
                self.raise_epoch(index);
                let due = &mut self.next.shards[index].retry_time;
                due.get_or_insert(Time(self.observed.now));
            }
        }
    }

    fn current(&self, shard: &ShardStatus) -> Current<'_> {
        if shard.epoch == 0 {
            return Current::None;
        }
        let mut workers = self.observed.workers.iter();
        match workers.find(|worker| worker.shard == shard.index && worker.epoch == shard.epoch) {
            Some(WorkerView { state, .. }) if state.exists() => Current::Running,
            Some(WorkerView {
                state: WorkerState::Ended(end),
                ..
            }) => Current::Ended(end),
            _ => Current::Gone,
        }
    }

    pub(super) fn shard(&mut self, index: usize) {
        let shard = self.next.shards[index].clone();
        let current = match self.current(&shard) {
            Current::Running => return self.watch(index),
            other => other,
        };
        let end = match current {
            Current::Ended(end) => Some(end.clone()),
            _ => None,
        };
        let duty = self.duty(shard.index);
        let progressed = shard.checkpoint.sequence > shard.start_sequence;
        let done =
            end.as_ref().is_some_and(|end| end.code == Some(exit::DONE)) && (progressed || duty.is_none());
        let accounted = shard.retry_time.is_some() || shard.epoch == 0 || done;
        if !accounted && (duty.is_some() || end.as_ref().is_some_and(|end| end.code == Some(exit::GIVE_UP))) {
            self.account(index, end.as_ref());
        }
        if done {
            (self.next.shards[index].lost, self.next.shards[index].waits) = (0, 0);
        }
        if duty.is_none() || self.failed() {
            return;
        }
        match &self.next.shards[index].retry_time {
            Some(Time(time)) if *time > self.observed.now => {
                let time = *time;
                self.wake_at(time);
            }
            _ => self.begin_epoch(index),
        }
    }

    /// Looks whether a running worker still makes progress.
    fn watch(&mut self, index: usize) {
        let batch = &self.observed.job.spec.batch;
        let shards = self.next.shards.len() as u64;
        let pointer = Duration::from_secs((shards / 4).max(1));
        let limit = Duration::from_secs(batch.upload_deadline_seconds as u64) + LATE + pointer;
        let shard = &self.next.shards[index];
        let unchanged = self
            .observed
            .unchanged
            .get(&shard.index)
            .copied()
            .unwrap_or_default();
        if let Some(wait) = limit.checked_sub(unchanged).filter(|wait| !wait.is_zero()) {
            self.wake = Some(self.wake.map_or(wait, |wake| wake.min(wait)));
            return;
        }
        let (shard, epoch) = (shard.index, shard.epoch);
        if self.duty(shard).is_none() {
            // Its work is done; only its end fails to come.
            return self.stop.push((shard, epoch));
        }
        let message = format!("no new checkpoint for {} s", unchanged.as_secs());
        let end = WorkerEnd {
            code: None,
            reason: "Stuck".to_owned(),
            message,
        };
        self.account(index, Some(&end));
        if self.failed() {
            return;
        }
        // Fences the late worker now; its successor starts after the backoff.
        self.raise_epoch(index);
        self.stop.push((shard, epoch));
    }

    /// Books the end of an epoch's worker: whose fault it was, and how long to wait.
    fn account(&mut self, index: usize, end: Option<&WorkerEnd>) {
        let now = self.observed.now;
        let spec = &self.observed.job.spec;
        let shard = &mut self.next.shards[index];
        if shard.checkpoint.sequence > shard.start_sequence {
            (shard.lost, shard.waits) = (0, 0);
        }
        let code = end.map(|end| end.code);
        match code {
            // Without a word: evicted, its node lost, or never started. Nobody's fault as far as one can tell.
            None | Some(Some(exit::STORAGE | exit::FENCED | exit::DONE)) => shard.waits += 1,
            Some(Some(exit::DEADLINE)) => {}
            Some(_) => shard.lost += 1,
        }
        let (lost, attempts, sequence, batch) = (
            shard.lost,
            shard.checkpoint.attempts,
            shard.checkpoint.sequence,
            shard.checkpoint.batch,
        );
        let exponent = (lost + shard.waits + attempts).max(1) - 1;
        let backoff = spec
            .batch
            .backoff_period_seconds
            .saturating_mul(1_i64 << exponent.min(20));
        let backoff = SignedDuration::from_secs(backoff.min(spec.batch.max_backoff_period_seconds));
        shard.retry_time = Some(Time(now.saturating_add(backoff).unwrap_or(Timestamp::MAX)));
        shard.start_sequence = sequence;
        let shard_index = shard.index;
        let Some(end) = end else { return };
        match end.code {
            Some(exit::STORAGE) => {
                self.set_condition(
                    types::STORAGE_ACCESSIBLE,
                    Some(false),
                    Reason::Unreachable,
                    &end.message,
                );
            }
            Some(exit::FENCED | exit::DONE) => return,
            Some(exit::GIVE_UP) => self.fail(Reason::WorkFailed, &end.message),
            Some(exit::DEADLINE) if attempts >= spec.batch.max_attempts => {
                self.fail(Reason::UploadDeadlineExceeded, &end.message);
            }
            _ if lost > spec.backoff_limit => {
                let message = format!(
                    "shard {shard_index} lost {lost} workers without a new checkpoint: {}",
                    end.message
                );
                self.fail(Reason::BackoffLimitExceeded, &message);
            }
            _ => {}
        }
        self.remember_failure(shard_index, batch, end);
    }

    fn remember_failure(&mut self, shard: i32, batch: i64, end: &WorkerEnd) {
        let time = Time(self.observed.now);
        let message: String = end.message.chars().take(MAX_MESSAGE_CHARS).collect();
        let same = |f: &Failure| f.shard == shard && f.batch == batch && f.reason == end.reason;
        // One that happens again becomes the latest.
        let known = self.next.failures.iter().position(same);
        let count = known.map_or(0, |at| self.next.failures.remove(at).count);
        self.next.failures.push(Failure {
            shard,
            batch,
            reason: end.reason.clone(),
            message,
            count: count + 1,
            time,
        });
        if self.next.failures.len() > MAX_FAILURES {
            self.next.failures.remove(0);
        }
    }

    fn raise_epoch(&mut self, index: usize) {
        let shard = &mut self.next.shards[index];
        shard.epoch += 1;
        shard.holder.clear();
        shard.start_sequence = shard.checkpoint.sequence;
    }

    fn begin_epoch(&mut self, index: usize) {
        let running = self
            .observed
            .workers
            .iter()
            .filter(|worker| worker.state.exists())
            .count();
        let leaving = self.stop.len();
        if (running - leaving.min(running)) + self.start.len() >= self.observed.job.spec.parallelism as usize
        {
            return;
        }
        self.raise_epoch(index);
        let shard = &mut self.next.shards[index];
        shard.retry_time = None;
        self.start.push((shard.index, shard.epoch));
    }
}
