//! Metadata of a job's objects: labels and owner references.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

use crate::api::CompactionJob;
pub use crate::api::names::{EPOCH, JOB, JOB_UID, SHARD, WORKER, account_name, pod_name};

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
