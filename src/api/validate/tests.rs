//! Each rule and bound of the CRD, as a user meets it.

use serde_json::{Value, json};

use super::*;
use crate::api::{
    AddressingStyle, Compression, DeletionPolicy, DisruptionPolicy, FormatType, GroupBy, Mode, OnFault,
    ReadyWhen, SourceDisposition,
};

fn minimal() -> Value {
    json!({
        "apiVersion": "compaction.dev/v1alpha1",
        "kind": "CompactionJob",
        "metadata": {"name": "job"},
        "spec": {
            "storage": {"s3": {"bucket": "bucket"}},
            "source": {"prefix": "in/"},
            "output": {"prefix": "out/"},
        },
    })
}

/// The minimal job with one field set.
fn with(path: &str, value: Value) -> CompactionJob {
    serde_json::from_value(ask::set(minimal(), path, value)).unwrap()
}

fn problems(path: &str, value: Value) -> Vec<String> {
    with(path, value).check(None).err().unwrap_or_default()
}

#[track_caller]
fn accepted(path: &str, value: Value) {
    let text = format!("{path} = {value}");
    ask::assert_accepted(&problems(path, value), &text);
}

/// Refused for one reason, which says this.
#[track_caller]
fn refused(path: &str, value: Value, message: &str) {
    let text = format!("{path} = {value}");
    ask::assert_refused(&problems(path, value), &text, message);
}

#[test]
fn a_minimal_job_is_accepted_with_the_documented_defaults() {
    let job: CompactionJob = serde_json::from_value(minimal()).unwrap();
    let limits = job.check(None).unwrap();
    let mi = 1 << 20;
    let expected = Limits {
        part: 8 * mi,
        batch: 256 * mi,
        target: 256 * mi,
        max_source: 128 * mi,
        cut: 4 * mi,
        max_record: 8 * mi,
        table: 4096 * mi,
    };
    assert_eq!(limits, expected);
    let spec = job.spec;
    assert_eq!(spec.storage.s3.addressing_style, AddressingStyle::Auto);
    assert_eq!(spec.source.min_object_age_seconds, 3600);
    assert_eq!(spec.source.min_sources_per_group, 2);
    assert_eq!(
        (spec.source.on_bad_source, spec.source.on_missing_source),
        (OnFault::Fail, OnFault::Fail)
    );
    assert_eq!(spec.format.type_, FormatType::Lines);
    assert_eq!(
        (spec.output.compression, spec.output.group_by),
        (Compression::Auto, GroupBy::Directory)
    );
    assert_eq!(spec.state_prefix, "_compaction/");
    assert_eq!(
        (spec.batch.upload_deadline_seconds, spec.batch.max_attempts),
        (900, 5)
    );
    assert_eq!(
        (
            spec.batch.backoff_period_seconds,
            spec.batch.max_backoff_period_seconds
        ),
        (10, 600)
    );
    assert_eq!((spec.upload.concurrency, spec.read.concurrency), (4, 64));
    assert_eq!(spec.source_disposition, SourceDisposition::Retain);
    assert_eq!(spec.source_retention_seconds, 86_400);
    assert!(!spec.allow_unconditional_delete && !spec.suspend);
    assert_eq!((spec.parallelism, spec.backoff_limit), (1, 6));
    assert_eq!((spec.mode, spec.retry_token), (Mode::Execute, None));
    let limits = (spec.total_active_deadline_seconds, spec.pending_deadline_seconds);
    assert_eq!((limits, spec.ttl_seconds_after_finished), ((None, None), None));
    assert_eq!(
        (spec.ready_when, spec.deletion_policy, spec.disruption_policy),
        (
            ReadyWhen::Accepted,
            DeletionPolicy::Orphan,
            DisruptionPolicy::Allow
        )
    );
    assert_eq!(spec.template, None);
}

