//! One pass over one job, if anything has happened to it: observe → decide → status → act.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::Instant;

use super::cluster::{Cluster, Error, Made, Patched};
use super::context::Context;
use super::decide::{Decision, Observed, WorkerState, WorkerView, decide};
use super::memory::{AGAIN, Memory, Need};
use super::objects::{self, PodSettings};
use super::superfluous::superfluous;
use super::{news, overlap, schedule};
use crate::api::{CompactionJob, CompactionJobStatus};

/// How often running workers are looked at, whatever the watch tells.
const LOOK: Duration = Duration::from_secs(30);
/// After how long a worker that has not started is asked what it waits for.
const STARTED: Duration = Duration::from_secs(5);
/// How often a job that has outlived its end is looked at while its schedule has not told of the end.
const AWAITED: Duration = Duration::from_secs(5);
/// How often any job is, in case the watch missed something.
const RESYNC: Duration = Duration::from_mins(10);
/// How long after its grace a pod is taken for lost if nobody confirms that it ended.
const NO_ANSWER: Duration = Duration::from_mins(1);

/// Makes one pass, if one is needed; returns after how long the next one is due if nothing happens before, if
/// ever.
pub(super) async fn pass(
    context: &Context,
    job: &CompactionJob,
    memory: &mut Memory,
) -> Result<Option<Duration>, Error> {
    let cluster = Cluster {
        client: context.client.clone(),
        namespace: job.namespace().unwrap_or_default(),
    };
    let need = memory.need(job, context.pod_changes.any(job));
    if !memory.knows(job) {
        tell_news(context, job, memory).await;
    }
    if let Need::Rest(wait) = need {
        return Ok(wait);
    }
    memory.begin_pass();
    context.pod_changes.looked(job);
    let pods = match pods(&cluster, job).await {
        Ok(pods) => pods,
        Err(error) => {
            // Nothing was seen, so nothing was seen unchanged.
            memory.watch.blind();
            return Err(error);
        }
    };
    let outdated = outdated(job, &pods, &context.pods);
    let workers = views(&pods, &outdated, memory);
    let mut decision = decide_in_turn(context, job, &workers, memory)?;
    let wait = memory.hold_back(job, &mut decision);
    let Some(fresh) = write_status(context, &cluster, job, &decision, memory).await? else {
        // What refused it is on its way through the watch.
        return Ok(Some(AGAIN));
    };
    tell_news(context, &fresh, memory).await;
    decision.stop.extend(outdated);
    act(context, &cluster, &fresh, &decision, &pods, memory).await?;
    let exists = pods.iter().any(|(_, view)| view.state.exists());
    let wait = if !exists
        && fresh
            .status
            .as_ref()
            .is_some_and(CompactionJobStatus::is_at_its_end)
    {
        // Nothing happens to it but what its own watch tells, or its time to live.
        *memory = Memory::default();
        decision.wake
    } else {
        next_pass(&decision, memory, exists, wait)
    };
    memory.end_pass(&fresh, wait);
    Ok(wait)
}

/// No other job that may have to wait for this one, or this one for it, is decided upon at the same time.
fn decide_in_turn(
    context: &Context,
    job: &CompactionJob,
    workers: &[WorkerView],
    memory: &mut Memory,
) -> Result<Decision, Error> {
    let unchanged = memory.watch.look(job.status.as_ref(), workers);
    let decided = |others: &[CompactionJob]| {
        decide(&Observed {
            job,
            workers,
            others,
            unchanged: &unchanged,
            now: Timestamp::now(),
        })
    };
    let mut decision = context.places.in_turn(job, || context.jobs(), decided)?;
    if decision.expired && schedule::is_awaited(context, job) {
        // Its schedule would not know how it ended.
        decision.expired = false;
        decision.wake = Some(AWAITED);
    }
    Ok(decision)
}

/// The job as it is then; `None` when the API server refused it, because the job is another one by now.
async fn write_status(
    context: &Context,
    cluster: &Cluster,
    job: &CompactionJob,
    decision: &Decision,
    memory: &mut Memory,
) -> Result<Option<CompactionJob>, Error> {
    if decision.patch.0.is_empty() {
        return Ok(Some(job.clone()));
    }
    match cluster.patch_status(job, &decision.patch).await? {
        Patched::Done(fresh) => {
            memory.patched();
            Ok(Some(*fresh))
        }
        Patched::Refused => {
            context.places.withdraw(job);
            Ok(None)
        }
    }
}

/// After how long the next pass is due. `held_back`: until what this one did not write is written.
fn next_pass(
    decision: &Decision,
    memory: &Memory,
    exists: bool,
    held_back: Option<Duration>,
) -> Option<Duration> {
    // What could not be made is to be accounted for.
    let mut starts = decision.start.iter();
    let denied = starts.any(|start| memory.denied.contains_key(start));
    let wakes = [
        Some(RESYNC),
        decision.wake,
        held_back,
        exists.then_some(LOOK),
        denied.then_some(Duration::ZERO),
        (!decision.start.is_empty()).then_some(STARTED),
    ];
    wakes.into_iter().flatten().min()
}

/// Before its first epoch a job has none, and the patch that begins it tests that nobody was faster.
async fn pods(cluster: &Cluster, job: &CompactionJob) -> Result<Vec<(Pod, WorkerView)>, Error> {
    if job.status.as_ref().is_none_or(|status| status.shards.is_empty()) {
        return Ok(Vec::new());
    }
    cluster.pods(job).await
}

