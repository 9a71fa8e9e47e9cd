//! A slot comes while an earlier run is active.

use super::*;
use crate::controller::schedule::runs::manual_name;

#[test]
fn forbid_waits_for_the_run_and_starts_the_slot_after_it() {
    let mut world = World::new(json!({}));
    world.at("10:00:00");
    world.at("11:00:00");
    assert_eq!((world.made.len(), world.state()), (1, "Waiting"));
    let message = format!(
        "the slot 2026-01-01T11:00:00Z waits for {}, which is active",
        run("10:00")
    );
    assert_eq!(world.message(), message);
    assert_eq!(world.status().missed_runs, 0, "it is not lost yet");
    world.succeed(&run("10:00"));
    world.at("11:25:00");
    assert_eq!(world.made, [run("10:00"), run("11:00")]);
    assert_eq!(world.status().missed_runs, 0);
}

#[test]
fn forbid_skips_a_slot_when_the_next_one_comes() {
    let mut world = World::new(json!({}));
    world.at("10:00:00");
    world.at("11:00:00");
    world.at("12:00:00");
    assert_eq!(world.skipped(), ("11:00".to_owned(), "PreviousRunActive", 1));
    world.at("12:00:10");
    assert_eq!(world.status().missed_runs, 1, "counted once");
    world.succeed(&run("10:00"));
    world.at("12:30:00");
    assert_eq!(world.made, [run("10:00"), run("12:00")]);
}

#[test]
fn forbid_gives_a_slot_up_at_its_deadline() {
    let mut world = World::new(json!({"startingDeadlineSeconds": 900}));
    world.at("10:00:00");
    let decision = world.at("11:00:00");
    assert_eq!(decision.wake, Some(Duration::from_mins(15)));
    world.at("11:15:01");
    assert_eq!(
        world.skipped(),
        ("11:00".to_owned(), "StartingDeadlineExceeded", 1)
    );
    let message = &world.status().last_skip.as_ref().unwrap().message;
    assert_eq!(message, "could not start within 900 s: an earlier run is active");
    assert_eq!(world.state(), "Running");
}

#[test]
fn a_run_that_only_disposes_of_its_sources_is_not_active() {
    let mut world = World::new(json!({}));
    world.at("10:00:00");
    world.end_as(&run("10:00"), types::SUCCEEDED, "Succeeded");
    world.at("11:00:00");
    assert_eq!(world.active(), [run("11:00").as_str()]);
}

#[test]
fn allow_starts_beside_others_but_no_more_than_ten() {
    let mut world = World::new(json!({"schedule": "* * * * *", "concurrencyPolicy": "Allow"}));
    for minute in 31..43 {
        world.at(&format!("09:{minute}:00"));
    }
    assert_eq!((world.made.len(), world.active().len()), (10, 10));
    assert_eq!(world.state(), "Waiting");
    assert_eq!(world.skipped(), ("09:41".to_owned(), "PreviousRunActive", 1));
    world.succeed(&run("09:31"));
    world.at("09:42:30");
    assert!(world.exists(&run("09:42")));
}

#[test]
fn replace_deletes_the_run_and_starts_when_it_is_gone() {
    let mut world = World::new(json!({"concurrencyPolicy": "Replace"}));
    world.at("10:00:00");
    world.told();
    world.now = moment("11:00:00");
    let decision = world.make();
    world.apply(&decision);
    assert_eq!(
        decision
            .delete
            .iter()
            .map(|run| run.name.as_str())
            .collect::<Vec<_>>(),
        [run("10:00")]
    );
    assert_eq!(world.made.len(), 1, "not before it is gone");
    let now = world.now;
    world.job(&run("10:00")).metadata.deletion_timestamp = Some(Time(now));
    let decision = world.at("11:00:10");
    assert_eq!((decision.delete.len(), world.made.len()), (0, 1));
    assert_eq!(world.state(), "Waiting");
    world.jobs.clear();
    world.at("11:00:20");
    assert_eq!(
        (world.made.len(), world.active()),
        (2, vec![run("11:00").as_str()])
    );
    assert_eq!(world.told(), ["RunReplaced", "RunStarted", "RunDeleted"]);
    assert_eq!(world.status().missed_runs, 0);
}

#[test]
fn replace_replaces_no_run_that_was_started_when_the_slot_came() {
    let mut world = World::new(json!({"concurrencyPolicy": "Replace"}));
    world.edit(json!({"manualTrigger": "again"}));
    let manual = manual_name("hourly", 1);
    for time in ["10:00:00", "10:00:10"] {
        assert_eq!(world.at(time).delete, []);
        assert_eq!((world.made.len(), world.state()), (1, "Waiting"));
        assert_eq!(world.active(), [manual.as_str()]);
    }
    let message = format!("the slot 2026-01-01T10:00:00Z waits for {manual}, which is active");
    assert_eq!(world.message(), message);
    world.succeed(&manual);
    world.at("10:20:00");
    assert_eq!(world.active(), [run("10:00").as_str()]);
    assert_eq!(world.told(), ["RunStarted", "RunSucceeded", "RunStarted"]);
}

#[test]
fn replace_does_not_go_by_the_clock_of_the_api_server() {
    let mut world = World::new(json!({"concurrencyPolicy": "Replace"}));
    world.edit(json!({"manualTrigger": "again"}));
    world.now = moment("10:00:00");
    world.make();
    let behind = moment("09:59:58");
    world.job(&manual_name("hourly", 1)).metadata.creation_timestamp = Some(Time(behind));
    assert_eq!(world.at("10:00:01").delete, []);
}

#[test]
fn replace_lets_a_trigger_replace_a_slot_and_the_next_slot_replace_that() {
    let mut world = World::new(json!({"concurrencyPolicy": "Replace"}));
    world.at("10:00:00");
    world.edit(json!({"manualTrigger": "again"}));
    for time in ["10:10:00", "10:10:10"] {
        world.at(time);
    }
    assert_eq!(world.active(), [manual_name("hourly", 1).as_str()]);
    for time in ["11:00:00", "11:00:10"] {
        world.at(time);
    }
    assert_eq!(world.active(), [run("11:00").as_str()]);
    assert_eq!((world.made.len(), world.status().missed_runs), (3, 0));
}

#[test]
fn a_run_that_somebody_deleted_is_told_of_and_counts_as_no_failure() {
    let mut world = World::new(json!({}));
    world.at("10:00:00");
    world.jobs.clear();
    world.at("10:05:00");
    assert_eq!((world.active().len(), world.state()), (0, "Scheduled"));
    let last = world.status().last_run.as_ref().unwrap();
    assert_eq!(last.result, Some(RunResult::Deleted));
    assert_eq!((world.status().consecutive_failures, world.made.len()), (0, 1));
}

#[test]
fn a_failed_run_that_is_let_go_on_is_active_again() {
    let mut world = World::new(json!({}));
    world.at("10:00:00");
    world.fail(&run("10:00"));
    world.at("10:05:00");
    assert_eq!(world.status().consecutive_failures, 1);
    world.job(&run("10:00")).status = None;
    world.at("10:06:00");
    assert_eq!(world.active(), [run("10:00").as_str()]);
    world.succeed(&run("10:00"));
    world.at("10:07:00");
    assert_eq!((world.status().consecutive_failures, world.made.len()), (0, 1));
}
