//! Slots, above all where clocks are changed.

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn slots(schedule: &str, zone: &str) -> Slots {
    Slots::new(schedule, zone, at("2026-01-01T00:00:00Z")).unwrap()
}

/// The slots after `from` and not after `until`, in UTC.
fn between(schedule: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
    let slots = slots(schedule, zone);
    let until = at(until);
    std::iter::successors(slots.next(at(from)), |slot| slots.next(*slot))
        .take_while(|slot| *slot <= until)
        .map(|slot| slot.strftime("%d %H:%M").to_string())
        .collect()
}

// Berlin is one hour ahead of UTC, and two in summer: from 2026-03-29 01:00Z to 2026-10-25 01:00Z.
// Lord Howe is 10:30 ahead, and 11:00 in summer: to 2026-04-04 15:00Z, and from 2026-10-03 15:30Z.

#[test]
fn a_fixed_time_that_is_left_out_runs_at_the_first_moment_after_the_gap() {
    let berlin = between(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T00:00:00Z",
        "2026-03-30T23:00:00Z",
    );
    assert_eq!(berlin, ["28 01:30", "29 01:00", "30 00:30"]);
    let lord_howe = between(
        "10 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-02T00:00:00Z",
        "2026-10-04T23:00:00Z",
    );
    assert_eq!(lord_howe, ["02 15:40", "03 15:30", "04 15:10"]);
}

#[test]
fn a_fixed_time_that_comes_twice_runs_once() {
    let berlin = between(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T00:00:00Z",
        "2026-10-26T23:00:00Z",
    );
    assert_eq!(berlin, ["24 00:30", "25 00:30", "26 01:30"]);
    let lord_howe = between(
        "45 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-03T00:00:00Z",
        "2026-04-05T23:00:00Z",
    );
    assert_eq!(lord_howe, ["03 14:45", "04 14:45", "05 15:15"]);
}

#[test]
fn an_hourly_schedule_runs_every_hour_that_there_is() {
    let forward = between(
        "0 * * * *",
        "Europe/Berlin",
        "2026-03-28T23:30:00Z",
        "2026-03-29T03:30:00Z",
    );
    assert_eq!(forward, ["29 00:00", "29 01:00", "29 02:00", "29 03:00"]);
    let back = between(
        "0 * * * *",
        "Europe/Berlin",
        "2026-10-24T23:30:00Z",
        "2026-10-25T03:30:00Z",
    );
    assert_eq!(back, ["25 00:00", "25 01:00", "25 02:00", "25 03:00"]);
    let half_an_hour = between(
        "0 * * * *",
        "Australia/Lord_Howe",
        "2026-04-04T13:30:00Z",
        "2026-04-04T17:00:00Z",
    );
    assert_eq!(half_an_hour, ["04 14:00", "04 15:30", "04 16:30"]);
}

#[test]
fn every_quarter_goes_on_without_a_pause_or_a_second_one() {
    for (zone, from, until, count) in [
        (
            "Europe/Berlin",
            "2026-03-28T20:00:00Z",
            "2026-03-29T06:00:00Z",
            40,
        ),
        (
            "Europe/Berlin",
            "2026-10-24T20:00:00Z",
            "2026-10-25T06:00:00Z",
            40,
        ),
        (
            "Australia/Lord_Howe",
            "2026-10-03T10:00:00Z",
            "2026-10-03T20:00:00Z",
            40,
        ),
        (
            "Australia/Lord_Howe",
            "2026-04-04T10:00:00Z",
            "2026-04-04T20:00:00Z",
            40,
        ),
    ] {
        let slots = between("*/15 * * * *", zone, from, until);
        assert_eq!(slots.len(), count, "{zone} {from}: {slots:?}");
    }
}

#[test]
fn several_times_a_day_go_by_the_face_of_the_clock() {
    let forward = between(
        "30 2,14 * * *",
        "Europe/Berlin",
        "2026-03-28T12:00:00Z",
        "2026-03-29T23:00:00Z",
    );
    assert_eq!(forward, ["28 13:30", "29 12:30"], "half past two is left out");
    let back = between(
        "30 2,14 * * *",
        "Europe/Berlin",
        "2026-10-24T23:00:00Z",
        "2026-10-25T23:00:00Z",
    );
    assert_eq!(
        back,
        ["25 00:30", "25 01:30", "25 13:30"],
        "half past two comes twice"
    );
}