/// As much of a template as a user has to write.
fn resources() -> Value {
    json!({"spec": {"containers": [
        {"name": "worker", "resources": {"limits": {"memory": "512Mi", "cpu": 2}}},
    ]}})
}

#[test]
fn a_template_may_say_as_little_as_one_container_or_nothing_of_containers() {
    accepted("spec.template", resources());
    accepted("spec.template", json!({"metadata": {"labels": {"team": "a"}}}));
    let beside = json!({"spec": {"containers": [{"name": "worker"}, {"name": "proxy", "image": "proxy:1"}]}});
    accepted("spec.template", beside);
}

#[test]
fn workers_are_not_restarted_in_place() {
    let policy = |policy: &str| {
        let mut template = resources();
        template["spec"]["restartPolicy"] = json!(policy);
        template
    };
    accepted("spec.template", policy("Never"));
    for other in ["Always", "OnFailure"] {
        refused("spec.template", policy(other), "restartPolicy can only be Never");
    }
}

#[test]
fn the_schema_of_a_template_asks_for_containers_by_name() {
    let crd = &crate::api::crds().unwrap()[0];
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/template/properties/spec";
    let pod = crd.pointer(path).unwrap();
    assert_eq!(pod["required"], json!(["containers"]));
    assert_eq!(
        pod["properties"]["containers"]["items"]["required"],
        json!(["name"])
    );
}

#[test]
fn a_partial_batch_or_upload_gets_the_other_defaults() {
    let job = with("spec.batch", json!({"maxAttempts": 2}));
    assert_eq!(job.spec.batch.upload_deadline_seconds, 900);
    let job = with("spec.upload", json!({"concurrency": 2}));
    assert_eq!(job.spec.upload.part_size.bytes(), Some(8 << 20));
}

#[test]
fn names_leave_room_for_those_of_worker_pods() {
    accepted("metadata.name", json!("n".repeat(46)));
    refused("metadata.name", json!("n".repeat(47)), "at most 46 characters");
}

#[test]
fn source_and_output_prefixes_may_not_contain_each_other() {
    for output in ["in/", "in/out/"] {
        refused("spec.output.prefix", json!(output), "may not contain each other");
    }
    refused(
        "spec.source.prefix",
        json!("out/in/"),
        "may not contain each other",
    );
    accepted("spec.output.prefix", json!("in2/"));
}

#[test]
fn the_state_prefix_may_not_contain_a_prefix_nor_lie_inside_the_output() {
    let message = "statePrefix may not contain";
    for state in ["out/", "out/state/"] {
        refused("spec.statePrefix", json!(state), message);
    }
    refused("spec.statePrefix", json!("in/"), message);
    refused("spec.output.prefix", json!("_compaction/out/"), message);
    refused("spec.source.prefix", json!("_compaction/in/"), message);
    accepted("spec.statePrefix", json!("in/_state/"));
    accepted("spec.statePrefix", json!("elsewhere/state/"));
}

#[test]
fn the_backoff_may_not_exceed_its_maximum() {
    let message = "backoffPeriodSeconds may not exceed";
    refused("spec.batch.backoffPeriodSeconds", json!(601), message);
    refused("spec.batch.maxBackoffPeriodSeconds", json!(9), message);
    accepted("spec.batch.maxBackoffPeriodSeconds", json!(10));
}

#[test]
fn no_group_may_fail_where_only_the_latest_records_are_kept() {
    let mut job = with("spec.deduplicate", json!({"key": ["/id"]}));
    assert!(job.check(None).is_ok());
    let old = job.clone();
    job.spec.max_failed_groups = 1;
    for problems in [job.check(None), job.check(Some(&old))].map(Result::unwrap_err) {
        let [problem] = &problems[..] else {
            panic!("{problems:#?}")
        };
        let message = "maxFailedGroups must be 0 with deduplicate: groups are deduplicated several at a time";
        assert!(problem.contains(message), "{problem}");
    }
}

