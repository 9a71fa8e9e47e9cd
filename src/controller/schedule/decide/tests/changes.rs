//! A schedule that is edited, suspended and resumed in the middle.

use super::*;

#[test]
fn slots_of_a_changed_schedule_begin_with_the_change() {
    let mut world = World::new(json!({"schedule": "0 22 * * *"}));
    world.now = moment("12:20:00");
    world.edit(json!({"schedule": "*/5 * * * *"}));
    world.step();
    assert_eq!(
        (world.made.len(), world.status().missed_runs),
        (0, 0),
        "no slot of the morning is made up for"
    );
    assert_eq!(world.status().observed_generation, 2);
    world.at("12:25:00");
    assert_eq!(world.made, [run("12:25")]);
}

#[test]
fn a_slot_that_waits_when_the_schedule_is_changed_is_told_of() {
    let mut world = World::new(json!({}));
    world.at("10:00:00");
    world.at("11:00:00");
    world.edit(json!({"timeZone": "Europe/Berlin"}));
    world.at("11:10:00");
    assert_eq!(world.skipped(), ("11:00".to_owned(), "ScheduleChanged", 1));
    world.succeed(&run("10:00"));
    world.at("11:20:00");
    assert_eq!(world.made.len(), 1);
}

#[test]
fn another_change_of_the_spec_loses_no_slot() {
    let mut world = World::new(json!({}));
    world.now = moment("10:00:05");
    world.edit(json!({"jitterSeconds": 0, "jobTemplate": {"spec": {"parallelism": 2}}}));
    world.step();
    assert_eq!(world.made, [run("10:00")]);
    assert_eq!(world.jobs[0].spec.parallelism, 2);
}

#[test]
fn a_suspended_schedule_runs_nothing_and_makes_up_for_nothing() {
    let mut world = World::new(json!({}));
    world.edit(json!({"suspend": true}));
    for time in ["09:40:00", "10:00:00", "11:00:00"] {
        let decision = world.at(time);
        assert_eq!((world.made.len(), decision.wake), (0, None));
    }
    assert_eq!(
        (world.state(), world.condition(types::READY).0),
        ("Suspended", "True")
    );
    assert_eq!(world.status().next_schedule_time, None);
    world.edit(json!({"suspend": false}));
    world.at("11:30:00");
    assert_eq!((world.made.len(), world.status().missed_runs), (0, 0));
    world.at("12:00:00");
    assert_eq!(world.made, [run("12:00")]);
}

#[test]
fn a_suspended_schedule_whose_schedule_is_changed_misses_nothing() {
    let mut world = World::new(json!({"suspend": true}));
    world.edit(json!({"schedule": "30 * * * *"}));
    world.at("12:00:00");
    world.edit(json!({"suspend": false}));
    world.at("12:10:00");
    assert_eq!((world.made.len(), world.status().missed_runs), (0, 0));
    world.at("12:30:00");
    assert_eq!(world.made, [run("12:30")]);
}

#[test]
fn a_slot_that_waits_when_the_schedule_is_suspended_is_told_of() {
    let mut world = World::new(json!({}));
    world.at("10:00:00");
    world.at("11:00:00");
    world.edit(json!({"suspend": true}));
    world.at("11:10:00");
    assert_eq!(world.skipped(), ("11:00".to_owned(), "Suspended", 1));
    assert_eq!(world.active(), [run("10:00").as_str()], "runs go on");
    world.succeed(&run("10:00"));
    world.at("11:20:00");
    assert_eq!((world.made.len(), world.state()), (1, "Suspended"));
    assert_eq!(world.condition(types::LAST_RUN_SUCCEEDED).0, "True");
}

#[test]
fn a_schedule_that_is_not_understood_says_so_and_goes_on_when_it_is() {
    for (spec, reason, words) in [
        (json!({"schedule": "61 * * * *"}), "InvalidSchedule", "61 * * * *"),
        (
            json!({"schedule": "0 0 30 2 *"}),
            "InvalidSchedule",
            "never comes",
        ),
        (
            json!({"timeZone": "Europe/Atlantis"}),
            "InvalidTimeZone",
            "Europe/Atlantis",
        ),
    ] {
        let mut world = World::new(spec);
        assert_eq!(world.condition(types::STALLED), ("True", reason));
        assert!(world.message().contains(words), "{}", world.message());
        assert_eq!(world.at("10:00:00").wake, None, "nothing is waited for");
        world.edit(json!({"schedule": "0 * * * *", "timeZone": "Etc/UTC"}));
        world.at("10:30:00");
        assert_eq!((world.state(), world.made.len()), ("Scheduled", 0));
        world.at("11:00:00");
        assert_eq!(world.made, [run("11:00")]);
    }
}

#[test]
fn what_passes_while_the_schedule_is_not_understood_is_not_made_up_for() {
    let mut world = World::new(json!({}));
    world.edit(json!({"timeZone": "Europe/Atlantis"}));
    world.at("09:50:00");
    world.edit(json!({"timeZone": "Etc/UTC"}));
    world.at("10:30:00");
    assert_eq!((world.state(), world.made.len()), ("Scheduled", 0));
}
