//! What `/metrics` shows, under the names that dashboards of controllers know, and a few of our own. Every
//! label is from a closed list, but for the namespace and the name of a schedule: as many as users have made, and
//! gone with it. No job, bucket or key is named.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::ResourceExt;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::news::Counts;
use crate::api::{CompactionSchedule, Reason, Skip, condition, conditions};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pass {
    controller: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Election {
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Schedule {
    namespace: String,
    schedule: String,
}

/// The jobs at one moment.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// By the reason of their condition Ready.
    pub states: HashMap<String, i64>,
    /// That wait for their store.
    pub unreachable: i64,
    /// For how long the one that has waited longest for a worker that can start has done so.
    pub starting_age: Duration,
    /// For how long the running worker that has shown nothing for longest has shown no new checkpoint.
    pub checkpoint_age: Duration,
}

/// Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    passes: Family<Pass, Counter>,
    errors: Family<Controller, Counter>,
    seconds: Family<Controller, Histogram>,
    active: Family<Controller, Gauge>,
    leader: Family<Election, Gauge>,
    jobs: Family<State, Gauge>,
    jobs_unreachable: Gauge,
    jobs_succeeded: Counter,
    jobs_failed: Family<Cause, Counter>,
    batches: Counter,
    bytes: Family<Direction, Counter>,
    workers_started: Counter,
    workers_lost: Counter,
    deadlines_exceeded: Counter,
    fenced: Counter,
    starting_age: Gauge<f64, AtomicU64>,
    checkpoint_age: Gauge<f64, AtomicU64>,
    ready: Family<Schedule, Gauge>,
    next_run: Family<Schedule, Gauge>,
    last_success: Family<Schedule, Gauge>,
    last_skip: Family<Schedule, Gauge>,
    missed_runs: Family<Schedule, Counter>,
    consecutive_failures: Family<Schedule, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Arc::default(),
            passes: Family::default(),
            errors: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 2.0, 12))),
            active: Family::default(),
            leader: Family::default(),
            jobs: Family::default(),
            jobs_unreachable: Gauge::default(),
            jobs_succeeded: Counter::default(),
            jobs_failed: Family::default(),
            batches: Counter::default(),
            bytes: Family::default(),
            workers_started: Counter::default(),
            workers_lost: Counter::default(),
            deadlines_exceeded: Counter::default(),
            fenced: Counter::default(),
            starting_age: Gauge::default(),
            checkpoint_age: Gauge::default(),
            ready: Family::default(),
            next_run: Family::default(),
            last_success: Family::default(),
            last_skip: Family::default(),
            missed_runs: Family::default(),
            consecutive_failures: Family::default(),
        };
        // A counter that begins at its first event has not risen, for Prometheus.
        for reason in Reason::ALL.iter().filter(|reason| reason.is_failure()) {
            metrics.failed(*reason);
        }
        if let Ok(mut registry) = metrics.registry.lock() {
            metrics.register(&mut registry);
        }
        metrics
    }
}

