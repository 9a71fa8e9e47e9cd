//! Who of several jobs over the same objects has started, without the lag of a cache.
//!
//! The jobs of a watch lag behind: two jobs that both look at each other's past could both start. So a job
//! that decides to start takes its place here, in the same moment in which it looks at the others, and before
//! its start is written. That holds within one controller; the Lease keeps it the only one.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Decision;
use super::overlap;
use crate::api::CompactionJob;

#[derive(Default)]
pub(super) struct Places {
    /// UIDs of jobs whose start was decided, and that the watch may not show yet.
    taken: Mutex<HashSet<String>>,
}

impl Places {
    /// Lets `decide` look at those of `jobs` that `job` may have to wait for, as they are by now. A job that
    /// has started waits for nobody, and nobody is looked at.
    pub(super) fn in_turn<E>(
        &self,
        job: &CompactionJob,
        jobs: impl FnOnce() -> Vec<Arc<CompactionJob>>,
        decide: impl FnOnce(&[CompactionJob]) -> Result<Decision, E>,
    ) -> Result<Decision, E> {
        if overlap::has_started(job) {
            return decide(&[]);
        }
        let mut taken = self.taken();
        // Its own earlier decision was refused, or its answer lost: it is made anew, so that two jobs never
        // wait for each other.
        taken.remove(uid(job));
        let jobs = jobs();
        let rivals = jobs.iter().filter(|other| overlap::is_rival(job, other));
        let rivals: Vec<CompactionJob> = rivals.map(|other| as_of_now(other, &taken)).collect();
        let decision = decide(&rivals)?;
        if starts(&decision) {
            taken.insert(uid(job).to_owned());
        }
        Ok(decision)
    }

    /// The start was refused.
    pub(super) fn withdraw(&self, job: &CompactionJob) {
        self.taken().remove(uid(job));
    }

    /// Jobs that no longer exist, or whose start the watch shows, need not be remembered.
    pub(super) fn forget(&self, jobs: &HashMap<String, Arc<CompactionJob>>) {
        let unseen = |uid: &String| jobs.get(uid).is_some_and(|job| !overlap::has_started(job));
        self.taken().retain(unseen);
    }

    fn taken(&self) -> MutexGuard<'_, HashSet<String>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn uid(job: &CompactionJob) -> &str {
    job.metadata.uid.as_deref().unwrap_or_default()
}

fn as_of_now(other: &CompactionJob, taken: &HashSet<String>) -> CompactionJob {
    let mut other = other.clone();
    if taken.contains(uid(&other)) && !overlap::has_started(&other) {
        let start = other.metadata.creation_timestamp.clone();
        other.status.get_or_insert_default().start_time = start;
    }
    other
}

fn starts(decision: &Decision) -> bool {
    let mut operations = decision.patch.0.iter();
    operations.any(|operation| operation.path().as_str() == "/status/startTime")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use json_patch::Patch;
    use serde_json::json;

    use super::*;
    use crate::controller::decide::{Observed, decide};

    fn job(uid: &str, created: &str) -> Arc<CompactionJob> {
        let job = json!({
            "apiVersion": "compaction.dev/v1alpha1", "kind": "CompactionJob",
            "metadata": {"name": uid, "uid": uid, "creationTimestamp": created},
            "spec": {"storage": {"s3": {"bucket": "bucket"}}, "source": {"prefix": "in/"}, "output": {"prefix": "out/"}},
        });
        Arc::new(serde_json::from_value(job).unwrap())
    }

    fn goes_first(places: &Places, job: &CompactionJob, jobs: &[Arc<CompactionJob>]) -> bool {
        let decision = places.in_turn(
            job,
            || jobs.to_vec(),
            |others| {
                decide(&Observed {
                    job,
                    workers: &[],
                    others,
                    unchanged: &std::collections::BTreeMap::<i32, Duration>::new(),
                    now: "2026-01-01T01:00:00Z".parse().unwrap(),
                })
            },
        );
        starts(&decision.unwrap())
    }

    #[test]
    fn a_start_that_the_watch_does_not_show_yet_is_known() {
        let places = Places::default();
        let (a, b) = (job("a", "2026-01-01T00:00:00Z"), job("b", "2026-01-01T00:00:00Z"));
        // The watch has not shown a to b, which has the later UID; and then not b's start to a.
        assert!(goes_first(&places, &b, &[Arc::clone(&b)]));
        let both = [Arc::clone(&a), Arc::clone(&b)];
        assert!(!goes_first(&places, &a, &both));
        places.withdraw(&b);
        assert!(goes_first(&places, &a, &both), "the start was refused");
        assert!(!goes_first(&places, &b, &both));
    }

    #[test]
    fn a_job_that_decides_again_is_not_in_its_own_way() {
        let places = Places::default();
        let (a, b) = (job("a", "2026-01-01T00:00:00Z"), job("b", "2026-01-01T00:00:00Z"));
        let both = [Arc::clone(&a), Arc::clone(&b)];
        assert!(goes_first(&places, &a, &both));
        assert!(goes_first(&places, &a, &both), "its answer was lost");
        assert!(!goes_first(&places, &b, &both));
    }

    #[test]
    fn only_starts_that_the_watch_does_not_show_are_remembered() {
        let places = Places::default();
        let a = job("a", "2026-01-01T00:00:00Z");
        assert!(goes_first(&places, &a, &[Arc::clone(&a)]));
        places.forget(&[("a".to_owned(), Arc::clone(&a))].into());
        assert_eq!(places.taken().len(), 1);
        places.forget(&HashMap::new());
        assert_eq!(places.taken().len(), 0);
        let nothing = Decision {
            patch: Patch(Vec::new()),
            stop: Vec::new(),
            start: Vec::new(),
            wake: None,
            finalizer: None,
            expired: false,
        };
        assert!(!starts(&nothing));
    }
}
