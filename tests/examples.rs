//! The examples are what a user begins with: an API server would take each of them.

use std::path::Path;

use compaction_operator::api::SourceDisposition;
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
