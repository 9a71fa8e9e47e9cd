//! For how long shards have been seen unchanged, by the observer's own monotonic clock (I12).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::decide::{WorkerState, WorkerView};
use crate::api::CompactionJobStatus;

/// What an observer remembers of a job between two looks. New with the observer: a restart begins at 0.
#[derive(Debug, Default)]
pub struct Watch {
    /// Per shard, since when it has been seen like that.
    seen: BTreeMap<i32, (Seen, Instant)>,
}

#[derive(Debug, Clone, PartialEq)]
struct Seen {
    epoch: i64,
    holder: String,
    sequence: i64,
    /// Waiting for a node, an image or a Secret is not lack of progress.
    runs: bool,
}

impl Watch {
    /// Takes a look; returns what `decide` is told as `unchanged`.
    pub fn look(
        &mut self,
        status: Option<&CompactionJobStatus>,
        workers: &[WorkerView],
    ) -> BTreeMap<i32, Duration> {
        let mut unchanged = BTreeMap::new();
        for shard in status.map_or(&[][..], |status| &status.shards) {
            let state = Seen {
                epoch: shard.epoch,
                holder: shard.holder.clone(),
                sequence: shard.checkpoint.sequence,
                runs: workers.iter().any(|worker| {
                    (worker.shard, worker.epoch) == (shard.index, shard.epoch)
                        && worker.state == WorkerState::Running
                }),
            };
            let seen = self
                .seen
                .entry(shard.index)
                .or_insert_with(|| (state.clone(), Instant::now()));
            if seen.0 != state {
                *seen = (state, Instant::now());
            }
            unchanged.insert(shard.index, seen.1.elapsed());
        }
        unchanged
    }
}
