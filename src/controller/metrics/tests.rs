//! What `/metrics` shows, and what alerts, dashboard and documentation ask of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

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
    metrics.gauge(&Jobs {
        states: [("Running".to_owned(), 2)].into(),
        unreachable: 1,
        starting_age: Duration::from_secs(9),
        checkpoint_age: Duration::from_secs(7),
    });
    let text = metrics.text(|| ());
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
        "compaction_starting_age_seconds 9.0",
        "compaction_checkpoint_age_seconds 7.0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    metrics.gauge(&Jobs::default());
    assert!(
        !metrics.text(|| ()).contains("Running"),
        "a state without jobs is not shown"
    );
}

/// A schedule with all that there is to show, but for these changes.
fn schedule(change: &Value) -> CompactionSchedule {
    let mut schedule = json!({
        "metadata": {"name": "hourly", "namespace": "data"},
        "spec": {"schedule": "@hourly", "jobTemplate": {"spec": {
            "storage": {"s3": {"bucket": "bucket"}}, "source": {"prefix": "in/"}, "output": {"prefix": "out/"},
        }}},
        "status": {
            "nextScheduleTime": "2026-01-01T00:00:00Z", "lastSuccessfulTime": "2025-12-31T23:00:00Z",
            "missedRuns": 4, "consecutiveFailures": 2,
            "lastSkip": {
                "slotTime": "2025-12-31T20:00:00Z", "reason": "Missed", "time": "2025-12-31T22:00:00Z",
            },
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Scheduled", "message": "",
                "lastTransitionTime": "2025-12-31T23:00:00Z",
            }],
        },
    });
    json_patch::merge(&mut schedule, change);
    serde_json::from_value(schedule).unwrap()
}

/// What is shown of one schedule.
fn shown(schedule: CompactionSchedule) -> String {
    let metrics = Metrics::default();
    metrics.text(|| metrics.gauge_schedules(&[Arc::new(schedule)]))
}

fn line(name: &str, value: &str) -> String {
    format!("compaction_schedule_{name}{{namespace=\"data\",schedule=\"hourly\"}} {value}\n")
}

