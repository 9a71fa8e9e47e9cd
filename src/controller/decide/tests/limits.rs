//! Workers that wait or are lost, and the clocks of the job.

use super::*;

fn active(world: &World) -> i64 {
    world.status().active_seconds
}

#[test]
fn a_waiting_worker_is_never_stuck_and_the_job_says_why_it_waits() {
    let mut world = World::running(&[3]);
    world.waits(0, &"image cannot be pulled ".repeat(100));
    world.unchanged.insert(0, Duration::from_hours(100));
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![], vec![]));
    assert_eq!(world.condition(types::READY), ("True", "Starting"));
    assert_eq!(world.message(types::READY).len(), 400);
    assert!(world.message(types::READY).starts_with("image cannot be pulled"));
    world.starts(0);
    world.unchanged.clear();
    world.step();
    assert_eq!(world.condition(types::READY), ("True", "Running"));
    assert_eq!((world.shard(0).lost, world.shard(0).waits), (0, 0));
}

#[test]
fn a_job_of_which_one_worker_runs_is_not_starting() {
    let mut world = World::running(&[3, 3]);
    world.waits(0, "no node");
    world.step();
    assert_eq!(world.condition(types::READY).1, "Running");
    assert_eq!(world.status().pending_since, None);
}

#[test]
fn a_worker_that_waits_without_a_word_is_starting() {
    let mut world = World::running(&[3]);
    world.waits(0, "");
    world.step();
    assert_eq!(world.message(types::READY), "a worker is starting");
}

#[test]
fn lost_workers_are_waited_for_without_limit_and_remembered_as_one() {
    let mut world = World::running(&[3, 3]);
    world.job.spec.backoff_limit = 0;
    world.end_with(0, None, "Killed", "signal 9");
    world.job.spec.backoff_limit = 5;
    world.step();
    world.job.spec.backoff_limit = 0;
    for round in 1..=20 {
        world.lost(1, &format!("evicted {round}"));
        world.step();
        assert_eq!((world.shard(1).lost, world.shard(1).waits), (0, round));
        assert_eq!(world.condition(types::READY), ("True", "Requeueing"));
        assert_eq!(world.message(types::READY), format!("evicted {round}"));
        world.pass(600);
        assert!(world.step().start.iter().any(|(shard, _)| *shard == 1));
    }
    world.lost(0, "node lost");
    world.step();
    assert!(!world.failed());
    let failures: Vec<_> = world
        .status()
        .failures
        .iter()
        .map(|f| (f.reason.as_str(), f.count))
        .collect();
    assert_eq!(failures, [("Killed", 1), ("Lost", 21)]);
}

#[test]
fn pending_begins_with_the_wish_for_a_worker_and_ends_when_one_runs() {
    let mut world = World::new();
    world.step();
    assert_eq!(world.status().pending_since, Some(Time(world.now)));
    world.waits(0, "no node");
    let since = world.status().pending_since.clone();
    for _ in 0..3 {
        world.pass(600);
        world.step();
        assert_eq!(world.status().pending_since, since);
    }
    world.lost(0, "quota");
    world.step();
    assert_eq!(world.status().pending_since, since, "a backoff does not end it");
    world.pass(600);
    world.step();
    world.step();
    assert_eq!(world.status().pending_since, None);
    world.end(0, exit::STORAGE);
    world.step();
    assert_eq!(world.status().pending_since, None, "nor begins it");
    world.pass(600);
    world.step();
    assert_eq!(world.status().pending_since, Some(Time(world.now)));
}

#[test]
fn nothing_is_pending_while_suspended_planned_in_the_grace_period_or_failed() {
    let mut suspended = World::running(&[3]);
    suspended.job.spec.suspend = true;
    suspended.gone(0);
    let mut planned = World::running(&[3]);
    planned.job.spec.mode = Mode::PlanOnly;
    planned.gone(0);
    let mut grace = World::published();
    grace.job.spec.source_disposition = crate::api::SourceDisposition::Delete;
    let mut failed = World::running(&[3]);
    failed.end(0, exit::GIVE_UP);
    for mut world in [suspended, planned, grace, failed] {
        world.job.spec.pending_deadline_seconds = Some(1);
        world.status_mut().pending_since = None;
        for _ in 0..3 {
            world.step();
            world.pass(100);
            assert_eq!(world.status().pending_since, None);
        }
        assert_ne!(world.condition(types::READY).1, "PendingDeadlineExceeded");
    }
}

