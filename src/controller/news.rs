//! What happened to a job between two of its statuses: the events that people see, and what is counted.
//! Pure. Text comes from the status only, which is bounded and names no key and no secret.

use super::decide::is_same;
use crate::api::{CompactionJobStatus, Failure, Reason, ShardStatus, condition, conditions};

/// An event on the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub warning: bool,
    /// For people and for alerts; from a closed list.
    pub reason: &'static str,
    pub note: String,
}

/// What the metrics count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub batches: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub workers_lost: u64,
    pub deadlines_exceeded: u64,
    pub fenced: u64,
    pub succeeded: u64,
    /// Why the job failed, if it did.
    pub failed: Option<Reason>,
}

fn notice(warning: bool, reason: &'static str, note: String) -> Notice {
    Notice {
        warning,
        reason,
        note,
    }
}

pub(super) fn notices(before: &CompactionJobStatus, after: &CompactionJobStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    if let (None, Some(plan)) = (&before.plan, &after.plan) {
        let note = format!(
            "{} sources ({} bytes) in {} batches of {} shards, {} objects left out",
            plan.source_objects, plan.source_bytes, plan.batches, plan.shards, plan.skipped_objects
        );
        notices.push(notice(false, "Planned", note));
    }
    for failure in &after.failures {
        if count(before, failure) < failure.count {
            let late = is_late(failure);
            let note = format!(
                "shard {} at batch {}: {}: {}",
                failure.shard, failure.batch, failure.reason, failure.message
            );
            notices.push(notice(
                true,
                if late { "DeadlineExceeded" } else { "WorkerLost" },
                note,
            ));
        }
    }
    for (old, shard) in pairs(before, after) {
        shard_notices(old, shard, &mut notices);
    }
    let groups = after.failed_groups();
    if let Some(last) = after
        .last_failed_group
        .as_ref()
        .filter(|_| groups > before.failed_groups())
    {
        let note = format!(
            "shard {}: {}: {} ({groups} in all)",
            last.shard, last.reason, last.message
        );
        notices.push(notice(true, "GroupFailed", note));
    }
    if let Some(publish) = after.publish.as_ref().filter(|publish| publish.announced)
        && !before.is_announced()
    {
        let (outputs, failed) = (publish.outputs, publish.failed_groups);
        let note = match failed {
            0 => format!("{outputs} outputs are published"),
            _ => format!("{outputs} outputs are published, none of {failed} groups that failed"),
        };
        notices.push(notice(failed > 0, "Published", note));
    }
    state_notices(before, after, &mut notices);
    notices
}

/// That the pod of a shard's epoch was made.
pub(super) fn started(shard: &ShardStatus) -> Notice {
    let ShardStatus { index, epoch, .. } = shard;
    if shard.checkpoint.sequence == 0 {
        let note = format!("shard {index}: a worker of epoch {epoch} begins");
        return notice(false, "WorkerStarted", note);
    }
    let batch = shard.checkpoint.batch;
    let note = format!("shard {index}: a worker of epoch {epoch} goes on after batch {batch}");
    notice(false, "Resumed", note)
}

fn shard_notices(old: &ShardStatus, shard: &ShardStatus, notices: &mut Vec<Notice>) {
    let index = shard.index;
    if shard.refused > old.refused {
        let note = format!(
            "shard {index}: a worker that came too late was refused ({} in all)",
            shard.refused
        );
        notices.push(notice(true, "Fenced", note));
    }
}

fn state_notices(before: &CompactionJobStatus, after: &CompactionJobStatus, notices: &mut Vec<Notice>) {
    let became_true = |type_: &str| after.is(type_) && !before.is(type_);
    let message = |type_: &str| {
        condition(&after.conditions, type_).map_or(String::new(), |c| format!("{}: {}", c.reason, c.message))
    };
    if became_true(conditions::STALLED) {
        notices.push(notice(true, "Failed", message(conditions::STALLED)));
    }
    if became_true(conditions::SUSPENDED) {
        let note = "no worker runs; the checkpoints are kept".to_owned();
        notices.push(notice(false, "Suspended", note));
    }
    let waits = |status: &CompactionJobStatus| {
        condition(&status.conditions, conditions::READY)
            .is_some_and(|c| c.reason == Reason::WaitingForJob.as_str())
    };
    if waits(after) && !waits(before) {
        notices.push(notice(false, "WaitingForJob", message(conditions::READY)));
    }
}

