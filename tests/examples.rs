//! The examples are what a user begins with: an API server would take each of them.

use std::path::Path;

use compaction_operator::api::{CompactionSchedule, SourceDisposition};
use compaction_operator::local::manifest;

#[test]
fn every_example_is_a_valid_job_that_keeps_its_sources() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for name in [
        "job.yaml",
        "job-local.yaml",
        "operator/job.yaml",
        "gitops/jobs/logs.yaml",
    ] {
        let job = manifest::read(&examples.join(name), None).unwrap();
        assert_eq!(job.spec.source_disposition, SourceDisposition::Retain, "{name}");
    }
}

#[test]
fn every_example_of_a_schedule_is_valid_and_keeps_its_sources() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for name in ["schedule.yaml", "gitops/jobs/events.yaml"] {
        let text = std::fs::read_to_string(examples.join(name)).unwrap();
        let schedule: CompactionSchedule = serde_saphyr::from_str(&text).unwrap();
        schedule.check(None).unwrap();
        let job = schedule.spec.job_template.spec;
        assert_eq!(job.source_disposition, SourceDisposition::Retain, "{name}");
    }
}
