//! What `run` and `plan` promise to people and scripts.

use serde_json::{Value, json};

use super::common::program::{Said, Workplace, finish, signal, wait_for};
use super::{lines, small, written};

#[test]
fn a_run_says_what_it_did() {
    let place = small();
    let said = place.run().ends_with(0);
    assert_eq!(said.stdout, "Succeeded: 2 sources are compacted into 1 outputs\n");
    assert_eq!(written(&place), b"1\n2\n3\n");
    let manifest = place.manifest();
    assert_eq!(
        manifest["sources"],
        json!({"objects": 2, "bytes": 6, "records": 3})
    );
}

#[test]
fn a_finished_job_says_so_and_does_nothing() {
    let place = small();
    place.run().ends_with(0);
    let (objects, state) = (place.objects(""), place.state());
    // Even without its store.
    let said: Said = place.run().ends_with(0);
    said.names(&["had ended before; nothing was done"]);
    assert!(place.objects("") == objects);
    assert_eq!(place.state()["status"], state["status"]);
}

#[test]
fn a_failed_job_stays_failed_until_its_retry_token_changes() {
    let place = small();
    place.put("in/b.log.gz", b"\x1f\x8b and no more");
    place
        .run()
        .ends_with(1)
        .names(&["in/b.log.gz", "change spec.retryToken"]);
    place
        .run()
        .ends_with(1)
        .names(&["in/b.log.gz", "nothing was done"]);
    place.job(&json!({"retryToken": "again"}));
    place.run().ends_with(1).names(&["in/b.log.gz"]);
}

#[test]
fn json_output_is_the_final_object_and_nothing_else() {
    let place = small();
    let output = place.run_command().args(["-o", "json"]).output().unwrap();
    let said = Said::from(output).ends_with(0);
    let job: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(job, place.state());
    assert_eq!(job["kind"], "CompactionJob");
    assert_eq!(job["status"]["publish"]["outputs"], 1);
    assert_eq!(said.stderr, "");
}

#[test]
fn a_plan_is_shown_and_writes_nothing() {
    let place = small();
    place.put("in/c.tmp", "no");
    place.job(&json!({"source": {"exclude": ["*.tmp"]}}));
    let plan = |format: &str| {
        let mut command = place.command("plan");
        command.arg("--store").arg(place.store()).args(["-o", format]);
        Said::from(command.output().unwrap()).ends_with(0)
    };
    plan("text").names(&["2 in 1 groups", "1 matched by source.exclude, e.g. in/c.tmp"]);
    let summary: Value = serde_json::from_str(&plan("json").stdout).unwrap();
    assert_eq!(summary["sourceObjects"], 2);
    assert_eq!(summary["leftOut"]["Excluded"]["objects"], 1);
    assert_eq!(place.keys(""), ["in/a.log", "in/b.log", "in/c.tmp"]);
    assert!(!place.state_path().exists());
}

#[test]
fn a_plan_that_was_looked_at_is_the_plan_that_is_run() {
    let place = small();
    place.job(&json!({"mode": "PlanOnly"}));
    place
        .run()
        .ends_with(0)
        .names(&["Planned", "set mode: Execute to run this plan"]);
    assert_eq!(place.outputs().len(), 0);
    let planned = place.status()["plan"].clone();
    // Came too late.
    place.put("in/c.log", "4\n");
    place.job(&json!({}));
    place.run().ends_with(0);
    assert_eq!(place.status()["plan"], planned);
    assert_eq!(place.manifest()["planSha256"], planned["sha256"]);
    assert_eq!(written(&place), b"1\n2\n3\n");
}

#[test]
fn a_second_run_of_a_job_that_is_running_is_refused() {
    let place = Workplace::new();
    for number in 0..20 {
        place.put(&format!("in/{number}.log"), lines(number, 500_000));
    }
    place.job(&json!({"batch": {"size": "256Ki"}}));
    let first = place.start();
    wait_for("the first run to have begun", || place.read_state());
    signal(first.id(), "-STOP");
    place.run().ends_with(2).names(&[
        "job.state.json is in use: another run works on this job",
        "wait for it",
    ]);
    signal(first.id(), "-CONT");
    finish(first).ends_with(0);
}

#[test]
fn a_suspended_job_keeps_its_checkpoints_and_is_resumed() {
    let place = small();
    place.job(&json!({"suspend": true}));
    place.run().ends_with(0).names(&["Suspended"]);
    assert_eq!(place.outputs().len(), 0);
    place.job(&json!({}));
    place.run().ends_with(0);
    assert_eq!(written(&place), b"1\n2\n3\n");
}

#[test]
fn a_job_that_would_be_cleaned_up_after_runs_like_any_other() {
    let place = small();
    place.job(&json!({"deletionPolicy": "Cleanup"}));
    place.run().ends_with(0);
    assert_eq!(written(&place), b"1\n2\n3\n");
    assert_eq!(place.state()["metadata"]["finalizers"], json!([]));
}
