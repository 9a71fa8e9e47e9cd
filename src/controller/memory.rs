//! What is remembered of a job from pass to pass, and whether anything has happened since the last one. All of
//! it may be forgotten at any time; then one more pass is made.

use std::collections::HashMap;
use std::time::Duration;

use json_patch::{Patch, PatchOperation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde_json::Value;
use tokio::time::Instant;

use super::decide::Decision;
use super::watch::Watch;
use crate::api::{CompactionJob, CompactionJobStatus, Reason, ShardStatus, condition, conditions};

/// What only people wait for is worth a pass and a patch of its own only so often: workers move checkpoints
/// every few seconds.
pub(super) const PROGRESS: Duration = Duration::from_secs(5);
/// While the watch shows a job as it was before this process changed it.
pub(super) const AGAIN: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct Memory {
    pub watch: Watch,
    /// The latest status that was seen; news is what differs from it.
    pub seen: Option<CompactionJobStatus>,
    pub workers_allowed: bool,
    /// Pods that were seen to be told to end, by UID, and since when.
    pub ending: HashMap<String, Instant>,
    /// Pods that the cluster did not let be made, and why.
    pub denied: HashMap<(i32, i64), String>,
    /// Since when no worker could start on the job's work; from pass to pass, backoffs and all.
    starting_since: Option<Instant>,
    /// When this process changed the status last.
    patched: Option<Instant>,
    /// What the last pass left; none after one that failed.
    left: Option<Left>,
}

/// A job as a pass left it.
struct Left {
    version: u64,
    milestones: Milestones,
    /// When the next pass is due, whatever happens.
    due: Option<Instant>,
}

/// What of a job a decision rests on, but for its checkpoints, which move all the time.
#[derive(PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "they are only compared")]
struct Milestones {
    generation: Option<i64>,
    deleted: bool,
    held: bool,
    planned: bool,
    shards_done: usize,
    announced: bool,
    disposed: bool,
}

impl Milestones {
    fn of(job: &CompactionJob) -> Self {
        let status = job.status.as_ref();
        let is = |what: fn(&CompactionJobStatus) -> bool| status.is_some_and(what);
        let shards = status.map_or(&[][..], |status| &status.shards);
        Self {
            generation: job.metadata.generation,
            deleted: job.metadata.deletion_timestamp.is_some(),
            held: job.has_finalizer(),
            planned: is(|status| status.plan.is_some()),
            shards_done: shards.iter().filter(|shard| ShardStatus::is_done(shard)).count(),
            announced: is(CompactionJobStatus::is_announced),
            disposed: is(|status| status.dispose.as_ref().is_some_and(|dispose| dispose.finished)),
        }
    }
}

/// What a job needs at this moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Need {
    Pass,
    /// Nothing, for so long if nothing happens before.
    Rest(Option<Duration>),
}

impl Memory {
    /// For how long passes have left the job with work, and no worker that could start on it.
    pub(super) fn starting_age(&self) -> Duration {
        self.starting_since
            .map(|since| since.elapsed())
            .unwrap_or_default()
    }

    /// For how long the shard whose worker runs and has shown nothing for longest has been seen unchanged.
    pub(super) fn checkpoint_age(&self) -> Duration {
        self.watch.longest_running()
    }

    /// Whether `job` shows nothing but what the last pass left.
    pub(super) fn knows(&self, job: &CompactionJob) -> bool {
        let left = self.left.as_ref();
        left.is_some_and(|left| version(job).is_some_and(|version| version <= left.version))
    }

    pub(super) fn need(&self, job: &CompactionJob, pods_changed: bool) -> Need {
        let (Some(left), Some(version)) = (&self.left, version(job)) else {
            return Need::Pass;
        };
        let wait = left.due.map(|due| due.saturating_duration_since(Instant::now()));
        if wait.is_some_and(|wait| wait.is_zero()) {
            return Need::Pass;
        }
        let no_longer_than = |limit: Duration| Some(wait.map_or(limit, |wait| wait.min(limit)));
        if version < left.version {
            // The watch will show what this process wrote; a decision before that would be refused.
            return Need::Rest(if pods_changed { no_longer_than(AGAIN) } else { wait });
        }
        if pods_changed || left.milestones != Milestones::of(job) {
            return Need::Pass;
        }
        if version == left.version {
            return Need::Rest(wait);
        }
        self.progress_rests()
            .map_or(Need::Pass, |rest| Need::Rest(no_longer_than(rest)))
    }