pub(super) fn counts(before: &CompactionJobStatus, after: &CompactionJobStatus) -> Counts {
    let mut counts = Counts::default();
    let rise = |old: i64, new: i64| u64::try_from(new - old).unwrap_or_default();
    for (old, shard) in pairs(before, after) {
        counts.batches += rise(old.checkpoint.batch, shard.checkpoint.batch);
        counts.bytes_read += rise(old.checkpoint.bytes_read, shard.checkpoint.bytes_read);
        counts.bytes_written += rise(old.checkpoint.bytes_written, shard.checkpoint.bytes_written);
        counts.fenced += rise(old.refused.into(), shard.refused.into());
    }
    for failure in &after.failures {
        let more = rise(count(before, failure).into(), failure.count.into());
        if is_late(failure) {
            counts.deadlines_exceeded += more;
        } else {
            counts.workers_lost += more;
        }
    }
    let became_true = |type_: &str| after.is(type_) && !before.is(type_);
    counts.succeeded = became_true(conditions::SUCCEEDED).into();
    if became_true(conditions::STALLED) {
        let why = condition(&after.conditions, conditions::STALLED).map(|stalled| stalled.reason.as_str());
        counts.failed = Reason::ALL
            .iter()
            .copied()
            .find(|reason| Some(reason.as_str()) == why);
    }
    counts
}

fn is_late(failure: &Failure) -> bool {
    ["UploadDeadlineExceeded", "Stuck"].contains(&failure.reason.as_str())
}

/// How often this failure had been seen before.
fn count(before: &CompactionJobStatus, failure: &Failure) -> i32 {
    let same = |old: &&Failure| is_same(old, &failure.reason, failure.shard, failure.batch);
    before.failures.iter().find(same).map_or(0, |old| old.count)
}

