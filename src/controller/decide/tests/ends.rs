//! How a worker ended, and what that counts.

use super::*;
use crate::api::bounded;

/// (lost, waits) after one end without a new sequence.
fn counted(code: Option<i32>) -> (i32, i32) {
    let mut world = World::running(&[3]);
    world.checkpoint(0, 1);
    world.end(0, exit::DONE);
    world.step();
    world.end_with(0, code, "Reason", "message");
    world.step();
    (world.shard(0).lost, world.shard(0).waits)
}

#[test]
fn only_ends_by_the_works_own_fault_count_as_lost() {
    let (lost, wait, neither) = ((1, 0), (0, 1), (0, 0));
    for (code, expected) in [
        (None, lost),
        (Some(1), lost),
        (Some(137), lost),
        (Some(exit::RETRY), lost),
        (Some(exit::GIVE_UP), lost),
        (Some(exit::STORAGE), wait),
        (Some(exit::FENCED), wait),
        (Some(exit::DONE), wait),
        (Some(exit::DEADLINE), neither),
    ] {
        assert_eq!(counted(code), expected, "exit code {code:?}");
    }
}

#[test]
fn a_worker_that_is_gone_without_a_word_is_waited_for_and_never_fails_the_job() {
    let mut world = World::running(&[3]);
    world.job.spec.backoff_limit = 0;
    for round in 1..=20 {
        world.gone(0);
        world.step();
        assert_eq!((world.shard(0).lost, world.shard(0).waits), (0, round));
        world.pass(600);
        assert_eq!(world.step().start.len(), 1, "round {round}");
    }
    assert!(!world.failed() && world.status().failures.is_empty());
}

#[test]
fn an_end_is_counted_once_however_often_it_is_seen() {
    let mut world = World::running(&[3]);
    world.end(0, exit::RETRY);
    world.step();
    for _ in 0..5 {
        world.pass(1);
        assert_eq!(world.step().patch.0, []);
    }
    assert_eq!(world.shard(0).lost, 1);
    assert_eq!(world.status().failures[0].count, 1);
}

#[test]
fn a_worker_that_has_done_something_is_followed_at_once() {
    let mut world = World::running(&[3]);
    world.checkpoint(0, 1);
    world.end(0, exit::DONE);
    assert_eq!(world.step().start, [(0, 2)]);
    assert_eq!((world.shard(0).lost, world.shard(0).waits), (0, 0));
}