#[test]
fn the_latest_slot_is_the_last_of_those_before_also_where_clocks_change() {
    for (zone, from) in [
        ("Europe/Berlin", "2026-03-28T22:00:00Z"),
        ("Europe/Berlin", "2026-10-24T22:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T12:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T12:00:00Z"),
        ("Etc/UTC", "2026-02-28T22:00:00Z"),
    ] {
        for schedule in [
            "30 2 * * *",
            "30 2,14 * * *",
            "0 * * * *",
            "*/15 * * * *",
            "45 1 * * *",
        ] {
            let slots = slots(schedule, zone);
            let begin = at(from) - jiff::SignedDuration::from_hours(72);
            let mut latest = slots.latest(begin).unwrap();
            // Eight hours, five minutes and a second at a time.
            for step in 0..(72 + 8) * 12 {
                let time = begin + jiff::SignedDuration::from_secs(step * 301);
                while let Some(next) = slots.next(latest).filter(|next| *next <= time) {
                    assert_eq!(
                        slots.before(next),
                        Some(latest),
                        "{schedule} in {zone} before {next}"
                    );
                    latest = next;
                }
                assert_eq!(slots.latest(time), Some(latest), "{schedule} in {zone} at {time}");
            }
        }
    }
}

#[test]
fn a_moment_within_a_second_belongs_to_it() {
    let slots = slots("* * * * *", "Etc/UTC");
    let minute = at("2026-01-01T10:00:00Z");
    assert_eq!(slots.latest(at("2026-01-01T10:00:00.7Z")), Some(minute));
    assert_eq!(slots.latest(at("2026-01-01T09:59:59.9Z")), slots.before(minute));
    assert_eq!(slots.next(at("2026-01-01T09:59:59.9Z")), Some(minute));
    assert_eq!(slots.next(minute), Some(at("2026-01-01T10:01:00Z")));
}

#[test]
fn a_million_slots_are_not_walked_over() {
    let slots = slots("* * * * *", "Europe/Berlin");
    let (first, last) = (at("2024-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
    assert_eq!(slots.latest(last), Some(last));
    assert_eq!(slots.count(first, last), MAX_COUNTED);
    assert_eq!(slots.count(at("2025-12-31T23:00:00Z"), last), 60);
    assert_eq!(slots.count(last, last), 0);
}

#[test]
fn a_leap_day_is_waited_for() {
    let slots = slots("0 0 29 2 *", "Etc/UTC");
    assert_eq!(
        slots.next(at("2096-03-01T00:00:00Z")),
        Some(at("2104-02-29T00:00:00Z"))
    );
}

#[test]
fn what_is_no_schedule_is_refused_by_name() {
    let refused = |schedule: &str, zone: &str| {
        let now = at("2026-01-01T00:00:00Z");
        Slots::new(schedule, zone, now).unwrap_err().to_string()
    };
    for schedule in ["61 * * * *", "* * * * * *", "* * * *", "x * * * *", "@every 1h"] {
        let problem = refused(schedule, "Etc/UTC");
        assert!(
            problem.starts_with(&format!("schedule {schedule:?} is not understood: ")),
            "{problem}"
        );
    }
    assert!(refused("0 0 30 2 *", "Etc/UTC").contains("never comes"));
    assert!(refused("* * * * *", "Europe/Atlantis").contains("timeZone \"Europe/Atlantis\""));
    assert!(refused("* * * * *", "Local").contains("such as Europe/Berlin"));
}

#[test]
fn the_names_of_the_usual_schedules_are_understood() {
    let next = |schedule: &str| {
        slots(schedule, "Etc/UTC")
            .next(at("2026-01-01T00:00:00Z"))
            .unwrap()
    };
    assert_eq!(next("@hourly"), at("2026-01-01T01:00:00Z"));
    assert_eq!(next("@daily"), at("2026-01-02T00:00:00Z"));
    assert_eq!(next("@weekly"), at("2026-01-04T00:00:00Z"));
    assert_eq!(next("@monthly"), at("2026-02-01T00:00:00Z"));
    assert_eq!(next("@yearly"), at("2027-01-01T00:00:00Z"));
}