#[test]
fn keys_are_json_pointers_and_a_tombstone_has_an_age() {
    let path = "spec.deduplicate";
    accepted(
        path,
        json!({"key": ["/user/id", "/a~1b/~0", "/0"], "version": "/at"}),
    );
    let pointer = "^(/([^~/]|~[01])*)+$";
    for key in ["", "id", "/a~2"] {
        refused(path, json!({"key": [key]}), pointer);
        refused(path, json!({"key": ["/id"], "version": key}), pointer);
    }
    let tombstone = |seconds: i64| json!({"pointer": "/op", "equals": "delete", "retentionSeconds": seconds});
    accepted(path, json!({"key": ["/id"], "tombstone": tombstone(0)}));
    accepted(
        path,
        json!({"key": ["/id"], "version": "/at", "tombstone": tombstone(1)}),
    );
    refused(
        path,
        json!({"key": ["/id"], "tombstone": tombstone(1)}),
        "retentionSeconds needs deduplicate.version",
    );
}

#[test]
fn whether_and_how_records_are_deduplicated_cannot_be_changed() {
    let without = with("metadata.name", json!("job"));
    let by = |key: &str| with("spec.deduplicate", json!({"key": [key]}));
    for (old, new) in [
        (&without, &by("/id")),
        (&by("/id"), &without),
        (&by("/id"), &by("/name")),
    ] {
        let problems = new.check(Some(old)).unwrap_err();
        assert!(
            problems.len() == 1 && problems[0].contains("deduplicate cannot be changed"),
            "{problems:#?}"
        );
    }
    assert!(by("/id").check(Some(&by("/id"))).is_ok());
}

#[test]
fn an_endpoint_is_a_url() {
    for endpoint in ["https://s3.example", "http://127.0.0.1:9000"] {
        accepted("spec.storage.s3.endpoint", json!(endpoint));
    }
    for endpoint in ["s3.example", "ftp://s3.example", ""] {
        refused(
            "spec.storage.s3.endpoint",
            json!(endpoint),
            "endpoint must start with https:// or http://",
        );
    }
}

#[test]
fn numbers_have_bounds() {
    for (path, minimum, maximum) in [
        ("spec.source.minObjectAgeSeconds", 0, 315_360_000),
        ("spec.source.minSourcesPerGroup", 1, 512),
        ("spec.batch.uploadDeadlineSeconds", 1, 86_400),
        ("spec.batch.maxAttempts", 1, 100),
        ("spec.upload.concurrency", 1, 64),
        ("spec.read.concurrency", 1, 1024),
        ("spec.sourceRetentionSeconds", 0, 315_360_000),
        ("spec.parallelism", 1, 64),
        ("spec.backoffLimit", 0, 100),
        ("spec.totalActiveDeadlineSeconds", 1, 315_360_000),
        ("spec.pendingDeadlineSeconds", 1, 315_360_000),
        ("spec.ttlSecondsAfterFinished", 0, 315_360_000),
    ] {
        accepted(path, json!(minimum));
        accepted(path, json!(maximum));
        let message = format!("{path}: {} is less than {minimum}", minimum - 1);
        refused(path, json!(minimum - 1), &message);
        let message = format!("{path}: {} is more than {maximum}", maximum + 1);
        refused(path, json!(maximum + 1), &message);
    }
    refused("spec.batch.backoffPeriodSeconds", json!(-1), "-1 is less than 0");
    let batch = json!({"backoffPeriodSeconds": 86_401, "maxBackoffPeriodSeconds": 86_401});
    assert_eq!(problems("spec.batch", batch).len(), 2);
}

/// Without a key all records would be one.
#[test]
fn records_are_never_compared_by_nothing() {
    let rules = |key: Value| json!({"key": key});
    accepted("spec.deduplicate", rules(json!(["/id"])));
    refused("spec.deduplicate", rules(json!([])), "key: fewer than 1 items");
}

