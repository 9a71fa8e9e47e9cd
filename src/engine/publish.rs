//! The publish duty: every finished output is looked at, the manifest names them, the status decides,
//! and `_SUCCESS` tells readers.
//!
//! A source that was left out while merging, or whose group failed, is not in the consumed list.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::bodies::{Finished, ShardRun, runs};
use super::body::MANIFEST_VERSION;
use super::consumed::{Header, Line};
use super::failed::FailedGroups;
use super::fence::Heartbeat;
use super::finished::{Candidates, Merged, Skipped, outputs};
use super::output::{Output, Sink};
use super::published::{CONSUMED, CONSUMED_VERSION, MANIFEST, SUCCESS, manifest_directory};
use super::unpublished::remove_outputs;
use super::{Context, Error, SkippedSource, end_uploads};
use crate::api::PublishStatus;
use crate::plan::Plan;
use crate::store::Put;

/// Publishes the outputs: decided by the status, then told by `_SUCCESS`. `decided`: what the status has
/// of it already. May be begun again at any point.
pub async fn publish(
    context: &Context,
    finished: &Finished<'_>,
    decided: Option<PublishStatus>,
) -> Result<(), Error> {
    let runs = runs(&context.ledger, finished).await?;
    let failed = FailedGroups::read(context, finished, &runs).await?;
    remove_failed(context, finished, &failed).await?;
    let mut status = match decided {
        Some(status) => status,
        None => decide(context, finished, &runs, &failed).await?,
    };
    announce(context, finished.plan).await?;
    status.announced = true;
    Ok(context.fence.set_publish(status).await?)
}

/// Removes what failed groups have of outputs, also what no body tells of. Every batch is done, so which groups
/// failed is settled. An upload of theirs that is still open may become an object no more.
async fn remove_failed(
    context: &Context,
    finished: &Finished<'_>,
    failed: &FailedGroups,
) -> Result<(), Error> {
    if !failed.is_empty() {
        end_uploads(context).await?;
    }
    for directory in failed.directories() {
        remove_outputs(context, finished.plan, finished.sha256, directory).await?;
    }
    Ok(())
}

async fn decide(
    context: &Context,
    finished: &Finished<'_>,
    runs: &[ShardRun],
    failed: &FailedGroups,
) -> Result<PublishStatus, Error> {
    let status = write_files(context, finished, runs, failed).await?;
    context.fence.set_publish(status.clone()).await?;
    Ok(status)
}

/// Tells readers, once the status has decided, and removes the consumed lists that were taken over.
async fn announce(context: &Context, plan: &Plan) -> Result<(), Error> {
    let directory = manifest_directory(&plan.output_prefix);
    context.fence.look().await?;
    let success = format!("{directory}{}/{SUCCESS}", plan.job.uid);
    context
        .store
        .put(&success, bytes::Bytes::new(), Put::default())
        .await?;
    let folded: Vec<String> = plan
        .folded
        .iter()
        .map(|job| format!("{directory}{job}/{CONSUMED}"))
        .collect();
    if !folded.is_empty() {
        context.store.delete(&folded).await?;
    }
    Ok(())
}

/// A file beside the manifest, written in parts as it grows.
struct File {
    output: Output,
    hash: Sha256,
}

impl File {
    fn new(context: &Context, plan: &Plan, name: &str) -> Self {
        let key = format!(
            "{}{}/{name}",
            manifest_directory(&plan.output_prefix),
            plan.job.uid
        );
        let sink = Sink::of_file(context, plan.frozen.part_bytes);
        let writer = context.ledger.writer();
        let token = format!("{name} {} {}", writer.epoch, writer.holder);
        Self {
            output: Output::new(sink, key, token),
            hash: Sha256::new(),
        }
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hash.update(bytes);
        self.output.append(bytes).await
    }