#[test]
fn a_job_fails_when_no_worker_could_start_in_time_and_names_the_last_reason() {
    for (state, why) in [
        (
            WorkerState::Waiting("no such image".to_owned()),
            ": no such image",
        ),
        (WorkerState::Lost("exceeded quota".to_owned()), ": exceeded quota"),
    ] {
        let mut world = World::new();
        world.job.spec.pending_deadline_seconds = Some(300);
        world.step();
        world.turns(0, state);
        let decision = world.step();
        assert!(decision.wake.is_some_and(|wake| wake <= Duration::from_mins(5)));
        world.pass(299);
        world.step();
        assert!(!world.failed());
        if let Some(worker) = world
            .workers
            .last_mut()
            .filter(|w| w.state == WorkerState::Running)
        {
            worker.state = WorkerState::Waiting("exceeded quota".to_owned());
        }
        world.pass(1);
        let decision = world.step();
        assert_eq!(
            world.condition(types::STALLED),
            ("True", "PendingDeadlineExceeded")
        );
        let message = format!("no worker could start within 300 s{why}");
        assert_eq!(world.message(types::READY), message);
        assert_eq!(decision.start, []);
        assert_eq!(world.status().pending_since, None);
    }
}

#[test]
fn a_worker_that_runs_at_the_last_moment_is_in_time() {
    let mut world = World::new();
    world.job.spec.pending_deadline_seconds = Some(300);
    world.step();
    world.pass(300);
    world.step();
    assert!(!world.failed());
    assert_eq!(world.status().pending_since, None);
}

#[test]
fn a_worker_that_nobody_saw_run_has_started_all_the_same_when_it_has_ended() {
    let mut world = World::new();
    world.job.spec.pending_deadline_seconds = Some(300);
    world.job.spec.batch.max_backoff_period_seconds = 20;
    for _ in 0..50 {
        world.step();
        world.pass(20);
        world.end_with(0, Some(exit::STORAGE), "StorageError", "bucket: no answer");
        world.step();
        assert_eq!(world.condition(types::STORAGE_ACCESSIBLE).0, "False");
        assert_eq!(world.status().pending_since, None);
        world.pass(20);
    }
    assert!(!world.failed());
    // The next one cannot start any more.
    world.step();
    world.waits(0, "no such image");
    for _ in 0..14 {
        world.pass(20);
        world.step();
        assert!(!world.failed());
    }
    world.pass(20);
    world.step();
    assert_eq!(
        world.condition(types::STALLED),
        ("True", "PendingDeadlineExceeded")
    );
}

#[test]
fn a_shard_whose_worker_has_ended_does_not_hide_that_the_worker_before_it_never_starts() {
    for code in [exit::STORAGE, exit::DONE] {
        let mut world = World::running(&[3, 3]);
        world.job.spec.parallelism = 1;
        world.job.spec.pending_deadline_seconds = Some(300);
        world.waits(0, "no such image");
        world.checkpoint(1, 1);
        world.end(1, code);
        for _ in 0..40 {
            world.step();
            world.pass(20);
        }
        assert_eq!(
            world.condition(types::STALLED),
            ("True", "PendingDeadlineExceeded"),
            "{code}"
        );
    }
}

#[test]
fn waiting_for_another_job_is_pending_too() {
    let mut world = World::new();
    world.job.spec.pending_deadline_seconds = Some(60);
    let mut other = world.job.clone();
    other.metadata.uid = Some("uid-0".to_owned());
    other.metadata.name = Some("earlier".to_owned());
    for seconds in [0, 60] {
        world.pass(seconds);
        let decision = decide(&Observed {
            job: &world.job,
            workers: &[],
            others: std::slice::from_ref(&other),
            unchanged: &world.unchanged,
            now: world.now,
        })
        .unwrap();
        world.apply(&decision.patch);
    }
    assert_eq!(
        world.condition(types::STALLED),
        ("True", "PendingDeadlineExceeded")
    );
    assert!(world.message(types::READY).contains("waits for ns/earlier"));
}

#[test]
fn only_time_in_which_workers_run_is_active() {
    let mut world = World::running(&[3, 3]);
    assert_eq!(world.status().active_since, Some(Time(world.now)));
    world.pass(100);
    assert_eq!(world.step().patch.0, [], "the clock is not written as it goes");
    world.end(0, exit::RETRY);
    world.step();
    world.pass(7);
    world.waits(1, "moved");
    world.step();
    assert_eq!((active(&world), &world.status().active_since), (107, &None));
    world.pass(1000);
    world.starts(1);
    world.step();
    world.pass(3);
    world.gone(0);
    world.gone(1);
    world.step();
    assert_eq!(active(&world), 110);
}

