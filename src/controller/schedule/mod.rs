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
use std::time::Duration;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config as Concurrency};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Controller, WatchStreamExt};
use kube::{Api, ResourceExt};
use tokio_util::sync::CancellationToken;

pub(super) use runs::is_accounted_for;

use super::cluster::Error;
use super::context::Context;
use super::run::{forget_what_is_not_needed, pause, understood};
use crate::api::{CompactionJob, CompactionSchedule, condition, conditions};
use crate::deadline::within;
use futures::TryStreamExt;

/// A whole pass: every call in it has a deadline of its own.
const PASS: Duration = Duration::from_mins(2);
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
    let conditions = job.status.as_ref().map_or(&[][..], |status| &status.conditions);
    [conditions::SUCCEEDED, conditions::STALLED]
        .iter()
        .any(|type_| condition(conditions, type_).is_some_and(|c| c.status == "True"))
}

/// Schedules in one namespace, or in all.
pub(super) fn watch(
    schedules: Api<DeserializeGuard<CompactionSchedule>>,
    ends: UnboundedReceiver<ObjectRef<CompactionSchedule>>,
    concurrency: u16,
    stop: &CancellationToken,
) -> (Store<CompactionSchedule>, Controller<CompactionSchedule>) {
    let (store, writer) = reflector::store();
    let schedules = watcher(schedules, watcher::Config::default())
        .try_filter_map(|event| async move { Ok(understood(event)) })
        .default_backoff()
        .modify(forget_what_is_not_needed)
        .reflect(writer)
        .applied_objects();
    let controller = Controller::for_stream(schedules, store.clone())
        .reconcile_on(ends)
        .with_config(Concurrency::default().concurrency(concurrency))
        .graceful_shutdown_on(stop.clone().cancelled_owned());
    (store, controller)
}

pub(super) async fn pass(schedule: Arc<CompactionSchedule>, context: Arc<Context>) -> Result<Action, Error> {
    let under_way = context.metrics.pass(CONTROLLER);
    let passed = within(PASS, Box::pin(reconcile::pass(&context, &schedule))).await;
    let passed = passed.unwrap_or(Err(Error::Late {
        call: "a pass over the schedule",
    }));
    under_way.end(passed.is_ok());
    let wait = passed?;
    context.passed(&*schedule);
    Ok(Action::requeue(wait))
}

pub(super) fn after_error(schedule: Arc<CompactionSchedule>, error: &Error, context: Arc<Context>) -> Action {
    let errors = context.erred(&*schedule);
    tracing::warn!(
        namespace = schedule.namespace(),
        name = schedule.name_any(),
        %error,
        "a pass is repeated"
    );
    pause(errors)
}
