//! The fence: claims a shard and changes its status by JSON Patches whose tests name the job, the epoch,
//! the holder and the sequence. Whatever the store does, only one worker's word counts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use json_patch::{Patch, PatchOperation, jsonptr::PointerBuf};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{ApiError, JobApi};
use crate::api::{
    Checkpoint, CompactionJob, DisposeStatus, FailedGroup, PlanStatus, PublishStatus, ShardStatus,
};
use crate::engine::{Fence, FenceError};

/// How long an unreachable API server is waited for before the worker gives its place up.
const PATIENCE: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_secs(1);
/// A look this young is fresh enough.
const FRESH: Duration = Duration::from_secs(1);

/// Who a worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub job_uid: String,
    pub shard: i32,
    pub epoch: i64,
    /// UID of the pod or process.
    pub holder: String,
}

pub struct ShardFence {
    api: Arc<dyn JobApi>,
    identity: Identity,
    /// What this worker last knows to stand in the status, and when it last looked.
    known: Mutex<(Checkpoint, Option<Instant>)>,
}

impl ShardFence {
    /// Claims the shard for this worker, if its epoch is still the current one and nobody else has.
    pub async fn claim(
        api: Arc<dyn JobApi>,
        identity: Identity,
    ) -> Result<(Self, CompactionJob), FenceError> {
        let fence = Self {
            api,
            identity,
            known: Mutex::new((Checkpoint::default(), None)),
        };
        let Identity {
            job_uid,
            shard,
            epoch,
            holder,
        } = &fence.identity;
        let operations = vec![
            test("/metadata/uid", json!(job_uid)),
            test(&format!("/status/shards/{shard}/index"), json!(shard)),
            test(&format!("/status/shards/{shard}/epoch"), json!(epoch)),
            test(&format!("/status/shards/{shard}/holder"), json!("")),
            replace(&format!("/status/shards/{shard}/holder"), json!(holder)),
        ];
        let job = fence.apply(operations, None).await?;
        if let Some(shard) = fence.shard(&job) {
            fence.remember(shard.checkpoint.clone());
        }
        Ok((fence, job))
    }

    /// The job as it stands, if this worker still holds its shard.
    pub async fn job(&self) -> Result<CompactionJob, FenceError> {
        let job = read(self.api.as_ref()).await?;
        self.holds(&job)?;
        Ok(job)
    }

    fn shard<'a>(&self, job: &'a CompactionJob) -> Option<&'a ShardStatus> {
        job.status
            .as_ref()?
            .shards
            .iter()
            .find(|shard| shard.index == self.identity.shard)
    }

    /// Whether the job still says that this worker holds its shard.
    fn holds(&self, job: &CompactionJob) -> Result<(), FenceError> {
        if self.epoch_stands(job)?.holder != self.identity.holder {
            return Err(FenceError::Fenced("another worker holds this epoch".to_owned()));
        }
        Ok(())
    }

    fn epoch_stands<'a>(&self, job: &'a CompactionJob) -> Result<&'a ShardStatus, FenceError> {
        let fenced = |why: String| Err(FenceError::Fenced(why));
        if job.metadata.uid.as_deref() != Some(&self.identity.job_uid) {
            return fenced("the job was created anew".to_owned());
        }
        let Some(shard) = self.shard(job) else {
            return fenced("the shard is gone".to_owned());
        };
        if shard.epoch != self.identity.epoch {
            return fenced(format!("epoch {} has begun", shard.epoch));
        }
        Ok(shard)
    }

    fn remember(&self, checkpoint: Checkpoint) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).0 = checkpoint;
    }

    fn known(&self) -> Checkpoint {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .clone()
    }

    /// Whether the job shows that our patch was applied: the claim, or this checkpoint. False when it
    /// may still be; an error when it never can.
    fn stands(&self, job: &CompactionJob, checkpoint: Option<&Checkpoint>) -> Result<bool, FenceError> {
        let shard = self.epoch_stands(job)?;
        if checkpoint.is_none() && shard.holder.is_empty() {
            return Ok(false);
        }
        self.holds(job)?;
        let now = &shard.checkpoint;
        Ok(checkpoint.is_none_or(|ours| now.sequence == ours.sequence && now.sha256 == ours.sha256))
    }

    /// Applies a patch for good, or counts that this worker came too late.
    async fn apply(
        &self,
        operations: Vec<PatchOperation>,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<CompactionJob, FenceError> {
        let outcome = self.settle(operations, checkpoint).await;
        if let Err(FenceError::Fenced(_)) = &outcome {
            self.tell_refused().await;
        }
        outcome
    }

    /// Sends a patch until it is known to have been applied or refused. After any answer but success the
    /// job is read anew: what stands there may be our own patch, whose answer was lost.
    async fn settle(
        &self,
        operations: Vec<PatchOperation>,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<CompactionJob, FenceError> {
        let patch = Patch(operations);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let refused = match self.api.patch_status(&patch).await {
                Ok(job) => return Ok(job),
                Err(ApiError::NotFound) => return Err(FenceError::Fenced("the job is gone".to_owned())),
                Err(ApiError::Refused(why)) => Some(why),
                Err(ApiError::Unknown(_)) => None,
            };
            let job = read(self.api.as_ref()).await?;
            if self.stands(&job, checkpoint)? {
                return Ok(job);
            }
            if let Some(why) = refused {
                return Err(FenceError::Contradiction(why));
            }
            if Instant::now() >= deadline {
                return Err(FenceError::Unavailable("patches are not answered".to_owned()));
            }
            sleep(PAUSE).await;
        }
    }

    /// Changes the status, with this checkpoint as the shard's next one. Its sequence is any higher one: between
    /// two pointers there may be bodies that none pointed to.
    async fn change(&self, checkpoint: Checkpoint, more: Vec<PatchOperation>) -> Result<(), FenceError> {
        let Identity {
            job_uid,
            shard,
            epoch,
            holder,
        } = &self.identity;
        let mut operations = vec![
            test("/metadata/uid", json!(job_uid)),
            test(&format!("/status/shards/{shard}/index"), json!(shard)),
            test(&format!("/status/shards/{shard}/epoch"), json!(epoch)),
            test(&format!("/status/shards/{shard}/holder"), json!(holder)),
            test(
                &format!("/status/shards/{shard}/checkpoint/sequence"),
                json!(self.known().sequence),
            ),
            replace(&format!("/status/shards/{shard}/checkpoint"), json!(checkpoint)),
        ];
        operations.extend(more);
        self.apply(operations, Some(&checkpoint)).await?;
        self.remember(checkpoint);
        Ok(())
    }

    /// Moves the pointer of the shard.
    async fn point(
        &self,
        mut checkpoint: Checkpoint,
        total_batches: i64,
        mut more: Vec<PatchOperation>,
    ) -> Result<(), FenceError> {
        checkpoint.time = Some(Time(jiff::Timestamp::now()));
        more.push(replace(
            &format!("/status/shards/{}/totalBatches", self.identity.shard),
            json!(total_batches),
        ));
        self.change(checkpoint, more).await
    }

    /// Counts a refused claim or checkpoint, for people to see. Nothing depends on it.
    async fn tell_refused(&self) {
        let Ok(job) = self.api.get().await else { return };
        let Some(shard) = self.shard(&job) else { return };
        let index = self.identity.shard;
        let patch = Patch(vec![
            test("/metadata/uid", json!(self.identity.job_uid)),
            test(&format!("/status/shards/{index}/index"), json!(index)),
            test(&format!("/status/shards/{index}/refused"), json!(shard.refused)),
            replace(
                &format!("/status/shards/{index}/refused"),
                json!(shard.refused + 1),
            ),
        ]);
        if let Err(error) = self.api.patch_status(&patch).await {
            tracing::debug!(%error, "a refused checkpoint was not counted");
        }
    }

    /// The known checkpoint under the next sequence.
    fn next(&self) -> Checkpoint {
        let known = self.known();
        Checkpoint {
            sequence: known.sequence + 1,
            ..known
        }
    }
}

