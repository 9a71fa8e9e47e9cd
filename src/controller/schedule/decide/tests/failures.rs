//! Runs that fail, one after the other.

use super::*;

fn fail_at(world: &mut World, hour: u32) {
    world.at(&format!("{hour}:00:00"));
    world.fail(&run(&format!("{hour}:00")));
    world.at(&format!("{hour}:10:00"));
}

#[test]
fn failures_in_a_row_are_counted_until_one_succeeds() {
    let mut world = World::new(json!({}));
    fail_at(&mut world, 10);
    fail_at(&mut world, 11);
    assert_eq!(world.status().consecutive_failures, 2);
    assert_eq!(
        world.condition(types::LAST_RUN_SUCCEEDED),
        ("False", "WorkFailed")
    );
    assert_eq!(world.state(), "Scheduled", "and it goes on");
    world.at("12:00:00");
    world.succeed(&run("12:00"));
    world.at("12:10:00");
    assert_eq!(world.status().consecutive_failures, 0);
}

#[test]
fn too_many_failures_in_a_row_halt_the_schedule_and_its_slots_are_counted() {
    let mut world = World::new(json!({"suspendAfterConsecutiveFailures": 2}));
    fail_at(&mut world, 10);
    fail_at(&mut world, 11);
    assert_eq!(
        (world.condition(types::HALTED).0, world.condition(types::STALLED)),
        ("True", ("True", "Halted"))
    );
    assert_eq!(world.told().last(), Some(&"Halted"));
    assert!(!world.schedule.spec.suspend, "the spec is the user's");
    let decision = world.at("12:00:00");
    assert_eq!(world.skipped(), ("12:00".to_owned(), "Halted", 1));
    assert_eq!(decision.wake, Some(Duration::from_hours(1)));
    assert_eq!(
        (world.made.len(), world.status().next_schedule_time.is_none()),
        (2, true)
    );
    assert_eq!(
        world.told(),
        ["RunSkipped"],
        "and is told of once that it is halted"
    );
}

#[test]
fn a_change_of_the_spec_lets_a_halted_schedule_go_on_with_the_next_slot() {
    let mut world = World::new(json!({"suspendAfterConsecutiveFailures": 1}));
    fail_at(&mut world, 10);
    assert_eq!(world.state(), "Halted");
    world.edit(json!({"jobTemplate": {"spec": {"parallelism": 2}}}));
    world.at("11:20:00");
    assert_eq!(
        (world.state(), world.condition(types::HALTED).0),
        ("Scheduled", "False")
    );
    assert_eq!(world.skipped(), ("11:00".to_owned(), "Halted", 1));
    assert_eq!((world.made.len(), world.status().consecutive_failures), (1, 0));
    world.at("12:00:00");
    assert!(world.exists(&run("12:00")));
}

#[test]
fn a_new_trigger_lets_a_halted_schedule_go_on_at_once() {
    let mut world = World::new(json!({"suspendAfterConsecutiveFailures": 1}));
    fail_at(&mut world, 10);
    world.edit(json!({"manualTrigger": "try again"}));
    world.at("10:20:00");
    assert_eq!((world.made.len(), world.state()), (2, "Running"));
}
