//! The job as its worker reaches it: read it, patch its status. An API server, or a file on a laptop.

use async_trait::async_trait;
use json_patch::Patch;

use crate::api::CompactionJob;

#[async_trait]
pub trait JobApi: Send + Sync {
    async fn get(&self) -> Result<CompactionJob, ApiError>;

    /// Applies a JSON Patch to the status, all of it or nothing.
    async fn patch_status(&self, patch: &Patch) -> Result<CompactionJob, ApiError>;
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    #[error("the job is gone")]
    NotFound,
    /// A `test` of the patch failed, or the result is not valid. Nothing was changed.
    #[error("refused: {0}")]
    Refused(String),
    /// No answer, or one that tells nothing: the patch may have been applied or not.
    #[error("{0}")]
    Unknown(String),
}
