//! Conditions and the size of the status.

use super::*;
use crate::api::{Checkpoint, FailedGroup, PlanStatus, PublishStatus};

fn transition(world: &World, type_: &str) -> Time {
    condition(&world.status().conditions, type_)
        .unwrap()
        .last_transition_time
        .clone()
}

#[test]
fn transition_times_move_only_when_the_status_does() {
    let mut world = World::running(&[3]);
    let start = Time(world.now);
    world.pass(60);
    world.end(0, exit::STORAGE);
    world.step();
    assert_eq!(world.condition(types::READY), ("True", "Requeueing"));
    assert_eq!(transition(&world, types::READY), start, "only the reason is new");
    assert_eq!(transition(&world, types::STORAGE_ACCESSIBLE), Time(world.now));
    world.pass(60);
    world.step();
    world.end(0, exit::GIVE_UP);
    world.step();
    assert_eq!(world.condition(types::READY).0, "False");
    for type_ in [types::READY, types::STALLED, types::SUCCEEDED] {
        assert_eq!(transition(&world, type_), Time(world.now), "{type_}");
    }
    assert_eq!(transition(&world, types::SUSPENDED), start);
    let failed = Time(world.now);
    world.pass(60);
    world.step();
    assert_eq!(transition(&world, types::READY), failed);
}

#[test]
fn a_condition_speaks_of_the_generation_it_was_made_for() {
    let mut world = World::running(&[3]);
    world.job.metadata.generation = Some(7);
    world.step();
    assert_eq!(world.status().observed_generation, 7);
    let conditions = &world.status().conditions;
    let ready = condition(conditions, types::READY).unwrap();
    assert_eq!(ready.observed_generation, Some(7));
}

/// `kubectl wait` takes no notice of a condition that speaks of an earlier spec.
#[test]
fn a_condition_that_an_edit_leaves_as_it_was_speaks_of_the_new_spec() {
    let speak_of = |world: &World, generation: i64| {
        for condition in &world.status().conditions {
            assert_eq!(condition.observed_generation, Some(generation), "{condition:?}");
        }
    };
    let mut failed = World::running(&[3]);
    failed.end(0, exit::GIVE_UP);
    failed.step();
    failed.job.metadata.generation = Some(2);
    failed.job.spec.parallelism = 2;
    failed.step();
    assert!(failed.status().is(types::STALLED));
    speak_of(&failed, 2);

    let mut published = World::running(&[3]);
    published.checkpoint(0, 3);
    published.publish();
    published.end(0, exit::DONE);
    published.step();
    assert!(published.status().is(types::SUCCEEDED));
    published.job.metadata.generation = Some(2);
    published.job.spec.suspend = true;
    published.step();
    assert!(published.status().is(types::SUCCEEDED));
    speak_of(&published, 2);
}

#[test]
fn the_conditions_of_every_state_fit_the_reason_pattern_of_kubernetes() {
    let mut world = World::running(&[3]);
    world.end(0, exit::STORAGE);
    world.step();
    world.job.spec.suspend = true;
    world.step();
    assert!(world.status().conditions.len() <= 16);
    for condition in &world.status().conditions {
        let reason = &condition.reason;
        let plain = reason.bytes().all(|b| b.is_ascii_alphanumeric());
        assert!(!reason.is_empty() && plain, "{reason:?}");
    }
}

#[test]
fn the_percentage_is_of_bytes_and_within_bounds() {
    let mut world = World::running(&[3, 3]);
    world.shard_mut(0).checkpoint.bytes_read = 400;
    world.checkpoint(0, 1);
    world.step();
    let progress = world.status().progress.clone().unwrap();
    assert_eq!((progress.summary.as_str(), progress.percent), ("1/6", 40));
    assert_eq!(progress.bytes_read, 400);
    world.shard_mut(0).checkpoint.bytes_read = 4000;
    world.step();
    assert_eq!(world.status().progress.as_ref().unwrap().percent, 100);
}

