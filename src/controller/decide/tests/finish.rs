//! How a job ends: planned, published, disposed of, failed, and tried again.

use super::*;
use crate::api::SourceDisposition;

#[test]
fn a_plan_only_job_ends_planned_and_goes_on_with_that_plan() {
    let mut world = World::new();
    world.job.spec.mode = Mode::PlanOnly;
    world.step();
    world.plan(&[2, 2]);
    world.end(0, exit::DONE);
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![], vec![]));
    assert_eq!(world.condition(types::READY), ("True", "Planned"));
    let plan = world.status().plan.clone();
    world.job.spec.mode = Mode::Execute;
    world.job.spec.parallelism = 2;
    assert_eq!(world.step().start, [(0, 2), (1, 1)]);
    world.step();
    assert_eq!(world.status().plan, plan);
    assert_eq!(world.condition(types::READY), ("True", "Running"));
}

#[test]
fn a_job_with_nothing_to_compact_has_succeeded() {
    let mut world = World::new();
    world.step();
    world.plan(&[]);
    world.status_mut().plan.as_mut().unwrap().source_objects = 0;
    world.end(0, exit::DONE);
    let decision = world.step();
    assert_eq!(decision.start, []);
    assert_eq!(world.condition(types::SUCCEEDED), ("True", "NothingToCompact"));
    assert_eq!(world.status().completion_time, Some(Time(world.now)));
    world.pass(10);
    assert_eq!(world.step().patch.0, [], "and is left alone");
    world.job.spec.suspend = true;
    world.step();
    assert_eq!(world.condition(types::SUCCEEDED), ("True", "NothingToCompact"));
}

#[test]
fn shard_0_publishes_when_every_shard_is_done() {
    let mut world = World::running(&[1, 1]);
    world.checkpoint(0, 1);
    world.end(0, exit::DONE);
    assert_eq!(world.step().start, []);
    world.checkpoint(1, 1);
    world.end(1, exit::DONE);
    assert_eq!(world.step().start, [(0, 2)]);
    world.step();
    assert_eq!(world.condition(types::READY), ("True", "Publishing"));
    let progress = world.status().progress.as_ref().unwrap();
    assert_eq!((progress.summary.as_str(), progress.percent), ("2/2", 100));
}

#[test]
fn where_sources_stay_the_publishing_worker_goes_on_to_dispose() {
    let mut world = World::running(&[1]);
    world.checkpoint(0, 1);
    world.publish();
    let decision = world.step();
    assert_eq!(decision.start, []);
    assert_eq!(world.job.duty(0), Some(Duty::Dispose));
    assert_eq!(world.status().dispose, None, "it is the worker's");
    assert_eq!(world.status().publish_time, Some(Time(world.now)));
    assert_eq!(world.condition(types::SUCCEEDED), ("True", "Succeeded"));
    assert_eq!(
        world.message(types::SUCCEEDED),
        "10 sources are compacted into 2 outputs"
    );
    assert_eq!(world.status().completion_time, None);
}

#[test]
fn disposing_has_another_worker_if_the_one_that_published_is_lost() {
    let mut world = World::published();
    assert_eq!(world.step().start, [(0, 2)]);
}

#[test]
fn after_the_publication_no_clock_runs() {
    let mut world = World::running(&[1]);
    world.step();
    assert!(world.status().active_since.is_some());
    world.pass(7);
    world.checkpoint(0, 1);
    world.publish();
    world.step();
    assert_eq!(
        (world.status().active_seconds, &world.status().active_since),
        (7, &None)
    );
    world.pass(7);
    assert_eq!(world.step().patch.0, []);
    world.end(0, exit::RETRY);
    world.step();
    world.pass(60);
    world.step();
    assert_eq!(
        (world.status().active_seconds, &world.status().pending_since),
        (7, &None)
    );
}

#[test]
fn sources_are_deleted_only_after_the_grace_period() {
    let mut world = World::published();
    world.job.spec.source_disposition = SourceDisposition::Delete;
    world.job.spec.source_retention_seconds = 3600;
    // The worker's clock is of no interest.
    let far: Timestamp = "1999-01-01T00:00:00Z".parse().unwrap();
    world.status_mut().publish.as_mut().unwrap().time = Some(Time(far));
    let published = world.now;
    let decision = world.step();
    assert_eq!(decision.start, []);
    assert_eq!(decision.wake, Some(Duration::from_hours(1)));
    world.pass(3599);
    let decision = world.step();
    assert_eq!((decision.start, world.status().dispose.is_none()), (vec![], true));
    assert_eq!(decision.wake, Some(Duration::from_secs(1)));
    world.pass(1);
    assert_eq!(world.step().start, [(0, 2)]);
    assert_eq!(world.status().publish_time, Some(Time(published)));
}

#[test]
fn a_grace_period_beyond_all_times_never_ends() {
    let mut world = World::published();
    world.job.spec.source_disposition = SourceDisposition::Delete;
    world.job.spec.source_retention_seconds = i64::MAX;
    world.step();
    world.pass(3_000_000_000);
    assert_eq!(world.step().start, []);
}

