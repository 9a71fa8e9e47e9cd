//! Interrupts, as a terminal or a service manager sends them.

use std::fs;
use std::io::{BufRead as _, BufReader};

use serde_json::json;

use super::common::program::{Said, Workplace, children, finish, is_worker, signal, wait_for};
use super::content::Content;

/// A job of some 60 batches, and the bytes that its outputs hold together.
fn place() -> (Workplace, Vec<u8>) {
    let place = Workplace::new();
    let mut content = Content::new(3);
    let mut all = Vec::new();
    for number in 0..60 {
        let lines = content.lines(400_000);
        all.extend_from_slice(&lines);
        place.put(&format!("in/{number:04}.log"), lines);
    }
    place.job(&json!({"batch": {"size": "256Ki"}, "upload": {"partSize": "5Mi"}}));
    (place, all)
}

fn interrupted_by(name: &str) {
    let (place, all) = place();
    let run = place.start();
    wait_for("a batch", || {
        let state = place.read_state()?;
        (state["status"]["shards"][0]["checkpoint"]["batch"].as_i64()? > 0).then_some(())
    });
    signal(run.id(), name);
    let said: Said = finish(run);
    let said = said.ends_with(130);
    said.names(&["stopping at the next checkpoint", "run the same command again"]);

    let status = place.status();
    assert!(status.get("publish").is_none(), "{status:#}");
    assert_eq!(status.get("failures"), None, "{status:#}");
    place.run().ends_with(0);
    let written: Vec<u8> = place.outputs().into_values().flatten().collect();
    assert!(written == all, "the outputs hold something else than the sources");
}

#[test]
fn after_an_interrupt_the_run_can_be_gone_on_with() {
    interrupted_by("-INT");
}

#[test]
fn after_a_termination_the_run_can_be_gone_on_with() {
    interrupted_by("-TERM");
}

/// Else Ctrl-C would end the workers at once, in the middle of their batches.
#[test]
fn an_interrupt_from_the_terminal_reaches_the_run_and_not_its_workers() {
    let (place, _) = place();
    let run = place.start();
    let worker = wait_for("a worker", || children(run.id()).first().copied());
    assert_ne!(process_group(worker), process_group(run.id()));
    signal(run.id(), "-INT");
    finish(run).ends_with(130);
}

/// The worker is made to stand still, so that it never reaches a checkpoint.
#[test]
fn a_second_interrupt_ends_the_run_at_once() {
    let (place, all) = place();
    let mut run = place.start();
    let worker = wait_for("a worker", || children(run.id()).first().copied());
    signal(worker, "-STOP");
    signal(run.id(), "-INT");
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("interrupt again to stop at once")));
    signal(run.id(), "-INT");
    finish(run).ends_with(130);

    signal(worker, "-CONT");
    wait_for("the worker to end by itself", || {
        (!is_worker(worker)).then_some(())
    });
    place.run().ends_with(0);
    let written: Vec<u8> = place.outputs().into_values().flatten().collect();
    assert!(written == all, "the outputs hold something else than the sources");
}

fn process_group(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // pid (name) state parent group
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_whitespace().nth(2).unwrap().to_owned()
}
