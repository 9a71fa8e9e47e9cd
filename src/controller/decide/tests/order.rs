//! What is started and stopped when.

use super::*;

#[test]
fn the_first_look_makes_shard_0_and_starts_epoch_1() {
    let mut world = World::new();
    let decision = world.step();
    assert_eq!(decision.start, [(0, 1)]);
    assert_eq!(decision.stop, []);
    assert_eq!(world.status().shards.len(), 1);
    assert_eq!((world.shard(0).index, world.shard(0).epoch), (0, 1));
    assert_eq!(world.status().start_time, Some(Time(world.now)));
    assert_eq!(world.status().observed_generation, 1);
    assert_eq!(world.condition(types::READY), ("True", "Starting"));
    assert_eq!(world.condition(types::RECONCILING), ("True", "Starting"));
    world.waits(0, "");
    assert_eq!(world.step().patch.0, [], "it was said already");
    world.starts(0);
    world.step();
    assert_eq!(world.condition(types::READY), ("True", "Planning"));
}

#[test]
fn a_second_first_look_from_the_same_view_is_refused() {
    let mut world = World::new();
    let late = world.decide();
    world.step();
    let mut job = serde_json::to_value(&world.job).unwrap();
    json_patch::patch(&mut job, &late.patch).unwrap_err();
}

#[test]
fn an_epoch_is_started_only_by_the_patch_that_raises_it() {
    let mut world = World::running(&[9, 9]);
    for code in [exit::RETRY, exit::STORAGE, exit::DONE, exit::DEADLINE] {
        for shard in [0, 1] {
            world.end(shard, code);
        }
        world.step();
        world.pass(600);
        let epochs = [world.shard(0).epoch, world.shard(1).epoch];
        let decision = world.step();
        let expected = [(0, epochs[0] + 1), (1, epochs[1] + 1)];
        assert_eq!(decision.start, expected, "exit code {code}");
        for (shard, raised) in decision.start {
            let at = format!("/status/shards/{shard}/epoch");
            let operation = json!({"op": "add", "path": at, "value": raised});
            let patch = serde_json::to_value(&decision.patch).unwrap();
            assert!(patch.as_array().unwrap().contains(&operation), "{patch}");
        }
    }
}

#[test]
fn a_new_epoch_has_no_holder() {
    let mut world = World::running(&[2]);
    world.shard_mut(0).holder = "pod".to_owned();
    world.end(0, exit::RETRY);
    world.step();
    assert_eq!(
        world.shard(0).holder,
        "pod",
        "the epoch is not raised before its time"
    );
    world.pass(10);
    assert_eq!(world.step().start, [(0, 2)]);
    assert_eq!(world.shard(0).holder, "");
}

#[test]
fn a_running_worker_is_left_alone_and_the_next_look_is_when_it_is_late() {
    let world = World::running(&[2]);
    let decision = world.decide();
    assert_eq!(decision.patch.0, []);
    assert_eq!((decision.start, decision.stop), (vec![], vec![]));
    assert_eq!(decision.wake, Some(Duration::from_secs(900 + 30 + 1)));
}

#[test]
fn a_stuck_worker_is_fenced_and_stopped_and_its_successor_starts_after_the_backoff() {
    let mut world = World::running(&[2]);
    let limit = Duration::from_secs(900 + 30 + 1);
    world.unchanged.insert(0, Duration::from_secs(900 + 30));
    assert_eq!(world.decide().stop, [], "a second before the limit");
    world.unchanged.insert(0, limit);
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![(0, 1)], vec![]));
    assert_eq!(world.shard(0).epoch, 2, "the late worker is fenced at once");
    assert_eq!((world.shard(0).lost, world.backoff(0)), (1, Some(10)));
    assert_eq!(world.status().failures[0].reason, "Stuck");

    world.unchanged.insert(0, Duration::ZERO);
    world.pass(9);
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![(0, 1)], vec![]));
    assert_eq!(decision.wake, Some(Duration::from_secs(1)));
    world.pass(1);
    assert_eq!(world.step().start, [(0, 3)], "even if the late one does not end");
    assert_eq!(world.shard(0).lost, 1, "the stuck worker is counted once");
}

#[test]
fn the_limit_of_a_stuck_worker_grows_with_the_interval_of_pointers() {
    let mut world = World::running(&[9; 64]);
    let wait = Duration::from_secs(900 + 30 + 16);
    world.unchanged = (0..64).map(|shard| (shard, wait)).collect();
    world.unchanged.insert(7, Duration::from_secs(900 + 30 + 15));
    let decision = world.step();
    assert_eq!(decision.stop.len(), 63);
    assert!(!decision.stop.contains(&(7, 1)));
}

#[test]
fn nobody_is_stuck_at_first_sight() {
    let mut world = World::running(&[2, 2]);
    world.pass(1_000_000);
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![], vec![]));
    assert_eq!(world.shard(0).lost, 0);
}

#[test]
fn a_worker_that_hangs_after_its_work_is_stopped_without_blame() {
    let mut world = World::running(&[1, 2]);
    world.job.spec.backoff_limit = 0;
    world.checkpoint(0, 1);
    world.step();
    world.unchanged.insert(0, Duration::from_hours(1));
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![(0, 1)], vec![]));
    assert_eq!(world.shard(0).lost, 0);
    assert!(!world.failed() && world.status().failures.is_empty());
}

