//! A file in place of the API server: the job with its status, replaced atomically under a lock.
//!
//! Controller and workers are processes of one machine; whoever patches takes the lock, reads, applies
//! the patch to what stands there now, and renames a new file over the old one.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use json_patch::Patch;
use serde_json::{Value, json};

use crate::api::CompactionJob;
use crate::worker::{ApiError, JobApi};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{path} is not the state of a job: {source}; name another file with --state, or remove it to begin anew"
    )]
    NotAState {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{0} is in use: another run works on this job; wait for it, or name another file with --state")]
    InUse(PathBuf),
}

#[derive(Debug, Clone)]
pub struct StateFile {
    path: PathBuf,
}

/// Held by the one who drives a job; released when dropped, or when the process ends however it does.
#[derive(Debug)]
pub struct Driving(#[allow(dead_code)] File);

impl StateFile {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    }

    fn io(&self, source: io::Error) -> Error {
        Error::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn lock_file(&self, suffix: &str) -> Result<File, Error> {
        let path = self.beside(suffix);
        let open = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        open.map_err(|source| Error::Io { path, source })
    }

    /// Makes this process the only driver of the job.
    pub fn drive(&self) -> Result<Driving, Error> {
        let file = self.lock_file(".lock")?;
        match file.try_lock() {
            Ok(()) => Ok(Driving(file)),
            Err(TryLockError::WouldBlock) => Err(Error::InUse(self.path.clone())),
            Err(TryLockError::Error(source)) => Err(self.io(source)),
        }
    }

    /// The job as it stands; `None` when there is no such file yet.
    pub fn read(&self) -> Result<Option<CompactionJob>, Error> {
        match std::fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| Error::NotAState {
                    path: self.path.clone(),
                    source,
                }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io(error)),
        }
    }

    /// Changes the job under the lock. `change` says no by an error, and then nothing is changed.
    pub fn change<E: From<Error>>(
        &self,
        change: impl FnOnce(&mut Value) -> Result<(), E>,
    ) -> Result<CompactionJob, E> {
        let lock = self.lock_file(".write-lock")?;
        lock.lock().map_err(|error| self.io(error))?;
        let mut job = match std::fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| Error::NotAState {
                path: self.path.clone(),
                source,
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Value::Null,
            Err(error) => return Err(self.io(error).into()),
        };
        change(&mut job)?;
        let version = job["metadata"]["resourceVersion"]
            .as_str()
            .and_then(|v| v.parse::<u64>().ok());
        job["metadata"]["resourceVersion"] = json!((version.unwrap_or_default() + 1).to_string());
        let typed = serde_json::from_value(job.clone()).map_err(|source| Error::NotAState {
            path: self.path.clone(),
            source,
        })?;
        self.replace(&job).map_err(|error| self.io(error))?;
        Ok(typed)
    }

    fn replace(&self, job: &Value) -> io::Result<()> {
        let new = self.beside(".new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(job)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn patch(&self, patch: &Patch) -> Result<CompactionJob, ApiError> {
        self.change(|job| {
            if job.is_null() {
                return Err(ApiError::NotFound);
            }
            json_patch::patch(job, patch).map_err(|error| ApiError::Refused(error.to_string()))
        })
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::Unknown(error.to_string())
    }
}

#[async_trait]
impl JobApi for StateFile {
    async fn get(&self) -> Result<CompactionJob, ApiError> {
        self.read()?.ok_or(ApiError::NotFound)
    }

    async fn patch_status(&self, patch: &Patch) -> Result<CompactionJob, ApiError> {
        let (state, patch) = (self.clone(), patch.clone());
        let patched = tokio::task::spawn_blocking(move || state.patch(&patch)).await;
        patched.unwrap_or_else(|error| Err(ApiError::Unknown(error.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(operations: Value) -> Patch {
        serde_json::from_value(operations).unwrap()
    }

    fn state() -> (tempfile::TempDir, StateFile) {
        let directory = tempfile::tempdir().unwrap();
        let state = StateFile::new(&directory.path().join("state.json"));
        state
            .change(|job| {
                *job = json!({
                    "apiVersion": "compaction.dev/v1alpha1", "kind": "CompactionJob",
                    "metadata": {"name": "a", "uid": "u"},
                    "spec": {
                        "storage": {"s3": {"bucket": "bucket"}},
                        "source": {"prefix": "in/"}, "output": {"prefix": "out/"}
                    },
                    "status": {"observedGeneration": -1}
                });
                Ok::<(), Error>(())
            })
            .unwrap();
        (directory, state)
    }

    #[tokio::test]
    async fn a_failed_test_changes_nothing() {
        let (_directory, state) = state();
        let before = state.get().await.unwrap();
        let refused = state
            .patch_status(&patch(json!([
                {"op": "replace", "path": "/status/observedGeneration", "value": 7},
                {"op": "test", "path": "/metadata/uid", "value": "other"},
            ])))
            .await;
        assert!(matches!(refused, Err(ApiError::Refused(_))), "{refused:?}");
        assert_eq!(state.get().await.unwrap(), before);
    }

    #[tokio::test]
    async fn of_two_patches_that_test_the_same_version_one_is_refused() {
        let (_directory, state) = state();
        let version = state.get().await.unwrap().metadata.resource_version.unwrap();
        let claim = patch(json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "replace", "path": "/status/observedGeneration", "value": 7},
        ]));
        let outcomes = futures::future::join_all((0..8).map(|_| state.patch_status(&claim))).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    }

    #[test]
    fn a_job_has_one_driver() {
        let (_directory, state) = state();
        let driving = state.drive().unwrap();
        assert!(matches!(state.drive(), Err(Error::InUse(_))));
        drop(driving);
        state.drive().unwrap();
    }
}