#[test]
fn a_schedule_is_shown_as_its_status_says_and_not_after_it_is_gone() {
    let metrics = Metrics::default();
    let schedules = [Arc::new(schedule(&json!({})))];
    // Asked a second time it is the same.
    metrics.gauge_schedules(&schedules);
    let text = metrics.text(|| metrics.gauge_schedules(&schedules));
    for (name, value) in [
        ("ready", "1"),
        ("next_run_timestamp_seconds", "1767225600"),
        ("last_success_timestamp_seconds", "1767222000"),
        ("last_skip_timestamp_seconds", "1767218400"),
        ("missed_runs_total", "4"),
        ("consecutive_failures", "2"),
    ] {
        let line = line(name, value);
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    let text = metrics.text(|| metrics.gauge_schedules(&[]));
    assert!(!text.contains("hourly"));
}

#[test]
fn a_schedule_that_stands_still_is_not_ready_unless_it_is_suspended() {
    let ready = json!([{
        "type": "Ready", "status": "False", "reason": "InvalidTimeZone", "message": "",
        "lastTransitionTime": "2025-12-31T23:00:00Z",
    }]);
    let text = shown(schedule(&json!({"status": {"conditions": ready}})));
    assert!(text.contains(&line("ready", "0")), "{text}");
    let suspended = json!({"spec": {"suspend": true}, "status": {"conditions": ready}});
    for silent in [suspended, json!({"status": {"conditions": []}})] {
        let text = shown(schedule(&silent));
        assert!(!text.contains("compaction_schedule_ready{"), "{text}");
    }
}

#[test]
fn a_slot_that_somebody_wanted_skipped_and_a_run_by_hand_are_no_missed_runs() {
    for skip in [
        json!({"reason": "Suspended"}),
        json!({"reason": "ScheduleChanged"}),
        json!({"reason": "JobRefused", "slotTime": null}),
    ] {
        let text = shown(schedule(&json!({"status": {"lastSkip": skip}})));
        assert!(
            !text.contains("compaction_schedule_last_skip_timestamp_seconds{"),
            "{text}"
        );
    }
}

#[test]
fn two_who_ask_in_the_same_moment_are_told_the_same() {
    let metrics = Metrics::default();
    let schedules = [Arc::new(schedule(&json!({})))];
    let ask = || {
        for _ in 0..2000 {
            let text = metrics.text(|| metrics.gauge_schedules(&schedules));
            assert!(text.contains(&line("missed_runs_total", "4")), "{text}");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(ask);
        scope.spawn(ask);
    });
}

/// A metric with labels is shown once it has been used.
fn used() -> String {
    let metrics = Metrics::default();
    metrics.pass("compactionjob").end(false);
    metrics.count(&Counts::default());
    metrics.lead("compaction-operator", true);
    metrics.gauge(&Jobs {
        states: [("Running".to_owned(), 1)].into(),
        ..Jobs::default()
    });
    metrics.text(|| metrics.gauge_schedules(&[Arc::new(schedule(&json!({})))]))
}

/// As Prometheus knows them: a counter has a suffix, and a histogram has three.
fn names() -> BTreeSet<String> {
    let text = used();
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

fn words(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

/// What stands in braces after words, each with its word: the names of labels, where the word is a metric.
fn braced(text: &str) -> Vec<(&str, BTreeSet<&str>)> {
    let pieces: Vec<&str> = text.split('{').collect();
    let pairs = pieces.windows(2).map(|pair| {
        let inside = pair[1].split('}').next().unwrap_or_default();
        let names = inside.split(',').filter_map(|part| words(part).next());
        (words(pair[0]).next_back().unwrap_or_default(), names.collect())
    });
    pairs.collect()
}

/// What Helm and Grafana put in is no label.
fn without_templates(text: &str) -> String {
    let mut pieces = text.split("{{");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| {
        text + piece.split_once("}}").map_or("", |(_, rest)| rest)
    })
}

/// What the lines of a text sum up by, each with the metrics of its line.
fn grouped(text: &str) -> Vec<(String, BTreeSet<&str>)> {
    let by = |line| {
        str::split(line, " by (")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
    };
    let lines = text.lines().flat_map(|line| {
        let labels: BTreeSet<&str> = by(line).flat_map(|labels| labels.split(", ")).collect();
        named(line).into_iter().map(move |name| (name, labels.clone()))
    });
    lines.collect()
}

#[test]
fn every_label_of_alerts_dashboard_and_documentation_is_one_of_its_metric() {
    let text = used();
    let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, labels) in braced(&text) {
        known.entry(name).or_default().extend(labels);
    }
    // Of the pod that is asked.
    let of_target = BTreeSet::from(["namespace", "pod"]);
    let mut asked = 0;
    for path in [
        "charts/compaction-operator/templates/prometheusrule.yaml",
        "charts/compaction-operator/files/dashboard.json",
        "tests/chart/alerts.test.yaml",
        "docs/operator.md",
    ] {
        let text = without_templates(&std::fs::read_to_string(path).unwrap());
        let braced = braced(&text)
            .into_iter()
            .map(|(name, labels)| (name.to_owned(), labels));
        let of_ours = |(name, _): &(String, _)| !named(name).is_empty();
        for (name, labels) in braced.filter(of_ours).chain(grouped(&text)) {
            let mut known = known.get(&*name).cloned().unwrap_or_default();
            known.extend(&of_target);
            let unknown: Vec<_> = labels.difference(&known).collect();
            assert!(unknown.is_empty(), "{path}: {name} has no label {unknown:?}");
            asked += labels.len();
        }
    }
    assert!(asked > 50, "only {asked} labels were found");
}
