//! The Kubernetes objects that a job's workers need, built from the job. Pure: nothing here talks to the API
//! server.

mod access;
mod names;
mod pod;

pub(super) use access::{Access, access};
pub(super) use names::{EPOCH, JOB_UID, SHARD, WORKER};
pub use pod::PodSettings;
pub(super) use pod::{is_current, worker_pod};
