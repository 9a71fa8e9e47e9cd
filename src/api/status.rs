//! `CompactionJob.status`: what has become of a job. Bounded (I11): no object keys, no list that
//! grows with the work.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CompactionJob, FINALIZER, Mode, SourceDisposition, condition, conditions};

#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CompactionJobStatus {
    /// The generation of the spec that this status speaks of; -1 before the first look.
    #[serde(default = "not_observed")]
    pub observed_generation: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// When the first worker was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the outputs were published, by the controller's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_time: Option<Time>,
    /// When nothing was left to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// For how long workers have run before the publication, up to `activeSince`.
    #[serde(default, skip_serializing_if = "is_zero_long")]
    pub active_seconds: i64,
    /// Bytes of sources that had been read when `activeSeconds` was last 0.
    #[serde(default, skip_serializing_if = "is_zero_long")]
    pub active_from_bytes: i64,
    /// Workers have been running since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_since: Option<Time>,
    /// There has been work, and no worker to do it, since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_since: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["index".into()]))]
    #[schemars(length(max = 64))]
    pub shards: Vec<ShardStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispose: Option<DisposeStatus>,
    /// The job is deleted, its workers are gone, and the one of shard 0 in this epoch cleans up after them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean_up_epoch: Option<i64>,
    /// The latest distinct failures of workers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub failures: Vec<Failure>,
    /// The group that was given up last; the manifest names all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failed_group: Option<FailedGroup>,
    /// The `spec.retryToken` that was last acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_token: Option<String>,
}

fn not_observed() -> i64 {
    -1
}

impl Default for CompactionJobStatus {
    fn default() -> Self {
        Self {
            observed_generation: not_observed(),
            conditions: Vec::new(),
            start_time: None,
            publish_time: None,
            completion_time: None,
            active_seconds: 0,
            active_from_bytes: 0,
            active_since: None,
            pending_since: None,
            plan: None,
            progress: None,
            shards: Vec::new(),
            publish: None,
            dispose: None,
            clean_up_epoch: None,
            failures: Vec::new(),
            last_failed_group: None,
            retry_token: None,
        }
    }
}

/// The frozen work; the plan itself is in the ledger.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanStatus {
    pub sha256: String,
    /// Where it is in the job's ledger.
    pub location: String,
    pub shards: i32,
    pub batches: i64,
    pub source_objects: i64,
    pub source_bytes: i64,
    /// Objects under the source prefix that were left out.
    pub skipped_objects: i64,
    pub estimated_output_objects: i64,
    /// After so many days a rule of the bucket aborts open uploads, as far as the store tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_days: Option<i32>,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Batches done / batches in all.
    pub summary: String,
    pub percent: i32,
    pub bytes_read: i64,
    pub bytes_written: i64,
    /// Sources left out because they were bad or missing.
    pub skipped_sources: i64,
    /// Records that are the latest of their key, as far as that is settled.
    #[serde(skip_serializing_if = "is_zero_long")]
    pub records_kept: i64,
    /// Records that were not the latest of their key.
    #[serde(skip_serializing_if = "is_zero_long")]
    pub records_dropped: i64,
    /// When the batches will be done if they go on as they did so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_completion_time: Option<Time>,
}

#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.epoch >= oldSelf.epoch").message("an epoch never falls"),
    validation = Rule::new("self.checkpoint.sequence >= oldSelf.checkpoint.sequence").message("a sequence never falls"),
)]
// Fields of a shard are not merged, and whose each one is would take as much room as they do.
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ShardStatus {
    pub index: i32,
    /// The fencing number, raised by the controller for each new worker.
    #[serde(default)]
    pub epoch: i64,
    /// UID of the worker that claimed this epoch; empty until then.
    #[serde(default)]
    pub holder: String,
    /// Claims and checkpoints of late workers that were refused.
    #[serde(default)]
    pub refused: i32,
    /// As far as the plan can tell; exact once the shard is done.
    #[serde(default)]
    pub total_batches: i64,
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// The sequence when this epoch began.
    #[serde(default)]
    pub start_sequence: i64,
    /// Workers lost in a row without a new sequence, by the work's own fault.
    #[serde(default)]
    pub lost: i32,
    /// Workers that ended in a row without a new sequence through nobody's fault.
    #[serde(default)]
    pub waits: i32,
    /// The end of this epoch's worker is accounted for, and the next one starts no sooner than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_time: Option<Time>,
}

