//! What Flux and Argo CD make of jobs and schedules, by their own libraries: over those that were recorded at each moment
//! of their lives (`tests/e2e/gitops.rs` and `gitops_schedule.rs` record them, and hold them against what they see). Needs
//! Go the first time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod moment;
mod schedule;
mod schedule_moment;
mod verdict;

use std::path::Path;

use jiff::Timestamp;
use moment::{MOMENTS, Moment, READY_WHEN};
use schedule_moment::SCHEDULE_MOMENTS;
use serde_json::{Value, json};
use verdict::{examples, verdicts};

#[test]
fn a_job_is_judged_right_at_each_moment_of_its_life() {
    let jobs: Vec<(&Moment, Value)> = MOMENTS
        .iter()
        .flat_map(|moment| READY_WHEN.map(|ready_when| (moment, moment.recorded(ready_when))))
        .collect();
    let objects: Vec<&Value> = jobs.iter().map(|(_, job)| job).collect();
    for ((moment, job), verdict) in jobs.iter().zip(verdicts(&objects)) {
        moment.assert_judged(job, &verdict);
        assert!(
            !verdict.health.message.is_empty(),
            "{}: a user is told why",
            moment.name
        );
    }
}

#[test]
fn a_job_without_a_status_is_never_taken_for_a_ready_one() {
    let mut job = Moment::named("succeeded").recorded("Accepted");
    // By the schema's default it has one. Without, kstatus alone would be wrong, so the default has to stay.
    job["status"] = json!({});
    let verdict = &verdicts(&[&job])[0];
    assert_eq!(verdict.kstatus, "Current");
    assert_eq!(verdict.health.status, "Progressing");
    job["status"] = json!({"observedGeneration": -1});
    assert_eq!(verdicts(&[&job])[0].kstatus, "InProgress");
}

#[test]
fn an_action_changes_what_it_is_named_for_and_nothing_else() {
    let patch = |moment: &str, action: &str| {
        let mut job = Moment::named(moment).recorded("Accepted");
        // What Lua makes an empty list of.
        job["spec"]["template"]["spec"]["volumes"] = json!([{"name": "scratch", "emptyDir": {}}]);
        job["metadata"]["annotations"] = json!({});
        verdicts(&[&job])[0].actions[action].clone()
    };
    assert_eq!(patch("running", "suspend"), json!({"spec": {"suspend": true}}));
    assert_eq!(patch("suspended", "resume"), json!({"spec": {"suspend": false}}));
    let retry = patch("failed-work", "retry");
    let token = retry["spec"]["retryToken"].as_str().unwrap_or_default();
    assert_eq!(retry, json!({"spec": {"retryToken": token}}));
    assert!(token.parse::<Timestamp>().is_ok(), "{token} says when it was");
}

#[test]
fn the_records_are_small_and_nobodys() {
    let mut files = 0;
    let mut records = READY_WHEN
        .map(|ready_when| MOMENTS[0].record(ready_when))
        .to_vec();
    records.push(SCHEDULE_MOMENTS[0].record());
    for record in records {
        for entry in record.parent().unwrap().read_dir().unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.len() <= 8 << 10, "{} is large", path.display());
            assert!(!text.contains("managedFields"), "{}", path.display());
            files += 1;
        }
    }
    assert_eq!(
        files,
        MOMENTS.len() * READY_WHEN.len() + SCHEDULE_MOMENTS.len(),
        "a record without a moment"
    );
}

/// So that what the documentation shows is what is tested.
#[test]
fn the_documentation_shows_every_example_as_it_is_and_nothing_else() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(tree.join("docs/gitops.md")).unwrap();
    for path in examples() {
        let name = path.strip_prefix(tree).unwrap().display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            page.contains(&format!("\n[`{name}`](../{name}):\n\n```yaml\n{text}```\n")),
            "docs/gitops.md does not show {name} as it is"
        );
    }
    assert_eq!(page.matches("```yaml").count(), examples().len());
}