#[test]
fn suspending_a_published_job_stops_disposing_and_leaves_it_succeeded() {
    let mut world = World::published();
    world.step();
    world.job.spec.suspend = true;
    let decision = world.step();
    assert_eq!(decision.stop, [(0, 2)]);
    assert_eq!(world.condition(types::SUCCEEDED).0, "True");
    assert_eq!(world.condition(types::READY).1, "Stopping");
    world.gone(0);
    world.step();
    assert_eq!(world.condition(types::READY).1, "Suspended");
    assert_eq!(world.condition(types::SUCCEEDED).0, "True");
}

#[test]
fn a_job_is_complete_when_all_is_disposed_of() {
    let mut world = World::published();
    world.step();
    world.pass(60);
    world.status_mut().dispose.get_or_insert_default().finished = true;
    world.shard_mut(0).checkpoint.sequence += 1;
    world.end(0, exit::DONE);
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![], vec![]));
    assert_eq!(world.status().completion_time, Some(Time(world.now)));
    world.pass(60);
    assert_eq!(world.step().patch.0, []);
    world.job.spec.suspend = true;
    world.step();
    assert_eq!(world.condition(types::READY), ("True", "Succeeded"));
}

#[test]
fn a_published_job_whose_disposing_fails_stays_succeeded() {
    let mut world = World::published();
    world.step();
    let published = condition(&world.status().conditions, types::SUCCEEDED).cloned();
    world.pass(60);
    world.end_with(0, Some(exit::GIVE_UP), "Denied", "cannot delete in/a");
    world.step();
    assert_eq!(world.condition(types::STALLED), ("True", "WorkFailed"));
    assert_eq!(world.condition(types::READY), ("False", "WorkFailed"));
    assert_eq!(
        condition(&world.status().conditions, types::SUCCEEDED),
        published.as_ref()
    );
    world.pass(60);
    world.job.spec.retry_token = Some("again".to_owned());
    assert_eq!(world.step().start.len(), 1);
    assert_eq!(
        condition(&world.status().conditions, types::SUCCEEDED),
        published.as_ref(),
        "and while it is tried again"
    );
}

#[test]
fn a_job_is_published_even_if_the_worker_that_did_it_dies_and_fails_it() {
    let mut world = World::running(&[1]);
    world.job.spec.backoff_limit = 0;
    world.checkpoint(0, 1);
    world.publish();
    world.end_with(0, None, "Killed", "signal 9");
    world.step();
    assert_eq!(world.condition(types::STALLED), ("True", "BackoffLimitExceeded"));
    assert_eq!(world.condition(types::SUCCEEDED), ("True", "Succeeded"));
}

#[test]
fn a_publication_that_readers_have_not_been_told_of_is_none() {
    let mut world = World::running(&[1]);
    world.checkpoint(0, 1);
    world.publish();
    world.status_mut().publish.as_mut().unwrap().announced = false;
    world.end_with(0, None, "Killed", "signal 9");
    world.step();
    assert_eq!(world.condition(types::SUCCEEDED).0, "Unknown");
    assert_eq!(world.status().publish_time, None);
    world.pass(10);
    assert_eq!(world.step().start, [(0, 2)], "it is published to the last step");
    world.end_with(0, Some(exit::GIVE_UP), "Denied", "cannot write _SUCCESS");
    world.step();
    assert_eq!(world.condition(types::SUCCEEDED), ("False", "WorkFailed"));
}

#[test]
fn a_failed_job_with_another_retry_token_goes_on_with_zero_counts() {
    let mut world = World::running(&[5, 5]);
    world.checkpoint(1, 3);
    world.shard_mut(1).checkpoint.attempts = 5;
    world.end(1, exit::DEADLINE);
    world.step();
    assert!(world.failed());
    world.gone(0);
    world.job.spec.retry_token = Some("once more".to_owned());
    let epochs = [world.shard(0).epoch, world.shard(1).epoch];
    let decision = world.step();
    assert_eq!(decision.start.iter().map(|(s, _)| *s).collect::<Vec<_>>(), [0, 1]);
    for (index, epoch) in epochs.iter().enumerate() {
        let shard = world.shard(index as i32);
        assert!(shard.epoch > *epoch);
        assert_eq!((shard.lost, shard.waits, shard.checkpoint.attempts), (0, 0, 0));
    }
    assert_eq!(world.shard(1).checkpoint.batch, 3, "from its checkpoint");
    assert!(!world.failed());
    assert_eq!(world.condition(types::SUCCEEDED).0, "Unknown");
    assert_eq!(world.status().retry_token.as_deref(), Some("once more"));
    world.step();
    assert_eq!(world.decide().patch.0, []);
}

#[test]
fn a_retry_token_on_a_job_that_has_not_failed_changes_nothing_else() {
    let mut world = World::running(&[5]);
    let shards = world.status().shards.clone();
    world.job.spec.retry_token = Some("early".to_owned());
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![], vec![]));
    assert_eq!(world.status().shards, shards);
    world.end(0, exit::GIVE_UP);
    world.step();
    assert!(world.failed(), "a token that was used up does not retry");
    assert_eq!(world.step().start, []);
}