// The signatures are serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &i32) -> bool {
    *number == 0
}
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero_long(number: &i64) -> bool {
    *number == 0
}

impl ShardStatus {
    /// Whether every batch is done. A worker keeps `totalBatches` above `batch` until it is.
    pub fn is_done(&self) -> bool {
        self.checkpoint.batch >= self.total_batches
    }

    /// Whether anything became durable in this epoch.
    pub fn has_progressed(&self) -> bool {
        self.checkpoint.sequence > self.start_sequence
    }
}

/// The pointer that makes a ledger body true. `sequence` 0: nothing done yet.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Checkpoint {
    /// Only ever rises.
    pub sequence: i64,
    /// Batches done. Falls when an open output must be built again.
    pub batch: i64,
    /// The body's name, relative to the job's ledger.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Hash of the body.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    pub bytes_read: i64,
    pub bytes_written: i64,
    #[serde(skip_serializing_if = "is_zero_long")]
    pub skipped_sources: i64,
    #[serde(skip_serializing_if = "is_zero_long")]
    pub records_kept: i64,
    #[serde(skip_serializing_if = "is_zero_long")]
    pub records_dropped: i64,
    /// Groups, or pieces of groups, that this shard has given up.
    #[serde(skip_serializing_if = "is_zero_long")]
    pub failed_groups: i64,
    /// Attempts at the next batch that passed the deadline.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempts: i32,
    /// By the worker's clock, for display only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PublishStatus {
    /// Hash of the manifest.
    pub sha256: String,
    pub outputs: i64,
    /// Sources whose records are in the outputs.
    pub sources: i64,
    /// Groups that failed and have no outputs; the manifest names them.
    #[serde(skip_serializing_if = "is_zero_long")]
    pub failed_groups: i64,
    /// Readers have been told: `_SUCCESS` stands beside the manifest.
    pub announced: bool,
    /// By the worker's clock, for display only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// Clean-up of working files and, where the user wants it, of sources; these go only if the controller has made this, when
/// the time for it had come.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct DisposeStatus {
    pub done: i64,
    pub total: i64,
    /// Sources that had changed since and were left alone.
    #[serde(skip_serializing_if = "is_zero_long")]
    pub changed: i64,
    /// Nothing more is to be done with sources; the ledger remains.
    pub sources_done: bool,
    /// Nothing is left to do.
    pub finished: bool,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    pub shard: i32,
    pub batch: i64,
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
    pub count: i32,
    pub time: Time,
}

/// Why a group, or a shard's piece of one, was given up.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FailedGroup {
    pub shard: i32,
    pub reason: String,
    #[schemars(length(max = 512))]
    pub message: String,
}

/// What a worker of a shard has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    Plan,
    Batches,
    Publish,
    Dispose,
    /// Of a job that is deleted before its end: what nobody has published, and the ledger. Done when
    /// `dispose.finished` says so.
    CleanUp,
}

/// How often a worker may move its shard's pointer in a job of so many shards: the API server's work for
/// each move grows with the status, and so with the shards (I11).
pub fn pointer_interval(shards: i32) -> Duration {
    Duration::from_millis(250 * u64::try_from(shards).unwrap_or_default()).max(Duration::from_secs(1))
}

impl CompactionJobStatus {
    /// Seconds in which workers have run up to now. A clock that was set back takes nothing away.
    pub fn active_seconds_at(&self, now: Timestamp) -> i64 {
        let since = self.active_since.as_ref().map_or(now, |since| since.0);
        self.active_seconds
            .saturating_add(now.duration_since(since).as_secs().max(0))
    }

    /// No worker runs any more. Less than a second counts for one: a job whose workers end at once has a limit too.
    pub fn stop_active_clock(&mut self, now: Timestamp) {
        let least = self.active_seconds.saturating_add(1);
        if self.active_since.is_some() {
            self.active_seconds = self.active_seconds_at(now).max(least);
        }
        self.active_since = None;
    }