#[test]
fn texts_have_bounds() {
    for (path, longest) in [
        ("spec.storage.s3.bucket", 63),
        ("spec.storage.s3.region", 63),
        ("spec.storage.s3.credentialsSecretRef.name", 253),
        ("spec.storage.s3.caBundleConfigMapRef.name", 253),
        ("spec.retryToken", 63),
    ] {
        accepted(path, json!("a".repeat(longest)));
        let message = format!("{path}: longer than {longest} characters");
        refused(path, json!("a".repeat(longest + 1)), &message);
    }
    for path in [
        "spec.storage.s3.region",
        "spec.storage.s3.credentialsSecretRef.name",
        "spec.storage.s3.caBundleConfigMapRef.name",
    ] {
        refused(path, json!(""), "is too short");
    }
    refused("spec.storage.s3.bucket", json!("ab"), "is too short");
    let long = format!("https://{}", "e".repeat(505));
    refused(
        "spec.storage.s3.endpoint",
        json!(long),
        "longer than 512 characters",
    );
}

#[test]
fn a_bucket_is_named_as_s3_names_it() {
    for bucket in ["my-bucket", "my.bucket", "0bucket9"] {
        accepted("spec.storage.s3.bucket", json!(bucket));
    }
    for bucket in ["My-Bucket", "-bucket", "bucket-", "a/b", "buck_et"] {
        refused("spec.storage.s3.bucket", json!(bucket), "does not match");
    }
}

#[test]
fn prefixes_end_with_a_slash_and_do_not_begin_with_one() {
    for path in ["spec.source.prefix", "spec.output.prefix", "spec.statePrefix"] {
        accepted(path, json!("some/where/"));
        accepted(path, json!(format!("{}/", "p".repeat(511))));
        for prefix in ["/some/", "some"] {
            refused(path, json!(prefix), "does not match");
        }
        let message = "longer than 512 characters";
        refused(path, json!(format!("{}/", "p".repeat(512))), message);
        assert!(!problems(path, json!("")).is_empty(), "{path} is empty");
        assert!(!problems(path, json!("/")).is_empty(), "{path} is the root");
    }
}

#[test]
fn globs_are_few_and_short() {
    for path in ["spec.source.include", "spec.source.exclude"] {
        accepted(path, json!(vec!["g".repeat(256); 32]));
        refused(path, json!(vec!["g"; 33]), "more than 32 items");
        refused(path, json!(["g", ""]), &format!("{path}[1]: \"\" is too short"));
        refused(path, json!(["g".repeat(257)]), "longer than 256 characters");
    }
}

#[test]
fn sizes_are_quantities_above_zero() {
    for path in [
        "spec.batch.size",
        "spec.output.targetObjectSize",
        "spec.source.maxObjectSize",
        "spec.upload.partSize",
    ] {
        accepted(path, json!("100Mi"));
        accepted(path, json!(100_000_000));
        for size in ["1.5Gi", "8MiB", "-1", "8 Mi", ""] {
            let problems = problems(path, json!(size));
            assert!(
                problems.iter().any(|p| p.contains("does not match")),
                "{size}: {problems:?}"
            );
        }
        for size in ["0", "99999999999Ti"] {
            refused(path, json!(size), "is not a size");
        }
    }
}

#[test]
fn parts_are_as_large_as_s3_demands() {
    for size in [json!("5Mi"), json!(5 << 20), json!("5Gi")] {
        accepted("spec.upload.partSize", size);
    }
    for size in [json!("4Mi"), json!((5 << 20) - 1), json!("6Gi")] {
        refused("spec.upload.partSize", size, "is not between 5Mi and 5Gi");
    }
}

