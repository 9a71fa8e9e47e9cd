//! What `/metrics` shows, and what alerts, dashboard and documentation ask of it.

use std::collections::BTreeSet;

use super::*;

#[test]
fn what_is_counted_is_shown_under_the_known_names() {
    let metrics = Metrics::default();
    metrics.pass("compactionjob").end(true);
    metrics.pass("compactionjob").end(false);
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

fn schedule() -> CompactionSchedule {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "hourly", "namespace": "data"},
        "spec": {"schedule": "@hourly", "jobTemplate": {"spec": {
            "storage": {"s3": {"bucket": "bucket"}}, "source": {"prefix": "in/"}, "output": {"prefix": "out/"},
        }}},
        "status": {
            "nextScheduleTime": "2026-01-01T00:00:00Z", "lastSuccessfulTime": "2025-12-31T23:00:00Z",
            "missedRuns": 4, "consecutiveFailures": 2,
        },
    }))
    .unwrap()
}

#[test]
fn a_schedule_is_shown_as_its_status_says_and_not_after_it_is_gone() {
    let metrics = Metrics::default();
    let schedules = [Arc::new(schedule())];
    // Asked a second time it is the same.
    metrics.gauge_schedules(&schedules);
    metrics.gauge_schedules(&schedules);
    let text = metrics.text();
    for (name, value) in [
        ("next_run_timestamp_seconds", "1767225600"),
        ("last_success_timestamp_seconds", "1767222000"),
        ("missed_runs_total", "4"),
        ("consecutive_failures", "2"),
    ] {
        let line = format!("compaction_schedule_{name}{{namespace=\"data\",schedule=\"hourly\"}} {value}\n");
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    metrics.gauge_schedules(&[]);
    assert!(!metrics.text().contains("hourly"));
}

/// A metric with labels is shown once it has been used.
fn used() -> Metrics {
    let metrics = Metrics::default();
    metrics.pass("compactionjob").end(false);
    metrics.count(&Counts::default());
    metrics.lead("compaction-operator", true);
    let jobs = Jobs {
        states: [("Running".to_owned(), 1)].into(),
        unreachable: 0,
    };
    metrics.gauge(&jobs, Duration::ZERO);
    metrics.gauge_schedules(&[Arc::new(schedule())]);
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
