//! The local driver: the controller's `decide` over a state file and child processes, until the job ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::manifest;
use super::process::{Ended, GRACE, Process, Recipe};
use super::progress::Display;
use super::state::{self, Driving, StateFile};
use crate::api::{CompactionJob, InvalidSpec, Limits, Mode, Reason, condition, conditions};
use crate::controller::{Observed, Watch, WorkerState, WorkerView, decide};
use crate::engine::{self, Window};
use crate::store::{self, Store};
use crate::worker::{ApiError, JobApi};

/// How often the state file is looked at when nothing else happens.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    #[error(transparent)]
    State(#[from] state::Error),
    #[error("{0} is the state of the job {1}; name another file with --state, or remove it to begin anew")]
    OtherJob(PathBuf, String),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Settings(#[from] store::SettingsError),
    #[error(transparent)]
    Spec(#[from] InvalidSpec),
    #[error("--window: {0}")]
    Window(engine::Error),
    #[error("cannot start a worker: {0}")]
    Start(std::io::Error),
    #[error("the job's status cannot be changed: {0}")]
    Api(#[from] ApiError),
    #[error("the job cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Published, or planned where that was all that was asked.
    Succeeded,
    Failed,
    /// Can be started again and goes on.
    Interrupted,
}

/// A job that this process alone drives.
pub struct Run {
    state: StateFile,
    _driving: Driving,
    /// Whether the job had ended before.
    pub ended_before: bool,
}

impl Run {
    /// Takes the manifest into the state file: anew, or as an edit of the job that is there.
    pub fn prepare(manifest_path: &Path, state_path: &Path) -> Result<Self, Error> {
        let state = StateFile::new(state_path);
        let driving = state.drive()?;
        let old = state.read()?;
        let job = manifest::read(manifest_path, old.as_ref())?;
        if let Some(old) = &old
            && old.metadata.name != job.metadata.name
        {
            let name = old.metadata.name.clone().unwrap_or_default();
            return Err(Error::OtherJob(state_path.to_owned(), name));
        }
        let ended_before = old
            .as_ref()
            .is_some_and(|old| old.spec == job.spec && end(old).is_some());
        state.change(|value| {
            let generation = match &old {
                Some(old) if old.spec == job.spec => old.metadata.generation.unwrap_or(1),
                Some(old) => old.metadata.generation.unwrap_or_default() + 1,
                None => 1,
            };
            let mut fresh = job.clone();
            let uid = old.as_ref().and_then(|old| old.metadata.uid.clone());
            fresh.metadata.uid = Some(uid.unwrap_or_else(|| Uuid::new_v4().to_string()));
            fresh.metadata.generation = Some(generation);
            fresh.metadata.resource_version =
                old.as_ref().and_then(|old| old.metadata.resource_version.clone());
            let mut status = old
                .as_ref()
                .and_then(|old| old.status.clone())
                .unwrap_or_default();
            // The workers of the run before are gone, and nobody is at fault: there is nothing to wait for.
            for shard in status
                .shards
                .iter_mut()
                .filter(|shard| shard.epoch > 0 && !ended_before)
            {
                shard.retry_time.get_or_insert(Time(jiff::Timestamp::now()));
            }
            // Of a run that was killed nobody knows when its workers ended.
            status.active_since = None;
            fresh.metadata.finalizers = old.as_ref().and_then(|old| old.metadata.finalizers.clone());
            fresh.status = Some(status);
            *value = json!(fresh);
            Ok::<(), state::Error>(())
        })?;
        Ok(Self {
            state,
            _driving: driving,
            ended_before,
        })
    }

    pub fn job(&self) -> Result<CompactionJob, Error> {
        Ok(self.state.read()?.ok_or(ApiError::NotFound)?)
    }

    /// Drives the job to its end, or until `interrupt`.
    pub async fn drive(
        &self,
        recipe: &Recipe,
        store: Arc<dyn Store>,
        quiet: bool,
        interrupt: CancellationToken,
    ) -> Result<Outcome, Error> {
        let job = self.job()?;
        if let Some(outcome) = end(&job).filter(|_| self.ended_before) {
            return Ok(outcome);
        }
        check_window(&job, recipe.window_bytes)?;
        // The first request is made here, so that what nobody but the user can mend ends the run at once.
        store.list(&job.spec.source.prefix, None).await?;
        let (ended, ends) = mpsc::unbounded_channel();
        let mut driver = Driver {
            state: &self.state,
            recipe,
            processes: Vec::new(),
            views: Vec::new(),
            watch: Watch::default(),
            ended,
            ends,
            display: Display::new(quiet),
        };
        driver.run(&interrupt).await
    }
}

/// Before a worker finds out, whose word would end the job.
fn check_window(job: &CompactionJob, bytes: u64) -> Result<(), Error> {
    let window = Window {
        bytes,
        uploads: job.spec.upload.concurrency as usize,
        reads: job.spec.read.concurrency as usize,
        read_bytes: Window::READ_BYTES,
    };
    let part = Limits::of(&job.spec)?.part;
    window.shares(part).map(drop).map_err(Error::Window)
}

/// What has become of a job on which nothing is left to do now. The controller says so: what a worker has
/// just written is not told to people yet.
fn end(job: &CompactionJob) -> Option<Outcome> {
    let status = job.status.as_ref()?;
    if job.metadata.generation != Some(status.observed_generation) {
        return None;
    }
    if job.spec.retry_token != status.retry_token && status.has_failed() {
        return None;
    }
    if status.has_failed() {
        return Some(Outcome::Failed);
    }
    let disposing = status.dispose.as_ref().is_some_and(|dispose| !dispose.finished);
    let waits_for_grace =
        status.dispose.is_none() && job.dispose_time().is_some_and(|due| due > jiff::Timestamp::now());
    let published = status.is(conditions::SUCCEEDED) && (status.completion_time.is_some() || waits_for_grace);
    let ready = condition(&status.conditions, conditions::READY);
    let planned = job.spec.mode == Mode::PlanOnly
        && ready.is_some_and(|ready| ready.reason == Reason::Planned.as_str());
    let suspended = job.spec.suspend && status.is(conditions::SUSPENDED);
    ((published && !disposing) || planned || suspended).then_some(Outcome::Succeeded)
}

struct Driver<'a> {
    state: &'a StateFile,
    recipe: &'a Recipe,
    processes: Vec<Process>,
    /// Of running workers, and of the last one of each shard that has ended.
    views: Vec<WorkerView>,
    watch: Watch,
    ended: mpsc::UnboundedSender<Ended>,
    ends: mpsc::UnboundedReceiver<Ended>,
    display: Display,
}

impl Driver<'_> {
    async fn run(&mut self, interrupt: &CancellationToken) -> Result<Outcome, Error> {
        loop {
            if interrupt.is_cancelled() {
                self.stop_all().await;
                self.stop_clock()?;
                return Ok(Outcome::Interrupted);
            }
            let job = self.state.get().await?;
            self.display.show(&job);
            if let Some(outcome) = end(&job).filter(|_| self.processes.is_empty()) {
                return Ok(outcome);
            }
            let wake = self.round(&job).await?;
            tokio::select! {
                ended = self.ends.recv() => { if let Some(ended) = ended { self.take_end(ended) } }
                () = tokio::time::sleep(wake.unwrap_or(LOOK).min(LOOK)) => {}
                () = interrupt.cancelled() => {}
            }
        }
    }

    /// One pass: observe → decide → status → act.
    async fn round(&mut self, job: &CompactionJob) -> Result<Option<Duration>, Error> {
        let unchanged = self.watch.look(job.status.as_ref(), &self.views);
        let observed = Observed {
            job,
            workers: &self.views,
            others: &[],
            unchanged: &unchanged,
            now: jiff::Timestamp::now(),
        };
        let decision = decide(&observed)?;
        let mut wake = decision.wake;
        if !decision.patch.0.is_empty() {
            match self.state.patch_status(&decision.patch).await {
                // What follows from it is done at once.
                Ok(_) => wake = Some(Duration::ZERO),
                // A worker was faster: look again.
                Err(ApiError::Refused(_)) => return Ok(Some(Duration::ZERO)),
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(change) = decision.finalizer {
            let mut finalizers = job.metadata.finalizers.clone().unwrap_or_default();
            change.apply(&mut finalizers);
            self.state.change(|job| {
                job["metadata"]["finalizers"] = json!(finalizers);
                Ok::<(), state::Error>(())
            })?;
        }
        for process in &mut self.processes {
            if decision.stop.contains(&(process.shard, process.epoch)) {
                process.stop().await;
            }
        }
        for (shard, epoch) in decision.start {
            let process =
                Process::start(self.recipe, shard, epoch, self.ended.clone()).map_err(Error::Start)?;
            self.processes.push(process);
            self.views
                .retain(|view| view.shard != shard || view.state == WorkerState::Running);
            self.views.push(WorkerView {
                shard,
                epoch,
                state: WorkerState::Running,
            });
        }
        Ok(wake)
    }

    /// The time until the next run is not active.
    fn stop_clock(&self) -> Result<(), Error> {
        let mut status = self.state.read()?.and_then(|job| job.status).unwrap_or_default();
        status.stop_active_clock(jiff::Timestamp::now());
        self.state.change(|job| {
            job["status"]["activeSeconds"] = json!(status.active_seconds);
            job["status"]["activeSince"] = json!(status.active_since);
            Ok::<(), state::Error>(())
        })?;
        Ok(())
    }

    fn take_end(&mut self, (shard, epoch, end): Ended) {
        self.processes
            .retain(|process| (process.shard, process.epoch) != (shard, epoch));
        for view in &mut self.views {
            if (view.shard, view.epoch) == (shard, epoch) {
                view.state = WorkerState::Ended(end.clone());
            }
        }
    }

    async fn stop_all(&mut self) {
        for process in &mut self.processes {
            process.stop().await;
        }
        let deadline = tokio::time::Instant::now() + GRACE;
        while !self.processes.is_empty() {
            match tokio::time::timeout_at(deadline, self.ends.recv()).await {
                Ok(Some(ended)) => self.take_end(ended),
                // Killed when they are dropped.
                _ => return,
            }
        }
    }
}
