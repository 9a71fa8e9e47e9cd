//! Whatever the status and the workers are, the fence holds and a decision is made once.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::api::{Checkpoint, DeletionPolicy, FINALIZER, SourceDisposition};

fn shard(index: i32) -> impl Strategy<Value = ShardStatus> {
    let numbers = (0_i64..4, 0_i64..4, 0_i64..3, 0_i64..4, 0_i64..5);
    let counts = (0_i32..4, 0_i32..4, 0_i32..7, proptest::option::of(-30_i64..30));
    let holder = select(vec!["", "pod"]);
    (numbers, counts, holder).prop_map(move |(numbers, counts, holder)| {
        let (epoch, sequence, behind, batch, total_batches) = numbers;
        let (lost, waits, attempts, retry) = counts;
        let now = World::new().now;
        ShardStatus {
            index,
            epoch,
            holder: holder.to_owned(),
            refused: 0,
            total_batches,
            checkpoint: Checkpoint {
                sequence,
                batch,
                attempts,
                failed_groups: i64::from(attempts / 5),
                ..Checkpoint::default()
            },
            start_sequence: (sequence - behind).max(0),
            lost,
            waits,
            retry_time: retry.map(|seconds| Time(now + SignedDuration::from_secs(seconds))),
        }
    })
}

fn state() -> impl Strategy<Value = WorkerState> {
    let code = select(vec![
        None,
        Some(1),
        Some(exit::DONE),
        Some(exit::GIVE_UP),
        Some(exit::DEADLINE),
        Some(exit::RETRY),
        Some(exit::STORAGE),
        Some(exit::FENCED),
    ]);
    let ended = code.prop_map(|code| {
        WorkerState::Ended(WorkerEnd {
            code,
            reason: "Reason".to_owned(),
            message: "message".to_owned(),
        })
    });
    prop_oneof![
        4 => Just(WorkerState::Running),
        1 => Just(WorkerState::Waiting("no image".to_owned())),
        1 => Just(WorkerState::Lost("evicted".to_owned())),
        4 => ended,
    ]
}

/// Sets a job's spec and the parts of its status that are not shards.
fn settings() -> impl Strategy<Value = World> {
    let spec = (1_i32..4, 0_i32..4, any::<[bool; 4]>());
    let end = (any::<[bool; 3]>(), proptest::bool::weighted(0.25));
    let status = (any::<[bool; 6]>(), 0_i64..2);
    (spec, end, status).prop_map(|(spec, end, (flags, objects))| {
        let (parallelism, backoff_limit, [suspend, plan_only, retry, delete]) = spec;
        let ([clean_up, held, cleaning], deleted) = end;
        let [planned, published, disposing, disposed, stalled, suspended] = flags;
        let mut world = World::new();
        let now = world.now;
        let spec = &mut world.job.spec;
        (spec.parallelism, spec.backoff_limit, spec.suspend) = (parallelism, backoff_limit, suspend);
        spec.mode = if plan_only { Mode::PlanOnly } else { Mode::Execute };
        spec.retry_token = retry.then(|| "token".to_owned());
        if delete {
            spec.source_disposition = SourceDisposition::Delete;
            spec.source_retention_seconds = 100;
        }
        if clean_up {
            spec.deletion_policy = DeletionPolicy::Cleanup;
            world.job.metadata.finalizers = held.then(|| vec![FINALIZER.to_owned()]);
        }
        world.job.metadata.deletion_timestamp = deleted.then_some(Time(now));
        world.status_mut().clean_up_epoch = cleaning.then_some(1);
        if planned {
            world.status_mut().shards.push(ShardStatus::default());
            world.plan(&[]);
            world.status_mut().plan.as_mut().unwrap().source_objects = objects * 10;
            if published {
                world.publish();
            }
            world.status_mut().shards.clear();
        }
        let status = world.status_mut();
        if status.publish.is_some() && disposing {
            status.publish_time = Some(Time(now));
            status.dispose = Some(DisposeStatus {
                finished: disposed,
                ..DisposeStatus::default()
            });
        }
        for (type_, value) in [(types::STALLED, stalled), (types::SUSPENDED, suspended)] {
            set_condition(&mut status.conditions, type_, Some(value), "Some", "", 1, now);
        }
        world
    })
}

