//! What people and tools see: progress, and the conditions of a job's state.

use super::{Deciding, MAX_MESSAGE_CHARS};
use crate::api::{Mode, Progress, Reason, ShardStatus, conditions as types, set_condition};

impl Deciding<'_> {
    pub(super) fn set_progress(&mut self) {
        let Some(plan) = &self.next.plan else { return };
        let sum = |field: fn(&ShardStatus) -> i64| self.next.shards.iter().map(field).sum::<i64>();
        let (done, total) = (sum(|s| s.checkpoint.batch), sum(|s| s.total_batches));
        let bytes_read = sum(|s| s.checkpoint.bytes_read);
        let percent = if done == total {
            100
        } else {
            bytes_read * 100 / plan.source_bytes.max(1)
        };
        self.next.progress = Some(Progress {
            summary: format!("{done}/{total}"),
            percent: percent.clamp(0, 100) as i32,
            bytes_read,
            bytes_written: sum(|s| s.checkpoint.bytes_written),
            skipped_sources: sum(|s| s.checkpoint.skipped_sources),
            estimated_completion_time: None,
        });
        let progressed = |s: &ShardStatus| s.checkpoint.sequence > s.start_sequence;
        let shards = &self.next.shards;
        // One worker that reaches it does not speak for another that waits for it.
        if shards.iter().any(progressed) && shards.iter().all(|s| s.waits == 0 || progressed(s)) {
            self.set_condition(
                types::STORAGE_ACCESSIBLE,
                Some(true),
                Reason::Reachable,
                "every worker reached it",
            );
        }
    }

    pub(super) fn set_state(&mut self) {
        let Some(plan) = &self.next.plan else {
            return self.set_states(Reason::Planning, "a worker lists the sources");
        };
        if plan.source_objects == 0 {
            return self.succeed(Reason::NothingToCompact, "no source is to be compacted");
        }
        if let Some(message) = self.published() {
            return self.succeed(Reason::Succeeded, &message);
        }
        if self.observed.job.spec.mode == Mode::PlanOnly {
            return self.set_states(Reason::Planned, "planned; set mode: Execute to run this plan");
        }
        let due = |shard: &ShardStatus| shard.retry_time.as_ref().map(|time| time.0);
        let waiting = self
            .next
            .shards
            .iter()
            .any(|shard| due(shard) > Some(self.observed.now));
        let last = self.next.failures.last().map(|failure| failure.message.clone());
        match last.filter(|_| waiting) {
            Some(message) => self.set_states(Reason::Requeueing, &message),
            None if self.next.shards.iter().all(ShardStatus::is_done) => {
                self.set_states(
                    Reason::Publishing,
                    "every batch is done; the outputs are being published",
                );
            }
            None => self.set_states(Reason::Running, "workers compact batch by batch"),
        }
    }

    pub(super) fn set_condition(&mut self, type_: &str, status: Option<bool>, reason: Reason, message: &str) {
        let generation = self.next.observed_generation;
        let message: String = message.chars().take(MAX_MESSAGE_CHARS).collect();
        set_condition(
            &mut self.next.conditions,
            type_,
            status,
            reason.as_str(),
            &message,
            generation,
            self.observed.now,
        );
    }

    /// The conditions of a job that is neither finished nor failed. What is published stays published.
    pub(super) fn set_states(&mut self, reason: Reason, message: &str) {
        self.set_common(reason, message);
        if !self.next.is_announced() {
            self.set_condition(types::SUCCEEDED, None, reason, message);
        }
    }

    fn set_common(&mut self, reason: Reason, message: &str) {
        self.set_condition(types::READY, Some(true), reason, message);
        self.set_condition(
            types::RECONCILING,
            Some(reason == Reason::Planning),
            reason,
            message,
        );
        self.set_condition(types::STALLED, Some(false), reason, "");
        self.set_condition(types::SUSPENDED, Some(reason == Reason::Suspended), reason, "");
    }

    fn succeed(&mut self, reason: Reason, message: &str) {
        self.set_common(reason, message);
        self.set_condition(types::SUCCEEDED, Some(true), reason, message);
    }

    pub(super) fn fail(&mut self, reason: Reason, message: &str) {
        self.set_common(reason, message);
        self.set_condition(types::READY, Some(false), reason, message);
        self.set_condition(types::STALLED, Some(true), reason, message);
        match self.published() {
            // What is published stays published, even if its sources cannot be disposed of.
            Some(published) => {
                self.set_condition(types::SUCCEEDED, Some(true), Reason::Succeeded, &published);
            }
            None => self.set_condition(types::SUCCEEDED, Some(false), reason, message),
        }
    }

    /// What is published, once readers have been told.
    fn published(&self) -> Option<String> {
        let outputs = self.next.publish.as_ref().filter(|p| p.announced)?.outputs;
        let sources = self.next.plan.as_ref()?.source_objects;
        Some(format!("{sources} sources are compacted into {outputs} outputs"))
    }
}
