//! The difference between two statuses as a JSON Patch whose tests keep it from undoing what others did.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, TestOperation};
use serde_json::{Map, Value, json};

use crate::api::{
    CompactionJob, CompactionJobStatus, CompactionSchedule, CompactionScheduleStatus, ShardStatus,
};

/// Fields of a shard that its worker writes; the controller only resets the attempts in a checkpoint.
const OF_THE_WORKER: [&str; 3] = ["refused", "totalBatches", "index"];

/// From `job.status` to `next`. A shard is changed only if its epoch and sequence are still those of
/// `job`; entries are only made in a status that nobody has touched since.
pub(super) fn difference(
    job: &CompactionJob,
    next: &CompactionJobStatus,
) -> Result<Patch, serde_json::Error> {
    let old = job.status.clone().unwrap_or_default();
    let mut operations = Vec::new();
    let makes_shards = old.shards.is_empty() && !next.shards.is_empty();
    // What is a worker's from then on: a view that lags behind must not make it a second time.
    if makes_shards || (old.dispose.is_none() && next.dispose.is_some()) {
        operations.push(test(
            &["metadata", "resourceVersion"],
            json!(job.metadata.resource_version),
        ));
    }
    if makes_shards {
        operations.push(add(&["status", "shards"], json!(next.shards)));
    } else {
        for (position, (before, after)) in old.shards.iter().zip(&next.shards).enumerate() {
            shard(position, before, after, &mut operations)?;
        }
    }
    if next.has_failed() && !old.has_failed() {
        operations.extend(not_published_since(&old));
    }
    // One who has not seen that this clock was stopped must not add its time once more.
    if let Some(since) = old
        .active_since
        .as_ref()
        .filter(|_| old.active_since != next.active_since)
    {
        operations.push(test(&["status", "activeSince"], json!(since)));
    }
    operations.extend(changes(&old, next, "shards")?);
    if !operations.is_empty() {
        operations.insert(0, test(&["metadata", "uid"], json!(job.metadata.uid)));
    }
    Ok(Patch(operations))
}

/// From the status of a schedule to `next`, if nobody has touched the schedule since.
pub(super) fn of_schedule(
    schedule: &CompactionSchedule,
    next: &CompactionScheduleStatus,
) -> Result<Patch, serde_json::Error> {
    let old = schedule.status.clone().unwrap_or_default();
    let mut operations = changes(&old, next, "")?;
    if !operations.is_empty() {
        let metadata = &schedule.metadata;
        let version = test(&["metadata", "resourceVersion"], json!(metadata.resource_version));
        operations.insert(0, version);
        operations.insert(0, test(&["metadata", "uid"], json!(metadata.uid)));
    }
    Ok(Patch(operations))
}

/// The fields of a status that are different, but for one.
fn changes<S: serde::Serialize>(
    old: &S,
    next: &S,
    but: &str,
) -> Result<Vec<PatchOperation>, serde_json::Error> {
    let (old, next) = (fields(old)?, fields(next)?);
    let names: std::collections::BTreeSet<&String> = old.keys().chain(next.keys()).collect();
    let change = |name: &String| match (old.get(name), next.get(name)) {
        (before, Some(after)) if before != Some(after) => Some(add(&["status", name], after.clone())),
        (Some(_), None) => Some(remove(&["status", name])),
        _ => None,
    };
    let names = names.into_iter().filter(|name| *name != but);
    Ok(names.filter_map(change).collect())
}

/// What has published is not failed: the sequence of shard 0 rises with the publication.
fn not_published_since(old: &CompactionJobStatus) -> Option<PatchOperation> {
    let sequence = old.shards.first()?.checkpoint.sequence;
    let path = ["status", "shards", "0", "checkpoint", "sequence"];
    Some(test(&path, json!(sequence)))
}

fn shard(
    position: usize,
    before: &ShardStatus,
    after: &ShardStatus,
    operations: &mut Vec<PatchOperation>,
) -> Result<(), serde_json::Error> {
    if before == after {
        return Ok(());
    }
    let position = position.to_string();
    let at = |field: &'static str| ["status", "shards", position.as_str(), field].map(ToOwned::to_owned);
    operations.push(test(&at("index"), json!(before.index)));
    operations.push(test(&at("epoch"), json!(before.epoch)));
    let sequence = ["status", "shards", &position, "checkpoint", "sequence"];
    operations.push(test(&sequence, json!(before.checkpoint.sequence)));
    let (old, new) = (fields(before)?, fields(after)?);
    for (name, value) in &new {
        if old.get(name) != Some(value) && !OF_THE_WORKER.contains(&name.as_str()) {
            operations.push(add(&["status", "shards", &position, name], value.clone()));
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        operations.push(remove(&["status", "shards", &position, name]));
    }
    Ok(())
}

fn fields<T: serde::Serialize>(value: &T) -> Result<Map<String, Value>, serde_json::Error> {
    match serde_json::to_value(value)? {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

fn pointer<S: AsRef<str>>(path: &[S]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().map(AsRef::as_ref))
}

fn test<S: AsRef<str>>(path: &[S], value: Value) -> PatchOperation {
    PatchOperation::Test(TestOperation {
        path: pointer(path),
        value,
    })
}

fn add<S: AsRef<str>>(path: &[S], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation {
        path: pointer(path),
        value,
    })
}

fn remove<S: AsRef<str>>(path: &[S]) -> PatchOperation {
    PatchOperation::Remove(RemoveOperation { path: pointer(path) })
}