impl Metrics {
    fn register(&self, registry: &mut Registry) {
        let mut all = |name: &str, help: &str, metric: &dyn Register| metric.register(registry, name, help);
        all(
            "controller_runtime_reconcile",
            "Passes over a job or a schedule, by result",
            &self.passes,
        );
        all(
            "controller_runtime_reconcile_errors",
            "Passes that ended in an error",
            &self.errors,
        );
        all(
            "controller_runtime_reconcile_time_seconds",
            "How long a pass takes",
            &self.seconds,
        );
        all(
            "controller_runtime_active_workers",
            "Passes under way",
            &self.active,
        );
        all(
            "leader_election_master_status",
            "1 in the controller that works",
            &self.leader,
        );
        all(
            "compaction_jobs",
            "Jobs, by the reason of their condition Ready",
            &self.jobs,
        );
        all(
            "compaction_jobs_storage_unreachable",
            "Jobs that wait for a store that is away, throttles or refuses",
            &self.jobs_unreachable,
        );
        all(
            "compaction_jobs_succeeded",
            "Jobs that were published or had nothing to compact",
            &self.jobs_succeeded,
        );
        all(
            "compaction_jobs_failed",
            "Jobs that failed, by the reason of their condition Stalled",
            &self.jobs_failed,
        );
        all("compaction_batches", "Batches done", &self.batches);
        all(
            "compaction_bytes",
            "Bytes of sources read and of outputs written",
            &self.bytes,
        );
        all(
            "compaction_workers_started",
            "Worker pods started",
            &self.workers_started,
        );
        all(
            "compaction_workers_lost",
            "Workers that ended before their work did",
            &self.workers_lost,
        );
        all(
            "compaction_deadlines_exceeded",
            "Batches that passed their upload deadline",
            &self.deadlines_exceeded,
        );
        all(
            "compaction_fenced",
            "Claims and checkpoints of late workers that were refused",
            &self.fenced,
        );
        all(
            "compaction_starting_age_seconds",
            "The longest time for which a job with work has had no worker that could start on it",
            &self.starting_age,
        );
        all(
            "compaction_checkpoint_age_seconds",
            "The longest time for which a running worker has shown no new checkpoint",
            &self.checkpoint_age,
        );
        self.register_schedules(registry);
    }

    fn register_schedules(&self, registry: &mut Registry) {
        let mut all = |name: &str, help: &str, metric: &dyn Register| metric.register(registry, name, help);
        all(
            "compaction_schedule_ready",
            "1 while a schedule is Ready, 0 while it is not; absent while it is suspended",
            &self.ready,
        );
        all(
            "compaction_schedule_next_run_timestamp_seconds",
            "When the next slot of a schedule starts; absent while none will",
            &self.next_run,
        );
        all(
            "compaction_schedule_last_success_timestamp_seconds",
            "When a run of a schedule succeeded last",
            &self.last_success,
        );
        all(
            "compaction_schedule_last_skip_timestamp_seconds",
            "When a slot of a schedule was skipped last; absent if somebody wanted it so",
            &self.last_skip,
        );
        all(
            "compaction_schedule_missed_runs",
            "Slots of a schedule that came and were not run",
            &self.missed_runs,
        );
        all(
            "compaction_schedule_consecutive_failures",
            "Runs of a schedule that failed since the last that succeeded",
            &self.consecutive_failures,
        );
    }

