//! Whatever happens, no slot is run twice, none is lost without a word, and a decision is made once.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// What may happen between two passes, or in one.
#[derive(Debug, Clone)]
enum Happens {
    Passes(i64),
    /// The clock is set, ahead or back.
    ClockJumps(i64),
    /// A pass is made.
    Pass,
    /// A pass is made, and the process dies before the status is written.
    Dies,
    Ends(bool),
    /// The user deletes a run that is told of.
    Deletes,
    Edits(Value),
}

fn happens() -> impl Strategy<Value = Happens> {
    let edits = vec![
        json!({"suspend": true}),
        json!({"suspend": false}),
        json!({"schedule": "*/7 * * * *"}),
        json!({"schedule": "0 * * * *"}),
        json!({"timeZone": "Australia/Lord_Howe"}),
        json!({"timeZone": "Etc/UTC"}),
        json!({"concurrencyPolicy": "Allow"}),
        json!({"concurrencyPolicy": "Replace"}),
        json!({"concurrencyPolicy": "Forbid"}),
        json!({"missedRunPolicy": "Skip"}),
        json!({"startingDeadlineSeconds": 60}),
        json!({"startingDeadlineSeconds": null}),
        json!({"suspendAfterConsecutiveFailures": 2}),
        json!({"successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 0}),
        json!({"jitterSeconds": 300}),
        json!({"jitterSeconds": 0}),
        json!({"manualTrigger": "a"}),
        json!({"manualTrigger": "b"}),
        json!({"manualTrigger": null}),
    ];
    prop_oneof![
        4 => (1_i64..2000).prop_map(Happens::Passes),
        1 => (-8000_i64..8000).prop_map(Happens::ClockJumps),
        1 => (-20_i64..20).prop_map(|days| Happens::ClockJumps(days * 86_000)),
        6 => Just(Happens::Pass),
        2 => Just(Happens::Dies),
        3 => any::<bool>().prop_map(Happens::Ends),
        1 => Just(Happens::Deletes),
        2 => select(edits).prop_map(Happens::Edits),
    ]
}

/// Slots count from it on, or not at all.
fn moves_slots(what: &Happens) -> bool {
    match what {
        Happens::ClockJumps(_) => true,
        Happens::Edits(spec) => ["schedule", "timeZone", "suspend"]
            .iter()
            .any(|field| spec.get(field).is_some()),
        _ => false,
    }
}

fn happen(world: &mut World, what: Happens) {
    match what {
        Happens::Passes(seconds) | Happens::ClockJumps(seconds) => world.pass(seconds),
        Happens::Pass => drop(world.step()),
        Happens::Dies => drop(world.make()),
        Happens::Ends(well) => {
            let active = world.runs().into_iter().find(Run::is_active);
            match active {
                Some(run) if well => world.succeed(&run.name),
                Some(run) => world.fail(&run.name),
                None => {}
            }
        }
        Happens::Deletes => {
            let schedule = world.schedule.clone();
            let told =
                |job: &CompactionJob| crate::controller::schedule::runs::is_accounted_for(&schedule, job);
            let position = world.jobs.iter().position(told);
            if let Some(position) = position {
                world.jobs.remove(position);
            }
        }
        Happens::Edits(spec) => world.edit(spec),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// [`World::create`] panics where a name is made a second time.
    #[test]
    fn no_slot_is_run_twice_whatever_restarts(
        schedule in select(vec!["* * * * *", "*/15 * * * *", "0 * * * *"]),
        story in proptest::collection::vec(happens(), 1..80),
    ) {
        let mut world = World::new(json!({"schedule": schedule}));
        for what in story {
            let before = world.status().clone();
            happen(&mut world, what);
            let after = world.status();
            if let (Some(before), Some(after)) = (&before.slots, &after.slots) {
                prop_assert!(before.settled_until.0 <= after.settled_until.0);
            }
            prop_assert!(before.missed_runs <= after.missed_runs);
            prop_assert!(before.manual_runs <= after.manual_runs);
            prop_assert!(after.active.len() <= 10);
        }
    }

    #[test]
    fn each_slot_that_is_dealt_with_was_run_or_is_counted(
        story in proptest::collection::vec(happens().prop_filter("it moves slots", |what| !moves_slots(what)), 1..80),
    ) {
        let mut world = World::new(json!({"schedule": "*/5 * * * *"}));
        let created = world.now;
        for what in story {
            happen(&mut world, what);
        }
        world.step();
        let settled = world.status().slots.as_ref().unwrap().settled_until.0;
        let slots = Slots::new("*/5 * * * *", "Etc/UTC", created).unwrap().count(created, settled);
        let runs = world.made.iter().filter(|name| !name.starts_with("hourly-m")).count();
        prop_assert_eq!(world.status().missed_runs, slots as i64 - runs as i64);
    }

    #[test]
    fn deciding_again_changes_nothing(story in proptest::collection::vec(happens(), 1..40)) {
        let mut world = World::new(json!({"schedule": "*/15 * * * *"}));
        for what in story {
            happen(&mut world, what);
        }
        // What is replaced is gone after the first, and its end is told by the second.
        for _ in 0..2 {
            world.step();
        }
        let decision = world.look(&[]);
        prop_assert_eq!(decision.create, None);
        prop_assert_eq!(decision.patch.0.len(), 0, "{:?}", decision.patch);
        prop_assert_eq!(decision.delete, []);
    }
}
