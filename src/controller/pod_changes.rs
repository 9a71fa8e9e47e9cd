//! Which jobs' pods have changed since the last pass over the job, as the watch tells it. A pod's status says
//! much that no decision rests on. Only says when to look: what a pass looks at, it asks the API server for.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::watcher::Event;

use super::decide::WorkerState;
use super::objects::JOB_UID;
use super::observe;
use crate::api::CompactionJob;

#[derive(Default)]
pub(super) struct PodChanges(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// What each pod showed last, by its UID.
    states: HashMap<String, WorkerState>,
    /// UIDs of jobs.
    changed: HashSet<String>,
}

impl PodChanges {
    /// Takes note of what the watch tells; returns whether its job is to be looked at.
    pub(super) fn take(&self, event: &Event<Pod>) -> bool {
        let mut known = self.known();
        let (pod, changed) = match event {
            Event::Init => {
                // What is gone meanwhile is not told of.
                known.states.clear();
                return false;
            }
            Event::InitDone => return false,
            Event::Apply(pod) | Event::InitApply(pod) => (pod, known.shows(pod)),
            Event::Delete(pod) => (pod, known.loses(pod)),
        };
        if let Some(job) = pod.labels().get(JOB_UID).filter(|_| changed) {
            known.changed.insert(job.clone());
        }
        changed
    }

    pub(super) fn any(&self, job: &CompactionJob) -> bool {
        self.known().changed.contains(uid(job))
    }

    /// A look begins, which will see all that was told so far.
    pub(super) fn looked(&self, job: &CompactionJob) {
        self.known().changed.remove(uid(job));
    }

    /// Lets go of jobs that are gone.
    pub(super) fn forget(&self, exists: impl Fn(&String) -> bool) {
        self.known().changed.retain(exists);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// One that was just made is no change: who made it looks again by itself if it does not start.
    fn shows(&mut self, pod: &Pod) -> bool {
        let Some(view) = observe::view(pod) else {
            return false;
        };
        match self
            .states
            .insert(pod.uid().unwrap_or_default(), view.state.clone())
        {
            Some(before) => before != view.state,
            None => !matches!(view.state, WorkerState::Waiting(_)),
        }
    }

    /// One whose end was seen is no change: it is missed by nobody.
    fn loses(&mut self, pod: &Pod) -> bool {
        let before = self.states.remove(&pod.uid().unwrap_or_default());
        before.is_none_or(|state| state.exists())
    }
}

fn uid(job: &CompactionJob) -> &str {
    job.metadata.uid.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(state: Value) -> Pod {
        let pod = json!({
            "metadata": {
                "name": "pod", "uid": "pod-1",
                "labels": {"compaction.dev/job-uid": "uid-1", "compaction.dev/shard": "0", "compaction.dev/epoch": "1"},
            },
            "status": {"containerStatuses": [
                {"name": "worker", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state},
            ]},
        });
        serde_json::from_value(pod).unwrap()
    }

    fn running() -> Pod {
        pod(json!({"running": {}}))
    }

    fn ended() -> Pod {
        pod(json!({"terminated": {"exitCode": 0}}))
    }

    fn job() -> CompactionJob {
        let job = json!({
            "metadata": {"name": "job", "uid": "uid-1"},
            "spec": {"storage": {"s3": {"bucket": "bucket"}}, "source": {"prefix": "in/"}, "output": {"prefix": "out/"}},
        });
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn start_and_end_of_a_worker_are_changes_and_the_rest_of_a_pods_life_is_none() {
        let changes = PodChanges::default();
        let apply = |pod: Pod| changes.take(&Event::Apply(pod));
        let creating = || pod(json!({"waiting": {"reason": "ContainerCreating"}}));
        assert!(!apply(pod(json!({}))), "made");
        assert!(!apply(creating()));
        assert!(!changes.any(&job()));
        assert!(apply(running()) && changes.any(&job()));
        changes.looked(&job());
        let mut other = running();
        other.status.as_mut().unwrap().pod_ip = Some("198.18.0.7".to_owned());
        assert!(!apply(other), "an address is of no interest");
        assert!(!changes.any(&job()));
        assert!(apply(ended()));
        assert!(!changes.take(&Event::Delete(ended())));
    }

    #[test]
    fn why_a_pod_cannot_start_is_a_change() {
        let changes = PodChanges::default();
        changes.take(&Event::Apply(pod(json!({}))));
        let no_image = pod(json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}}));
        assert!(changes.take(&Event::Apply(no_image)));
    }

    #[test]
    fn a_pod_that_is_gone_without_an_end_is_a_change() {
        let changes = PodChanges::default();
        changes.take(&Event::Apply(running()));
        changes.looked(&job());
        assert!(changes.take(&Event::Delete(running())) && changes.any(&job()));
    }

    #[test]
    fn after_a_gap_in_the_watch_all_that_runs_is_looked_at() {
        let changes = PodChanges::default();
        changes.take(&Event::Apply(running()));
        assert!(!changes.take(&Event::Init));
        assert!(changes.take(&Event::InitApply(running())));
    }

    #[test]
    fn jobs_that_are_gone_are_forgotten() {
        let changes = PodChanges::default();
        changes.take(&Event::Apply(running()));
        changes.forget(|_| false);
        assert!(!changes.any(&job()));
    }
}
