//! For how long shards have been seen unchanged, by the observer's own monotonic clock (I12).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::decide::{WorkerState, WorkerView};
use crate::api::CompactionJobStatus;

/// The longest time between two looks that counts: what lies between may have been an outage of the
/// observer's own, in which nobody could have shown anything.
const LONGEST_STEP: Duration = Duration::from_mins(1);

/// What an observer remembers of a job between two looks. New with the observer: a restart begins at 0.
#[derive(Debug, Default)]
pub struct Watch {
    seen: BTreeMap<i32, (Seen, Duration)>,
    /// The last look that saw something.
    looked: Option<Instant>,
}

/// What of a shard must change.
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
        let step = self.looked.map_or(Duration::ZERO, |looked| looked.elapsed());
        self.looked = Some(Instant::now());
        for shard in status.map_or(&[][..], |status| &status.shards) {
            let seen = Seen {
                epoch: shard.epoch,
                holder: shard.holder.clone(),
                sequence: shard.checkpoint.sequence,
                runs: workers.iter().any(|worker| {
                    (worker.shard, worker.epoch) == (shard.index, shard.epoch)
                        && worker.state == WorkerState::Running
                }),
            };
            match self.seen.get_mut(&shard.index) {
                Some((known, unchanged)) if *known == seen => *unchanged += step.min(LONGEST_STEP),
                _ => drop(self.seen.insert(shard.index, (seen, Duration::ZERO))),
            }
        }
        let unchanged = self
            .seen
            .iter()
            .map(|(index, (_, unchanged))| (*index, *unchanged));
        unchanged.collect()
    }

    /// A look failed: the clock stands still until the next one.
    pub fn blind(&mut self) {
        self.looked = None;
    }

    /// The longest time for which a shard whose worker runs has been seen unchanged.
    pub fn longest_running(&self) -> Duration {
        let running = self.seen.values().filter(|(seen, _)| seen.runs);
        running.map(|(_, unchanged)| *unchanged).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ShardStatus;

    fn status(sequence: i64) -> CompactionJobStatus {
        let mut shard = ShardStatus {
            epoch: 1,
            ..ShardStatus::default()
        };
        shard.checkpoint.sequence = sequence;
        CompactionJobStatus {
            shards: vec![shard],
            ..CompactionJobStatus::default()
        }
    }

    fn worker(state: WorkerState) -> [WorkerView; 1] {
        [WorkerView {
            shard: 0,
            epoch: 1,
            state,
        }]
    }

    async fn after(watch: &mut Watch, seconds: u64, sequence: i64, state: WorkerState) -> u64 {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        watch.look(Some(&status(sequence)), &worker(state))[&0].as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn time_counts_from_the_last_change_and_the_first_sight() {
        let mut watch = Watch::default();
        assert_eq!(after(&mut watch, 50, 1, WorkerState::Running).await, 0);
        assert_eq!(after(&mut watch, 30, 1, WorkerState::Running).await, 30);
        assert_eq!(after(&mut watch, 30, 1, WorkerState::Running).await, 60);
        assert_eq!(watch.longest_running(), Duration::from_mins(1));
        assert_eq!(after(&mut watch, 30, 2, WorkerState::Running).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_to_start_is_not_lack_of_progress() {
        let mut watch = Watch::default();
        let waiting = || WorkerState::Waiting(String::new());
        after(&mut watch, 0, 1, waiting()).await;
        after(&mut watch, 50, 1, waiting()).await;
        assert_eq!(watch.longest_running(), Duration::ZERO);
        assert_eq!(after(&mut watch, 50, 1, WorkerState::Running).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_of_the_observer_is_nobody_elses() {
        let mut watch = Watch::default();
        after(&mut watch, 0, 1, WorkerState::Running).await;
        watch.blind();
        assert_eq!(after(&mut watch, 500, 1, WorkerState::Running).await, 0);
        assert_eq!(
            after(&mut watch, 500, 1, WorkerState::Running).await,
            60,
            "a long step is cut"
        );
    }
}
