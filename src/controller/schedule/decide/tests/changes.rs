//! A schedule that is edited, suspended and resumed in the middle.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

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
fn what_was_said_before_an_edit_is_said_of_the_spec_as_it_is_now() {
    let mut world = World::new(json!({}));
    world.at("10:00:00");
    world.succeed(&run("10:00"));
    world.at("10:10:00");
    world.edit(json!({"jobTemplate": {"spec": {"parallelism": 2}}}));
    world.at("10:20:00");
    let conditions = &world.status().conditions;
    assert_eq!(conditions.len(), 5, "{conditions:#?}");
    let is_of_edit = |condition: &Condition| condition.observed_generation == Some(2);
    assert!(conditions.iter().all(is_of_edit), "{conditions:#?}");
    assert_eq!(world.condition(types::LAST_RUN_SUCCEEDED), ("True", "Succeeded"));
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

/// How long after its slot a run of this schedule starts.
fn jitter(world: &World) -> i64 {
    let effective = world.status().effective_schedule.clone().unwrap();
    let (_, seconds) = effective.rsplit_once('+').unwrap();
    seconds.strip_suffix('s').unwrap().parse().unwrap()
}

/// A daily schedule ten minutes after its slot, whose start is still to come.
fn before_its_start(spec: Value) -> (World, Timestamp) {
    let mut spec_of = json!({"schedule": "0 10 * * *", "jitterSeconds": 3600});
    json_patch::merge(&mut spec_of, &spec);
    let world = World::new(spec_of);
    let start = moment("10:00:00") + SignedDuration::from_secs(jitter(&world));
    assert!(start > moment("10:10:00"), "{start}");
    (world, start)
}

#[track_caller]
fn assert_runs_at(world: &mut World, start: Timestamp) {
    world.step();
    assert!(!world.exists(&run("10:00")));
    assert_eq!(world.status().next_schedule_time, Some(Time(start)));
    world.now = start;
    world.step();
    assert!(world.exists(&run("10:00")));
    assert_eq!(world.status().missed_runs, 0);
}

#[test]
fn a_slot_whose_start_is_still_to_come_when_the_schedule_is_resumed_is_run() {
    let (mut world, start) = before_its_start(json!({"suspend": true}));
    world.at("10:05:00");
    world.edit(json!({"suspend": false}));
    world.now = moment("10:10:00");
    assert_runs_at(&mut world, start);
}

#[test]
fn a_slot_whose_start_is_still_to_come_when_the_schedule_is_changed_is_run() {
    let (mut world, start) = before_its_start(json!({"schedule": "0 9 * * *"}));
    world.edit(json!({"schedule": "0 10 * * *"}));
    world.now = moment("10:10:00");
    assert_runs_at(&mut world, start);
}

#[test]
fn a_slot_whose_start_is_still_to_come_when_a_halt_is_lifted_is_run() {
    let (mut world, start) = before_its_start(json!({"suspendAfterConsecutiveFailures": 1}));
    world.edit(json!({"manualTrigger": "once"}));
    world.at("09:40:00");
    world.fail(&world.made[0].clone());
    world.at("09:50:00");
    assert_eq!(world.state(), "Halted");
    world.edit(json!({"jobTemplate": {"spec": {"parallelism": 2}}}));
    world.now = moment("10:10:00");
    assert_runs_at(&mut world, start);
}

#[test]
fn slots_that_become_due_at_once_by_less_jitter_are_told_of_as_a_change() {
    let mut world = World::new(json!({"schedule": "*/5 * * * *", "jitterSeconds": 3600}));
    let slots = jitter(&world) / 300;
    assert!(slots > 2, "{slots}");
    // After the first start.
    world.pass(jitter(&world) + 300);
    world.step();
    world.succeed(&world.made[0].clone());
    world.step();
    assert_eq!((world.made.len(), world.status().missed_runs), (1, 0));
    world.edit(json!({"jitterSeconds": 0}));
    world.step();
    assert_eq!(world.made.len(), 2, "the latest is run");
    let (_, reason, missed) = world.skipped();
    assert_eq!((reason, missed), ("ScheduleChanged", slots - 1));
}

#[test]
fn what_was_changed_while_the_operator_was_away_counts_from_its_return() {
    let away = |spec: Value, edit: Value| {
        let mut world = World::new(spec);
        world.edit(edit);
        world.at("12:20:00");
        assert_eq!(world.made.len(), 0);
        let (slot, reason, missed) = world.skipped();
        (slot, reason.to_owned(), missed)
    };
    let none = (String::new(), String::new(), 0);
    let changed = away(json!({}), json!({"schedule": "*/5 * * * *"}));
    assert_eq!(changed, ("12:00".to_owned(), "ScheduleChanged".to_owned(), 3));
    let resumed = away(json!({"suspend": true}), json!({"suspend": false}));
    assert_eq!(resumed, none);
    let suspended = away(json!({}), json!({"suspend": true}));
    assert_eq!(suspended, ("12:00".to_owned(), "Suspended".to_owned(), 3));
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