    /// A pass begins; if it fails, the next one is due at once.
    pub(super) fn begin_pass(&mut self) {
        self.left = None;
    }

    pub(super) fn end_pass(&mut self, job: &CompactionJob, wait: Option<Duration>) {
        let starting = job.status.as_ref().is_some_and(is_starting);
        self.starting_since = starting.then(|| self.starting_since.unwrap_or_else(Instant::now));
        self.left = version(job).map(|version| Left {
            version,
            milestones: Milestones::of(job),
            due: wait.map(|wait| Instant::now() + wait),
        });
    }

    pub(super) fn patched(&mut self) {
        self.patched = Some(Instant::now());
    }

    /// For how long what only people wait for is not written yet.
    fn progress_rests(&self) -> Option<Duration> {
        let rest = PROGRESS.checked_sub(self.patched?.elapsed())?;
        (!rest.is_zero()).then_some(rest)
    }

    /// Takes out of a decision what only people wait for, while the last patch is too young; for how long.
    pub(super) fn hold_back(&self, job: &CompactionJob, decision: &mut Decision) -> Option<Duration> {
        let acts = !decision.start.is_empty() || !decision.stop.is_empty();
        if acts || decision.patch.0.is_empty() || !is_for_people(job, &decision.patch) {
            return None;
        }
        let rest = self.progress_rests()?;
        decision.patch = Patch(Vec::new());
        Some(rest)
    }
}

/// Whether there is work, it is the job's turn, and no worker could start.
fn is_starting(status: &CompactionJobStatus) -> bool {
    let ready = condition(&status.conditions, conditions::READY);
    let waits_for_turn = ready.is_some_and(|ready| ready.reason == Reason::WaitingForJob.as_str());
    status.pending_since.is_some() && !waits_for_turn
}

/// Versions of one kind of object rise.
fn version(job: &CompactionJob) -> Option<u64> {
    job.resource_version()?.parse().ok()
}

/// Progress, and other words for conditions that stay what they are.
fn is_for_people(job: &CompactionJob, patch: &Patch) -> bool {
    let conditions = job.status.as_ref().map_or(&[][..], |status| &status.conditions);
    patch.0.iter().all(|operation| match operation {
        PatchOperation::Test(_) => true,
        PatchOperation::Add(add) if add.path.as_str() == "/status/conditions" => {
            are_the_same(conditions, &add.value)
        }
        other => other.path().as_str().starts_with("/status/progress"),
    })
}

fn are_the_same(before: &[Condition], after: &Value) -> bool {
    let before = before
        .iter()
        .map(|c| (Some(c.type_.as_str()), Some(c.status.as_str())));
    let after = after.as_array().into_iter().flatten();
    before.eq(after.map(|condition| (condition["type"].as_str(), condition["status"].as_str())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The answer so many seconds after a pass that left a job in this state.
    async fn starting_after(memory: &mut Memory, state: Reason, seconds: u64) -> u64 {
        let is_pending = state != Reason::Running;
        let job = serde_json::from_value(json!({
            "metadata": {"name": "job", "resourceVersion": "1"},
            "spec": {
                "storage": {"s3": {"bucket": "bucket"}}, "source": {"prefix": "in/"}, "output": {"prefix": "out/"},
            },
            "status": {
                "pendingSince": is_pending.then_some("2026-01-01T00:00:00Z"),
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": state.as_str(), "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
            },
        }));
        memory.end_pass(&job.unwrap(), None);
        tokio::time::advance(Duration::from_secs(seconds)).await;
        memory.starting_age().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_can_start_is_waited_for_through_backoffs_and_not_before_it_is_the_jobs_turn() {
        let mut memory = Memory::default();
        assert_eq!(starting_after(&mut memory, Reason::WaitingForJob, 50).await, 0);
        assert_eq!(starting_after(&mut memory, Reason::Starting, 30).await, 30);
        assert_eq!(starting_after(&mut memory, Reason::Requeueing, 600).await, 630);
        memory.begin_pass();
        assert_eq!(
            memory.starting_age().as_secs(),
            630,
            "a pass that fails ends nothing"
        );
        assert_eq!(starting_after(&mut memory, Reason::Starting, 5).await, 635);
        assert_eq!(starting_after(&mut memory, Reason::Running, 5).await, 0);
        assert_eq!(starting_after(&mut memory, Reason::Starting, 5).await, 5);
    }
}