/// Pods that could not start yet and would be made otherwise today: the change may be what they wait for.
fn outdated(job: &CompactionJob, pods: &[(Pod, WorkerView)], settings: &PodSettings) -> Vec<(i32, i64)> {
    pods.iter()
        .filter(|(pod, view)| {
            matches!(view.state, WorkerState::Waiting(_))
                && !objects::is_current(pod, job, view.shard, view.epoch, settings)
        })
        .map(|(_, view)| (view.shard, view.epoch))
        .collect()
}

/// The pods, and those that could not be made.
fn views(pods: &[(Pod, WorkerView)], outdated: &[(i32, i64)], memory: &mut Memory) -> Vec<WorkerView> {
    let mut views: Vec<WorkerView> = Vec::new();
    let mut ending = HashMap::new();
    for (pod, view) in pods {
        let mut view = view.clone();
        if pod.metadata.deletion_timestamp.is_some() && view.state.exists() {
            let uid = pod.uid().unwrap_or_default();
            let since = memory.ending.remove(&uid).unwrap_or_else(Instant::now);
            ending.insert(uid, since);
            if since.elapsed() > grace(pod) + NO_ANSWER {
                let why = "its node does not confirm its end; is the node lost?".to_owned();
                view.state = WorkerState::Lost(why);
            }
        }
        if outdated.contains(&(view.shard, view.epoch)) {
            let why = "it was made from another template, and is made again".to_owned();
            view.state = WorkerState::Lost(why);
        }
        views.push(view);
    }
    memory.ending = ending;
    views.extend(memory.denied.iter().map(|((shard, epoch), why)| WorkerView {
        shard: *shard,
        epoch: *epoch,
        state: WorkerState::Lost(why.clone()),
    }));
    views
}

fn grace(pod: &Pod) -> Duration {
    let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

async fn act(
    context: &Context,
    cluster: &Cluster,
    job: &CompactionJob,
    decision: &Decision,
    pods: &[(Pod, WorkerView)],
    memory: &mut Memory,
) -> Result<(), Error> {
    if decision.expired {
        return cluster.delete_job(job).await;
    }
    if let Some(change) = decision.finalizer {
        // Refused, it is decided upon anew: what refused it is on its way through the watch.
        cluster.change_finalizer(job, change).await?;
    }
    let views: Vec<WorkerView> = pods.iter().map(|(_, view)| view.clone()).collect();
    let status = job.status.clone().unwrap_or_default();
    let mut leaving = superfluous(&status, &views, status.is_at_its_end());
    leaving.extend(&decision.stop);
    for (pod, view) in pods {
        let told = pod.metadata.deletion_timestamp.is_some();
        if !told && leaving.contains(&(view.shard, view.epoch)) {
            cluster.delete_pod(pod).await?;
        }
    }
    let refused = if decision.start.is_empty() {
        None
    } else {
        allow_workers(cluster, job, memory).await?
    };
    for (shard, epoch) in &decision.start {
        memory.denied.retain(|(of, _), _| of != shard);
        let made = match &refused {
            Some(why) => Made::Denied(why.clone()),
            None => cluster.make_pod(job, *shard, *epoch, &context.pods).await?,
        };
        match made {
            Made::Done => tell_start(context, job, *shard).await,
            Made::Denied(why) => {
                tracing::warn!(
                    job = job.name_any(),
                    shard,
                    epoch,
                    why,
                    "a worker may not be made"
                );
                memory.denied.insert((*shard, *epoch), why);
            }
        }
    }
    Ok(())
}

/// Makes what all workers need, once; returns why that may not be.
async fn allow_workers(
    cluster: &Cluster,
    job: &CompactionJob,
    memory: &mut Memory,
) -> Result<Option<String>, Error> {
    if !memory.workers_allowed {
        if let Made::Denied(why) = cluster.allow_workers(job).await? {
            return Ok(Some(why));
        }
        memory.workers_allowed = true;
    }
    Ok(None)
}

async fn tell_start(context: &Context, job: &CompactionJob, index: i32) {
    let shards = job.status.iter().flat_map(|status| &status.shards);
    for shard in shards.filter(|shard| shard.index == index) {
        context.metrics.worker_started();
        context.publish(job, news::started(shard)).await;
    }
}

/// Events and counts of what happened since the status that was seen last. Of a job that this process
/// sees for the first time nothing is told: another one has told it.
async fn tell_news(context: &Context, job: &CompactionJob, memory: &mut Memory) {
    let status = job.status.clone().unwrap_or_default();
    let known = memory.seen.replace(status.clone());
    let before = match known {
        Some(before) => before,
        None if overlap::has_started(job) => return,
        None => CompactionJobStatus::default(),
    };
    if is_older(&status, &before) {
        // A view that lags behind: its news was told when it was new.
        memory.seen = Some(before);
        return;
    }
    context.metrics.count(&news::counts(&before, &status));
    for notice in news::notices(&before, &status) {
        context.publish(job, notice).await;
    }
}

fn is_older(status: &CompactionJobStatus, than: &CompactionJobStatus) -> bool {
    than.shards.iter().any(|old| {
        let now = status.shards.iter().find(|shard| shard.index == old.index);
        now.is_none_or(|now| (now.epoch, now.checkpoint.sequence) < (old.epoch, old.checkpoint.sequence))
    })
}

#[cfg(test)]
mod tests;
