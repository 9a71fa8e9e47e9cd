//! Somebody damages the ledger of an interrupted job.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::common::program::{STATE_PREFIX, Workplace, finish, signal, wait_for};
use super::{lines, written};

/// A job that was interrupted between two of its batches, and what its outputs are to hold.
fn interrupted() -> (Workplace, Vec<u8>) {
    let place = Workplace::new();
    let mut all = Vec::new();
    for number in 0..60 {
        let lines = lines(number, 400_000);
        all.extend_from_slice(&lines);
        place.put(&format!("in/{number:04}.log"), lines);
    }
    place.job(&json!({"batch": {"size": "256Ki"}, "upload": {"partSize": "5Mi"}}));
    let run = place.start();
    wait_for("two batches", || {
        let state = place.read_state()?;
        (state["status"]["shards"][0]["checkpoint"]["batch"].as_i64()? >= 2).then_some(())
    });
    signal(run.id(), "-INT");
    finish(run).ends_with(130);
    (place, all)
}

/// The path of the one ledger object whose name contains this.
fn ledger_object(place: &Workplace, part: &str) -> PathBuf {
    let mut keys = place.keys(STATE_PREFIX);
    keys.retain(|key| key.contains(part));
    assert_eq!(keys.len(), 1, "{part}: {keys:?}");
    place.object(&keys[0])
}

fn body(place: &Workplace) -> PathBuf {
    let status = place.status();
    let body = status["shards"][0]["checkpoint"]["body"].as_str().unwrap();
    ledger_object(place, body)
}

fn alter(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The job stops, names the object and says what is wrong with it. Sources and outputs stay as they are.
#[track_caller]
fn is_named(find: fn(&Workplace) -> PathBuf) {
    let (place, _) = interrupted();
    let path = find(&place);
    let sources = place.objects("in/");
    let bytes = fs::read(&path).unwrap();
    let bucket = place.object("");
    let key = path.strip_prefix(&bucket).unwrap().to_str().unwrap();

    alter(&path);
    place
        .run()
        .ends_with(1)
        .names(&[key, "was altered", "create a new job"]);
    fs::remove_file(&path).unwrap();
    place.job(&json!({
        "batch": {"size": "256Ki"}, "upload": {"partSize": "5Mi"}, "retryToken": "now it is gone",
    }));
    place
        .run()
        .ends_with(1)
        .names(&[key, "is missing", "create a new job"]);
    assert!(place.objects("in/") == sources);
    assert_eq!(place.keys("out/_compaction/"), [""; 0]);

    fs::write(&path, bytes).unwrap();
    place.job(&json!({
        "batch": {"size": "256Ki"}, "upload": {"partSize": "5Mi"}, "retryToken": "now it is mended",
    }));
    place.run().ends_with(0);
}

#[test]
fn a_damaged_plan_is_named() {
    is_named(|place| ledger_object(place, "/plan.json"));
}

#[test]
fn a_damaged_segment_is_named() {
    is_named(|place| ledger_object(place, "/segment-"));
}

#[test]
fn a_damaged_body_is_named() {
    is_named(body);
}

#[test]
fn a_damaged_list_of_candidates_is_named() {
    is_named(|place| ledger_object(place, "/candidates.jsonl"));
}

#[test]
fn a_damaged_list_of_groups_that_were_left_out_is_named() {
    is_named(|place| ledger_object(place, "/dropped-groups.json"));
}

/// A tail can be made again from the sources.
fn is_built_again(damage: fn(&PathBuf)) {
    let (place, all) = interrupted();
    damage(&ledger_object(&place, "/tails/"));
    place.run().ends_with(0);
    assert!(
        written(&place) == all,
        "the outputs hold something else than the sources"
    );
    assert_eq!(place.keys(STATE_PREFIX), [""; 0]);
}

#[test]
fn a_missing_tail_is_built_again() {
    is_built_again(|tail| fs::remove_file(tail).unwrap());
}

#[test]
fn an_altered_tail_is_built_again() {
    is_built_again(alter);
}

#[test]
fn a_tail_that_has_grown_is_built_again() {
    is_built_again(|tail| {
        let mut bytes = fs::read(tail).unwrap();
        bytes.push(b'\n');
        fs::write(tail, bytes).unwrap();
    });
}
