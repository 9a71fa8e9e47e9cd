//! `decide`: job, workers and time in; a status patch and workers to start and stop out. Pure.
//!
//! The order in which a decision is carried out is part of the fence: first the patch, and only if it was
//! acknowledged, stops and starts. An epoch is in the status before its worker exists.

mod account;
mod conditions;
mod deletion;
mod end;
mod limits;
mod progress;
mod shard;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use json_patch::Patch;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(super) use account::is_same;
pub use end::WorkerEnd;

use super::overlap::predecessor;
use super::patch::difference;
use crate::api::{
    CompactionJob, CompactionJobStatus, DisposeStatus, Duty, FINALIZER, Reason, ShardStatus, condition,
    conditions as types, confirm_conditions,
};

/// How often a job that waits for another one looks whether its turn has come.
const LOOK_FOR_TURN: Duration = Duration::from_secs(15);
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

impl FinalizerChange {
    /// Leaves the finalizers of others alone.
    pub fn apply(self, finalizers: &mut Vec<String>) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        if self == Self::Add {
            finalizers.push(FINALIZER.to_owned());
        }
    }
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
        finalizer: None,
        expired: false,
    };
    deciding.decide();
    confirm_conditions(&mut deciding.next.conditions, deciding.next.observed_generation);
    let Deciding {
        next,
        mut stop,
        start,
        wake,
        finalizer,
        expired,
        ..
    } = deciding;
    stop.sort_unstable();
    stop.dedup();
    Ok(Decision {
        patch: difference(job, &next)?,
        stop,
        start,
        wake,
        finalizer,
        expired,
    })
}

struct Deciding<'a> {
    observed: &'a Observed<'a>,
    next: CompactionJobStatus,
    stop: Vec<(i32, i64)>,
    start: Vec<(i32, i64)>,
    wake: Option<Duration>,
    finalizer: Option<FinalizerChange>,
    expired: bool,
}

impl Deciding<'_> {
    fn decide(&mut self) {
        if let Some(Time(deleted)) = self.observed.job.metadata.deletion_timestamp {
            return self.delete(deleted);
        }
        self.next.observed_generation = self.observed.job.metadata.generation.unwrap_or_default();
        self.take_retry_token();
        self.lift_failure_before_publication();
        self.hold_for_clean_up();
        self.end_pending();
        let wanted = self.go_on();
        self.set_active();
        self.set_pending(wanted);
        self.set_expired();
    }

    /// Returns whether a worker is wanted, now or after a wait that is not of the controller's own choice.
    fn go_on(&mut self) -> bool {
        if self.failed() {
            self.stop_all();
            return false;
        }
        if self.observed.job.spec.suspend && !self.finished() {
            self.suspend();
            return false;
        }
        let turn = self.waits_for_turn();
        if self.passes_limits(turn.as_deref()) {
            self.stop_all();
            return false;
        }
        if let Some(message) = turn {
            self.wake_in(LOOK_FOR_TURN);
            self.set_states(Reason::WaitingForJob, &message);
            return true;
        }
        self.resume();
        self.stop_late_epochs();
        if self.next.shards.is_empty() {
            self.next.shards.push(ShardStatus::default());
        }
        self.set_milestones();
        self.end_waits_for_store();
        for index in 0..self.next.shards.len() {
            self.shard(index);
            if self.failed() {
                self.stop_all();
                return false;
            }
        }
        self.set_progress();
        self.set_state();
        self.next
            .shards
            .iter()
            .any(|shard| self.duty(shard.index).is_some())
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
        self.lift_failure();
        for shard in &mut self.next.shards {
            (shard.lost, shard.waits, shard.checkpoint.attempts) = (0, 0, 0);
            shard.retry_time = None;
        }
        self.reset_clocks();
        self.begin_anew();
    }

    /// A worker that was told to stop may still have published: that is success, whatever came before.
    fn lift_failure_before_publication(&mut self) {
        if self.failed() && self.next.is_announced() && !self.next.is(types::SUCCEEDED) {
            self.lift_failure();
        }
    }

    fn lift_failure(&mut self) {
        self.next
            .conditions
            .retain(|condition| condition.type_ != types::STALLED);
    }

    /// Suspended is what has no worker any more; until then it is stopping.
    fn suspend(&mut self) {
        self.stop_all();
        self.set_progress();
        if self.stop.is_empty() {
            self.set_states(Reason::Suspended, "suspended; the checkpoints are kept");
        } else {
            self.set_states(Reason::Stopping, "to be suspended; workers are stopping");
        }
    }

    /// That suspending stopped the workers, or was about to, counts against nobody.
    fn resume(&mut self) {
        let suspended = condition(&self.next.conditions, types::SUSPENDED);
        if suspended.is_some_and(|c| c.status == "True" || c.reason == Reason::Stopping.as_str()) {
            self.begin_anew();
        }
    }

    /// Says for which job this one has to wait, if there is one.
    fn waits_for_turn(&self) -> Option<String> {
        let other = &predecessor(self.observed.job, self.observed.others)?.metadata;
        let namespace = other.namespace.as_deref().unwrap_or_default();
        let name = other.name.as_deref().unwrap_or_default();
        Some(format!(
            "waits for {namespace}/{name}, which works on the same objects"
        ))
    }

    fn failed(&self) -> bool {
        self.next.has_failed()
    }

    /// Nothing is left to do: there was nothing to compact, or all is disposed of.
    fn finished(&self) -> bool {
        self.nothing_to_compact() || self.next.dispose.as_ref().is_some_and(|dispose| dispose.finished)
    }

    fn nothing_to_compact(&self) -> bool {
        self.next
            .plan
            .as_ref()
            .is_some_and(|plan| plan.source_objects == 0)
    }

    fn stop_all(&mut self) {
        self.stop = self
            .existing()
            .map(|worker| (worker.shard, worker.epoch))
            .collect();
        self.stop.sort_unstable();
        self.stop.dedup();
        self.start.clear();
    }

    /// A worker of an epoch that is over is fenced, and only costs resources.
    fn stop_late_epochs(&mut self) {
        let late = |worker: &&WorkerView| {
            let current = self.next.shards.iter().find(|shard| shard.index == worker.shard);
            current.is_none_or(|shard| shard.epoch > worker.epoch)
        };
        let late: Vec<_> = self.existing().filter(late).map(|w| (w.shard, w.epoch)).collect();
        self.stop.extend(late);
    }

    fn existing(&self) -> impl Iterator<Item = &WorkerView> {
        let workers = self.observed.workers.iter();
        workers.filter(|worker| worker.state.exists())
    }

    /// Workers of the epochs that stand.
    fn current_workers(&self) -> impl Iterator<Item = &WorkerView> {
        let current = |worker: &&WorkerView| {
            let mut shards = self.next.shards.iter();
            shards.any(|shard| (shard.index, shard.epoch) == (worker.shard, worker.epoch))
        };
        self.observed.workers.iter().filter(current)
    }

    /// Whether a worker does its duty at this moment.
    fn runs(&self) -> bool {
        self.current_workers()
            .any(|worker| worker.state == WorkerState::Running)
    }

    /// Times that the controller writes, and its leave to delete sources.
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
        self.wake_in(Duration::try_from(time.duration_since(self.observed.now)).unwrap_or_default());
    }

    fn wake_in(&mut self, wait: Duration) {
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
