//! Finalizer, clean-up and expiry.

use super::*;
use crate::api::DeletionPolicy;

/// A job of two shards at work that is to be cleaned up.
fn guarded() -> World {
    let mut world = World::new();
    world.job.spec.deletion_policy = DeletionPolicy::Cleanup;
    world.job.spec.parallelism = 2;
    world.step();
    world.step();
    world.plan(&[3, 3]);
    world.step();
    world
}

fn delete(world: &mut World) {
    world.job.metadata.deletion_timestamp = Some(Time(world.now));
}

/// The one that cleans up, in this epoch of shard 0.
fn cleaning() -> (World, i64) {
    let mut world = guarded();
    delete(&mut world);
    world.step();
    world.workers.clear();
    let start = world.step().start;
    assert_eq!(start.len(), 1);
    (world, start[0].1)
}

#[test]
fn the_finalizer_is_there_before_any_epoch_begins() {
    let mut world = World::new();
    world.job.spec.deletion_policy = DeletionPolicy::Cleanup;
    let decision = world.step();
    assert_eq!(decision.finalizer, Some(FinalizerChange::Add));
    assert_eq!(decision.start, []);
    assert_eq!(world.shard(0).epoch, 0);
    let decision = world.step();
    assert_eq!((decision.finalizer, decision.start), (None, vec![(0, 1)]));
}

#[test]
fn a_policy_that_changes_takes_the_finalizer_along() {
    let mut world = World::running(&[3]);
    world.end(0, exit::RETRY);
    world.step();
    world.pass(600);
    world.job.spec.deletion_policy = DeletionPolicy::Cleanup;
    let decision = world.step();
    assert_eq!(
        (decision.finalizer, decision.start),
        (Some(FinalizerChange::Add), vec![])
    );
    assert_eq!(world.step().start, [(0, 2)]);
    world.job.spec.deletion_policy = DeletionPolicy::Orphan;
    assert_eq!(world.step().finalizer, Some(FinalizerChange::Remove));
    assert_eq!(world.decide().finalizer, None);
}

#[test]
fn a_finished_job_needs_no_finalizer_and_a_failed_one_does() {
    let mut world = guarded();
    world.end(0, exit::GIVE_UP);
    assert_eq!(world.step().finalizer, None);
    assert!(world.failed() && world.job.has_finalizer());
    let mut world = World::published();
    world.job.spec.deletion_policy = DeletionPolicy::Cleanup;
    assert_eq!(world.step().finalizer, Some(FinalizerChange::Add));
    world.step();
    world.status_mut().dispose.get_or_insert_default().finished = true;
    assert_eq!(world.step().finalizer, Some(FinalizerChange::Remove));
    assert_eq!(world.decide().finalizer, None);
}

#[test]
fn a_deleted_job_without_our_finalizer_is_left_alone() {
    let mut world = World::running(&[3, 3]);
    world.end(1, exit::RETRY);
    world.pass(1000);
    delete(&mut world);
    world.job.metadata.finalizers = Some(vec!["foregroundDeletion".to_owned()]);
    let decision = world.step();
    assert_eq!(decision.patch.0, []);
    assert_eq!((decision.stop, decision.start), (vec![(0, 1)], vec![]));
    assert_eq!((decision.finalizer, decision.expired), (None, false));
    assert_eq!(world.job.duty(0), None);
}

#[test]
fn a_deleted_job_stops_its_workers_before_one_cleans_up() {
    let mut world = guarded();
    delete(&mut world);
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![(0, 1), (1, 1)], vec![]));
    assert_eq!(decision.wake, Some(Duration::from_mins(10)));
    assert_eq!(world.condition(types::READY).1, "Stopping");
    assert_eq!(world.job.duty(0), None, "nobody cleans up beside other workers");
    world.end_with(0, None, "Killed", "");
    assert_eq!(world.step().start, []);
    world.waits(1, "terminating");
    assert_eq!(world.step().start, []);
    world.gone(1);
    assert_eq!(world.step().start, [(0, 2)]);
    assert_eq!(world.job.duty(0), Some(Duty::CleanUp));
    assert_eq!(world.job.duty(1), None);
    let decision = world.step();
    assert_eq!(
        (decision.stop, decision.start, decision.finalizer),
        (vec![], vec![], None)
    );
    assert_eq!(world.decide().patch.0, []);
}

#[test]
fn the_job_goes_when_its_clean_up_says_it_is_done() {
    let (mut world, _) = cleaning();
    world.end(0, exit::DONE);
    assert_eq!(world.step().finalizer, None, "stopped before its end");
    world.pass(600 - 1);
    assert_eq!(world.step().start.len(), 1);
    world.status_mut().dispose = Some(DisposeStatus {
        finished: true,
        ..DisposeStatus::default()
    });
    assert_eq!(world.job.duty(0), None);
    let decision = world.step();
    assert_eq!(decision.finalizer, Some(FinalizerChange::Remove));
    assert_eq!((decision.patch.0, decision.start), (vec![], vec![]));
}

