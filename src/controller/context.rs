//! What the reconciliations share: the client, the watched jobs, what is remembered of each, metrics and
//! events.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::Store;
use kube::{Client, Resource, ResourceExt};

use super::memory::Memory;
use super::metrics::{Jobs, Metrics};
use super::news::Notice;
use super::objects::PodSettings;
use super::places::Places;
use super::pod_changes::PodChanges;
use crate::api::{CompactionJob, CompactionJobStatus, CompactionSchedule, condition, conditions};
use crate::deadline::within;

/// An event is worth so much waiting, and no more.
const EVENT: Duration = Duration::from_secs(5);
/// Below what the API server takes as a note. Characters.
const MAX_NOTE_CHARS: usize = 240;

pub(super) struct Context {
    pub client: Client,
    pub pods: PodSettings,
    pub places: Places,
    pub pod_changes: Arc<PodChanges>,
    pub metrics: Metrics,
    recorder: Recorder,
    /// One a watched namespace, or one for all.
    stores: Stores,
    remembered: Mutex<HashMap<String, Remembered>>,
}

/// What the watches have told, each for one namespace or for all.
#[derive(Default)]
pub(super) struct Stores {
    pub jobs: Vec<Store<CompactionJob>>,
    pub schedules: Vec<Store<CompactionSchedule>>,
}

/// Of one job or schedule, by its UID.
#[derive(Clone, Default)]
struct Remembered {
    /// The passes over one job never overlap. Of a schedule nothing is in it.
    memory: Arc<tokio::sync::Mutex<Memory>>,
    /// Passes in a row that ended in an error.
    errors: u32,
}

impl Context {
    pub(super) fn new(
        client: Client,
        pods: PodSettings,
        metrics: Metrics,
        stores: Stores,
        pod_changes: Arc<PodChanges>,
    ) -> Self {
        let reporter = Reporter {
            controller: "compaction-operator".to_owned(),
            instance: std::env::var("POD_NAME").ok(),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            pods,
            places: Places::default(),
            pod_changes,
            metrics,
            stores,
            remembered: Mutex::default(),
        }
    }

    pub(super) fn jobs(&self) -> Vec<Arc<CompactionJob>> {
        self.stores.jobs.iter().flat_map(Store::state).collect()
    }

    pub(super) fn jobs_that(&self, are_wanted: impl Fn(&CompactionJob) -> bool) -> Vec<Arc<CompactionJob>> {
        let stores = self.stores.jobs.iter();
        stores.flat_map(|store| store.state_filter(&are_wanted)).collect()
    }

    pub(super) fn schedules(&self) -> Vec<Arc<CompactionSchedule>> {
        self.stores.schedules.iter().flat_map(Store::state).collect()
    }

    pub(super) fn schedule_that(
        &self,
        is_wanted: impl Fn(&CompactionSchedule) -> bool,
    ) -> Option<Arc<CompactionSchedule>> {
        let mut stores = self.stores.schedules.iter();
        stores.find_map(|store| store.find(&is_wanted))
    }

    fn of<T>(&self, object: &impl ResourceExt, what: impl FnOnce(&mut Remembered) -> T) -> T {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        what(remembered.entry(object.uid().unwrap_or_default()).or_default())
    }

    pub(super) fn memory(&self, job: &CompactionJob) -> Arc<tokio::sync::Mutex<Memory>> {
        self.of(job, |remembered| Arc::clone(&remembered.memory))
    }

    pub(super) fn passed(&self, object: &impl ResourceExt) {
        self.of(object, |remembered| remembered.errors = 0);
    }

    /// One more error; returns how many there were in a row.
    pub(super) fn erred(&self, object: &impl ResourceExt) -> u32 {
        self.of(object, |remembered| {
            remembered.errors = remembered.errors.saturating_add(1);
            remembered.errors
        })
    }

    /// Lets go of what is remembered of jobs and schedules that are gone.
    pub(super) fn forget(&self) {
        let jobs: HashMap<String, Arc<CompactionJob>> = self
            .jobs()
            .into_iter()
            .map(|job| (job.uid().unwrap_or_default(), job))
            .collect();
        let schedules: HashSet<String> = self.schedules().iter().filter_map(|s| s.uid()).collect();
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|uid, _| jobs.contains_key(uid) || schedules.contains(uid));
        self.places.forget(&jobs);
        self.pod_changes.forget(|uid| jobs.contains_key(uid));
    }

    /// Brings the gauges up to what is known now.
    pub(super) fn gauge(&self) {
        let mut jobs = Jobs::default();
        for job in self.jobs() {
            let status = job.status.as_ref();
            let ready = status.and_then(|s| condition(&s.conditions, conditions::READY));
            let state = ready.map_or("New", |ready| &ready.reason);
            *jobs.states.entry(state.to_owned()).or_default() += 1;
            jobs.unreachable += i64::from(status.is_some_and(waits_for_store));
        }
        let memories: Vec<_> = {
            let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            remembered.values().map(|one| Arc::clone(&one.memory)).collect()
        };
        for memory in memories {
            // One that is in a pass right now is looked at the next time.
            if let Ok(memory) = memory.try_lock() {
                jobs.starting_age = jobs.starting_age.max(memory.starting_age());
                jobs.checkpoint_age = jobs.checkpoint_age.max(memory.checkpoint_age());
            }
        }
        self.metrics.gauge(&jobs);
        self.metrics.gauge_schedules(&self.schedules());
    }

    /// Tells people; a lost event must not hold up the work.
    pub(super) async fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, notice: Notice) {
        let Notice {
            warning,
            reason,
            note,
        } = notice;
        let event = Event {
            type_: if warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            note: Some(note.chars().take(MAX_NOTE_CHARS).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let published = within(EVENT, self.recorder.publish(&event, &object.object_ref(&()))).await;
        if let Ok(Err(error)) = &published {
            tracing::debug!(%error, reason, "an event was not published");
        }
    }
}

/// Whether a job goes on as soon as it reaches its store.
fn waits_for_store(status: &CompactionJobStatus) -> bool {
    let storage = condition(&status.conditions, conditions::STORAGE_ACCESSIBLE);
    let is_open = !status.is_at_its_end() && !status.is(conditions::SUSPENDED);
    is_open && storage.is_some_and(|storage| storage.status == "False")
}