#[test]
fn workers_of_late_epochs_and_of_no_shard_are_stopped() {
    let mut world = World::running(&[2]);
    world.shard_mut(0).epoch = 3;
    for (shard, epoch) in [(0, 2), (0, 3), (5, 1)] {
        let state = WorkerState::Running;
        world.workers.push(WorkerView { shard, epoch, state });
    }
    let decision = world.decide();
    assert_eq!(decision.stop, [(0, 1), (0, 2), (5, 1)]);
    assert_eq!(decision.start, []);
}

#[test]
fn parallelism_caps_the_workers_and_an_end_makes_room() {
    let mut world = World::new();
    world.job.spec.parallelism = 2;
    world.step();
    world.plan(&[1, 1, 1, 1]);
    assert_eq!(world.step().start, [(1, 1)], "shard 0 is running already");
    assert_eq!(world.decide().start, []);
    world.checkpoint(0, 1);
    world.end(0, exit::DONE);
    assert_eq!(world.step().start, [(2, 1)]);
    world.job.spec.parallelism = 3;
    assert_eq!(world.step().start, [(3, 1)]);
}

#[test]
fn a_worker_that_is_being_stopped_makes_room() {
    let mut world = World::running(&[2]);
    world.shard_mut(0).epoch = 2;
    world.shard_mut(0).retry_time = Some(Time(world.now));
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![(0, 1)], vec![(0, 3)]));
}

#[test]
fn suspending_stops_all_and_keeps_everything() {
    let mut world = World::running(&[3, 3]);
    world.checkpoint(0, 2);
    let before = world.status().shards.clone();
    world.job.spec.suspend = true;
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![(0, 1), (1, 1)], vec![]));
    assert_eq!(world.status().shards, before);
    assert_eq!(world.condition(types::SUSPENDED), ("False", "Stopping"));
    assert_eq!(world.condition(types::READY), ("True", "Stopping"));
    world.end_with(0, None, "Killed", "");
    world.waits(1, "terminating");
    assert_eq!(world.step().stop, [(1, 1)]);
    assert_eq!(world.condition(types::SUSPENDED).0, "False", "one is left");
    world.gone(1);
    world.step();
    assert_eq!(world.condition(types::SUSPENDED), ("True", "Suspended"));
    assert_eq!(world.condition(types::READY), ("True", "Suspended"));
    world.pass(100_000);
    let decision = world.step();
    assert_eq!(decision.patch.0, [], "nothing happens while it is suspended");
    assert_eq!(decision.start, []);
}

#[test]
fn resuming_starts_new_epochs_at_once_and_counts_nothing() {
    let mut world = World::running(&[3, 3]);
    world.job.spec.backoff_limit = 0;
    world.job.spec.suspend = true;
    world.step();
    world.end_with(0, None, "Killed", "");
    world.job.spec.suspend = false;
    let decision = world.step();
    assert_eq!(decision.stop, [(1, 1)], "one has not ended yet, and is late now");
    assert_eq!(decision.start, [(0, 3), (1, 3)]);
    assert!(!world.failed());
    assert_eq!(
        (world.shard(0).lost, world.shard(0).waits, world.shard(1).waits),
        (0, 0, 0)
    );
    assert_eq!(world.condition(types::SUSPENDED).0, "False");
}

#[test]
fn a_suspension_of_a_moment_charges_nobody_whether_it_was_seen_or_not() {
    for seen in [false, true] {
        let mut world = World::running(&[3]);
        world.job.spec.backoff_limit = 0;
        world.checkpoint(0, 2);
        world.job.spec.suspend = true;
        if seen {
            world.step();
        }
        world.job.spec.suspend = false;
        let decision = world.step();
        let late = if seen { vec![(0, 1)] } else { vec![] };
        assert_eq!(decision.stop, late);
        assert_eq!(decision.start.len(), late.len());
        assert_eq!(world.shard(0).checkpoint.batch, 2);
        assert_eq!((world.shard(0).lost, world.shard(0).waits), (0, 0));
        assert!(!world.failed() && world.status().failures.is_empty());
    }
}

#[test]
fn resuming_does_not_cut_a_backoff_short() {
    let mut world = World::running(&[3]);
    world.end(0, exit::STORAGE);
    world.step();
    world.job.spec.suspend = true;
    world.step();
    world.job.spec.suspend = false;
    assert_eq!(world.step().start, []);
    world.pass(10);
    assert_eq!(world.step().start, [(0, 3)]);
}

#[test]
fn a_job_that_is_suspended_from_the_beginning_starts_nothing() {
    let mut world = World::new();
    world.job.spec.suspend = true;
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![], vec![]));
    assert_eq!(world.status().start_time, None);
    world.job.spec.suspend = false;
    assert_eq!(world.step().start, [(0, 1)]);
}

#[test]
fn a_job_waits_for_another_one_over_the_same_objects() {
    let mut world = World::new();
    let mut other = world.job.clone();
    other.metadata.uid = Some("uid-0".to_owned());
    other.metadata.name = Some("earlier".to_owned());
    let decision = decide(&Observed {
        job: &world.job,
        workers: &[],
        others: &[other],
        unchanged: &world.unchanged,
        now: world.now,
    })
    .unwrap();
    assert_eq!(decision.start, []);
    assert!(decision.wake.is_some());
    world.apply(&decision.patch);
    assert_eq!(world.condition(types::READY).1, "WaitingForJob");
    assert!(world.message(types::READY).contains("ns/earlier"));
    assert_eq!(world.status().start_time, None, "it holds no place yet");
    assert_eq!(world.step().start, [(0, 1)]);
}
