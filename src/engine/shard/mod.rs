//! The batch loop of one shard: read → merge → write → checkpoint, from the last checkpoint to the end.

mod check;
mod checkpoint;
mod deduplicate;
mod outputs;
mod pace;
mod work;

use std::sync::Arc;
use std::time::Duration;

use self::checkpoint::Last;
use self::work::Work;
use super::body::Stage;
use super::{Context, Error};
use crate::api::Checkpoint;
use crate::plan::Plan;

/// How a call of [`run_batches`] ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every batch of the shard is done.
    Done,
    /// Asked to stop; everything done so far is in the checkpoint.
    Stopped,
}

/// What the batches of a shard are run with.
pub struct ShardInput {
    pub plan: Arc<Plan>,
    pub plan_sha256: String,
    pub plan_location: String,
    /// As the status has it under this worker's epoch.
    pub checkpoint: Checkpoint,
    pub deadline: Duration,
    pub max_attempts: i32,
    /// The pointer moves no sooner than this after the last time, but for the last batch and when the work
    /// ends. Zero: at every batch.
    pub pointer_interval: Duration,
}

/// Runs the shard's batches until they are done, from `input.checkpoint`.
pub async fn run_batches(context: &Context, input: &ShardInput) -> Result<Ended, Error> {
    let mut last = Last::load(context, input).await?;
    loop {
        let ended = stage(context, input, &mut last).await;
        // Whatever ended the work: every batch that is stored counts. A fence that says no is not asked again.
        if !matches!(ended, Err(Error::Fence(_))) {
            last.point(context).await?;
        }
        match ended {
            Err(Error::OutputLost { key, why }) if last.checkpoint.attempts < input.max_attempts => {
                tracing::warn!(key, why, "the open output is built again from its start");
                last.go_back(context, input).await?;
            }
            Err(error @ Error::Deadline(_)) => {
                last.record_attempt(context, input).await?;
                return Err(error);
            }
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Works up to the end of the shard, or, where there are stages, of the one that it is in: `None`.
async fn stage(context: &Context, input: &ShardInput, last: &mut Last) -> Result<Option<Ended>, Error> {
    let stage = deduplicate::stage(&input.plan, last.body.as_ref());
    match (stage, &input.plan.frozen.deduplicate) {
        (Some(stage @ (Stage::Mark | Stage::Settle)), Some(rules)) => {
            deduplicate::run(context, input, last, rules, stage).await
        }
        _ => Work::resume(context, input, last).await?.run().await,
    }
}
