//! The job on a Kubernetes API server. Every call has a deadline outside of what it waits for, the
//! client's own retries included. Never says that a patch failed unless the server said so.

use std::time::Duration;

use async_trait::async_trait;
use json_patch::Patch;
use kube::api::{Api, PatchParams};
use kube::core::Status;

use super::{ApiError, JobApi};
use crate::api::CompactionJob;
use crate::deadline::within;

/// For one call with all its retries.
const DEADLINE: Duration = Duration::from_secs(10);

/// Whose name stands in `managedFields`; one for all workers, so that these do not grow.
const MANAGER: &str = "compaction-operator-worker";

/// One job of one namespace.
pub struct ApiServer {
    jobs: Api<CompactionJob>,
    name: String,
}

impl ApiServer {
    pub fn new(client: kube::Client, namespace: &str, name: &str) -> Self {
        Self {
            jobs: Api::namespaced(client, namespace),
            name: name.to_owned(),
        }
    }
}

async fn ask<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    match within(DEADLINE, call).await {
        Ok(answer) => answer.map_err(meaning),
        Err(elapsed) => Err(ApiError::Unknown(format!("the API server: {elapsed}"))),
    }
}

/// What an answer says about the request's effect. A failed test and a broken rule of the CRD are both 422.
/// A 409 is an update that others were faster than, and may be tried again, unless it names a failed test.
fn meaning(error: kube::Error) -> ApiError {
    let kube::Error::Api(status) = error else {
        return ApiError::Unknown(error.to_string());
    };
    let Status {
        code,
        reason,
        message,
        ..
    } = *status;
    match code {
        404 => ApiError::NotFound,
        400 | 422 => ApiError::Refused(message),
        409 if message.contains("test failed") => ApiError::Refused(message),
        _ => ApiError::Unknown(format!("{code} {reason}: {message}")),
    }
}

#[async_trait]
impl JobApi for ApiServer {
    async fn get(&self) -> Result<CompactionJob, ApiError> {
        ask(self.jobs.get(&self.name)).await
    }

    async fn patch_status(&self, patch: &Patch) -> Result<CompactionJob, ApiError> {
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = kube::api::Patch::Json::<()>(patch.clone());
        ask(self.jobs.patch_status(&self.name, &parameters, &patch)).await
    }
}

#[cfg(test)]
mod tests;
