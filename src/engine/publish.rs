//! The publish duty: every finished output is looked at, the manifest names them, the status decides,
//! and `_SUCCESS` tells readers.
//!
//! A source that was left out while merging, or whose group failed, is not in the consumed list.

use std::collections::BTreeSet;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::body::{MANIFEST_VERSION, Run, SkippedAt};
use super::consumed::{Header, Line, Lines};
use super::failed::FailedGroups;
use super::fence::Heartbeat;
use super::ledger::Ledger;
use super::output::{Output, Sink};
use super::published::{CONSUMED, CONSUMED_VERSION, MANIFEST, SUCCESS, manifest_directory};
use super::unpublished::remove_outputs;
use super::{Body, Context, Error, OutputRecord, SkippedSource, end_uploads};
use crate::api::{Checkpoint, PublishStatus};
use crate::plan::Plan;
use crate::store::Put;

/// Bodies and outputs looked at at the same time.
const CONCURRENCY: usize = 32;

/// A plan with what the status says of its shards.
pub struct Finished<'a> {
    pub plan: &'a Plan,
    pub sha256: &'a str,
    pub location: &'a str,
    /// Of every shard, in order.
    pub checkpoints: Vec<Checkpoint>,
}

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

/// The runs of bodies that lead to the checkpoints, shard by shard, in order. One hop per worker that a
/// shard has had; the bodies of a run have computable names and are read side by side.
pub(crate) struct ShardRun {
    shard: usize,
    run: Run,
    /// Sequence of its last body that counts.
    last: i64,
    /// Hash of that body.
    sha256: String,
}

pub(crate) async fn runs(ledger: &Ledger, finished: &Finished<'_>) -> Result<Vec<ShardRun>, Error> {
    let mut all = Vec::new();
    for (shard, checkpoint) in finished.checkpoints.iter().enumerate() {
        let mut of_shard = Vec::new();
        let mut next = (checkpoint.body.clone(), checkpoint.sha256.clone());
        while !next.0.is_empty() {
            let body = ledger.body(&next.0, &next.1).await?;
            let after = body.run.after.clone();
            of_shard.push(ShardRun {
                shard,
                run: body.run,
                last: body.sequence,
                sha256: next.1,
            });
            next = after.map(|after| (after.name, after.sha256)).unwrap_or_default();
        }
        all.extend(of_shard.into_iter().rev());
    }
    Ok(all)
}

/// Every body that counts, in order. Each is checked against the hash that its successor names.
pub(crate) fn bodies<'a>(ledger: &'a Ledger, runs: &'a [ShardRun]) -> BoxStream<'a, Result<Body, Error>> {
    let of_run = move |run: &'a ShardRun| {
        let names = (run.run.first..=run.last)
            .map(move |sequence| Ledger::body_name(run.shard, sequence, run.run.epoch, &run.run.holder));
        let mut before: Option<String> = None;
        stream::iter(names)
            .map(move |name| async move {
                ledger
                    .body_unchecked(&name)
                    .await
                    .map(|(body, hash)| (name, body, hash))
            })
            .buffered(CONCURRENCY)
            .map(move |read| {
                let (name, body, sha256) = read?;
                let chained = before.as_ref().is_none_or(|before| *before == body.previous);
                let ends = body.sequence != run.last || sha256 == run.sha256;
                if !chained || !ends {
                    return Err(Error::Ledger {
                        name,
                        problem: "it was altered".to_owned(),
                    });
                }
                before = Some(sha256);
                Ok(body)
            })
    };
    stream::iter(runs).flat_map(of_run).boxed()
}

/// The outputs of all bodies but those of failed groups, each found in the store as it was written.
pub(crate) fn outputs<'a>(
    context: &'a Context,
    runs: &'a [ShardRun],
    failed: &'a FailedGroups,
    skipped: &'a mut Skipped,
) -> BoxStream<'a, Result<OutputRecord, Error>> {
    bodies(&context.ledger, runs)
        .map_ok(move |mut body| {
            skipped.take(&mut body);
            let outputs = body.finished.into_iter();
            stream::iter(outputs.filter(|output| !failed.contains(&output.group)).map(Ok))
        })
        .try_flatten()
        .map_ok(move |output| look_at(context, output))
        .try_buffered(CONCURRENCY)
        .boxed()
}

/// The sources that were left out, as bodies tell it in their order.
#[derive(Default)]
pub(crate) struct Skipped(Vec<(usize, SkippedAt)>);

impl Skipped {
    /// Where an output was lost, a body goes back to its beginning: what was left out from there on is looked at
    /// again, and counts only if it is left out again.
    fn take(&mut self, body: &mut Body) {
        let cursor = (body.shard, body.cursor.segment, body.cursor.entry);
        let comes_again =
            |(shard, source): &mut (usize, SkippedAt)| (*shard, source.segment, source.entry) >= cursor;
        while self.0.pop_if(comes_again).is_some() {}
        let skipped = std::mem::take(&mut body.skipped).into_iter();
        self.0.extend(skipped.map(|source| (body.shard, source)));
    }

    /// As the manifest names them.
    pub(crate) fn sources(self) -> BTreeSet<SkippedSource> {
        let skipped = self.0.into_iter();
        skipped
            .map(|(_, SkippedAt { key, reason, .. })| SkippedSource { key, reason })
            .collect()
    }
}

async fn look_at(context: &Context, mut output: OutputRecord) -> Result<OutputRecord, Error> {
    let head = context.store.head(&output.key).await?;
    let altered = |problem: &str| Error::OutputAltered {
        key: output.key.clone(),
        problem: problem.to_owned(),
    };
    let head = head.ok_or_else(|| altered("is gone"))?;
    if head.size != output.size || head.token.as_deref() != Some(&output.token) {
        return Err(altered("is not what was written"));
    }
    // A late worker may have put the same bytes there once more.
    output.etag = head.etag;
    output.token.clear();
    Ok(output)
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

/// What of the plan is in the outputs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Merged {
    objects: u64,
    /// With those of sources that were left out while merging.
    bytes: u64,
}

/// The sources that were really merged, and what earlier jobs consumed, in key order.
pub(crate) struct Candidates {
    lines: Lines,
    /// Groups that the plan left out, or that failed.
    dropped: BTreeSet<u64>,
    skipped: BTreeSet<String>,
    /// Of the lines so far.
    merged: Merged,
}

impl Candidates {
    pub(crate) async fn open(
        context: &Context,
        finished: &Finished<'_>,
        failed: &FailedGroups,
        skipped: &BTreeSet<SkippedSource>,
    ) -> Result<Self, Error> {
        let (location, stored) = (finished.location, &finished.plan.candidates);
        let key = context.ledger.candidates_key(location);
        let too_small = context.ledger.dropped(location, &stored.dropped_sha256).await?;
        let dropped = too_small.into_iter().chain(failed.ordinals()).collect();
        let lines = Lines::open_checked(&context.store, key, &stored.crc64nvme).await?;
        Ok(Self {
            lines,
            dropped,
            skipped: skipped.iter().map(|source| source.key.clone()).collect(),
            merged: Merged::default(),
        })
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Line>, Error> {
        while let Some(line) = self.lines.next::<Line>().await? {
            let Some(group) = line.group else {
                return Ok(Some(line));
            };
            if self.dropped.contains(&group) {
                continue;
            }
            self.merged.bytes += line.size.unwrap_or_default();
            if !self.skipped.contains(&line.key) {
                self.merged.objects += 1;
                return Ok(Some(line));
            }
        }
        Ok(None)
    }
}