#[async_trait]
impl Fence for ShardFence {
    async fn look(&self) -> Result<(), FenceError> {
        let looked = self.known.lock().unwrap_or_else(PoisonError::into_inner).1;
        if looked.is_some_and(|at| at.elapsed() < FRESH) {
            return Ok(());
        }
        // What the answer says was true when it was asked for, at the latest attempt's beginning; not later.
        let asked = Instant::now();
        self.job().await?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(asked);
        Ok(())
    }

    async fn advance(&self, checkpoint: Checkpoint, total_batches: i64) -> Result<(), FenceError> {
        self.point(checkpoint, total_batches, Vec::new()).await
    }

    async fn give_up(
        &self,
        checkpoint: Checkpoint,
        total_batches: i64,
        group: FailedGroup,
    ) -> Result<(), FenceError> {
        let told = add("/status/lastFailedGroup", json!(group));
        self.point(checkpoint, total_batches, vec![told]).await
    }

    async fn set_plan(&self, plan: PlanStatus, total_batches: Vec<i64>) -> Result<(), FenceError> {
        let own = self.identity.shard;
        let own_total = total_batches.first().copied().unwrap_or_default();
        let mut more = vec![
            add("/status/plan", json!(plan)),
            replace(&format!("/status/shards/{own}/totalBatches"), json!(own_total)),
        ];
        for (index, total) in total_batches.iter().enumerate().skip(1) {
            let entry = ShardStatus {
                index: index as i32,
                total_batches: *total,
                ..ShardStatus::default()
            };
            more.push(add("/status/shards/-", json!(entry)));
        }
        self.change(self.next(), more).await
    }

    async fn set_publish(&self, mut publish: PublishStatus) -> Result<(), FenceError> {
        publish.time = Some(Time(jiff::Timestamp::now()));
        self.change(self.next(), vec![add("/status/publish", json!(publish))])
            .await
    }

    async fn set_dispose(&self, dispose: DisposeStatus) -> Result<(), FenceError> {
        self.change(self.next(), vec![add("/status/dispose", json!(dispose))])
            .await
    }

    async fn show_progress(&self) -> Result<(), FenceError> {
        self.change(self.next(), Vec::new()).await
    }
}

/// The job, waited for as long as an API server that does not answer may take.
pub(super) async fn read(api: &dyn JobApi) -> Result<CompactionJob, FenceError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match api.get().await {
            Ok(job) => return Ok(job),
            Err(ApiError::NotFound) => return Err(FenceError::Fenced("the job is gone".to_owned())),
            Err(error) if Instant::now() >= deadline => {
                return Err(FenceError::Unavailable(error.to_string()));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

fn pointer(path: &str) -> PointerBuf {
    PointerBuf::from_tokens(path.split('/').skip(1))
}

fn test(path: &str, value: Value) -> PatchOperation {
    PatchOperation::Test(json_patch::TestOperation {
        path: pointer(path),
        value,
    })
}

fn replace(path: &str, value: Value) -> PatchOperation {
    PatchOperation::Replace(json_patch::ReplaceOperation {
        path: pointer(path),
        value,
    })
}

fn add(path: &str, value: Value) -> PatchOperation {
    PatchOperation::Add(json_patch::AddOperation {
        path: pointer(path),
        value,
    })
}

#[cfg(test)]
mod tests;
