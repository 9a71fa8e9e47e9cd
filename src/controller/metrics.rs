//! What `/metrics` shows, under the names that dashboards of controllers know, and a few of our own. Every
//! label is from a closed list; no job, bucket or key is named.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::news::Counts;
use crate::api::Reason;

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

const CONTROLLER: &str = "compactionjob";

/// The jobs at one moment.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// By the reason of their condition Ready.
    pub states: HashMap<String, i64>,
    /// That wait for their store.
    pub unreachable: i64,
}

/// Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Metrics {
    registry: std::sync::Arc<Mutex<Registry>>,
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
    checkpoint_age: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: std::sync::Arc::default(),
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
            checkpoint_age: Gauge::default(),
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
            "Passes over a job, by result",
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
            "compaction_checkpoint_age_seconds",
            "The longest time for which a running worker has shown no new checkpoint",
            &self.checkpoint_age,
        );
    }

    /// A pass begins; ends when the returned guard is dropped.
    pub(super) fn pass(&self) -> PassUnderWay<'_> {
        self.active
            .get_or_create(&Controller {
                controller: CONTROLLER,
            })
            .inc();
        PassUnderWay {
            metrics: self,
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

    pub(super) fn gauge(&self, jobs: &Jobs, checkpoint_age: Duration) {
        self.jobs.clear();
        self.jobs_unreachable.set(jobs.unreachable);
        for (state, count) in &jobs.states {
            self.jobs
                .get_or_create(&State { state: state.clone() })
                .set(*count);
        }
        self.checkpoint_age.set(checkpoint_age.as_secs_f64());
    }

    pub(super) fn lead(&self, lease: &str, leads: bool) {
        self.leader
            .get_or_create(&Election {
                name: lease.to_owned(),
            })
            .set(i64::from(leads));
    }

    /// In the text format that Prometheus reads.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        if let Ok(registry) = self.registry.lock() {
            // Writing to a string does not fail.
            text::encode(&mut out, &registry).ok();
        }
        out
    }
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
    began: tokio::time::Instant,
}

impl PassUnderWay<'_> {
    pub(super) fn end(self, good: bool) {
        let result = if good { "success" } else { "error" };
        let passes = &self.metrics.passes;
        passes
            .get_or_create(&Pass {
                controller: CONTROLLER,
                result,
            })
            .inc();
        if !good {
            self.metrics
                .errors
                .get_or_create(&Controller {
                    controller: CONTROLLER,
                })
                .inc();
        }
    }
}

impl Drop for PassUnderWay<'_> {
    fn drop(&mut self) {
        let controller = Controller {
            controller: CONTROLLER,
        };
        self.metrics.active.get_or_create(&controller).dec();
        let seconds = self.began.elapsed().as_secs_f64();
        self.metrics.seconds.get_or_create(&controller).observe(seconds);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_counted_is_shown_under_the_known_names() {
        let metrics = Metrics::default();
        metrics.pass().end(true);
        metrics.pass().end(false);
        metrics.count(&Counts {
            batches: 3,
            bytes_read: 10,
            failed: Some(Reason::WorkFailed),
            ..Counts::default()
        });
        metrics.lead("compaction-operator", true);
        let jobs = Jobs {
            states: [("Running".to_owned(), 2)].into(),
            unreachable: 1,
        };
        metrics.gauge(&jobs, Duration::from_secs(7));
        let text = metrics.text();
        for line in [
            r#"controller_runtime_reconcile_total{controller="compactionjob",result="success"} 1"#,
            r#"controller_runtime_reconcile_errors_total{controller="compactionjob"} 1"#,
            r#"controller_runtime_active_workers{controller="compactionjob"} 0"#,
            r#"leader_election_master_status{name="compaction-operator"} 1"#,
            r#"compaction_jobs{state="Running"} 2"#,
            "compaction_jobs_storage_unreachable 1",
            r#"compaction_jobs_failed_total{reason="WorkFailed"} 1"#,
            r#"compaction_jobs_failed_total{reason="BackoffLimitExceeded"} 0"#,
            "compaction_jobs_succeeded_total 0",
            "compaction_batches_total 3",
            r#"compaction_bytes_total{direction="read"} 10"#,
            "compaction_checkpoint_age_seconds 7.0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        metrics.gauge(&Jobs::default(), Duration::ZERO);
        assert!(
            !metrics.text().contains("Running"),
            "a state without jobs is not shown"
        );
    }
    /// A metric with labels is shown once it has been used.
    fn used() -> Metrics {
        let metrics = Metrics::default();
        metrics.pass().end(false);
        metrics.count(&Counts::default());
        metrics.lead("compaction-operator", true);
        let jobs = Jobs {
            states: [("Running".to_owned(), 1)].into(),
            unreachable: 0,
        };
        metrics.gauge(&jobs, Duration::ZERO);
        metrics
    }

    /// As Prometheus knows them: a counter has a suffix, and a histogram has three.
    fn names() -> BTreeSet<String> {
        let text = used().text();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let names = types.filter_map(|line| line.split_once(' '));
        let suffixes = |type_: &str| match type_ {
            "counter" => vec!["_total"],
            "histogram" => vec!["", "_bucket", "_count", "_sum"],
            _ => vec![""],
        };
        names
            .flat_map(|(name, type_)| {
                suffixes(type_)
                    .into_iter()
                    .map(move |suffix| format!("{name}{suffix}"))
            })
            .collect()
    }

    /// Words of `text` that can only be names of our metrics.
    fn named(text: &str) -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let ours = |word: &&str| {
            let of = |family| word.strip_prefix(family).is_some_and(|rest| !rest.is_empty());
            ["compaction_", "controller_runtime_", "leader_election_"]
                .into_iter()
                .any(of)
        };
        words.filter(ours).map(str::to_owned).collect()
    }

    #[test]
    fn every_metric_of_alerts_dashboard_and_documentation_exists_and_is_documented() {
        let names = names();
        for path in [
            "charts/compaction-operator/templates/prometheusrule.yaml",
            "charts/compaction-operator/files/dashboard.json",
            "tests/chart/alerts.test.yaml",
        ] {
            let named = named(&std::fs::read_to_string(path).unwrap());
            assert!(named.len() > 5, "{path} names hardly a metric: {named:?}");
            let unknown: Vec<_> = named.difference(&names).collect();
            assert!(
                unknown.is_empty(),
                "{path} names what /metrics does not show: {unknown:?}"
            );
        }
        let documented = named(&std::fs::read_to_string("docs/operator.md").unwrap());
        let unknown: Vec<_> = documented.difference(&names).collect();
        assert!(unknown.is_empty(), "docs/operator.md: {unknown:?}");
        let family = |name: &String| {
            name.replace("_bucket", "")
                .replace("_sum", "")
                .replace("_count", "")
        };
        let silent: Vec<_> = names
            .iter()
            .filter(|name| !documented.contains(*name) && !documented.contains(&family(name)))
            .collect();
        assert!(silent.is_empty(), "docs/operator.md does not explain {silent:?}");
    }
}
