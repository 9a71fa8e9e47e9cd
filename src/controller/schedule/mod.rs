//! Schedules: decides which slot of a `CompactionSchedule` starts a job, and makes that job. Never touches pods, nor
//! a job that it has made, but to delete it.

mod calls;
mod decide;
mod reconcile;
mod render;
mod runs;
mod settled;
mod slots;

use std::sync::Arc;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config as Concurrency};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{Controller, WatchStreamExt};
use kube::{Api, ResourceExt};
use tokio_util::sync::CancellationToken;

use super::cluster::Error;
use super::context::Context;
use super::passes;
use super::reflected::reflected;
use crate::api::{CompactionJob, CompactionSchedule, conditions};

const CONTROLLER: &str = "compactionschedule";

/// Says that a run has ended or is gone; jobs are watched once, for their own passes and for this.
#[derive(Clone)]
pub(super) struct Ends(UnboundedSender<ObjectRef<CompactionSchedule>>);

impl Ends {
    pub(super) fn new() -> (Self, UnboundedReceiver<ObjectRef<CompactionSchedule>>) {
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        (Self(sender), receiver)
    }

    pub(super) fn tell(&self, event: &Event<CompactionJob>) {
        let schedule = match event {
            Event::Apply(job) | Event::InitApply(job) if has_ended(job) => schedule_of(job),
            Event::Delete(job) => schedule_of(job),
            _ => None,
        };
        if let Some(schedule) = schedule {
            // Only at the end of the process nobody listens.
            self.0.unbounded_send(schedule).ok();
        }
    }
}

fn schedule_of(job: &CompactionJob) -> Option<ObjectRef<CompactionSchedule>> {
    let owners = job.owner_references();
    let owner = owners.iter().find(|owner| owner.kind == "CompactionSchedule")?;
    Some(ObjectRef::new(&owner.name).within(&job.namespace()?))
}

fn has_ended(job: &CompactionJob) -> bool {
    let status = job.status.as_ref();
    status.is_some_and(|status| status.is(conditions::SUCCEEDED) || status.has_failed())
}

/// Schedules in one namespace, or in all.
pub(super) fn watch(
    schedules: Api<DeserializeGuard<CompactionSchedule>>,
    ends: UnboundedReceiver<ObjectRef<CompactionSchedule>>,
    concurrency: u16,
    stop: &CancellationToken,
) -> (Store<CompactionSchedule>, Controller<CompactionSchedule>) {
    let (store, schedules) = reflected(schedules);
    let controller = Controller::for_stream(schedules.applied_objects(), store.clone())
        .reconcile_on(ends)
        .with_config(Concurrency::default().concurrency(concurrency))
        .graceful_shutdown_on(stop.clone().cancelled_owned());
    (store, controller)
}

pub(super) async fn pass(schedule: Arc<CompactionSchedule>, context: Arc<Context>) -> Result<Action, Error> {
    let pass = Box::pin(reconcile::pass(&context, &schedule));
    let wait = passes::make(&context, &*schedule, CONTROLLER, pass).await?;
    Ok(Action::requeue(wait))
}

/// Whether the job's schedule, if it has one, does not know yet how it ended.
pub(super) fn is_awaited(context: &Context, job: &CompactionJob) -> bool {
    let is_owner = |schedule: &CompactionSchedule| {
        let mut owners = job.owner_references().iter();
        owners.any(|owner| Some(&owner.uid) == schedule.metadata.uid.as_ref())
    };
    let schedule = context.schedule_that(is_owner);
    schedule.is_some_and(|schedule| !runs::is_accounted_for(&schedule, job))
}