    async fn json<T: serde::Serialize>(&mut self, before: &str, value: &T) -> Result<(), Error> {
        let mut bytes = before.as_bytes().to_vec();
        serde_json::to_writer(&mut bytes, value).map_err(|error| Error::Ledger {
            name: self.output.key().to_owned(),
            problem: error.to_string(),
        })?;
        self.append(&bytes).await
    }

    async fn close(self) -> Result<String, Error> {
        self.output.close().await?;
        Ok(hex::encode(self.hash.finalize()))
    }
}

/// Writes manifest and consumed list, the manifest piece by piece: there may be more outputs than fit the
/// window.
async fn write_files(
    context: &Context,
    finished: &Finished<'_>,
    runs: &[ShardRun],
    failed: &FailedGroups,
) -> Result<PublishStatus, Error> {
    let plan = finished.plan;
    let mut file = File::new(context, plan, MANIFEST);
    file.json("{\n\"version\": ", &MANIFEST_VERSION).await?;
    file.json(",\n\"job\": ", &plan.job).await?;
    file.json(",\n\"planSha256\": ", &finished.sha256).await?;
    file.json(",\n\"sourcePrefix\": ", &plan.source_prefix).await?;
    file.json(",\n\"outputPrefix\": ", &plan.output_prefix).await?;
    file.append(b",\n\"outputs\": [").await?;
    let (mut count, mut records) = (0_i64, 0);
    let mut heartbeat = Heartbeat::new(&context.fence);
    let mut skipped = Skipped::default();
    {
        let mut outputs = outputs(context, runs, failed, &mut skipped);
        while let Some(output) = outputs.try_next().await? {
            file.json(if count == 0 { "\n" } else { ",\n" }, &output).await?;
            count += 1;
            records += output.records;
            heartbeat.step().await?;
        }
    }
    let skipped = skipped.sources();
    let merged = write_consumed(context, finished, failed, &skipped).await?;
    file.append(b"]").await?;
    let superseded: Vec<&str> = plan.superseded.iter().map(|output| output.key.as_str()).collect();
    file.json(",\n\"superseded\": ", &superseded).await?;
    let dropped: i64 = finished
        .checkpoints
        .iter()
        .map(|checkpoint| checkpoint.records_dropped)
        .sum();
    let bytes = merged.bytes + plan.superseded_bytes();
    let read = records + dropped as u64;
    let sources = json!({"objects": merged.objects, "bytes": bytes, "records": read});
    file.json(",\n\"sources\": ", &sources).await?;
    file.json(",\n\"recordsDropped\": ", &dropped).await?;
    file.json(",\n\"skipped\": ", &skipped).await?;
    file.json(",\n\"failed\": ", &failed.listed()).await?;
    file.append(b"\n}\n").await?;
    Ok(PublishStatus {
        sha256: file.close().await?,
        outputs: count,
        sources: merged.objects as i64,
        failed_groups: failed.len() as i64,
        announced: false,
        time: None,
    })
}

/// Own sources and those of earlier jobs that still exist, in key order. Returns the own ones.
async fn write_consumed(
    context: &Context,
    finished: &Finished<'_>,
    failed: &FailedGroups,
    skipped: &BTreeSet<SkippedSource>,
) -> Result<Merged, Error> {
    let plan = finished.plan;
    let mut file = File::new(context, plan, CONSUMED);
    file.json(
        "",
        &Header {
            version: CONSUMED_VERSION,
            source_prefix: plan.source_prefix.clone(),
        },
    )
    .await?;
    file.append(b"\n").await?;
    let mut candidates = Candidates::open(context, finished, failed, skipped).await?;
    let mut heartbeat = Heartbeat::new(&context.fence);
    while let Some(line) = candidates.next().await? {
        heartbeat.step().await?;
        let consumed = Line {
            group: None,
            size: None,
            ..line
        };
        file.append(&consumed.encode()).await?;
    }
    file.close().await?;
    Ok(candidates.merged)
}
