//! Manifests that cannot be run: exit code 2 before anything is touched.

use std::fs;

use serde_json::json;

use super::common::program::Workplace;
use super::small;

/// What is said of a manifest of the small job with these fields.
#[track_caller]
fn refused(spec: &serde_json::Value, texts: &[&str]) {
    let place = small();
    place.job(spec);
    place.run().ends_with(2).names(texts);
    assert!(!place.state_path().exists(), "a refused manifest was taken over");
    assert_eq!(place.keys(""), ["in/a.log", "in/b.log"]);
}

#[test]
fn a_missing_manifest_is_named() {
    Workplace::new()
        .run()
        .ends_with(2)
        .names(&["cannot read", "job.yaml"]);
}

#[test]
fn a_manifest_that_is_no_yaml_is_named() {
    let place = small();
    place.write_manifest("kind: [CompactionJob");
    place.run().ends_with(2).names(&["job.yaml is not YAML"]);
}

#[test]
fn a_manifest_of_another_kind_is_told_what_it_is() {
    let place = small();
    place.write_manifest("apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\n");
    place.run().ends_with(2).names(&[
        "is not a CompactionJob of compaction.dev/v1alpha1",
        "apiVersion: batch/v1, kind: Job",
    ]);
}

#[test]
fn a_manifest_without_a_required_field_is_told_which() {
    let place = small();
    place.write_manifest(
        "apiVersion: compaction.dev/v1alpha1\nkind: CompactionJob\nmetadata: {name: a}\n\
         spec: {storage: {s3: {bucket: data}}, source: {prefix: in/}}\n",
    );
    place.run().ends_with(2).names(&["missing field `output`"]);
}

#[test]
fn unknown_fields_are_named() {
    let spec = json!({"source": {"prefx": "a/"}, "parralelism": 2});
    refused(
        &spec,
        &[
            "unknown fields",
            "spec.source.prefx",
            "spec.parralelism",
            "remove or correct them",
        ],
    );
}

#[test]
fn a_part_below_the_minimum_of_s3_is_refused() {
    refused(
        &json!({"upload": {"partSize": "4Mi"}}),
        &["spec.upload.partSize: 4Mi is not between 5Mi and 5Gi"],
    );
}

#[test]
fn a_size_that_is_none_is_refused() {
    refused(
        &json!({"output": {"targetObjectSize": "many"}}),
        &["spec.output.targetObjectSize", "many"],
    );
}

#[test]
fn a_parallelism_of_zero_is_refused() {
    refused(
        &json!({"parallelism": 0}),
        &["spec.parallelism: 0 is less than 1"],
    );
}

#[test]
fn a_bad_glob_is_named() {
    refused(
        &json!({"source": {"include": ["**/*.log", "a[b"]}}),
        &["spec.source.include", "\"a[b\" is not a glob"],
    );
}

#[test]
fn prefixes_that_contain_each_other_are_refused() {
    for output in ["in/out/", "in/"] {
        refused(
            &json!({"output": {"prefix": output}}),
            &["source.prefix and output.prefix may not contain each other"],
        );
    }
    refused(
        &json!({"source": {"prefix": "out/in/"}}),
        &["source.prefix and output.prefix may not contain each other"],
    );
}

#[test]
fn a_window_that_is_no_size_or_too_small_is_refused_and_can_be_corrected() {
    let place = small();
    let run = |window: &str| {
        let output = place.run_command().args(["--window", window]).output();
        super::common::program::Said::from(output.unwrap())
    };
    run("much")
        .ends_with(2)
        .names(&["invalid value 'much' for '--window <SIZE>'", "much is not a size"]);
    run("16Mi").ends_with(2).names(&[
        "--window",
        "16777216 bytes is too small",
        "it must hold at least",
        "lower upload.partSize",
    ]);
    run("48Mi").ends_with(0);
}

#[test]
fn a_changed_immutable_field_is_refused_and_leaves_the_job_as_it_is() {
    let place = small();
    place.job(&json!({"mode": "PlanOnly"}));
    place.run().ends_with(0);
    let before = place.state();
    place.job(&json!({"batch": {"size": "1Mi"}}));
    place
        .run()
        .ends_with(2)
        .names(&["batch.size", "cannot be changed", "create a new CompactionJob"]);
    assert_eq!(place.state(), before);
}

#[test]
fn the_state_of_another_job_is_not_taken_over() {
    let place = small();
    place.run().ends_with(0);
    let manifest = fs::read_to_string(place.path("job.yaml")).unwrap();
    place.write_manifest(&manifest.replace("\"name\": \"job\"", "\"name\": \"other\""));
    place
        .run()
        .ends_with(2)
        .names(&["job.state.json is the state of the job job", "--state"]);
}

#[test]
fn a_state_file_that_is_none_is_named() {
    let place = small();
    fs::write(place.state_path(), "{").unwrap();
    place
        .run()
        .ends_with(2)
        .names(&["job.state.json is not the state of a job", "--state"]);
}