#[test]
fn a_clean_up_that_fails_is_tried_again_whatever_it_says_until_ten_minutes_are_over() {
    let (mut world, mut epoch) = cleaning();
    world.job.spec.backoff_limit = 0;
    world.job.spec.batch.max_backoff_period_seconds = 20;
    for code in [exit::GIVE_UP, exit::RETRY, exit::STORAGE, exit::DEADLINE] {
        world.end_with(0, Some(code), "Denied", "cannot delete");
        assert_eq!(world.step().start, [], "it backs off");
        assert_eq!(world.condition(types::READY).1, "Stopping");
        assert!(world.message(types::READY).contains("cannot delete"));
        assert_eq!(world.decide().patch.0, []);
        world.pass(20);
        epoch += 1;
        assert_eq!(world.step().start, [(0, epoch)]);
        assert_eq!(world.job.duty(0), Some(Duty::CleanUp));
    }
    world.lost(0, "the namespace is being terminated");
    world.step();
    world.pass(600 - 4 * 20 - 1);
    assert_eq!(world.decide().finalizer, None);
    world.pass(1);
    let decision = world.step();
    assert_eq!(decision.finalizer, Some(FinalizerChange::Remove));
    assert_eq!(decision.start, []);
}

#[test]
fn a_clean_up_that_is_stuck_is_followed_by_another() {
    let (mut world, epoch) = cleaning();
    world.job.spec.batch.upload_deadline_seconds = 60;
    world.unchanged.insert(0, Duration::from_secs(60 + 30 + 1));
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![(0, epoch)], vec![]));
    world.unchanged.clear();
    world.pass(10);
    let decision = world.step();
    assert_eq!(
        (decision.stop, decision.start),
        (vec![(0, epoch)], vec![(0, epoch + 2)])
    );
    assert_eq!(world.job.duty(0), Some(Duty::CleanUp));
}

#[test]
fn disposing_is_cancelled_and_only_the_ledger_cleaned_up() {
    let mut world = World::published();
    world.job.spec.deletion_policy = DeletionPolicy::Cleanup;
    world.step();
    assert_eq!(world.step().start, [(0, 2)]);
    delete(&mut world);
    assert_eq!(world.step().stop, [(0, 2)]);
    assert_eq!(world.job.duty(0), None);
    world.gone(0);
    assert_eq!(world.step().start, [(0, 3)]);
    assert_eq!(world.job.duty(0), Some(Duty::CleanUp));
    assert_eq!(world.condition(types::SUCCEEDED).0, "True");
}

#[test]
fn suspended_and_failed_jobs_are_cleaned_up_too_and_one_that_never_worked_goes_at_once() {
    let mut suspended = guarded();
    suspended.job.spec.suspend = true;
    let mut failed = guarded();
    failed.end(0, exit::GIVE_UP);
    for mut world in [suspended, failed] {
        world.step();
        world.workers.clear();
        delete(&mut world);
        assert_eq!(world.step().start.len(), 1);
    }
    let mut world = World::new();
    world.job.spec.deletion_policy = DeletionPolicy::Cleanup;
    world.step();
    delete(&mut world);
    assert_eq!(world.step().finalizer, Some(FinalizerChange::Remove));
}

#[test]
fn a_deleted_job_whose_policy_turns_to_orphan_goes_at_once() {
    let (mut world, epoch) = cleaning();
    world.job.spec.deletion_policy = DeletionPolicy::Orphan;
    let decision = world.step();
    assert_eq!(decision.finalizer, Some(FinalizerChange::Remove));
    assert_eq!(decision.stop, [(0, epoch)]);
}

#[test]
fn a_finished_job_expires_after_its_time_and_not_before_all_is_disposed_of() {
    let mut world = World::published();
    world.job.spec.ttl_seconds_after_finished = Some(100);
    world.step();
    world.pass(1000);
    assert!(!world.step().expired, "still disposing");
    world.status_mut().dispose.get_or_insert_default().finished = true;
    world.end(0, exit::DONE);
    let decision = world.step();
    assert_eq!(
        (decision.expired, decision.wake),
        (false, Some(Duration::from_secs(100)))
    );
    world.pass(99);
    assert!(!world.step().expired);
    world.pass(1);
    assert!(world.step().expired);
    world.job.spec.ttl_seconds_after_finished = None;
    assert!(!world.step().expired);
}

#[test]
fn a_failed_job_expires_from_its_failure_on() {
    let mut world = World::running(&[3, 3]);
    world.job.spec.ttl_seconds_after_finished = Some(100);
    world.pass(500);
    world.end(0, exit::GIVE_UP);
    assert_eq!(world.step().wake, Some(Duration::from_secs(100)));
    world.pass(100);
    assert!(!world.step().expired, "a worker is still stopping");
    world.gone(1);
    assert!(world.step().expired);
    world.job.spec.retry_token = Some("again".to_owned());
    assert!(!world.step().expired);
}

#[test]
fn a_published_job_whose_disposing_failed_and_a_planned_one_do_not_expire() {
    let mut failed = World::published();
    failed.step();
    failed.end(0, exit::GIVE_UP);
    let mut planned = World::running(&[3]);
    planned.job.spec.mode = Mode::PlanOnly;
    planned.end(0, exit::DONE);
    for mut world in [failed, planned] {
        world.job.spec.ttl_seconds_after_finished = Some(0);
        world.step();
        world.pass(1000);
        assert!(!world.step().expired);
    }
}

#[test]
fn a_job_with_nothing_to_compact_expires_at_once_if_so_wished() {
    let mut world = World::new();
    world.job.spec.ttl_seconds_after_finished = Some(0);
    world.step();
    world.plan(&[]);
    world.status_mut().plan.as_mut().unwrap().source_objects = 0;
    world.end(0, exit::DONE);
    assert!(world.step().expired);
}
