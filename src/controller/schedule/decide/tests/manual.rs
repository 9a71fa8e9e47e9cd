//! `manualTrigger`: one run for each change.

use super::*;
use crate::controller::schedule::runs::manual_name;

#[test]
fn a_changed_trigger_starts_one_run() {
    let mut world = World::new(json!({}));
    world.edit(json!({"manualTrigger": "again"}));
    world.at("09:40:00");
    let name = manual_name("hourly", 1);
    assert_eq!(world.made, std::slice::from_ref(&name));
    assert_eq!(world.status().last_manual_trigger.as_deref(), Some("again"));
    assert_eq!(world.jobs[0].spec.source.prefix, "in/09/");
    let annotations = world.jobs[0].annotations();
    assert_eq!(annotations["compaction.dev/manual-trigger"], "again");
    let last = world.status().last_run.as_ref().unwrap();
    assert_eq!(last.scheduled_time.0, moment("09:40:00"));
    world.succeed(&name);
    world.at("09:50:00");
    assert_eq!(world.made.len(), 1);
    world.edit(json!({"manualTrigger": null}));
    world.at("09:51:00");
    assert_eq!(
        (world.made.len(), &world.status().last_manual_trigger),
        (1, &None)
    );
    world.edit(json!({"manualTrigger": "once more"}));
    world.at("09:52:00");
    assert_eq!(world.made.len(), 2);
    world.at("10:00:00");
    assert!(!world.exists(&run("10:00")), "the slot waits for it");
    world.succeed(&manual_name("hourly", 2));
    world.at("10:01:00");
    assert!(world.exists(&run("10:00")), "and is not lost by it");
}

#[test]
fn a_trigger_is_obeyed_once_also_if_its_status_was_not_written() {
    let mut world = World::new(json!({}));
    world.edit(json!({"manualTrigger": "again"}));
    world.make();
    world.succeed(&manual_name("hourly", 1));
    world.step();
    assert_eq!(world.made.len(), 1);
    assert_eq!(world.told(), ["RunStarted", "RunSucceeded"]);
}

#[test]
fn a_trigger_waits_for_an_active_run_and_is_not_lost() {
    let mut world = World::new(json!({}));
    world.at("10:00:00");
    world.edit(json!({"manualTrigger": "again"}));
    world.at("10:10:00");
    assert_eq!((world.made.len(), world.state()), (1, "Waiting"));
    assert!(
        world.message().starts_with("the run of manualTrigger waits for"),
        "{}",
        world.message()
    );
    world.succeed(&run("10:00"));
    world.at("10:20:00");
    assert_eq!(world.made.len(), 2);
}

#[test]
fn a_suspended_schedule_obeys_a_trigger() {
    let mut world = World::new(json!({"suspend": true}));
    world.edit(json!({"manualTrigger": "again"}));
    world.at("10:10:00");
    assert_eq!(
        (world.made.clone(), world.state()),
        (vec![manual_name("hourly", 1)], "Suspended")
    );
}

#[test]
fn a_schedule_made_with_a_trigger_obeys_it() {
    let world = World::new(json!({"manualTrigger": "first"}));
    assert_eq!(world.made, [manual_name("hourly", 1)]);
}

#[test]
fn a_trigger_and_a_slot_at_one_time_both_run_where_that_is_allowed() {
    let mut world = World::new(json!({"concurrencyPolicy": "Allow"}));
    world.edit(json!({"manualTrigger": "again"}));
    world.at("10:00:00");
    assert_eq!(world.made, [manual_name("hourly", 1), run("10:00")]);
}

#[test]
fn a_trigger_that_was_there_before_starts_a_run_again() {
    let mut world = World::new(json!({}));
    for (number, trigger) in (1..).zip(["a", "b", "a", "a", "b"]) {
        world.edit(json!({"manualTrigger": null}));
        world.at("09:40:00");
        world.edit(json!({"manualTrigger": trigger}));
        world.at("09:41:00");
        assert_eq!(world.active(), [manual_name("hourly", number).as_str()]);
        world.succeed(&manual_name("hourly", number));
        world.at("09:42:00");
    }
    assert_eq!((world.made.len(), world.jobs.len()), (5, 3), "whatever is kept");
    assert_eq!(world.status().missed_runs, 0);
}

#[test]
fn a_trigger_that_was_changed_back_before_the_status_was_written_is_another_one() {
    let mut world = World::new(json!({"concurrencyPolicy": "Allow"}));
    let edit = |world: &mut World, trigger: &str| world.edit(json!({"manualTrigger": trigger}));
    edit(&mut world, "a");
    world.at("09:40:00");
    edit(&mut world, "b");
    world.make();
    edit(&mut world, "a");
    world.at("09:42:00");
    let triggers: Vec<&str> = world
        .jobs
        .iter()
        .map(|job| job.annotations()["compaction.dev/manual-trigger"].as_str())
        .collect();
    assert_eq!(triggers, ["a", "b", "a"]);
    assert_eq!(world.active().len(), 3, "each is told of");
    assert_eq!(world.status().last_manual_trigger.as_deref(), Some("a"));
    world.at("09:43:00");
    assert_eq!(world.made.len(), 3);
}

#[test]
fn a_status_that_was_lost_starts_no_run_of_a_trigger_again() {
    let mut world = World::new(json!({"concurrencyPolicy": "Allow"}));
    for trigger in ["a", "b"] {
        world.edit(json!({"manualTrigger": trigger}));
        world.at("09:40:00");
    }
    world.schedule.status = Some(CompactionScheduleStatus::default());
    world.at("09:45:00");
    assert_eq!((world.made.len(), world.active().len()), (2, 2));
}

#[test]
fn a_name_that_belongs_to_somebody_else_costs_no_trigger() {
    let mut world = World::new(json!({}));
    let taken = manual_name("hourly", 1);
    world.refuses.insert(taken, NotMade::Conflict);
    world.edit(json!({"manualTrigger": "again"}));
    world.at("09:40:00");
    assert_eq!(world.made, [manual_name("hourly", 2)]);
    assert_eq!(world.told(), ["RunStarted"]);
    assert_eq!(world.state(), "Running");
}