#[test]
fn a_clock_that_is_set_back_takes_nothing_away() {
    let mut world = World::running(&[3]);
    world.pass(50);
    world.waits(0, "");
    world.step();
    world.starts(0);
    world.step();
    world.pass(-3600);
    world.step();
    assert_eq!(world.status().active_since, Some(Time(world.now)));
    world.pass(10);
    world.gone(0);
    world.step();
    assert_eq!(active(&world), 60);
}

#[test]
fn a_job_fails_when_its_workers_have_run_for_too_long_in_all() {
    let mut world = World::running(&[3]);
    world.job.spec.total_active_deadline_seconds = Some(100);
    assert_eq!(world.decide().wake, Some(Duration::from_secs(100)));
    world.pass(60);
    world.end(0, exit::RETRY);
    world.step();
    world.pass(10_000);
    world.step();
    world.step();
    world.pass(39);
    assert_eq!(world.step().wake, Some(Duration::from_secs(1)));
    assert!(!world.failed());
    world.pass(1);
    let decision = world.step();
    assert_eq!((decision.stop, decision.start), (vec![(0, 2)], vec![]));
    assert_eq!(world.condition(types::STALLED), ("True", "DeadlineExceeded"));
    assert_eq!(world.condition(types::SUCCEEDED), ("False", "DeadlineExceeded"));
    world.pass(20);
    world.end(0, exit::DONE);
    world.step();
    assert_eq!((active(&world), &world.status().active_since), (120, &None));

    world.job.spec.retry_token = Some("more".to_owned());
    assert_eq!(world.step().start.len(), 1);
    assert_eq!(active(&world), 0);
    world.step();
    world.pass(99);
    world.step();
    assert!(!world.failed());
    world.pass(1);
    world.step();
    assert!(world.failed());
}

#[test]
fn lowering_the_limit_below_what_was_used_ends_the_job() {
    let mut world = World::running(&[3]);
    world.pass(60);
    world.end(0, exit::RETRY);
    world.step();
    world.job.spec.total_active_deadline_seconds = Some(60);
    world.step();
    assert_eq!(world.condition(types::STALLED).1, "DeadlineExceeded");
}

#[test]
fn success_is_judged_before_any_limit() {
    let mut world = World::published();
    world.job.spec.total_active_deadline_seconds = Some(1);
    world.job.spec.pending_deadline_seconds = Some(1);
    for _ in 0..5 {
        world.pass(1000);
        world.step();
        assert_eq!(world.condition(types::SUCCEEDED).0, "True");
        assert!(!world.failed());
    }
}

#[test]
fn a_failure_that_has_not_seen_the_publication_is_refused() {
    let mut world = World::running(&[1]);
    world.job.spec.total_active_deadline_seconds = Some(100);
    world.checkpoint(0, 1);
    world.pass(100);
    let late = world.decide();
    world.publish();
    let mut job = serde_json::to_value(&world.job).unwrap();
    json_patch::patch(&mut job, &late.patch).unwrap_err();
}

#[test]
fn a_worker_that_publishes_while_it_is_stopped_for_a_limit_has_succeeded() {
    let mut world = World::running(&[1]);
    world.job.spec.total_active_deadline_seconds = Some(100);
    world.checkpoint(0, 1);
    world.pass(100);
    world.step();
    assert!(world.failed());
    world.publish();
    world.end(0, exit::DONE);
    world.step();
    assert!(!world.failed());
    assert_eq!(world.condition(types::SUCCEEDED), ("True", "Succeeded"));
    assert_eq!(world.job.duty(0), Some(Duty::Dispose));
}

#[test]
fn a_view_that_lags_behind_does_not_count_the_same_time_twice() {
    let mut world = World::running(&[3]);
    world.pass(100);
    world.waits(0, "");
    let late = world.decide();
    world.step();
    world.starts(0);
    world.pass(10);
    world.step();
    let mut job = serde_json::to_value(&world.job).unwrap();
    json_patch::patch(&mut job, &late.patch).unwrap_err();
}

#[test]
fn a_worker_that_ends_at_once_counts_for_a_second() {
    let mut world = World::running(&[3]);
    world.step();
    world.end_with(0, Some(exit::STORAGE), "StorageError", "bucket: no answer");
    world.step();
    assert_eq!(world.status().active_seconds, 1);
}