#[test]
fn the_backoff_doubles_up_to_the_maximum() {
    let mut world = World::running(&[3]);
    world.job.spec.backoff_limit = 100;
    let mut waits = Vec::new();
    for _ in 0..9 {
        world.end(0, exit::RETRY);
        world.step();
        let wait = world.backoff(0).unwrap();
        waits.push(wait);
        world.pass(wait - 1);
        assert_eq!(world.step().start, []);
        world.pass(1);
        assert_eq!(world.step().start.len(), 1);
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
}

#[test]
fn while_the_store_is_away_the_first_shard_with_work_asks_for_it_every_minute() {
    let mut world = World::running(&[3, 3, 3]);
    // The first has none.
    world.checkpoint(0, 3);
    let mut waits = Vec::new();
    for _ in 0..8 {
        world.end(1, exit::STORAGE);
        world.end(2, exit::STORAGE);
        world.step();
        waits.push((world.backoff(1).unwrap(), world.backoff(2).unwrap()));
        world.pass(world.backoff(2).unwrap());
        world.step();
    }
    let often = [10, 20, 40, 45, 45, 45, 45, 45];
    let seldom = [10, 20, 40, 80, 160, 320, 600, 600];
    assert_eq!(waits, often.into_iter().zip(seldom).collect::<Vec<_>>());
}

#[test]
fn the_shard_that_reaches_the_store_again_ends_the_waits_of_the_others_once() {
    let mut world = World::running(&[3, 3]);
    world.shard_mut(1).waits = 10;
    world.end(0, exit::STORAGE);
    world.end(1, exit::STORAGE);
    world.step();
    world.pass(10);
    assert_eq!(world.step().start, [(0, 2)]);
    world.checkpoint(0, 1);
    assert_eq!(world.step().start, [(1, 2)], "it is back for all");
    world.end(1, exit::STORAGE);
    world.checkpoint(0, 2);
    assert_eq!(world.step().start, []);
    assert_eq!(world.backoff(1), Some(600), "to this one it is closed");
}

#[test]
fn counts_of_any_height_give_the_maximal_backoff() {
    let mut world = World::running(&[3]);
    world.shard_mut(0).waits = 1_000_000;
    world.job.spec.batch.backoff_period_seconds = 86_400;
    world.job.spec.batch.max_backoff_period_seconds = 86_400;
    world.end(0, exit::STORAGE);
    world.step();
    assert_eq!(world.backoff(0), Some(86_400));
}

#[test]
fn a_job_fails_once_a_shard_has_lost_more_workers_than_its_limit() {
    let mut world = World::running(&[3, 3]);
    world.job.spec.backoff_limit = 2;
    for lost in 1..=3 {
        assert!(!world.failed(), "lost {lost}");
        world.end_with(1, None, "Killed", "signal 9");
        world.pass(600);
        let decision = world.step();
        if lost == 3 {
            assert_eq!(decision.stop, [(0, 1)], "the other shard's worker is stopped");
        }
        world.pass(600);
        world.step();
    }
    assert_eq!(world.condition(types::STALLED), ("True", "BackoffLimitExceeded"));
    assert_eq!(
        world.condition(types::SUCCEEDED),
        ("False", "BackoffLimitExceeded")
    );
    assert_eq!(world.condition(types::READY), ("False", "BackoffLimitExceeded"));
    assert_eq!(
        world.message(types::READY),
        "shard 1 lost 3 workers without a new checkpoint: signal 9"
    );
    world.pass(100_000);
    assert_eq!(world.step().start, []);
}

#[test]
fn progress_sets_the_counts_back() {
    let mut world = World::running(&[100]);
    world.job.spec.backoff_limit = 1;
    for batch in 1..=10 {
        world.checkpoint(0, batch);
        world.end_with(0, None, "Killed", "");
        world.step();
        assert_eq!((world.shard(0).lost, world.backoff(0)), (1, Some(10)));
        world.pass(10);
        assert_eq!(world.step().start.len(), 1);
    }
    assert!(!world.failed());
}

#[test]
fn storage_errors_never_fail_a_job_and_are_shown() {
    let mut world = World::running(&[3]);
    world.job.spec.backoff_limit = 0;
    for round in 0..50 {
        world.end_with(0, Some(exit::STORAGE), "Storage", "bucket: 503");
        world.step();
        assert_eq!(
            world.condition(types::STORAGE_ACCESSIBLE),
            ("False", "Unreachable")
        );
        assert_eq!(world.message(types::STORAGE_ACCESSIBLE), "bucket: 503");
        assert_eq!(world.condition(types::READY), ("True", "Requeueing"));
        world.pass(600);
        assert_eq!(world.step().start.len(), 1, "round {round}");
        assert_eq!(world.condition(types::STORAGE_ACCESSIBLE).0, "False");
    }
    assert!(!world.failed());
    world.checkpoint(0, 1);
    world.step();
    assert_eq!(world.condition(types::STORAGE_ACCESSIBLE), ("True", "Reachable"));
}

#[test]
fn one_worker_that_reaches_the_store_does_not_speak_for_another() {
    let mut world = World::running(&[3, 3]);
    world.checkpoint(1, 1);
    world.step();
    assert_eq!(world.condition(types::STORAGE_ACCESSIBLE).0, "True");
    world.end(0, exit::STORAGE);
    world.step();
    world.checkpoint(1, 2);
    world.step();
    assert_eq!(world.condition(types::STORAGE_ACCESSIBLE).0, "False");
    world.pass(10);
    world.step();
    world.checkpoint(0, 1);
    world.step();
    assert_eq!(world.condition(types::STORAGE_ACCESSIBLE).0, "True");
}

#[test]
fn giving_up_fails_the_job_at_once_with_the_workers_words() {
    let mut world = World::running(&[3, 3]);
    world.checkpoint(0, 1);
    world.end_with(0, Some(exit::GIVE_UP), "BadSource", "in/a.gz: not gzip");
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![(1, 1)], vec![]));
    assert_eq!(world.condition(types::STALLED), ("True", "WorkFailed"));
    assert_eq!(world.condition(types::SUCCEEDED), ("False", "WorkFailed"));
    assert_eq!(world.message(types::READY), "in/a.gz: not gzip");
    let failure = &world.status().failures[0];
    assert_eq!(
        (failure.shard, failure.batch, failure.reason.as_str()),
        (0, 1, "BadSource")
    );
}

