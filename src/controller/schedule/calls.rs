//! The calls to the API server that a schedule's pass makes, each with a deadline. Decides nothing.

use json_patch::Patch as JsonPatch;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PostParams, Preconditions};

use super::decide::{Deletion, NotMade};
use super::runs::{Run, SCHEDULE_UID};
use crate::api::{CompactionJob, CompactionSchedule};
use crate::controller::cluster::{
    Cluster, Error, as_controller, call, gone, is_denied, message, refused, status,
};

impl Cluster {
    /// The schedule's jobs as they are now, not as a cache has them.
    pub(super) async fn jobs_of(&self, schedule: &CompactionSchedule) -> Result<Vec<CompactionJob>, Error> {
        let uid = schedule.uid().unwrap_or_default();
        let of_schedule = ListParams::default().labels(&format!("{SCHEDULE_UID}={uid}"));
        let jobs = call("list the schedule's jobs", self.api().list(&of_schedule)).await?;
        Ok(jobs.items)
    }

    /// The schedule as it is now; `None` if it is gone, or another one.
    pub(super) async fn live(
        &self,
        schedule: &CompactionSchedule,
    ) -> Result<Option<CompactionSchedule>, Error> {
        let this = ListParams::default().fields(&format!("metadata.name={}", schedule.name_any()));
        let found = call(
            "look at the schedule",
            self.api::<CompactionSchedule>().list(&this),
        )
        .await?;
        Ok(found
            .items
            .into_iter()
            .find(|found| found.metadata.uid == schedule.metadata.uid))
    }

    /// One that is there already is taken for the schedule's only if it belongs to this very schedule.
    pub(super) async fn make_job(
        &self,
        schedule: &CompactionSchedule,
        job: &CompactionJob,
    ) -> Result<Result<CompactionJob, NotMade>, Error> {
        let api = self.api::<CompactionJob>();
        let source = match call("create a job", api.create(&PostParams::default(), job)).await {
            Ok(job) => return Ok(Ok(job)),
            Err(Error::Api { source, .. }) => source,
            Err(error) => return Err(error),
        };
        if status(&source).is_some_and(kube::core::Status::is_already_exists) {
            let there = call("look at a job", api.get(&job.name_any())).await?;
            let ours = Run::of(schedule, &there).is_some();
            return Ok(if ours { Ok(there) } else { Err(NotMade::Conflict) });
        }
        if refused(&source) {
            return Ok(Err(NotMade::Refused(message(&source))));
        }
        if is_denied(&source) {
            return Ok(Err(NotMade::Denied(message(&source))));
        }
        Err(Error::Api {
            call: "create a job",
            source,
        })
    }

    /// Returns whether it was done; otherwise the schedule is not what it was taken for, or is gone.
    pub(super) async fn patch_schedule(
        &self,
        schedule: &CompactionSchedule,
        patch: &JsonPatch,
    ) -> Result<bool, Error> {
        let api = self.api::<CompactionSchedule>();
        let patch = Patch::Json::<()>(patch.clone());
        let (name, parameters) = (schedule.name_any(), as_controller());
        let patched = call(
            "patch the schedule's status",
            api.patch_status(&name, &parameters, &patch),
        );
        match patched.await {
            Ok(_) => Ok(true),
            Err(Error::Api { source, .. })
                if status(&source).is_some_and(|s| s.is_invalid() || s.is_conflict() || s.is_not_found()) =>
            {
                tracing::debug!(why = message(&source), "a patch was refused");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn delete_run(&self, run: &Deletion) -> Result<(), Error> {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(run.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        let api = self.api::<CompactionJob>();
        gone(call("delete a run", api.delete(&run.name, &parameters)).await)
    }
}
