//! Groups that were given up, and how many may be.

use super::*;
use crate::api::{FailedGroup, PublishStatus};

fn give_up(world: &mut World, shard: i32, groups: i64, message: &str) {
    world.status_mut().last_failed_group = Some(FailedGroup {
        shard,
        reason: "SourceChanged".to_owned(),
        message: message.to_owned(),
    });
    let checkpoint = &mut world.shard_mut(shard).checkpoint;
    checkpoint.sequence += 1;
    checkpoint.failed_groups = groups;
}

#[test]
fn so_many_groups_may_fail_in_all_shards_together_and_not_one_more() {
    let mut world = World::running(&[5, 5]);
    world.job.spec.max_failed_groups = 2;
    give_up(&mut world, 0, 1, "source in/a has changed");
    world.step();
    give_up(&mut world, 1, 1, "source in/b has changed");
    world.step();
    assert!(!world.failed());
    give_up(&mut world, 0, 2, "source in/c has changed");
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![(0, 1), (1, 1)], vec![]));
    for type_ in [types::SUCCEEDED, types::READY] {
        assert_eq!(world.condition(type_), ("False", "TooManyFailedGroups"));
    }
    assert_eq!(world.condition(types::STALLED), ("True", "TooManyFailedGroups"));
    assert_eq!(
        world.message(types::STALLED),
        "3 groups failed and maxFailedGroups is 2; to go on without them, raise it and change retryToken; \
         the last: source in/c has changed"
    );
}

#[test]
fn the_limit_is_judged_before_the_words_of_the_worker_that_ended_at_it() {
    let mut world = World::running(&[5]);
    world.job.spec.max_failed_groups = 1;
    give_up(&mut world, 0, 2, "source in/c has changed");
    world.end_with(0, Some(exit::GIVE_UP), "TooManyFailedGroups", "2 groups");
    world.step();
    assert_eq!(world.condition(types::STALLED).1, "TooManyFailedGroups");
}

#[test]
fn a_raised_limit_and_another_retry_token_let_the_job_go_on_without_the_groups() {
    let mut world = World::running(&[5]);
    world.job.spec.max_failed_groups = 1;
    give_up(&mut world, 0, 2, "source in/c has changed");
    world.step();
    world.end(0, exit::GIVE_UP);
    world.job.spec.retry_token = Some("again".to_owned());
    world.step();
    assert_eq!(world.condition(types::STALLED).1, "TooManyFailedGroups");
    world.job.spec.max_failed_groups = 2;
    world.job.spec.retry_token = Some("and again".to_owned());
    assert_eq!(world.step().start.len(), 1);
    assert!(!world.failed());
    assert_eq!(world.shard(0).checkpoint.failed_groups, 2);
}

#[test]
fn nothing_is_published_of_a_job_with_too_many_failed_groups() {
    let mut world = World::running(&[1]);
    world.job.spec.max_failed_groups = 1;
    world.checkpoint(0, 1);
    assert_eq!(world.job.duty(0), Some(Duty::Publish));
    give_up(&mut world, 0, 2, "");
    assert_eq!(world.job.duty(0), None);
}

#[test]
fn what_is_decided_to_be_published_is_not_taken_back_by_a_lower_limit() {
    let mut world = World::running(&[1]);
    world.job.spec.max_failed_groups = 2;
    give_up(&mut world, 0, 2, "");
    world.checkpoint(0, 1);
    world.status_mut().publish = Some(PublishStatus::default());
    world.job.spec.max_failed_groups = 0;
    world.step();
    assert!(!world.failed());
    assert_eq!(world.job.duty(0), Some(Duty::Publish));
}

#[test]
fn a_published_job_says_how_many_groups_failed() {
    for (groups, said) in [
        (0, "10 sources are compacted into 2 outputs"),
        (
            1,
            "10 sources are compacted into 2 outputs; 1 group failed, see the manifest",
        ),
        (
            2,
            "10 sources are compacted into 2 outputs; 2 groups failed, see the manifest",
        ),
    ] {
        let mut world = World::published();
        let publish = world.status_mut().publish.as_mut();
        publish.unwrap().failed_groups = groups;
        world.step();
        assert_eq!(world.condition(types::SUCCEEDED), ("True", "Succeeded"));
        assert_eq!(world.message(types::SUCCEEDED), said);
    }
}

#[test]
fn a_store_that_never_comes_back_holds_no_worker_between_two_tries_and_ends_the_job_at_its_deadline() {
    let mut world = World::running(&[3]);
    world.job.spec.total_active_deadline_seconds = Some(600);
    let mut waits = Vec::new();
    while !world.failed() {
        world.pass(60);
        world.end_with(0, Some(exit::STORAGE), "StorageError", "bucket: no answer");
        world.step();
        let Some(wait) = world.backoff(0) else { break };
        waits.push(wait);
        assert!(
            !world.workers.iter().any(|worker| worker.state.exists()),
            "a busy worker"
        );
        world.pass(wait - 1);
        assert_eq!(world.step().start, []);
        world.pass(1);
        assert_eq!(world.step().start.len(), 1);
        world.step();
        assert!(waits.len() < 20, "it never ends");
    }
    assert_eq!(waits, [10, 20, 40, 45, 45, 45, 45, 45, 45]);
    assert_eq!(world.condition(types::STALLED), ("True", "DeadlineExceeded"));
    assert_eq!(
        world.message(types::STALLED),
        "workers have run for 600 s; the checkpoints are kept; the store: bucket: no answer"
    );
    assert_eq!(
        world.condition(types::STORAGE_ACCESSIBLE),
        ("False", "Unreachable")
    );
    assert_eq!(world.message(types::STORAGE_ACCESSIBLE), "bucket: no answer");
    assert!(world.workers.iter().all(|worker| !worker.state.exists()));
}

#[test]
fn without_a_deadline_a_store_that_is_away_is_waited_for() {
    let mut world = World::running(&[3]);
    world.job.spec.backoff_limit = 0;
    world.job.spec.pending_deadline_seconds = Some(60);
    for _ in 0..200 {
        world.end_with(0, Some(exit::STORAGE), "StorageError", "bucket: no answer");
        world.step();
        world.pass(600);
        assert_eq!(world.step().start.len(), 1);
        world.step();
    }
    assert!(!world.failed());
}
