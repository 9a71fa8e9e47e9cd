//! For how long shards have been seen unchanged, by the observer's own monotonic clock (I12).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::CompactionJobStatus;

/// What an observer remembers of a job between two looks. New with the observer: a restart begins at 0.
#[derive(Debug, Default)]
pub struct Watch {
    /// Per shard: epoch, holder and sequence, and since when they have been seen like that.
    seen: BTreeMap<i32, ((i64, String, i64), Instant)>,
}

impl Watch {
    /// Takes a look; returns what `decide` is told as `unchanged`.
    pub fn look(&mut self, status: Option<&CompactionJobStatus>) -> BTreeMap<i32, Duration> {
        let mut unchanged = BTreeMap::new();
        for shard in status.map_or(&[][..], |status| &status.shards) {
            let state = (shard.epoch, shard.holder.clone(), shard.checkpoint.sequence);
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