fn world() -> impl Strategy<Value = World> {
    let shards = (1_i32..4).prop_flat_map(|count| (0..count).map(shard).collect::<Vec<_>>());
    let workers = btree_map((0_i32..4, 0_i64..3), state(), 0..8);
    (settings(), shards, workers, vec(0_u64..2000, 3)).prop_map(|(mut world, shards, workers, unchanged)| {
        world.workers = workers
            .into_iter()
            .filter_map(|((shard, behind), state)| {
                let epoch = shards.get(shard as usize).map_or(5, |s| s.epoch) - behind;
                (epoch > 0).then_some(WorkerView { shard, epoch, state })
            })
            .collect();
        world.unchanged = (0..)
            .zip(unchanged.into_iter().map(Duration::from_secs))
            .collect();
        world.status_mut().shards = shards;
        world
    })
}

fn existing(world: &World) -> Vec<(i32, i64)> {
    let existing = world.workers.iter().filter(|w| w.state.exists());
    existing.map(|w| (w.shard, w.epoch)).collect()
}

fn check_fence(before: &World, decision: &Decision, after: &World) {
    for (old, new) in before.status().shards.iter().zip(&after.status().shards) {
        assert!(new.epoch >= old.epoch, "an epoch falls");
        assert_eq!(new.checkpoint.sequence, old.checkpoint.sequence);
        assert_eq!(new.checkpoint.batch, old.checkpoint.batch);
        assert_eq!(new.total_batches, old.total_batches);
        assert!(new.epoch == old.epoch || new.holder.is_empty());
    }
    for (position, (shard, epoch)) in decision.start.iter().enumerate() {
        let others = &decision.start[position + 1..];
        assert!(
            others.iter().all(|(other, _)| other != shard),
            "two starts of shard {shard}"
        );
        let raised = before.shard(*shard).epoch < *epoch && after.shard(*shard).epoch == *epoch;
        assert!(raised, "epoch {epoch} is not a new one");
        let orphan = before.job.spec.deletion_policy == DeletionPolicy::Orphan;
        let finished = before.status().dispose.as_ref().is_some_and(|d| d.finished);
        assert!(
            orphan || finished || before.job.has_finalizer(),
            "a worker that nobody is bound to clean up after"
        );
        if before.job.metadata.deletion_timestamp.is_some() {
            assert_eq!(after.job.duty(*shard), Some(Duty::CleanUp));
        }
        let old = existing(before).into_iter().filter(|(s, _)| s == shard);
        for worker in old {
            assert!(decision.stop.contains(&worker), "two workers of shard {shard}");
        }
    }
    for worker in &decision.stop {
        assert!(
            existing(before).contains(worker),
            "{worker:?} does not exist and is stopped"
        );
    }
    let staying = existing(before).len() - decision.stop.len();
    let room = before.job.spec.parallelism as usize;
    assert!(decision.start.is_empty() || staying + decision.start.len() <= room);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_fence_holds_whatever_is_observed(before in world()) {
        let mut after = before.clone();
        let decision = after.step();
        check_fence(&before, &decision, &after);
    }

    #[test]
    fn a_job_that_has_failed_or_is_suspended_starts_nothing(before in world()) {
        let mut after = before.clone();
        let decision = after.step();
        let deleted = before.job.metadata.deletion_timestamp.is_some();
        if deleted {
            return Ok(());
        }
        if after.failed() || after.condition(types::SUSPENDED).0 == "True" {
            prop_assert_eq!(decision.start, []);
            let late: Vec<_> = existing(&before).into_iter().filter(|w| !decision.stop.contains(w)).collect();
            prop_assert!(late.is_empty() || !after.failed(), "{:?} goes on", late);
        }
    }

    #[test]
    fn deciding_again_changes_nothing(mut world in world()) {
        // Whether one is stuck is found out shard by shard, and one that is stuck makes room.
        world.unchanged.clear();
        // Nothing is started before the finalizer is there.
        while world.decide().finalizer == Some(FinalizerChange::Add) {
            world.step();
        }
        let first = world.step();
        // Those that were started run now, and the clocks go by it.
        prop_assert_eq!(world.step().start, []);
        let second = world.decide();
        prop_assert_eq!(&second.start, &[]);
        prop_assert_eq!(&second.patch.0, &[]);
        // Nor does it when those that were stopped have ended.
        for (shard, epoch) in first.stop {
            world.workers.retain(|w| (w.shard, w.epoch) != (shard, epoch));
        }
        // But for the one that was waited for, which cleans up a deleted job.
        if world.job.metadata.deletion_timestamp.is_none() {
            prop_assert_eq!(world.decide().start, []);
        }
    }
}