#[test]
fn with_deduplicate_the_percentage_is_of_batches() {
    let mut world = World::running(&[3, 3]);
    let rules = json!({"key": ["/id"]});
    world.job.spec.deduplicate = Some(serde_json::from_value(rules).unwrap());
    world.checkpoint(0, 3);
    world.step();
    let progress = world.status().progress.clone().unwrap();
    assert_eq!((progress.bytes_read, progress.percent), (0, 50));
}

/// The status at its largest: every shard in use, every failure and message at its bound.
fn largest(character: &str) -> Value {
    let big = 1_i64 << 45;
    let mut world = World::running(&[big; 64]);
    let now = Time(world.now);
    world.status_mut().plan = Some(PlanStatus {
        sha256: "f".repeat(64),
        location: "p".repeat(80),
        shards: 64,
        batches: big,
        source_objects: big,
        source_bytes: big,
        skipped_objects: big,
        estimated_output_objects: big,
        upload_days: Some(i32::MAX),
    });
    for shard in &mut world.status_mut().shards {
        shard.epoch = 100_000;
        shard.holder = "0".repeat(36);
        shard.refused = 1000;
        shard.checkpoint = Checkpoint {
            sequence: big,
            batch: 100_000,
            body: "b".repeat(60),
            sha256: "f".repeat(64),
            bytes_read: big,
            bytes_written: big,
            skipped_sources: big,
            records_kept: big,
            records_dropped: big,
            failed_groups: 1001,
            attempts: 99,
            time: Some(now.clone()),
        };
    }
    world.status_mut().publish = Some(PublishStatus {
        sha256: "f".repeat(64),
        outputs: big,
        sources: big,
        failed_groups: 64_000,
        announced: true,
        time: Some(now),
    });
    world.job.spec.max_failed_groups = i32::MAX;
    world.workers.clear();
    let message = character.repeat(4096);
    world.status_mut().last_failed_group = Some(FailedGroup {
        shard: 63,
        reason: "SourceChanged".to_owned(),
        message: crate::api::bounded(&message),
    });
    for number in 0..20 {
        let index = number % 64;
        let epoch = world.shard(index).epoch;
        world.workers.retain(|worker| worker.shard != index);
        world.workers.push(WorkerView {
            shard: index,
            epoch,
            state: WorkerState::Ended(WorkerEnd {
                code: Some(exit::STORAGE),
                reason: "Storage".to_owned(),
                message: message.clone(),
            }),
        });
    }
    world.step();
    assert_eq!(world.status().failures.len(), 16);
    assert_eq!(world.message(types::STORAGE_ACCESSIBLE).len(), 400);
    serde_json::to_value(world.status()).unwrap()
}

#[test]
fn the_largest_status_stays_below_64_kib() {
    let status = largest("m");
    assert_eq!(status["shards"].as_array().unwrap().len(), 64);
    let size = serde_json::to_vec(&status).unwrap().len();
    assert!(size <= 64 << 10, "{size} bytes");
}

#[test]
fn a_job_that_may_outlast_the_rule_for_uploads_is_told() {
    let told = |days: Option<i32>, deadline: Option<i64>| {
        let mut world = World::running(&[3]);
        world.job.spec.total_active_deadline_seconds = deadline;
        let status = world.status_mut();
        status.plan.as_mut().unwrap().upload_days = days;
        status.shards[0].checkpoint.sequence += 1;
        world.step();
        assert_eq!(world.condition(types::STORAGE_ACCESSIBLE), ("True", "Reachable"));
        world
            .message(types::STORAGE_ACCESSIBLE)
            .contains("aborts uploads after 1 days")
    };
    let day = 86_400;
    assert!(told(Some(1), Some(day + 1)));
    assert!(!told(Some(1), Some(day)));
    assert!(!told(None, Some(10 * day)));
    // Nobody can say yet how long it takes.
    assert!(!told(Some(1), None));
}
