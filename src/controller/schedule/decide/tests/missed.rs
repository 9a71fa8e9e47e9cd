//! Slots whose time passed while nobody could start them.

use super::*;

#[test]
fn of_several_slots_while_the_operator_was_down_the_latest_is_run_and_the_others_are_counted() {
    let mut world = World::new(json!({}));
    world.at("13:20:00");
    assert_eq!(world.made, [run("13:00")]);
    assert_eq!(world.skipped(), ("12:00".to_owned(), "Missed", 3));
    let found = world.status().last_skip.as_ref().unwrap().time.as_ref();
    assert_eq!(
        found.map(|time| clock(time.0)).unwrap(),
        "13:20",
        "long after its slot"
    );
    assert_eq!(world.told(), ["RunStarted", "RunSkipped"]);
    assert!(world.look(&[]).create.is_none(), "and no other");
}

#[test]
fn more_than_a_hundred_missed_slots_stop_nothing() {
    let mut world = World::new(json!({"schedule": "* * * * *"}));
    world.at("12:00:30");
    assert_eq!(world.made, [run("12:00")]);
    assert_eq!(world.status().missed_runs, 149);
}

#[test]
fn of_a_million_missed_slots_a_thousand_are_counted() {
    let mut world = World::new(json!({"schedule": "* * * * *"}));
    world.now = "2028-01-01T00:00:30Z".parse().unwrap();
    world.step();
    assert_eq!((world.made.len(), world.status().missed_runs), (1, 1000));
    world.pass(60);
    world.succeed(&world.made[0].clone());
    world.step();
    assert_eq!((world.made.len(), world.status().missed_runs), (2, 1000));
}

#[test]
fn a_slot_later_than_its_deadline_is_skipped() {
    let mut world = World::new(json!({"startingDeadlineSeconds": 600}));
    world.at("10:10:00");
    assert_eq!(world.made, [run("10:00")], "just in time");
    world.succeed(&run("10:00"));
    world.at("11:10:01");
    assert_eq!(world.made.len(), 1);
    assert_eq!(
        world.skipped(),
        ("11:00".to_owned(), "StartingDeadlineExceeded", 1)
    );
    assert_eq!(world.state(), "Scheduled");
    world.at("12:00:00");
    assert!(world.exists(&run("12:00")));
}

#[test]
fn with_the_policy_skip_what_was_missed_is_counted_and_not_run() {
    let mut world = World::new(json!({"missedRunPolicy": "Skip"}));
    world.at("12:01:01");
    assert_eq!(
        (world.made.len(), world.skipped()),
        (0, ("12:00".to_owned(), "Missed", 3))
    );
    world.at("13:01:00");
    assert_eq!(
        world.made,
        [run("13:00")],
        "another controller may need a moment to take over"
    );
}

#[test]
fn a_schedule_is_not_made_up_for_before_it_was_there() {
    let mut world = World::unseen(json!({}));
    world.at("09:59:00");
    assert_eq!((world.made.len(), world.status().missed_runs), (0, 0));
    let mut late = World::unseen(json!({}));
    late.at("12:10:00");
    assert_eq!(
        (late.made.clone(), late.status().missed_runs),
        (vec![run("12:00")], 2)
    );
}

#[test]
fn a_run_whose_status_was_not_written_is_known_again_after_a_restart() {
    let mut world = World::new(json!({}));
    world.now = moment("10:00:00");
    world.make();
    assert_eq!(
        (world.made.len(), world.active().len()),
        (1, 0),
        "made, and told to nobody"
    );
    world.at("10:00:20");
    assert_eq!(
        (world.made.len(), world.active()),
        (1, vec![run("10:00").as_str()])
    );
    assert_eq!(
        clock(world.status().last_schedule_time.as_ref().unwrap().0),
        "10:00"
    );
}

#[test]
fn a_run_that_also_ended_before_its_status_was_written_is_counted_once() {
    let mut world = World::new(json!({}));
    world.now = moment("10:00:00");
    world.make();
    world.fail(&run("10:00"));
    world.at("10:10:00");
    assert_eq!((world.made.len(), world.status().consecutive_failures), (1, 1));
    assert_eq!(world.told(), ["RunStarted", "RunFailed"]);
    world.at("10:20:00");
    assert_eq!(world.status().consecutive_failures, 1);
}

#[test]
fn a_status_that_was_lost_is_made_again_of_the_runs_that_are_there() {
    let mut world = World::new(json!({}));
    world.at("10:00:00");
    world.schedule.status = Some(CompactionScheduleStatus::default());
    world.at("10:30:00");
    assert_eq!(
        (world.made.len(), world.active()),
        (1, vec![run("10:00").as_str()])
    );
    assert_eq!(world.status().missed_runs, 0);
}

#[test]
fn a_run_may_go_when_its_end_is_told() {
    let mut world = World::new(json!({}));
    world.now = moment("10:00:00");
    world.make();
    let told =
        |world: &World| crate::controller::schedule::runs::is_accounted_for(&world.schedule, &world.jobs[0]);
    assert!(!told(&world), "nobody knows of it");
    world.step();
    world.succeed(&run("10:00"));
    assert!(!told(&world), "it is taken for active");
    world.step();
    assert!(told(&world));
}
