//! `decide`: job, workers and time in; a status patch and workers to start and stop out. Pure.
//!
//! The order in which a decision is carried out is part of the fence: first the patch, and only if it was
//! acknowledged, stops and starts. An epoch is in the status before its worker exists.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use json_patch::Patch;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::overlap::predecessor;
use super::patch::difference;
use crate::api::{
    CompactionJob, CompactionJobStatus, DisposeStatus, Duty, Failure, Mode, Progress, Reason, ShardStatus,
    condition, conditions, exit, set_condition,
};

/// How much longer than a batch's deadline its worker is waited for.
const LATE: Duration = Duration::from_secs(30);
/// How often a job that waits for another one looks whether its turn has come.
const LOOK_FOR_TURN: Duration = Duration::from_secs(15);
const MAX_FAILURES: usize = 16;
const MAX_MESSAGE_CHARS: usize = 512;

/// What is known of a job at one moment.
pub struct Observed<'a> {
    pub job: &'a CompactionJob,
    /// Every worker that exists or whose end is still known.
    pub workers: &'a [WorkerView],
    /// Jobs that may read or write the same objects.
    pub others: &'a [CompactionJob],
    /// Per shard, for how long its epoch, holder and sequence have been seen unchanged, by the observer's
    /// own monotonic clock; it stands still while observing fails, and starts at 0 with the observer (I12).
    pub unchanged: &'a BTreeMap<i32, Duration>,
    /// By the observer's clock; compared only with times that it wrote itself.
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    pub shard: i32,
    pub epoch: i64,
    pub state: WorkerState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerState {
    /// It exists and could not start yet; says why.
    Waiting(String),
    Running,
    /// It is not there through nobody's fault: evicted, its node lost, or it could not be created; says why.
    Lost(String),
    Ended(WorkerEnd),
}

impl WorkerState {
    /// Whether it may still act, now or later.
    pub fn exists(&self) -> bool {
        matches!(self, Self::Waiting(_) | Self::Running)
    }
}

/// What a worker left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerEnd {
    /// `None` when it was killed.
    pub code: Option<i32>,
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// May be empty. When it is refused, nothing else of the decision holds: observe again.
    pub patch: Patch,
    /// Shard and epoch of workers to stop.
    pub stop: Vec<(i32, i64)>,
    /// Shard and epoch of workers to start.
    pub start: Vec<(i32, i64)>,
    /// When to look again if nothing happens before.
    pub wake: Option<Duration>,
    /// Whether the job's finalizer is to be added or removed.
    pub finalizer: Option<FinalizerChange>,
    /// The job has outlived its end by `ttlSecondsAfterFinished`: delete it.
    pub expired: bool,
}

/// What to do with the finalizer that keeps a deleted job until its last worker has cleaned up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalizerChange {
    Add,
    Remove,
}

/// What the job needs next.
pub fn decide(observed: &Observed<'_>) -> Result<Decision, serde_json::Error> {
    let job = observed.job;
    let mut deciding = Deciding {
        observed,
        next: job.status.clone().unwrap_or_default(),
        stop: Vec::new(),
        start: Vec::new(),
        wake: None,
    };
    deciding.decide();
    let Deciding {
        next,
        stop,
        start,
        wake,
        ..
    } = deciding;
    Ok(Decision {
        patch: difference(job, &next)?,
        stop,
        start,
        wake,
        finalizer: None,
        expired: false,
    })
}

