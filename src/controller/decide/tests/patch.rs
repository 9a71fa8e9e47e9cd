//! The patch: it gives what was meant, and is refused where somebody else was faster.

use super::*;
use crate::api::SourceDisposition;

/// A decision over two shards, of which one changes.
fn pending() -> (Value, Decision) {
    let mut world = World::running(&[3, 3]);
    world.end(1, exit::RETRY);
    let decision = world.decide();
    (serde_json::to_value(&world.job).unwrap(), decision)
}

fn refused_after(change: impl FnOnce(&mut Value)) -> bool {
    let (mut job, decision) = pending();
    change(&mut job);
    let before = job.clone();
    let refused = json_patch::patch(&mut job, &decision.patch).is_err();
    assert!(
        !refused || job == before,
        "a patch that is refused changes nothing"
    );
    refused
}

#[test]
fn the_patch_is_accepted_where_nothing_has_happened() {
    assert!(!refused_after(|_| ()));
}

#[test]
fn the_patch_is_refused_when_the_epoch_the_sequence_or_the_job_is_another() {
    for path in ["epoch", "checkpoint/sequence", "index"] {
        let moved = |job: &mut Value| {
            let value = job.pointer_mut(&format!("/status/shards/1/{path}")).unwrap();
            *value = json!(value.as_i64().unwrap() + 1);
        };
        assert!(refused_after(moved), "{path}");
    }
    assert!(refused_after(|job| job["metadata"]["uid"] = json!("uid-2")));
    assert!(refused_after(|job| {
        job["status"]["shards"].as_array_mut().unwrap().remove(1);
    }));
}

#[test]
fn what_happens_in_other_shards_does_not_matter() {
    assert!(!refused_after(|job| {
        job["status"]["shards"][0]["checkpoint"]["sequence"] = json!(99);
        job["status"]["shards"][0]["checkpoint"]["batch"] = json!(1);
        job["metadata"]["resourceVersion"] = json!("99");
    }));
}

#[test]
fn what_workers_write_is_not_undone() {
    let (mut job, decision) = pending();
    let worker = json!({"sequence": 7, "batch": 2, "bytesRead": 5, "bytesWritten": 4});
    job["status"]["shards"][0]["checkpoint"] = worker.clone();
    job["status"]["shards"][0]["holder"] = json!("pod-0");
    job["status"]["shards"][1]["refused"] = json!(3);
    job["status"]["shards"][1]["totalBatches"] = json!(8);
    job["status"]["shards"][1]["holder"] = json!("pod-1");
    job["status"]["publish"] = json!({"sha256": "m"});
    json_patch::patch(&mut job, &decision.patch).unwrap();
    let shards = &job["status"]["shards"];
    assert_eq!(shards[0]["checkpoint"], worker);
    assert_eq!(
        (&shards[0]["holder"], &shards[1]["holder"]),
        (&json!("pod-0"), &json!("pod-1"))
    );
    assert_eq!(
        (&shards[1]["refused"], &shards[1]["totalBatches"]),
        (&json!(3), &json!(8))
    );
    assert_eq!(job["status"]["publish"], json!({"sha256": "m"}));
    assert_eq!(shards[1]["lost"], json!(1));
}

#[test]
fn a_view_that_lags_behind_does_not_begin_disposing_twice() {
    let mut world = World::published();
    world.job.spec.source_disposition = SourceDisposition::Delete;
    world.job.spec.source_retention_seconds = 0;
    let late = world.decide();
    world.step();
    world.status_mut().dispose.as_mut().unwrap().done = 5;
    // Even if its epoch and sequence were the ones of the late view.
    let mut job = serde_json::to_value(&world.job).unwrap();
    job["status"]["shards"][0]["epoch"] = json!(1);
    let version = job["metadata"]["resourceVersion"].clone();
    json_patch::patch(&mut job, &late.patch).unwrap_err();
    assert_eq!(job["status"]["dispose"]["done"], json!(5));
    assert_eq!(job["metadata"]["resourceVersion"], version);
}

#[test]
fn applied_to_the_job_it_gives_the_intended_status() {
    let mut world = World::running(&[3, 3]);
    world.job.spec.retry_token = Some("token".to_owned());
    world.end(0, exit::GIVE_UP);
    world.job.status.as_mut().unwrap().retry_token = Some("old".to_owned());
    let mut next = world.status().clone();
    next.retry_token = None;
    next.shards[0].epoch = 9;
    next.shards[0].retry_time = Some(Time(world.now));
    next.shards[1].checkpoint.attempts = 3;
    next.conditions.clear();
    next.dispose = Some(DisposeStatus::default());
    let patch = difference(&world.job, &next).unwrap();
    world.apply(&patch);
    assert_eq!(*world.status(), next);
    next.shards[0].retry_time = None;
    let patch = difference(&world.job, &next).unwrap();
    world.apply(&patch);
    assert_eq!(*world.status(), next);
    assert_eq!(difference(&world.job, &next).unwrap().0, []);
}
