//! One shard: whether its worker makes progress, and when the next one starts.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Deciding, FinalizerChange, WorkerEnd, WorkerState, WorkerView};
use crate::api::{ShardStatus, exit, pointer_interval};

/// How much longer than a batch's deadline its worker is waited for.
const LATE: Duration = Duration::from_secs(30);

/// The worker of a shard's current epoch.
pub(super) enum Current {
    /// No epoch has begun.
    None,
    Waiting,
    Running,
    Ended(WorkerEnd),
    /// It is not there through nobody's fault; says why.
    Lost(String),
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

    pub(super) fn current(&self, shard: &ShardStatus) -> Current {
        if shard.epoch == 0 {
            return Current::None;
        }
        let is_current = |worker: &&WorkerView| (worker.shard, worker.epoch) == (shard.index, shard.epoch);
        match self.observed.workers.iter().find(is_current).map(|w| &w.state) {
            Some(WorkerState::Waiting(_)) => Current::Waiting,
            Some(WorkerState::Running) => Current::Running,
            Some(WorkerState::Ended(end)) => Current::Ended(end.clone()),
            Some(WorkerState::Lost(why)) => Current::Lost(why.clone()),
            None => Current::Gone,
        }
    }

    pub(super) fn shard(&mut self, index: usize) {
        let shard = self.next.shards[index].clone();
        let current = self.current(&shard);
        match current {
            Current::Running => return self.watch(index),
            // Only a limit of the whole job ends that.
            Current::Waiting => return,
            _ => {}
        }
        let code = match &current {
            Current::Ended(end) => end.code,
            _ => None,
        };
        let duty = self.duty(shard.index);
        let done = code == Some(exit::DONE) && (shard.has_progressed() || duty.is_none());
        let accounted = shard.retry_time.is_some() || shard.epoch == 0 || done;
        if !accounted && (duty.is_some() || code == Some(exit::GIVE_UP)) {
            self.account(index, &current);
        }
        if done {
            (self.next.shards[index].lost, self.next.shards[index].waits) = (0, 0);
        }
        if duty.is_none() || self.failed() {
            return;
        }
        if done {
            // Dealt with, though its successor may have to wait until another shard's worker has ended.
            let due = &mut self.next.shards[index].retry_time;
            due.get_or_insert(Time(self.observed.now));
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
        let pointer = pointer_interval(self.next.shards.len() as i32);
        let limit = Duration::from_secs(batch.upload_deadline_seconds as u64) + LATE + pointer;
        let shard = &self.next.shards[index];
        let unchanged = self.observed.unchanged.get(&shard.index);
        let unchanged = unchanged.copied().unwrap_or_default();
        let (shard, epoch) = (shard.index, shard.epoch);
        if let Some(wait) = limit.checked_sub(unchanged).filter(|wait| !wait.is_zero()) {
            return self.wake_in(wait);
        }
        if self.duty(shard).is_none() {
            // Its work is done; only its end fails to come.
            return self.stop.push((shard, epoch));
        }
        let stuck = WorkerEnd {
            code: None,
            reason: "Stuck".to_owned(),
            message: format!("no new checkpoint for {} s", unchanged.as_secs()),
        };
        self.account(index, &Current::Ended(stuck));
        if self.failed() {
            return;
        }
        // Fences the late worker now; its successor starts after the backoff.
        self.raise_epoch(index);
        self.stop.push((shard, epoch));
    }

    fn raise_epoch(&mut self, index: usize) {
        let shard = &mut self.next.shards[index];
        shard.epoch += 1;
        shard.holder.clear();
        shard.start_sequence = shard.checkpoint.sequence;
        if let Some(epoch) = self.next.clean_up_epoch.as_mut().filter(|_| index == 0) {
            *epoch = shard.epoch;
        }
    }

    pub(super) fn begin_epoch(&mut self, index: usize) {
        // What would be left over is not before somebody is bound to clean it up.
        if self.finalizer == Some(FinalizerChange::Add) {
            return;
        }
        let existing = self.existing().count();
        let staying = existing - self.stop.len().min(existing);
        if staying + self.start.len() >= self.observed.job.spec.parallelism as usize {
            return;
        }
        self.raise_epoch(index);
        let shard = &mut self.next.shards[index];
        shard.retry_time = None;
        self.start.push((shard.index, shard.epoch));
    }
}
