//! `decide` against a job, its workers and a clock that a test moves by hand.

mod conditions;
mod deletion;
mod ends;
mod finish;
mod groups;
mod kstatus;
mod limits;
mod order;
mod patch;
mod progress;
mod property;

use serde_json::{Value, json};

use jiff::SignedDuration;

use super::*;
use crate::api::{Mode, exit, set_condition};

/// A job and what is observed of it; its decisions are carried out on itself.
#[derive(Debug, Clone)]
struct World {
    job: CompactionJob,
    workers: Vec<WorkerView>,
    unchanged: BTreeMap<i32, Duration>,
    now: Timestamp,
}

impl World {
    /// A job that nobody has looked at yet.
    fn new() -> Self {
        let job = json!({
            "apiVersion": "compaction.dev/v1alpha1",
            "kind": "CompactionJob",
            "metadata": {
                "name": "job", "namespace": "ns", "uid": "uid-1", "generation": 1, "resourceVersion": "1"
            },
            "spec": {
                "storage": {"s3": {"bucket": "bucket"}},
                "source": {"prefix": "in/"},
                "output": {"prefix": "out/"},
            },
            "status": {"observedGeneration": -1},
        });
        Self {
            job: serde_json::from_value(job).unwrap(),
            workers: Vec::new(),
            unchanged: BTreeMap::new(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
        }
    }

    /// A job whose plan has shards of so many batches, all of them running.
    fn running(batches: &[i64]) -> Self {
        let mut world = Self::new();
        world.job.spec.parallelism = batches.len() as i32;
        world.step();
        world.plan(batches);
        world.step();
        world
    }

    /// A job of one shard that has done its one batch and published.
    fn published() -> Self {
        let mut world = Self::running(&[1]);
        world.checkpoint(0, 1);
        world.publish();
        world.end(0, exit::DONE);
        world
    }

    fn decide(&self) -> Decision {
        decide(&Observed {
            job: &self.job,
            workers: &self.workers,
            others: &[],
            unchanged: &self.unchanged,
            now: self.now,
        })
        .unwrap()
    }

    /// Decides, applies the patch and the change of the finalizer, and starts what is to be started. What is stopped goes on until `end`.
    fn step(&mut self) -> Decision {
        let decision = self.decide();
        self.apply(&decision.patch);
        if let Some(change) = decision.finalizer {
            change.apply(self.job.metadata.finalizers.get_or_insert_default());
        }
        for (shard, epoch) in &decision.start {
            self.workers.push(WorkerView {
                shard: *shard,
                epoch: *epoch,
                state: WorkerState::Running,
            });
        }
        decision
    }

    fn apply(&mut self, patch: &Patch) {
        let mut job = serde_json::to_value(&self.job).unwrap();
        json_patch::patch(&mut job, patch).unwrap();
        if !patch.0.is_empty() {
            let version: u64 = job["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
            job["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        }
        self.job = serde_json::from_value(job).unwrap();
    }

    fn status(&self) -> &CompactionJobStatus {
        self.job.status.as_ref().unwrap()
    }

    fn status_mut(&mut self) -> &mut CompactionJobStatus {
        self.job.status.as_mut().unwrap()
    }

    fn shard(&self, index: i32) -> &ShardStatus {
        &self.status().shards[index as usize]
    }

    fn shard_mut(&mut self, index: i32) -> &mut ShardStatus {
        &mut self.status_mut().shards[index as usize]
    }

    /// The worker of shard 0 records its plan, and goes on.
    fn plan(&mut self, batches: &[i64]) {
        let status = self.status_mut();
        status.plan = Some(crate::api::PlanStatus {
            sha256: "plan".to_owned(),
            shards: batches.len() as i32,
            batches: batches.iter().sum(),
            source_objects: 10,
            source_bytes: 1000,
            ..Default::default()
        });
        status
            .shards
            .resize_with(batches.len().max(1), ShardStatus::default);
        for (index, batches) in batches.iter().enumerate() {
            status.shards[index].index = index as i32;
            status.shards[index].total_batches = *batches;
        }
        status.shards[0].checkpoint.sequence += 1;
    }

    fn checkpoint(&mut self, shard: i32, batch: i64) {
        let checkpoint = &mut self.shard_mut(shard).checkpoint;
        checkpoint.sequence += 1;
        checkpoint.batch = batch;
        checkpoint.attempts = 0;
    }

    fn publish(&mut self) {
        self.status_mut().publish = Some(crate::api::PublishStatus {
            sha256: "manifest".to_owned(),
            outputs: 2,
            sources: 10,
            announced: true,
            ..Default::default()
        });
        self.shard_mut(0).checkpoint.sequence += 1;
    }

    fn end(&mut self, shard: i32, code: i32) {
        self.end_with(shard, Some(code), "Reason", "message");
    }

    /// Ends the running worker of a shard, of whatever epoch it is.
    fn end_with(&mut self, shard: i32, code: Option<i32>, reason: &str, message: &str) {
        let mut workers = self.workers.iter_mut();
        let running = workers.find(|w| w.shard == shard && w.state == WorkerState::Running);
        running.unwrap().state = WorkerState::Ended(WorkerEnd {
            code,
            reason: reason.to_owned(),
            message: message.to_owned(),
        });
    }

    /// What has become of the worker of a shard that exists.
    fn turns(&mut self, shard: i32, state: WorkerState) {
        let mut workers = self.workers.iter_mut();
        let existing = workers.find(|w| w.shard == shard && w.state.exists());
        existing.unwrap().state = state;
    }

    fn waits(&mut self, shard: i32, why: &str) {
        self.turns(shard, WorkerState::Waiting(why.to_owned()));
    }

    fn lost(&mut self, shard: i32, why: &str) {
        self.turns(shard, WorkerState::Lost(why.to_owned()));
    }

    /// The waiting worker of a shard starts.
    fn starts(&mut self, shard: i32) {
        self.turns(shard, WorkerState::Running);
    }

    fn gone(&mut self, shard: i32) {
        self.workers.retain(|worker| worker.shard != shard);
    }

    fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// Seconds from now until the next worker of a shard may start.
    fn backoff(&self, shard: i32) -> Option<i64> {
        let due = self.shard(shard).retry_time.as_ref()?.0;
        Some(due.duration_since(self.now).as_secs())
    }

    /// Status and reason of a condition.
    fn condition(&self, type_: &str) -> (&str, &str) {
        condition(&self.status().conditions, type_).map_or(("", ""), |c| (&c.status, &c.reason))
    }

    fn message(&self, type_: &str) -> &str {
        condition(&self.status().conditions, type_).map_or("", |c| &c.message)
    }

    fn failed(&self) -> bool {
        self.condition(types::STALLED).0 == "True"
    }
}
