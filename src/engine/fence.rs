//! The engine's view of the API server: the one who says which checkpoint is true and who may go on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::api::{Checkpoint, DisposeStatus, FailedGroup, PlanStatus, PublishStatus};
use crate::disposition::Disposition;

/// The status of the job under the epoch that this worker holds. Every change raises the sequence, and is
/// refused when the epoch, the holder or the sequence is another one by now; an unknown answer is
/// resolved inside.
#[async_trait]
pub trait Fence: Send + Sync {
    /// A fresh look: whether this worker still holds its shard. Before anything that cannot be taken back.
    async fn look(&self) -> Result<(), FenceError>;

    /// Moves the shard's pointer; acknowledged when this returns. `total_batches` as far as one knows.
    async fn advance(&self, checkpoint: Checkpoint, total_batches: i64) -> Result<(), FenceError>;

    /// As [`Self::advance`], to a checkpoint with one more group given up.
    async fn give_up(
        &self,
        checkpoint: Checkpoint,
        total_batches: i64,
        group: FailedGroup,
    ) -> Result<(), FenceError>;

    /// Records the plan and makes the entries of its shards; `total_batches[i]` for shard `i`.
    async fn set_plan(&self, plan: PlanStatus, total_batches: Vec<i64>) -> Result<(), FenceError>;

    /// The decision to publish.
    async fn set_publish(&self, publish: PublishStatus) -> Result<(), FenceError>;

    async fn set_dispose(&self, dispose: DisposeStatus) -> Result<(), FenceError>;

    /// Raises the sequence without other news, so that a long duty is seen to be alive.
    async fn show_progress(&self) -> Result<(), FenceError>;
}

/// Shows during a long duty that it is alive.
pub(crate) struct Heartbeat {
    fence: Arc<dyn Fence>,
    shown: Instant,
}

impl Heartbeat {
    /// Well within the time after which a worker is taken for stuck.
    const PERIOD: Duration = Duration::from_secs(30);

    pub(crate) fn new(fence: &Arc<dyn Fence>) -> Self {
        Self {
            fence: Arc::clone(fence),
            shown: Instant::now(),
        }
    }

    pub(crate) async fn look(&self) -> Result<(), FenceError> {
        self.fence.look().await
    }

    /// Whether something should be shown; from now on it counts as shown.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.shown.elapsed() >= Self::PERIOD;
        if due {
            self.shown = Instant::now();
        }
        due
    }

    /// Called wherever the duty has come a step further.
    pub(crate) async fn step(&mut self) -> Result<(), FenceError> {
        if self.is_due() {
            self.fence.show_progress().await?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum FenceError {
    /// Somebody else holds the shard, or the job is gone: stop at once.
    #[error("fenced: {0}")]
    Fenced(String),
    /// The API server did not answer in time.
    #[error("the API server cannot be reached: {0}")]
    Unavailable(String),
    /// The status is not what this worker left there, though it holds the shard: a bug, stop loudly.
    #[error("the job's status contradicts this worker: {0}")]
    Contradiction(String),
}

impl FenceError {
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Fenced(_) | Self::Unavailable(_) => Disposition::Wait,
            Self::Contradiction(_) => Disposition::Retry,
        }
    }
}
