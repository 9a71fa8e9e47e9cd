//! Which pods of a job are of no use any more. Pure.

use super::decide::{WorkerEnd, WorkerState, WorkerView};
use crate::api::{CompactionJobStatus, exit};

/// Ended workers whose end is accounted for, but for the last failed one of each shard, whose logs somebody
/// may want. Of a job that is at its end, the current epochs' too.
pub(super) fn superfluous(
    status: &CompactionJobStatus,
    workers: &[WorkerView],
    ended: bool,
) -> Vec<(i32, i64)> {
    let epoch = |shard: i32| {
        let shard = status.shards.iter().find(|s| s.index == shard);
        shard.map_or(i64::MAX, |shard| shard.epoch)
    };
    let last_failed = |shard: i32| {
        let of_shard = workers
            .iter()
            .filter(move |worker| worker.shard == shard && failed(worker));
        of_shard.map(|worker| worker.epoch).max()
    };
    workers
        .iter()
        .filter(|worker| !worker.state.exists())
        .filter(|worker| ended || worker.epoch < epoch(worker.shard))
        .filter(|worker| last_failed(worker.shard) != Some(worker.epoch))
        .map(|worker| (worker.shard, worker.epoch))
        .collect()
}

fn failed(worker: &WorkerView) -> bool {
    match &worker.state {
        WorkerState::Ended(WorkerEnd { code, .. }) => *code != Some(exit::DONE),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ShardStatus;

    fn status(epoch: i64) -> CompactionJobStatus {
        CompactionJobStatus {
            shards: vec![ShardStatus {
                epoch,
                ..ShardStatus::default()
            }],
            ..CompactionJobStatus::default()
        }
    }

    fn ended(epoch: i64, code: i32) -> WorkerView {
        let end = WorkerEnd {
            code: Some(code),
            reason: String::new(),
            message: String::new(),
        };
        WorkerView {
            shard: 0,
            epoch,
            state: WorkerState::Ended(end),
        }
    }

    #[test]
    fn the_last_failed_pod_of_a_shard_stays_and_the_others_go() {
        let workers = [
            ended(1, exit::RETRY),
            ended(2, exit::RETRY),
            ended(3, exit::DONE),
            ended(4, exit::DONE),
        ];
        assert_eq!(superfluous(&status(5), &workers, false), [(0, 1), (0, 3), (0, 4)]);
    }

    #[test]
    fn an_end_that_is_not_accounted_for_yet_stays_to_be_seen() {
        assert_eq!(superfluous(&status(1), &[ended(1, exit::DONE)], false), []);
        assert_eq!(superfluous(&status(1), &[ended(1, exit::DONE)], true), [(0, 1)]);
        assert_eq!(superfluous(&status(1), &[ended(1, exit::RETRY)], true), []);
    }

    #[test]
    fn a_worker_that_still_runs_is_stopped_by_others_not_removed() {
        let running = WorkerView {
            shard: 0,
            epoch: 1,
            state: WorkerState::Running,
        };
        assert_eq!(superfluous(&status(2), &[running], true), []);
    }
}