    /// Whether there is a condition of this type, and it is True.
    pub fn is(&self, type_: &str) -> bool {
        condition(&self.conditions, type_).is_some_and(|condition| condition.status == "True")
    }

    /// Whether somebody has to help before the job goes on.
    pub fn has_failed(&self) -> bool {
        self.is(conditions::STALLED)
    }

    /// Whether nothing of it goes on by itself: it has failed, or every duty is done.
    pub fn is_at_its_end(&self) -> bool {
        self.has_failed() || self.completion_time.is_some()
    }

    /// Groups that were given up in all shards so far, a group of several pieces once for each that failed.
    pub fn failed_groups(&self) -> i64 {
        let shards = self.shards.iter();
        shards.map(|shard| shard.checkpoint.failed_groups).sum()
    }

    /// Whether the outputs are published, to the last step.
    pub fn is_announced(&self) -> bool {
        self.publish.as_ref().is_some_and(|publish| publish.announced)
    }
}

impl CompactionJob {
    /// The duty that the status shows open for `shard`; the same answer for controller and worker.
    /// Only a worker that holds the shard's epoch may do it.
    pub fn duty(&self, shard: i32) -> Option<Duty> {
        if self.metadata.deletion_timestamp.is_some() {
            return self.clean_up_is_open(shard).then_some(Duty::CleanUp);
        }
        let plan = self.status.as_ref().and_then(|status| status.plan.as_ref());
        let (Some(status), Some(plan)) = (&self.status, plan) else {
            return (shard == 0).then_some(Duty::Plan);
        };
        let nothing_to_do = self.spec.mode == Mode::PlanOnly || plan.source_objects == 0;
        if nothing_to_do || self.has_too_many_failed_groups() {
            return None;
        }
        if !status.shards.iter().find(|s| s.index == shard)?.is_done() {
            return Some(Duty::Batches);
        }
        if shard != 0 || !status.shards.iter().all(ShardStatus::is_done) {
            return None;
        }
        if !status.is_announced() {
            return Some(Duty::Publish);
        }
        let open = match &status.dispose {
            Some(dispose) => !dispose.finished,
            // Sources that stay need no leave.
            None => self.spec.source_disposition == SourceDisposition::Retain,
        };
        open.then_some(Duty::Dispose)
    }

    /// Whether more groups failed than may. What is decided to be published is not taken back.
    pub fn has_too_many_failed_groups(&self) -> bool {
        let undecided = self.status.as_ref().filter(|status| status.publish.is_none());
        undecided.is_some_and(|status| status.failed_groups() > i64::from(self.spec.max_failed_groups))
    }

    /// Only in the epoch that the controller has begun for it: other workers' work is gone by then.
    fn clean_up_is_open(&self, shard: i32) -> bool {
        let Some(status) = self.status.as_ref().filter(|_| self.has_finalizer()) else {
            return false;
        };
        let epoch = status.shards.iter().find(|s| s.index == shard).map(|s| s.epoch);
        let finished = status.dispose.as_ref().is_some_and(|dispose| dispose.finished);
        shard == 0 && status.clean_up_epoch.is_some() && status.clean_up_epoch == epoch && !finished
    }

    /// Whether a deleted job is kept until it is cleaned up.
    pub fn has_finalizer(&self) -> bool {
        let finalizers = self.metadata.finalizers.iter().flatten();
        finalizers.into_iter().any(|finalizer| finalizer == FINALIZER)
    }

    /// From when on sources may be deleted; `None` if they stay, and before the controller has seen the
    /// publication.
    pub fn dispose_time(&self) -> Option<Timestamp> {
        if self.spec.source_disposition == SourceDisposition::Retain {
            return None;
        }
        let published = self.status.as_ref()?.publish_time.as_ref()?.0;
        let grace = SignedDuration::from_secs(self.spec.source_retention_seconds);
        Some(published.saturating_add(grace).unwrap_or(Timestamp::MAX))
    }
}
