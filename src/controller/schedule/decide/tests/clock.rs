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
fn a_clock_that_was_far_ahead_goes_on_with_the_slots_that_it_passed_over() {
    let mut world = World::new(json!({}));
    let ahead = |world: &mut World, time: &str| {
        world.now = time.parse().unwrap();
        world.step();
        let name = world.made.last().unwrap().clone();
        world.succeed(&name);
        world.step();
    };
    ahead(&mut world, "2031-01-01T00:00:10Z");
    ahead(&mut world, "2031-01-01T01:00:10Z");
    assert_eq!((world.made.len(), world.status().missed_runs), (2, 1000));
    world.at("10:00:00");
    assert_eq!(world.made[2..], [run("10:00")]);
    assert_eq!(
        (world.state(), world.active()),
        ("Running", vec![run("10:00").as_str()])
    );
    world.succeed(&run("10:00"));
    world.at("11:00:00");
    assert_eq!(world.made[3..], [run("11:00")]);
    world.succeed(&run("11:00"));
    world.at("11:30:00");
    let next = world.status().next_schedule_time.as_ref().unwrap();
    assert_eq!((world.state(), next.0), ("Scheduled", moment("12:00:00")));
    assert_eq!(
        world.status().missed_runs,
        1000,
        "none was missed since the clock is right"
    );
}

#[test]
fn what_was_run_while_the_clock_was_ahead_is_not_run_when_its_time_comes() {
    let mut world = World::new(json!({"schedule": "0 0 * * *"}));
    for time in ["2026-01-09T00:00:10Z", "2026-01-10T00:00:10Z"] {
        world.now = time.parse().unwrap();
        world.step();
        world.succeed(&world.made.last().unwrap().clone());
    }
    world.at("10:00:00");
    let end: Timestamp = "2026-01-12T12:00:00Z".parse().unwrap();
    let mut behind = 0;
    while world.now < end {
        world.pass(3600);
        world.step();
        behind += i32::from(world.state() == "ClockBehind");
        if let Some(name) = world.active().first().map(ToString::to_string) {
            world.succeed(&name);
        }
    }
    let days: Vec<String> = world.made.iter().map(|name| day(name)).collect();
    assert_eq!(days, ["09", "10", "02", "03", "04", "05", "06", "07", "11", "12"]);
    // From a day before what was run, until its end.
    assert_eq!(behind, 48);
}

/// The day of a run's slot.
fn day(name: &str) -> String {
    let minutes: i64 = name.rsplit('-').next().unwrap().parse().unwrap();
    let slot = Timestamp::from_second(minutes * 60).unwrap();
    slot.strftime("%d").to_string()
}

#[test]
fn a_clock_that_jumps_more_than_once_is_found_back_to() {
    let mut world = World::new(json!({"concurrencyPolicy": "Allow"}));
    for year in ["2028", "2035", "2031"] {
        world.now = format!("{year}-01-01T00:00:10Z").parse().unwrap();
        world.step();
    }
    world.at("10:00:00");
    assert_eq!(world.made.len(), 4);
    assert_eq!(world.made[3], run("10:00"));
    assert_eq!(world.state(), "Running");
}

#[test]
fn the_end_of_a_long_outage_is_not_undone_by_a_clock_that_differs() {
    let mut world = World::new(json!({}));
    world.now = "2026-01-09T12:00:10Z".parse().unwrap();
    world.step();
    world.succeed(&world.made[0].clone());
    for back in [30, 600, 3600] {
        world.pass(-back);
        world.step();
        assert_eq!(world.made.len(), 1, "the slots of the outage are missed");
    }
    assert_eq!(world.state(), "ClockBehind");
}

#[test]
fn what_is_remembered_of_passed_over_slots_is_bounded() {
    let mut world = World::new(json!({"schedule": "0 0 * * *", "concurrencyPolicy": "Allow"}));
    for day in 1..=30 {
        world.pass(86_400 * 3 + day);
        world.step();
        world.succeed(&world.made.last().unwrap().clone());
    }
    let passed_over = &world.status().slots.as_ref().unwrap().passed_over;
    assert_eq!(passed_over.len(), crate::api::MAX_PASSED_OVER);
    let mut weekly = World::new(json!({"schedule": "@weekly"}));
    for _ in 0..4 {
        weekly.pass(86_400 * 7);
        weekly.step();
        weekly.succeed(&weekly.made.last().unwrap().clone());
    }
    let passed_over = &weekly.status().slots.as_ref().unwrap().passed_over;
    assert_eq!(
        *passed_over,
        [],
        "where there was no slot, nothing is passed over"
    );
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