#[test]
fn what_the_plan_depends_on_cannot_be_changed() {
    let old: CompactionJob = serde_json::from_value(minimal()).unwrap();
    for (path, value) in [
        ("spec.storage.s3.bucket", json!("other")),
        ("spec.storage.s3.region", json!("eu-central-1")),
        ("spec.storage.s3.endpoint", json!("https://other")),
        ("spec.storage.s3.caBundleConfigMapRef", json!({"name": "other"})),
        ("spec.source.prefix", json!("other/")),
        ("spec.source.include", json!(["*"])),
        ("spec.source.exclude", json!(["*"])),
        ("spec.source.minObjectAgeSeconds", json!(1)),
        ("spec.source.maxObjectSize", json!("1Mi")),
        ("spec.source.minSourcesPerGroup", json!(1)),
        ("spec.source.onBadSource", json!("Skip")),
        ("spec.output.prefix", json!("other/")),
        ("spec.output.targetObjectSize", json!("1Gi")),
        ("spec.output.compression", json!("Zstd")),
        ("spec.output.groupBy", json!("All")),
        ("spec.output.objectMetadata", json!({"storageClass": "GLACIER"})),
        ("spec.statePrefix", json!("other/")),
        ("spec.batch.size", json!("1Mi")),
        ("spec.upload.partSize", json!("5Mi")),
    ] {
        let new = with(path, value);
        let problems = new.check(Some(&old)).err().unwrap_or_default();
        assert!(
            problems.len() == 1 && problems[0].contains("cannot be changed"),
            "{path}: {problems:?}"
        );
        new.check(Some(&new)).unwrap();
    }
}

#[test]
fn everything_else_can_be_changed() {
    let old: CompactionJob = serde_json::from_value(minimal()).unwrap();
    for (path, value) in [
        ("spec.batch.uploadDeadlineSeconds", json!(60)),
        ("spec.batch.maxAttempts", json!(9)),
        ("spec.batch.backoffPeriodSeconds", json!(0)),
        ("spec.upload.concurrency", json!(1)),
        ("spec.read.concurrency", json!(1)),
        ("spec.sourceDisposition", json!("Delete")),
        ("spec.sourceRetentionSeconds", json!(0)),
        ("spec.allowUnconditionalDelete", json!(true)),
        ("spec.parallelism", json!(64)),
        ("spec.mode", json!("PlanOnly")),
        ("spec.suspend", json!(true)),
        ("spec.backoffLimit", json!(0)),
        ("spec.retryToken", json!("again")),
        ("spec.totalActiveDeadlineSeconds", json!(60)),
        ("spec.pendingDeadlineSeconds", json!(60)),
        ("spec.ttlSecondsAfterFinished", json!(60)),
        ("spec.readyWhen", json!("Succeeded")),
        ("spec.deletionPolicy", json!("Cleanup")),
        ("spec.disruptionPolicy", json!("Avoid")),
        ("spec.template", resources()),
    ] {
        let problems = with(path, value).check(Some(&old)).err().unwrap_or_default();
        assert_eq!(problems, Vec::<String>::new(), "{path}");
    }
}

#[test]
fn neither_an_epoch_nor_a_sequence_falls() {
    let job = |epoch: i64, sequence: i64| -> CompactionJob {
        let mut job = minimal();
        job["status"] = json!({"shards": [
            {"index": 0, "epoch": epoch, "checkpoint": {"sequence": sequence}}
        ]});
        serde_json::from_value(job).unwrap()
    };
    let old = job(3, 7);
    job(4, 8).check(Some(&old)).unwrap();
    job(3, 7).check(Some(&old)).unwrap();
    for (new, message) in [
        (job(2, 8), "an epoch never falls"),
        (job(4, 6), "a sequence never falls"),
    ] {
        let problems = new.check(Some(&old)).unwrap_err();
        assert!(
            problems.len() == 1 && problems[0].contains(message),
            "{problems:?}"
        );
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let mut job = minimal();
    job["spec"]["parallelism"] = json!(0);
    job["spec"]["output"]["prefix"] = json!("in/");
    job["spec"]["upload"] = json!({"partSize": "1Mi"});
    let job: CompactionJob = serde_json::from_value(job).unwrap();
    assert_eq!(job.check(None).unwrap_err().len(), 3);
}
