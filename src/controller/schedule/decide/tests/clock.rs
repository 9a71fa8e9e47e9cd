//! A clock that jumps, and clocks that people change.

use super::*;

#[test]
fn a_clock_that_goes_back_runs_no_slot_again() {
    let mut world = World::new(json!({"schedule": "*/10 * * * *"}));
    world.at("10:00:00");
    world.succeed(&run("10:00"));
    world.at("09:45:00");
    assert_eq!((world.made.len(), world.state()), (1, "ClockBehind"));
    assert_eq!(
        clock(world.status().next_schedule_time.as_ref().unwrap().0),
        "10:10"
    );
    world.at("09:59:30");
    assert_eq!(world.state(), "Scheduled", "so much two clocks differ");
    world.at("10:00:30");
    assert_eq!(world.made.len(), 1);
    world.at("10:10:00");
    assert_eq!(world.made, [run("10:00"), run("10:10")]);
}

#[test]
fn a_clock_that_jumps_ahead_and_back_ends_with_one_run_and_says_that_it_waits() {
    let mut world = World::new(json!({}));
    world.now = "2031-01-01T00:00:10Z".parse().unwrap();
    world.step();
    assert_eq!((world.made.len(), world.status().missed_runs), (1, 1000));
    let name = world.made[0].clone();
    world.succeed(&name);
    world.at("10:00:00");
    assert_eq!((world.made.len(), world.state()), (1, "ClockBehind"));
    assert!(
        world.message().contains("2031-01-01T00:00:00Z"),
        "{}",
        world.message()
    );
    assert_eq!(world.condition(types::RECONCILING).0, "True");
    world.edit(json!({"manualTrigger": "now"}));
    world.at("10:05:00");
    assert_eq!(world.made.len(), 2, "a trigger has no slot");
}

#[test]
fn a_fixed_time_runs_once_on_the_days_when_clocks_are_changed() {
    for (zone, schedule, from, until, slots) in [
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-03-28T12:00:00Z",
            "2026-03-29T12:00:00Z",
            ["2026-03-29T01:00:00Z"],
        ),
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-10-24T12:00:00Z",
            "2026-10-25T12:00:00Z",
            ["2026-10-25T00:30:00Z"],
        ),
        (
            "Australia/Lord_Howe",
            "10 2 * * *",
            "2026-10-03T02:00:00Z",
            "2026-10-04T02:00:00Z",
            ["2026-10-03T15:30:00Z"],
        ),
        (
            "Australia/Lord_Howe",
            "45 1 * * *",
            "2026-04-04T02:00:00Z",
            "2026-04-05T02:00:00Z",
            ["2026-04-04T14:45:00Z"],
        ),
    ] {
        let mut world = World::unseen(json!({"schedule": schedule, "timeZone": zone}));
        world.now = from.parse().unwrap();
        world.schedule.metadata.creation_timestamp = Some(Time(world.now));
        let until: Timestamp = until.parse().unwrap();
        while world.now < until {
            world.step();
            if let Some(name) = world.active().first().map(ToString::to_string) {
                world.succeed(&name);
            }
            world.pass(60);
        }
        let expected = slots.map(|slot| slot_name("hourly", slot.parse().unwrap()));
        assert_eq!(world.made, expected, "{schedule} in {zone} from {from}");
        assert_eq!(world.status().missed_runs, 0);
    }
}
