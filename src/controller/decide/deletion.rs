//! The end of the object itself: what a deleted job still has to do, and when a finished one is deleted.

use jiff::{SignedDuration, Timestamp};

use super::{Deciding, FinalizerChange};
use crate::api::{DeletionPolicy, Reason, condition, conditions as types};

/// A deleted job is gone after this, cleaned up or not.
const CLEAN_UP_LIMIT: SignedDuration = SignedDuration::from_mins(10);

impl Deciding<'_> {
    /// A job that is to be cleaned up has the finalizer before it has a worker, and until it is finished.
    pub(super) fn hold_for_clean_up(&mut self) {
        let job = self.observed.job;
        let wanted = job.spec.deletion_policy == DeletionPolicy::Cleanup && !self.finished();
        self.finalizer = match (wanted, job.has_finalizer()) {
            (true, false) => Some(FinalizerChange::Add),
            (false, true) => Some(FinalizerChange::Remove),
            _ => None,
        };
    }

    /// Stops all workers of a deleted job; when none exists, one more cleans up. It alone is let run.
    pub(super) fn delete(&mut self, deleted: Timestamp) {
        self.stop_all();
        let job = self.observed.job;
        if !job.has_finalizer() {
            return;
        }
        let due = deleted.saturating_add(CLEAN_UP_LIMIT).unwrap_or(Timestamp::MAX);
        if due <= self.observed.now || !self.needs_clean_up() {
            self.finalizer = Some(FinalizerChange::Remove);
            return;
        }
        self.wake_at(due);
        self.next.observed_generation = job.metadata.generation.unwrap_or_default();
        // A job that has failed is cleaned up too, and no failure ends that.
        self.lift_failure();
        match self.next.clean_up_epoch {
            Some(epoch) => {
                self.stop.retain(|worker| *worker != (0, epoch));
                self.shard(0);
            }
            None if self.stop.is_empty() => self.begin_clean_up(),
            None => {}
        }
        let message = match (self.next.clean_up_epoch, self.hindrance()) {
            (None, _) => "to be deleted; workers are stopping".to_owned(),
            (Some(_), None) => "to be deleted; a worker cleans up".to_owned(),
            (Some(_), Some((_, why))) => format!("to be deleted; the clean-up waits: {why}"),
        };
        self.drop_estimate();
        self.set_states(Reason::Stopping, &message);
        self.set_active();
        self.set_pending(false);
    }

    fn needs_clean_up(&self) -> bool {
        let cleans_up = self.observed.job.spec.deletion_policy == DeletionPolicy::Cleanup;
        cleans_up && !self.finished() && self.next.shards.iter().any(|shard| shard.epoch > 0)
    }

    fn begin_clean_up(&mut self) {
        let shard = &mut self.next.shards[0];
        (shard.lost, shard.waits, shard.checkpoint.attempts) = (0, 0, 0);
        self.next.clean_up_epoch = Some(shard.epoch);
        self.begin_epoch(0);
    }

    /// Whether a job that has ended has been kept for as long as it should. One whose sources are still to be
    /// disposed of has not ended.
    pub(super) fn set_expired(&mut self) {
        let ttl = self.observed.job.spec.ttl_seconds_after_finished;
        let (Some(ttl), Some(end)) = (ttl, self.end_time()) else {
            return;
        };
        let due = end
            .saturating_add(SignedDuration::from_secs(ttl))
            .unwrap_or(Timestamp::MAX);
        if due > self.observed.now {
            return self.wake_at(due);
        }
        let stopping = self.existing().next().is_some();
        self.expired = !stopping;
    }

    fn end_time(&self) -> Option<Timestamp> {
        if self.finished() {
            return self.next.completion_time.as_ref().map(|time| time.0);
        }
        if !self.failed() || self.next.is_announced() {
            return None;
        }
        condition(&self.next.conditions, types::STALLED).map(|stalled| stalled.last_transition_time.0)
    }
}
