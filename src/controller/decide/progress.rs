//! How far the batches are, and when they will be done. Written only when a checkpoint has moved.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Deciding;
use crate::api::{Progress, ShardStatus};

/// What an estimate must rest on.
const MIN_BATCHES: i64 = 20;
const MIN_ACTIVE_SECONDS: i64 = 120;
const MINUTE: i64 = 60;

impl Deciding<'_> {
    pub(super) fn set_progress(&mut self) {
        let Some(plan) = &self.next.plan else { return };
        let sum = |field: fn(&ShardStatus) -> i64| self.next.shards.iter().map(field).sum::<i64>();
        let (done, total) = (sum(|s| s.checkpoint.batch), sum(|s| s.total_batches));
        let bytes_read = sum(|s| s.checkpoint.bytes_read);
        // With `deduplicate` most of the work is done before a byte counts as read.
        let (part, whole) = if self.observed.job.spec.deduplicate.is_some() {
            (done, total)
        } else {
            (bytes_read, plan.source_bytes)
        };
        let percent = if done == total {
            100
        } else {
            part.saturating_mul(100) / whole.max(1)
        };
        let mut progress = Progress {
            summary: format!("{done}/{total}"),
            percent: percent.clamp(0, 100) as i32,
            bytes_read,
            bytes_written: sum(|s| s.checkpoint.bytes_written),
            skipped_sources: sum(|s| s.checkpoint.skipped_sources),
            records_kept: sum(|s| s.checkpoint.records_kept),
            records_dropped: sum(|s| s.checkpoint.records_dropped),
            estimated_completion_time: None,
        };
        if (MIN_BATCHES..total).contains(&done) && !self.observed.job.spec.suspend {
            progress.estimated_completion_time = self.estimate(&progress, plan.source_bytes);
        }
        self.next.progress = Some(progress);
    }

    /// The end of a whole minute, from the bytes read per second in which workers ran. It stands until a
    /// checkpoint moves or its time has come.
    fn estimate(&self, progress: &Progress, source_bytes: i64) -> Option<Time> {
        let now = self.observed.now;
        if let Some(old) = &self.next.progress
            && (old.bytes_read, &old.summary) == (progress.bytes_read, &progress.summary)
            && let Some(estimate) = old.estimated_completion_time.clone().filter(|time| time.0 > now)
        {
            return Some(estimate);
        }
        let seconds = self.active_seconds();
        let read = progress.bytes_read - self.next.active_from_bytes;
        if seconds < MIN_ACTIVE_SECONDS || read <= 0 || !self.runs() {
            return None;
        }
        let left = (source_bytes - progress.bytes_read).max(0);
        let wait = i128::from(left) * i128::from(seconds) / i128::from(read);
        let due = now.as_second().checked_add(i64::try_from(wait).ok()?)?;
        let minute_ends = (due / MINUTE + 1).checked_mul(MINUTE)?;
        Timestamp::from_second(minute_ends).ok().map(Time)
    }

    /// What is there when the clock of `activeSeconds` begins anew was not read in its time.
    pub(super) fn reset_estimate(&mut self) {
        let shards = self.next.shards.iter();
        self.next.active_from_bytes = shards.map(|s| s.checkpoint.bytes_read).sum();
        self.drop_estimate();
    }

    pub(super) fn drop_estimate(&mut self) {
        if let Some(progress) = &mut self.next.progress {
            progress.estimated_completion_time = None;
        }
    }
}