/// Each shard beside what it was before.
fn pairs<'a>(
    before: &'a CompactionJobStatus,
    after: &'a CompactionJobStatus,
) -> impl Iterator<Item = (&'a ShardStatus, &'a ShardStatus)> {
    static NEW: std::sync::LazyLock<ShardStatus> = std::sync::LazyLock::new(ShardStatus::default);
    after.shards.iter().map(move |shard| {
        let old = before.shards.iter().find(|old| old.index == shard.index);
        (old.unwrap_or(&NEW), shard)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(value: Value) -> CompactionJobStatus {
        serde_json::from_value(value).unwrap()
    }

    fn reasons(before: Value, after: Value) -> Vec<&'static str> {
        let notices = notices(&status(before), &status(after));
        notices.iter().map(|notice| notice.reason).collect()
    }

    fn shard(epoch: i64, sequence: i64, batch: i64) -> Value {
        json!({"index": 0, "epoch": epoch, "checkpoint": {"sequence": sequence, "batch": batch, "bytesRead": batch * 10}})
    }

    #[test]
    fn nothing_new_is_no_news() {
        let same = json!({"shards": [shard(3, 4, 5)], "failures": [failure("WorkerLost", 2)]});
        assert_eq!(reasons(same.clone(), same.clone()), [""; 0]);
        assert_eq!(counts(&status(same.clone()), &status(same)), Counts::default());
    }

    #[test]
    fn a_first_worker_begins_and_a_later_one_resumes() {
        let told = |value: Value| {
            let Notice { reason, note, .. } = started(&serde_json::from_value(value).unwrap());
            (reason, note)
        };
        assert_eq!(
            told(shard(1, 0, 0)),
            ("WorkerStarted", "shard 0: a worker of epoch 1 begins".to_owned())
        );
        let (reason, note) = told(shard(2, 3, 2));
        assert_eq!(reason, "Resumed");
        assert_eq!(note, "shard 0: a worker of epoch 2 goes on after batch 2");
    }

    #[test]
    fn an_epoch_whose_pod_is_not_made_yet_is_no_news() {
        let (before, after) = (
            json!({"shards": [shard(1, 3, 2)]}),
            json!({"shards": [shard(2, 3, 2)]}),
        );
        assert_eq!(reasons(before, after), [""; 0]);
    }

    fn failure(reason: &str, count: i32) -> Value {
        json!({"shard": 0, "batch": 1, "reason": reason, "message": "m", "count": count, "time": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn failures_are_told_and_counted_once() {
        let (before, after) = (
            json!({"failures": [failure("WorkerLost", 1), failure("Stuck", 1)]}),
            json!({"failures": [failure("WorkerLost", 1), failure("Stuck", 2), failure("UploadDeadlineExceeded", 1)]}),
        );
        assert_eq!(
            reasons(before.clone(), after.clone()),
            ["DeadlineExceeded", "DeadlineExceeded"]
        );
        let counts = counts(&status(before), &status(after));
        assert_eq!((counts.deadlines_exceeded, counts.workers_lost), (2, 0));
    }

    #[test]
    fn what_falls_is_not_counted_down() {
        let counts = counts(
            &status(json!({"shards": [shard(1, 9, 5)]})),
            &status(json!({"shards": [shard(1, 10, 3)]})),
        );
        assert_eq!((counts.batches, counts.bytes_read), (0, 0));
    }

    #[test]
    fn the_end_of_a_job_is_counted_once_and_by_its_reason() {
        let is = |type_: &str, reason: &str| {
            status(
                json!({"conditions": [{"type": type_, "status": "True", "reason": reason, "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
            )
        };
        let none = CompactionJobStatus::default();
        let failed = is("Stalled", "BackoffLimitExceeded");
        assert_eq!(counts(&none, &failed).failed, Some(Reason::BackoffLimitExceeded));
        assert_eq!(counts(&failed, &failed), Counts::default());
        let succeeded = is("Succeeded", "NothingToCompact");
        assert_eq!(counts(&none, &succeeded).succeeded, 1);
        assert_eq!(counts(&succeeded, &succeeded), Counts::default());
    }

    #[test]
    fn groups_that_failed_are_told_with_the_latest_cause() {
        let status = |groups: i64, message: &str| {
            let mut shard = shard(1, groups, 0);
            shard["checkpoint"]["failedGroups"] = json!(groups);
            status(json!({"shards": [shard], "lastFailedGroup":
                {"shard": 0, "reason": "BadSource", "message": message}}))
        };
        let told = notices(&status(1, "in/a"), &status(3, "in/c"));
        let note = "shard 0: BadSource: in/c (3 in all)".to_owned();
        assert_eq!(told, [notice(true, "GroupFailed", note)]);
        assert_eq!(notices(&status(3, "in/c"), &status(3, "in/c")), []);
        let published = json!({"publish": {"outputs": 3, "failedGroups": 2, "announced": true}});
        let told = notices(&CompactionJobStatus::default(), &self::status(published));
        let note = "3 outputs are published, none of 2 groups that failed".to_owned();
        assert_eq!(told, [notice(true, "Published", note)]);
    }

    #[test]
    fn publication_failure_and_suspension_are_told() {
        let publish = json!({"publish": {"outputs": 3, "announced": true}});
        assert_eq!(reasons(json!({}), publish), ["Published"]);
        let is = |type_: &str| {
            json!({"conditions": [{"type": type_, "status": "True", "reason": "R", "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        };
        assert_eq!(reasons(json!({}), is("Stalled")), ["Failed"]);
        assert_eq!(reasons(json!({}), is("Suspended")), ["Suspended"]);
        let refused = json!({"shards": [{"index": 0, "epoch": 1, "refused": 1}]});
        assert_eq!(
            reasons(json!({"shards": [{"index": 0, "epoch": 1}]}), refused),
            ["Fenced"]
        );
    }
}