    /// A pass begins; ends when the returned guard is dropped.
    pub(super) fn pass(&self, controller: &'static str) -> PassUnderWay<'_> {
        self.active.get_or_create(&Controller { controller }).inc();
        PassUnderWay {
            metrics: self,
            controller,
            began: tokio::time::Instant::now(),
        }
    }

    pub(super) fn count(&self, counts: &Counts) {
        self.batches.inc_by(counts.batches);
        self.bytes
            .get_or_create(&Direction { direction: "read" })
            .inc_by(counts.bytes_read);
        self.bytes
            .get_or_create(&Direction { direction: "written" })
            .inc_by(counts.bytes_written);
        self.workers_lost.inc_by(counts.workers_lost);
        self.deadlines_exceeded.inc_by(counts.deadlines_exceeded);
        self.fenced.inc_by(counts.fenced);
        self.jobs_succeeded.inc_by(counts.succeeded);
        if let Some(reason) = counts.failed {
            self.failed(reason).inc();
        }
    }

    fn failed(&self, reason: Reason) -> impl Deref<Target = Counter> {
        let reason = reason.as_str();
        self.jobs_failed.get_or_create(&Cause { reason })
    }

    pub(super) fn worker_started(&self) {
        self.workers_started.inc();
    }

    pub(super) fn gauge(&self, jobs: &Jobs) {
        self.jobs.clear();
        self.jobs_unreachable.set(jobs.unreachable);
        for (state, count) in &jobs.states {
            self.jobs
                .get_or_create(&State { state: state.clone() })
                .set(*count);
        }
        self.starting_age.set(jobs.starting_age.as_secs_f64());
        self.checkpoint_age.set(jobs.checkpoint_age.as_secs_f64());
    }

    /// As their statuses say, so that a count goes on where another controller left it.
    pub(super) fn gauge_schedules(&self, schedules: &[Arc<CompactionSchedule>]) {
        self.ready.clear();
        self.next_run.clear();
        self.last_success.clear();
        self.last_skip.clear();
        self.missed_runs.clear();
        self.consecutive_failures.clear();
        for schedule in schedules {
            let Some(status) = &schedule.status else { continue };
            let labels = Schedule {
                namespace: schedule.namespace().unwrap_or_default(),
                schedule: schedule.name_any(),
            };
            let failures = i64::from(status.consecutive_failures);
            self.consecutive_failures.get_or_create(&labels).set(failures);
            let missed = u64::try_from(status.missed_runs).unwrap_or_default();
            self.missed_runs.get_or_create(&labels).inc_by(missed);
            if let Some(ready) = is_ready(schedule) {
                self.ready.get_or_create(&labels).set(i64::from(ready));
            }
            let skip = status.last_skip.as_ref().filter(|skip| is_missed_run(skip));
            for (gauge, time) in [
                (&self.next_run, status.next_schedule_time.as_ref()),
                (&self.last_success, status.last_successful_time.as_ref()),
                (&self.last_skip, skip.and_then(|skip| skip.time.as_ref())),
            ] {
                if let Some(time) = time {
                    gauge.get_or_create(&labels).set(time.0.as_second());
                }
            }
        }
    }

    pub(super) fn lead(&self, lease: &str, leads: bool) {
        self.leader
            .get_or_create(&Election {
                name: lease.to_owned(),
            })
            .set(i64::from(leads));
    }

    /// In the text format that Prometheus reads, after `gauge` has brought the gauges up to what is known. One at a
    /// time: what is cleared and counted anew for one reader would be counted twice by another.
    pub(super) fn text(&self, gauge: impl FnOnce()) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        gauge();
        let mut out = String::new();
        // Writing to a string does not fail.
        text::encode(&mut out, &registry).ok();
        out
    }
}

/// `None`: it is suspended, or nobody has looked at it yet.
fn is_ready(schedule: &CompactionSchedule) -> Option<bool> {
    let status = schedule.status.as_ref().filter(|_| !schedule.spec.suspend)?;
    Some(condition(&status.conditions, conditions::READY)?.status == "True")
}

/// Whether a slot was not run, and nobody wanted that.
fn is_missed_run(skip: &Skip) -> bool {
    skip.slot_time.is_some() && !skip.reason.is_wanted()
}

/// A metric of any kind, as the registry takes it.
trait Register {
    fn register(&self, registry: &mut Registry, name: &str, help: &str);
}

impl<M: prometheus_client::registry::Metric + Clone> Register for M {
    fn register(&self, registry: &mut Registry, name: &str, help: &str) {
        registry.register(name, help, self.clone());
    }
}

pub(super) struct PassUnderWay<'a> {
    metrics: &'a Metrics,
    controller: &'static str,
    began: tokio::time::Instant,
}

impl PassUnderWay<'_> {
    pub(super) fn end(self, good: bool) {
        let controller = self.controller;
        let result = if good { "success" } else { "error" };
        let passes = &self.metrics.passes;
        passes.get_or_create(&Pass { controller, result }).inc();
        if !good {
            self.metrics
                .errors
                .get_or_create(&Controller { controller })
                .inc();
        }
    }
}

impl Drop for PassUnderWay<'_> {
    fn drop(&mut self) {
        let controller = Controller {
            controller: self.controller,
        };
        self.metrics.active.get_or_create(&controller).dec();
        let seconds = self.began.elapsed().as_secs_f64();
        self.metrics.seconds.get_or_create(&controller).observe(seconds);
    }
}

#[cfg(test)]
mod tests;
