//! Names and labels of the objects that belong to a job: functions of the job alone, so that an object that was made
//! before a restart is found again and never made twice.

use super::CompactionJob;

/// Label of every object that belongs to a job: the job's UID.
pub const JOB_UID: &str = "compaction.dev/job-uid";
pub const JOB: &str = "compaction.dev/job";
pub const SHARD: &str = "compaction.dev/shard";
pub const EPOCH: &str = "compaction.dev/epoch";
/// The container that compacts; others in a template are left as they are.
pub const WORKER: &str = "worker";

/// `<job>-<uid5>-<shard>-<epoch>`: one epoch of a shard has one pod, whoever tries to make a second.
pub fn pod_name(job: &CompactionJob, shard: i32, epoch: i64) -> String {
    format!("{}-{shard}-{epoch}", account_name(job))
}

/// Name of the job's service account, role and role binding.
pub fn account_name(job: &CompactionJob) -> String {
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let uid = uid.get(..5).unwrap_or(uid);
    format!("{}-{uid}", job.metadata.name.as_deref().unwrap_or_default())
}
