//! What people and tools see: the conditions of a job's state.

use super::Deciding;
use super::limits::STARTING;
use crate::api::{Mode, ReadyWhen, Reason, ShardStatus, bounded, conditions as types, set_condition};

const DAY_SECONDS: i64 = 86_400;

impl Deciding<'_> {
    /// The state of a job that is at work.
    pub(super) fn set_state(&mut self) {
        self.set_storage();
        if self.nothing_to_compact() {
            return self.succeed(Reason::NothingToCompact, "no source is to be compacted");
        }
        if let Some(message) = self.published() {
            return self.succeed(Reason::Succeeded, &message);
        }
        let is_planned = self.next.plan.is_some();
        if is_planned && self.observed.job.spec.mode == Mode::PlanOnly {
            return self.set_states(Reason::Planned, "planned; set mode: Execute to run this plan");
        }
        if let Some((reason, message)) = self.hindrance() {
            return self.set_states(reason, &message);
        }
        if !is_planned {
            return self.set_states(Reason::Planning, "a worker lists the sources");
        }
        if self.next.shards.iter().all(ShardStatus::is_done) {
            let message = "every batch is done; the outputs are being published";
            return self.set_states(Reason::Publishing, message);
        }
        self.set_states(Reason::Running, "workers compact batch by batch");
    }

    /// Why work that is open is not done at this moment.
    pub(super) fn hindrance(&self) -> Option<(Reason, String)> {
        if !self.runs() {
            let begun = (!self.start.is_empty()).then(|| STARTING.to_owned());
            if let Some(why) = self.why_waiting().or(begun) {
                return Some((Reason::Starting, why));
            }
        }
        let now = self.observed.now;
        let backs_off = |shard: &ShardStatus| shard.retry_time.as_ref().is_some_and(|time| time.0 > now);
        let last = self.next.failures.last()?;
        let backs_off = self.next.shards.iter().any(backs_off);
        backs_off.then(|| (Reason::Requeueing, last.message.clone()))
    }

    fn set_storage(&mut self) {
        let shards = &self.next.shards;
        // One worker that reaches it does not speak for another that waits for it.
        if shards.iter().any(ShardStatus::has_progressed)
            && shards.iter().all(|s| s.waits == 0 || s.has_progressed())
        {
            let (type_, reason) = (types::STORAGE_ACCESSIBLE, Reason::Reachable);
            let warning = self.upload_rule();
            let message = warning.as_deref().unwrap_or("every worker reached it");
            self.set_condition(type_, Some(true), reason, message);
        }
    }

    /// Told where the job may take longer than the bucket lets an upload be open.
    fn upload_rule(&self) -> Option<String> {
        let days = self.next.plan.as_ref()?.upload_days?;
        let deadline = self.observed.job.spec.total_active_deadline_seconds;
        let takes = deadline.or_else(|| {
            let start = self.next.start_time.as_ref()?;
            let estimate = self.next.progress.as_ref()?.estimated_completion_time.as_ref()?;
            Some(estimate.0.duration_since(start.0).as_secs())
        })?;
        (takes > i64::from(days) * DAY_SECONDS).then(|| {
            format!(
                "every worker reached it; a rule of the bucket aborts uploads after {days} days, and this job may \
                 take longer: an output whose upload is aborted is built again"
            )
        })
    }

    pub(super) fn set_condition(&mut self, type_: &str, status: Option<bool>, reason: Reason, message: &str) {
        let generation = self.next.observed_generation;
        let message = bounded(message);
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
        let published = self.next.is_announced();
        let (ready, reconciling) = match self.observed.job.spec.ready_when {
            ReadyWhen::Accepted => (true, self.is_being_accepted(reason)),
            ReadyWhen::Succeeded => (published, !published),
        };
        self.set_common(reason, message, ready, reconciling);
        if !published {
            self.set_condition(types::SUCCEEDED, None, reason, message);
        }
    }

    /// Work on the plan is asked for, and there is none yet.
    fn is_being_accepted(&self, reason: Reason) -> bool {
        let at_work = matches!(reason, Reason::Planning | Reason::Starting | Reason::Requeueing);
        at_work && self.next.plan.is_none()
    }

    fn set_common(&mut self, reason: Reason, message: &str, ready: bool, reconciling: bool) {
        self.set_condition(types::READY, Some(ready), reason, message);
        self.set_condition(types::RECONCILING, Some(reconciling), reason, message);
        self.set_condition(types::STALLED, Some(false), reason, "");
        let suspended = reason == Reason::Suspended;
        self.set_condition(types::SUSPENDED, Some(suspended), reason, "");
    }

    fn succeed(&mut self, reason: Reason, message: &str) {
        self.set_common(reason, message, true, false);
        self.set_condition(types::SUCCEEDED, Some(true), reason, message);
    }

    pub(super) fn fail(&mut self, reason: Reason, message: &str) {
        self.set_common(reason, message, false, false);
        self.set_condition(types::STALLED, Some(true), reason, message);
        self.drop_estimate();
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
        let published = self.next.publish.as_ref().filter(|p| p.announced)?;
        let (sources, outputs) = (published.sources, published.outputs);
        let failed = match published.failed_groups {
            0 => "",
            1 => "; 1 group failed, see the manifest",
            groups => &format!("; {groups} groups failed, see the manifest"),
        };
        Some(format!(
            "{sources} sources are compacted into {outputs} outputs{failed}"
        ))
    }
}
