//! The estimate of the end, and how seldom progress is rewritten.

use super::*;

/// A job that reads ten bytes a second: one batch of ten bytes a second, 100 of them.
fn steady(seconds: i64) -> World {
    let mut world = World::running(&[100]);
    world.pass(seconds);
    advance(&mut world, seconds);
    world.step();
    world
}

fn advance(world: &mut World, batches: i64) {
    let shard = world.shard_mut(0);
    shard.checkpoint.sequence += batches;
    shard.checkpoint.batch += batches;
    shard.checkpoint.bytes_read += 10 * batches;
}

fn estimate(world: &World) -> Option<i64> {
    let estimate = world
        .status()
        .progress
        .as_ref()?
        .estimated_completion_time
        .as_ref()?;
    Some(estimate.0.duration_since(world.now).as_secs())
}

#[test]
fn there_is_no_estimate_before_twenty_batches_and_two_minutes() {
    assert_eq!(estimate(&steady(19)), None);
    assert_eq!(estimate(&steady(40)), None, "only 40 s");
    let mut few = World::running(&[100]);
    few.pass(1000);
    advance(&mut few, 19);
    few.step();
    assert_eq!(estimate(&few), None);
}

#[test]
fn the_estimate_is_a_whole_minute_after_the_end_at_the_pace_so_far() {
    let mut world = World::running(&[100]);
    world.pass(240);
    advance(&mut world, 40);
    world.step();
    // 400 of 1000 bytes in 240 s: 360 s are left.
    assert_eq!(estimate(&world), Some(420));
    let at = world.status().progress.clone();
    for _ in 0..5 {
        world.pass(20);
        assert_eq!(world.step().patch.0, [], "it stands while no checkpoint moves");
        assert_eq!(world.status().progress, at);
    }
    world.pass(1000);
    world.step();
    assert!(
        estimate(&world) > Some(0),
        "and is made anew when its time has come"
    );
}

#[test]
fn only_active_seconds_make_the_pace() {
    let mut world = World::running(&[100]);
    world.pass(120);
    advance(&mut world, 20);
    world.waits(0, "");
    world.step();
    assert_eq!(estimate(&world), None, "nobody runs");
    world.pass(102_000);
    world.starts(0);
    world.step();
    world.pass(120);
    advance(&mut world, 20);
    world.step();
    assert_eq!(estimate(&world), Some(420));
}

#[test]
fn a_retried_job_is_estimated_by_what_it_has_done_since() {
    let mut world = World::running(&[100]);
    world.pass(1000);
    advance(&mut world, 40);
    world.step();
    world.end(0, exit::GIVE_UP);
    world.step();
    assert_eq!(estimate(&world), None, "a failed job has none");
    world.job.spec.retry_token = Some("again".to_owned());
    world.step();
    world.step();
    world.pass(120);
    advance(&mut world, 20);
    world.step();
    // 200 bytes in 120 s, 400 are left.
    let left = estimate(&world).unwrap();
    assert!((240..=300).contains(&left), "{left} s");
}

#[test]
fn a_suspended_or_finished_job_has_no_estimate() {
    let mut world = steady(50);
    world.pass(100);
    advance(&mut world, 1);
    world.step();
    assert!(estimate(&world).is_some());
    let mut suspended = world.clone();
    suspended.job.spec.suspend = true;
    suspended.step();
    assert_eq!(estimate(&suspended), None);
    advance(&mut world, 49);
    world.step();
    assert_eq!(world.status().progress.as_ref().unwrap().percent, 100);
    assert_eq!(estimate(&world), None);
}
