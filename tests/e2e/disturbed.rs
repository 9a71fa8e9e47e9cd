//! Work that is disturbed: workers and operators die in the middle, and the result is the same.

use serde_json::{Value, json};

use crate::site::{JOB, Site, condition};
use crate::sources::{assert_compacted, put};

/// Small batches in several shards.
fn several_shards() -> Value {
    json!({
        "parallelism": 3,
        "batch": {"size": "8Ki"},
        "output": {"targetObjectSize": "64Ki"},
    })
}

#[test]
fn several_shards_compact_thousands_of_objects() {
    let site = Site::new("several-shards");
    put(&site.bucket, 3000);
    site.start(several_shards());
    site.kubectl(&[
        "wait",
        "compactionjob",
        JOB,
        "--for=condition=Succeeded",
        "--timeout=5m",
    ]);

    let job = site.get("compactionjob", JOB);
    assert_eq!(job["status"]["plan"]["sourceObjects"], 3000);
    assert_eq!(job["status"]["shards"].as_array().unwrap().len(), 3);
    assert_eq!(condition(&job, "Ready").1, "Succeeded");
    let line = site.kubectl(&["get", "cptj", JOB]);
    assert!(line.contains("STATE") && line.contains("PROGRESS"), "{line}");
    assert!(line.contains("Succeeded"), "{line}");
    for reason in ["Planned", "WorkerStarted", "Published"] {
        site.until_event(JOB, reason);
    }
    assert_compacted(&site.bucket);
    assert!(site.verify(several_shards()).contains("3000 sources"));
}