#[test]
fn a_batch_may_pass_its_deadline_as_often_as_allowed() {
    let mut world = World::running(&[3]);
    world.job.spec.backoff_limit = 0;
    for attempts in 1..=5 {
        assert!(!world.failed(), "attempt {attempts}");
        let checkpoint = &mut world.shard_mut(0).checkpoint;
        checkpoint.sequence += 1;
        checkpoint.attempts = attempts;
        world.end_with(0, Some(exit::DEADLINE), "Deadline", "batch 0: 900 s");
        world.step();
        assert_eq!(world.shard(0).lost, 0);
        assert_eq!(world.backoff(0), Some(10 << (attempts - 1)));
        world.pass(600);
        world.step();
    }
    assert_eq!(
        world.condition(types::STALLED),
        ("True", "UploadDeadlineExceeded")
    );
    assert_eq!(world.message(types::STALLED), "batch 0: 900 s");
}

#[test]
fn a_new_batch_has_attempts_of_its_own() {
    let mut world = World::running(&[100]);
    for batch in 1..20 {
        let checkpoint = &mut world.shard_mut(0).checkpoint;
        checkpoint.sequence += 1;
        checkpoint.attempts = 4;
        world.end(0, exit::DEADLINE);
        world.step();
        world.pass(600);
        world.step();
        world.checkpoint(0, batch);
    }
    assert!(!world.failed());
}

#[test]
fn messages_are_bounded_as_the_api_server_writes_them() {
    for (text, characters) in [
        ("a", 400),
        ("ü", 200),
        ("€", 133),
        ("<", 66),
        ("\"", 200),
        ("\n", 66),
    ] {
        assert_eq!(
            bounded(&text.repeat(1000)).chars().count(),
            characters,
            "{text:?}"
        );
    }
    assert_eq!(bounded("short"), "short");
}

#[test]
fn failures_are_bounded_in_number_and_length() {
    let mut world = World::running(&[100]);
    world.job.spec.backoff_limit = 100;
    let message = "ü".repeat(5000);
    for number in 0..40 {
        world.end_with(0, Some(exit::RETRY), &format!("Reason{number}"), &message);
        world.step();
        world.pass(600);
        world.step();
    }
    let failures = &world.status().failures;
    assert_eq!(failures.len(), 16);
    assert_eq!(
        (failures[0].reason.as_str(), failures[15].reason.as_str()),
        ("Reason24", "Reason39")
    );
    assert!(failures.iter().all(|f| f.message == "ü".repeat(200)));
    world.end_with(0, Some(exit::GIVE_UP), "Bad", &message);
    world.step();
    assert_eq!(world.message(types::READY).len(), 400);
}

#[test]
fn the_same_failure_is_counted_up_and_becomes_the_latest() {
    let mut world = World::running(&[100]);
    world.job.spec.backoff_limit = 100;
    for (reason, message) in [("A", "first"), ("B", "other"), ("A", "again")] {
        world.end_with(0, Some(exit::RETRY), reason, message);
        world.step();
        assert_eq!(world.message(types::READY), message);
        world.pass(600);
        world.step();
    }
    let failures = &world.status().failures;
    assert_eq!(failures.len(), 2);
    let latest = &failures[1];
    assert_eq!(
        (latest.reason.as_str(), latest.message.as_str(), latest.count),
        ("A", "again", 2)
    );
}
