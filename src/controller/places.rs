//! Who of several jobs over the same objects has started, without the lag of a cache.
//!
//! The jobs of a watch lag behind: two jobs that both look at each other's past could both start. So a start
//! is made by one reconciliation at a time, and remembered here until the watch shows it. That holds within
//! one controller; the Lease keeps it the only one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use super::overlap;
use crate::api::CompactionJob;

#[derive(Default)]
pub(super) struct Places {
    /// UIDs of jobs whose start was acknowledged to this process.
    started: Mutex<HashSet<String>>,
}

/// Held from the look at other jobs to the acknowledged start.
pub(super) struct Turn<'a>(MutexGuard<'a, HashSet<String>>);

impl Places {
    /// `None` for a job that has started: it waits for nobody.
    pub(super) async fn turn(&self, job: &CompactionJob) -> Option<Turn<'_>> {
        if overlap::has_started(job) {
            return None;
        }
        Some(Turn(self.started.lock().await))
    }

    /// Jobs that no longer exist, or whose start the watch shows, need not be remembered.
    pub(super) async fn forget(&self, jobs: &HashMap<String, Arc<CompactionJob>>) {
        let started_unseen = |uid: &String| jobs.get(uid).is_some_and(|job| !overlap::has_started(job));
        self.started.lock().await.retain(started_unseen);
    }
}

impl Turn<'_> {
    /// Those of `candidates` that `job` may have to wait for, as they are by now.
    pub(super) fn others(
        &self,
        job: &CompactionJob,
        candidates: &[Arc<CompactionJob>],
    ) -> Vec<CompactionJob> {
        let rivals = candidates.iter().filter(|other| overlap::is_rival(job, other));
        rivals
            .map(|other| {
                let mut other = CompactionJob::clone(other);
                let uid = other.metadata.uid.clone().unwrap_or_default();
                if self.0.contains(&uid) && !overlap::has_started(&other) {
                    let start = other.metadata.creation_timestamp.clone();
                    other.status.get_or_insert_default().start_time = start;
                }
                other
            })
            .collect()
    }

    /// The answer to a patch says that `job` has started.
    pub(super) fn acknowledge(&mut self, job: &CompactionJob) {
        if overlap::has_started(job)
            && let Some(uid) = job.metadata.uid.clone()
        {
            self.0.insert(uid);
        }
    }
}
