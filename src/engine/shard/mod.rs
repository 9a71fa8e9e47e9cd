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
use super::body::{FailedGroup, GroupState, Stage};
use super::{Context, Error};
use crate::api::Checkpoint;
use crate::deadline::within;
use crate::disposition::Disposition;
use crate::plan::Plan;
use crate::store::{self, ErrorKind};

/// One attempt at a small request, and some more. The controller, which waits for a sequence half a minute longer
/// than a batch may take, is not kept waiting.
const LOOK: Duration = Duration::from_secs(15);

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
    /// So many groups may be given up. 0: the fault of a group stops the work.
    pub max_failed_groups: u64,
    /// The pointer moves no sooner than this after the last time, but for the last batch and when the work
    /// ends. Zero: at every batch.
    pub pointer_interval: Duration,
}

impl ShardInput {
    /// The timer is outside the work: nothing inside can keep a batch from its end (I4).
    async fn in_time<T>(&self, batch: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let done = within(self.deadline, batch).await;
        done.unwrap_or_else(|_| Err(Error::Deadline(self.deadline.as_secs())))
    }
}

/// Runs the shard's batches until they are done, from `input.checkpoint`.
pub async fn run_batches(context: &Context, input: &ShardInput) -> Result<Ended, Error> {
    let mut last = Last::load(context, input).await?;
    let mut failed = None;
    loop {
        let (ended, group) = stage(context, input, &mut last, failed.take()).await;
        // Whatever ended the work: every batch that is stored counts. A fence that says no is not asked again.
        if !matches!(ended, Err(Error::Fence(_))) {
            last.point(context).await?;
        }
        match (ended, group) {
            (Err(Error::OutputLost { key, why }), _) if last.checkpoint.attempts < input.max_attempts => {
                tracing::warn!(key, why, "the open output is built again from its start");
                last.go_back(context, input).await?;
            }
            // The work since the last checkpoint is done again, up to the group, which is then given up.
            (Err(error), Some(group)) if input.max_failed_groups > 0 && error.is_the_groups_own() => {
                tracing::warn!(group = group.directory, %error, "the group is given up");
                failed = Some(FailedGroup::new(&group, &error));
            }
            (Err(error @ Error::Deadline(_)), _) => {
                tracing::warn!(%error, "the batch in hand is dropped");
                look_for_store(context, input).await?;
                last.record_attempt(context, input).await?;
                return Err(error);
            }
            (Ok(Some(ended)), _) => return Ok(ended),
            (Ok(None), _) => {}
            (Err(error), _) => return Err(error),
        }
    }
}

/// Works up to the end of the shard, or, where there are stages, of the one that it is in: `None`. Tells the group
/// in hand as well.
async fn stage(
    context: &Context,
    input: &ShardInput,
    last: &mut Last,
    failed: Option<FailedGroup>,
) -> (Result<Option<Ended>, Error>, Option<GroupState>) {
    let stage = deduplicate::stage(&input.plan, last.body.as_ref());
    if let (Some(stage @ (Stage::Mark | Stage::Settle)), Some(rules)) =
        (stage, &input.plan.frozen.deduplicate)
    {
        // Groups are marked and settled together: none of them fails alone.
        return (deduplicate::run(context, input, last, rules, stage).await, None);
    }
    match Work::resume(context, input, last, failed).await {
        Ok(mut work) => (work.run().await, work.group()),
        Err(error) => (Err(error), last.group()),
    }
}

/// Whether it is the store that keeps a batch from its end: an error if it does not answer now. Then no attempt is
/// counted, and the job waits (I13).
async fn look_for_store(context: &Context, input: &ShardInput) -> Result<(), Error> {
    let key = context.ledger.candidates_key(&input.plan_location);
    let away = match within(LOOK, context.store.head(&key)).await {
        Ok(Err(error)) if error.disposition() == Disposition::Wait => error,
        Ok(_) => return Ok(()),
        Err(elapsed) => store::Error {
            operation: "HeadObject",
            target: key,
            kind: ErrorKind::Timeout,
            detail: elapsed.to_string(),
        },
    };
    Err(away.into())
}
