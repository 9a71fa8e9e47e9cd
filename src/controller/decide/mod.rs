//! `decide`: job, workers and time in; a status patch and workers to start and stop out. Pure.
//!
//! The order in which a decision is carried out is part of the fence: first the patch, and only if it was
//! acknowledged, stops and starts. An epoch is in the status before its worker exists.

mod conditions;
mod shard;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use json_patch::Patch;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::overlap::predecessor;
use super::patch::difference;
use crate::api::{
    CompactionJob, CompactionJobStatus, DisposeStatus, Duty, Reason, ShardStatus, condition,
    conditions as types,
};

/// How often a job that waits for another one looks whether its turn has come.
const LOOK_FOR_TURN: Duration = Duration::from_secs(15);
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
            .retain(|condition| condition.type_ != types::STALLED);
        for shard in &mut self.next.shards {
            (shard.lost, shard.waits, shard.checkpoint.attempts) = (0, 0, 0);
            shard.retry_time = None;
        }
        self.begin_anew();
    }

    /// That suspending stopped the workers counts against nobody.
    fn resume(&mut self) {
        let suspended = condition(&self.next.conditions, types::SUSPENDED);
        if !self.observed.job.spec.suspend && suspended.is_some_and(|c| c.status == "True") {
            self.begin_anew();
        }
    }

    fn failed(&self) -> bool {
        condition(&self.next.conditions, types::STALLED).is_some_and(|c| c.status == "True")
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
}

#[cfg(test)]
mod tests;