struct Deciding<'a> {
    observed: &'a Observed<'a>,
    next: CompactionJobStatus,
    stop: Vec<(i32, i64)>,
    start: Vec<(i32, i64)>,
    wake: Option<Duration>,
}

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
    fn decide(&mut self) {
        let spec = &self.observed.job.spec;
        self.next.observed_generation = self.observed.job.metadata.generation.unwrap_or_default();
        self.take_retry_token();
        if self.failed() {
            return self.stop_all();
        }
        if spec.suspend && !self.finished() {
            self.stop_all();
            self.set_progress();
            return self.set_states(Reason::Suspended, "suspended; the checkpoints are kept");
        }
        if let Some(other) = predecessor(self.observed.job, self.observed.others) {
            let (namespace, name) = (&other.metadata.namespace, &other.metadata.name);
            let name = format!(
                "{}/{}",
                namespace.as_deref().unwrap_or_default(),
                name.as_deref().unwrap_or_default()
            );
            self.wake = Some(LOOK_FOR_TURN);
            return self.set_states(
                Reason::WaitingForJob,
                &format!("waits for {name}, which works on the same objects"),
            );
        }
        self.resume();
        self.stop_late_epochs();
        if self.next.shards.is_empty() {
            self.next.shards.push(ShardStatus::default());
        }
        self.set_milestones();
        for index in 0..self.next.shards.len() {
            self.shard(index);
            if self.failed() {
                return self.stop_all();
            }
        }
        self.set_progress();
        self.set_state();
    }

    /// A changed token lets a failed job go on from its checkpoints, with all counts at zero.
    fn take_retry_token(&mut self) {
        let token = &self.observed.job.spec.retry_token;
        if self.next.retry_token == *token {
            return;
        }
        self.next.retry_token.clone_from(token);
        if !self.failed() {
            return;
        }
        self.next
            .conditions
            .retain(|condition| condition.type_ != conditions::STALLED);
        for shard in &mut self.next.shards {
            (shard.lost, shard.waits, shard.checkpoint.attempts) = (0, 0, 0);
            shard.retry_time = None;
        }
        self.begin_anew();
    }

    /// That suspending stopped the workers counts against nobody.
    fn resume(&mut self) {
        let suspended = condition(&self.next.conditions, conditions::SUSPENDED);
        if !self.observed.job.spec.suspend && suspended.is_some_and(|c| c.status == "True") {
            self.begin_anew();
        }
    }

    /// Whatever became of the workers so far is dealt with; their successors need not wait for it.
    fn begin_anew(&mut self) {
        for index in 0..self.next.shards.len() {
            if self.next.shards[index].epoch > 0 {
                self.raise_epoch(index);
                let due = &mut self.next.shards[index].retry_time;
                due.get_or_insert(Time(self.observed.now));
            }
        }
    }

    fn failed(&self) -> bool {
        condition(&self.next.conditions, conditions::STALLED).is_some_and(|c| c.status == "True")
    }

    /// Nothing is left to do: there was nothing to compact, or all is disposed of.
    fn finished(&self) -> bool {
        let plan = self.next.plan.as_ref();
        plan.is_some_and(|plan| plan.source_objects == 0)
            || self.next.dispose.as_ref().is_some_and(|dispose| dispose.finished)
    }

    fn stop_all(&mut self) {
        for worker in self
            .observed
            .workers
            .iter()
            .filter(|worker| worker.state.exists())
        {
            self.stop.push((worker.shard, worker.epoch));
        }
        self.stop.sort_unstable();
        self.stop.dedup();
        self.start.clear();
    }

    /// A worker of an epoch that is over is fenced, and only costs resources.
    fn stop_late_epochs(&mut self) {
        for worker in self
            .observed
            .workers
            .iter()
            .filter(|worker| worker.state.exists())
        {
            let current = self.next.shards.iter().find(|shard| shard.index == worker.shard);
            if current.is_none_or(|shard| shard.epoch > worker.epoch) {
                self.stop.push((worker.shard, worker.epoch));
            }
        }
    }

    /// Times that the controller writes, and its leave to dispose.
    fn set_milestones(&mut self) {
        let now = self.observed.now;
        self.next.start_time.get_or_insert(Time(now));
        if self.next.is_announced() && self.next.publish_time.is_none() {
            self.next.publish_time = Some(Time(now));
        }
        let mut job = self.observed.job.clone();
        job.status = Some(self.next.clone());
        if let Some(due) = job.dispose_time().filter(|_| self.next.dispose.is_none()) {
            if due <= now {
                self.next.dispose = Some(DisposeStatus::default());
            } else {
                self.wake_at(due);
            }
        }
        if self.finished() && self.next.completion_time.is_none() {
            self.next.completion_time = Some(Time(now));
        }
    }

    fn wake_at(&mut self, time: Timestamp) {
        let wait = Duration::try_from(time.duration_since(self.observed.now)).unwrap_or_default();
        self.wake = Some(self.wake.map_or(wait, |wake| wake.min(wait)));
    }

    fn duty(&self, shard: i32) -> Option<Duty> {
        let mut job = self.observed.job.clone();
        job.status = Some(self.next.clone());
        job.duty(shard)
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

    fn shard(&mut self, index: usize) {
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
                    conditions::STORAGE_ACCESSIBLE,
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

    fn set_progress(&mut self) {
        let Some(plan) = &self.next.plan else { return };
        let sum = |field: fn(&ShardStatus) -> i64| self.next.shards.iter().map(field).sum::<i64>();
        let (done, total) = (sum(|s| s.checkpoint.batch), sum(|s| s.total_batches));
        let bytes_read = sum(|s| s.checkpoint.bytes_read);
        let percent = if done == total {
            100
        } else {
            bytes_read * 100 / plan.source_bytes.max(1)
        };
        self.next.progress = Some(Progress {
            summary: format!("{done}/{total}"),
            percent: percent.clamp(0, 100) as i32,
            bytes_read,
            bytes_written: sum(|s| s.checkpoint.bytes_written),
            skipped_sources: sum(|s| s.checkpoint.skipped_sources),
            estimated_completion_time: None,
        });
        let progressed = |s: &ShardStatus| s.checkpoint.sequence > s.start_sequence;
        let shards = &self.next.shards;
        // One worker that reaches it does not speak for another that waits for it.
        if shards.iter().any(progressed) && shards.iter().all(|s| s.waits == 0 || progressed(s)) {
            self.set_condition(
                conditions::STORAGE_ACCESSIBLE,
                Some(true),
                Reason::Reachable,
                "every worker reached it",
            );
        }
    }

    fn set_state(&mut self) {
        let Some(plan) = &self.next.plan else {
            return self.set_states(Reason::Planning, "a worker lists the sources");
        };
        if plan.source_objects == 0 {
            return self.succeed(Reason::NothingToCompact, "no source is to be compacted");
        }
        if let Some(message) = self.published() {
            return self.succeed(Reason::Succeeded, &message);
        }
        if self.observed.job.spec.mode == Mode::PlanOnly {
            return self.set_states(Reason::Planned, "planned; set mode: Execute to run this plan");
        }
        let due = |shard: &ShardStatus| shard.retry_time.as_ref().map(|time| time.0);
        let waiting = self
            .next
            .shards
            .iter()
            .any(|shard| due(shard) > Some(self.observed.now));
        let last = self.next.failures.last().map(|failure| failure.message.clone());
        match last.filter(|_| waiting) {
            Some(message) => self.set_states(Reason::Requeueing, &message),
            None if self.next.shards.iter().all(ShardStatus::is_done) => {
                self.set_states(
                    Reason::Publishing,
                    "every batch is done; the outputs are being published",
                );
            }
            None => self.set_states(Reason::Running, "workers compact batch by batch"),
        }
    }

    fn set_condition(&mut self, type_: &str, status: Option<bool>, reason: Reason, message: &str) {
        let generation = self.next.observed_generation;
        let message: String = message.chars().take(MAX_MESSAGE_CHARS).collect();
        set_condition(
            &mut self.next.conditions,
            type_,
            status,
            reason.as_str(),
            &message,
            generation,
            self.observed.now,
        );
    }

    /// The conditions of a job that is neither finished nor failed. What is published stays published.
    fn set_states(&mut self, reason: Reason, message: &str) {
        self.set_common(reason, message);
        if !self.next.is_announced() {
            self.set_condition(conditions::SUCCEEDED, None, reason, message);
        }
    }

    fn set_common(&mut self, reason: Reason, message: &str) {
        self.set_condition(conditions::READY, Some(true), reason, message);
        self.set_condition(
            conditions::RECONCILING,
            Some(reason == Reason::Planning),
            reason,
            message,
        );
        self.set_condition(conditions::STALLED, Some(false), reason, "");
        self.set_condition(
            conditions::SUSPENDED,
            Some(reason == Reason::Suspended),
            reason,
            "",
        );
    }

    fn succeed(&mut self, reason: Reason, message: &str) {
        self.set_common(reason, message);
        self.set_condition(conditions::SUCCEEDED, Some(true), reason, message);
    }

    fn fail(&mut self, reason: Reason, message: &str) {
        self.set_common(reason, message);
        self.set_condition(conditions::READY, Some(false), reason, message);
        self.set_condition(conditions::STALLED, Some(true), reason, message);
        match self.published() {
            // What is published stays published, even if its sources cannot be disposed of.
            Some(published) => {
                self.set_condition(conditions::SUCCEEDED, Some(true), Reason::Succeeded, &published);
            }
            None => self.set_condition(conditions::SUCCEEDED, Some(false), reason, message),
        }
    }

    /// What is published, once readers have been told.
    fn published(&self) -> Option<String> {
        let outputs = self.next.publish.as_ref().filter(|p| p.announced)?.outputs;
        let sources = self.next.plan.as_ref()?.source_objects;
        Some(format!("{sources} sources are compacted into {outputs} outputs"))
    }
}

#[cfg(test)]
mod tests;
