//! Names, labels and owner references of a job's objects: functions of the job alone, so that an object that
//! was made before a restart is found again and never made twice.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

use crate::api::CompactionJob;

/// Label of every object that belongs to a job: the job's UID.
pub const JOB_UID: &str = "compaction.dev/job-uid";
pub const JOB: &str = "compaction.dev/job";
pub const SHARD: &str = "compaction.dev/shard";
pub const EPOCH: &str = "compaction.dev/epoch";

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

pub fn labels(job: &CompactionJob) -> BTreeMap<String, String> {
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let name = job.metadata.name.clone().unwrap_or_default();
    [
        ("app.kubernetes.io/name", "compaction-worker".to_owned()),
        ("app.kubernetes.io/managed-by", "compaction-operator".to_owned()),
        (JOB, name),
        (JOB_UID, uid),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Metadata of an object that goes when the job goes.
pub(super) fn owned(job: &CompactionJob, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: job.metadata.namespace.clone(),
        labels: Some(labels(job)),
        owner_references: Some(owner(job).into_iter().collect()),
        ..ObjectMeta::default()
    }
}

fn owner(job: &CompactionJob) -> Option<OwnerReference> {
    job.controller_owner_ref(&())
}
