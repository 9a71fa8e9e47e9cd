//! The plan duty: list → select → segments in the ledger → header, whose hash goes to the status.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::consumed::{Consumed, Line};
use super::earlier::earlier_outputs;
use super::fence::Heartbeat;
use super::output::{Output, Sink};
use super::probe::probe;
use super::published::published;
use super::{Context, Error, Ledger, clean_up, manifest_directory};
use crate::api::{self, CompactionJob, CompactionJobSpec, Limits, OnFault, PlanStatus, SourceDisposition};
use crate::deduplicate::{Rules, Tombstone};
use crate::format;
use crate::plan::{
    self, Builder, CandidatesRef, Deduplicate, Frozen, JobName, LeftOut, Numbered, Outline, Plan, Segment,
    Selector, Shape, Source, Verdict,
};
use crate::store::{Attributes, Capabilities, Object, Pages, Store};

/// Parts that an output may have at its planned size, with some left for what a cut overshoots.
const PLANNED_PARTS: u64 = 9_000;
/// The longest key that S3 takes.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>
const MAX_KEY_BYTES: usize = 1024;
/// `part-<12>-<3>-<5>`, an extension of the sources and one of the compression.
const NAME_BYTES: usize = 5 + 12 + 4 + 6 + 11 + 4;
const SEGMENT_PUTS: usize = 8;

/// What a plan is made from.
pub struct PlanInput<'a> {
    pub job: &'a CompactionJob,
    pub limits: Limits,
    /// Seconds since the epoch; ages of objects are measured against it.
    pub now: i64,
}

/// What the status shows of a plan that is stored in the ledger.
pub struct Planned {
    pub status: PlanStatus,
    pub total_batches: Vec<i64>,
}

/// Makes the plan and stores it. Until the status names it, it is garbage.
pub async fn make_plan(context: &Context, input: &PlanInput<'_>) -> Result<Planned, Error> {
    let capabilities = probe(&*context.store, &context.ledger).await?;
    let spec = &input.job.spec;
    let deletes = spec.source_disposition == SourceDisposition::Delete;
    if deletes && !capabilities.conditional_delete && !spec.allow_unconditional_delete {
        // Of what the probe has on record, nothing is left either.
        clean_up(context).await?;
        return Err(Error::UnconditionalDelete);
    }
    let upload_days = upload_days(context, spec).await;
    let frozen = freeze(input);
    context.window.shares(frozen.part_bytes)?;
    let sink = Sink::of_file(context, frozen.part_bytes);
    let location = context.ledger.plan_location();
    let token = format!("candidates {location}");
    let candidates = context.ledger.candidates_key(&location);
    let mut writer = Writer {
        context,
        candidates: Output::new(sink, candidates, token),
        hashes: BTreeMap::new(),
        heartbeat: Heartbeat::new(&context.fence),
    };
    let (outline, folded) = scan(&context.store, input, Some(&mut writer)).await?;
    let Writer { candidates, .. } = writer;
    if outline.totals.sources == 0 {
        clean_up(context).await?;
        let left_out = outline.totals.left_out as i64;
        let status = PlanStatus {
            skipped_objects: left_out,
            ..PlanStatus::default()
        };
        return Ok(Planned {
            status,
            total_batches: Vec::new(),
        });
    }
    let candidates = CandidatesRef {
        crc64nvme: candidates.close().await?.crc64nvme,
        dropped_sha256: context.ledger.put_dropped(&outline.dropped).await?,
    };
    let plan = assemble(input, frozen, capabilities, outline, folded, candidates);
    let sha256 = context.ledger.put_plan(&plan).await?;
    Ok(planned(&plan, sha256, location, upload_days))
}

/// After how many days the bucket's own rule aborts uploads of this job. Of use for a warning only, so a store
/// that does not tell is as good as one without a rule.
async fn upload_days(context: &Context, spec: &CompactionJobSpec) -> Option<i32> {
    let days = context
        .store
        .upload_days(&[&spec.output.prefix, &spec.state_prefix])
        .await;
    let days = days.unwrap_or_else(|error| {
        tracing::debug!(%error, "the store does not tell its rules");
        None
    });
    days.and_then(|days| i32::try_from(days).ok())
}

/// The plan as it would be made now. Writes nothing, neither to the store nor to the status.
pub async fn preview(store: &Arc<dyn Store>, input: &PlanInput<'_>) -> Result<Plan, Error> {
    let (outline, folded) = scan(store, input, None).await?;
    Ok(assemble(
        input,
        freeze(input),
        Capabilities::default(),
        outline,
        folded,
        CandidatesRef::default(),
    ))
}

fn planned(plan: &Plan, sha256: String, location: String, upload_days: Option<i32>) -> Planned {
    let total_batches: Vec<i64> = plan
        .shards
        .iter()
        .map(|shard| plan.frozen.batches(shard).max(1) as i64)
        .collect();
    let status = PlanStatus {
        sha256,
        location,
        shards: plan.shards.len() as i32,
        batches: total_batches.iter().sum(),
        source_objects: plan.totals.sources as i64,
        source_bytes: plan.totals.bytes as i64,
        skipped_objects: plan.totals.left_out as i64,
        estimated_output_objects: plan.totals.estimated_outputs as i64,
        upload_days,
    };
    Planned {
        status,
        total_batches,
    }
}

fn assemble(
    input: &PlanInput<'_>,
    frozen: Frozen,
    capabilities: Capabilities,
    outline: Outline,
    folded: Vec<String>,
    candidates: CandidatesRef,
) -> Plan {
    let metadata = &input.job.metadata;
    Plan {
        version: plan::VERSION,
        job: JobName {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        },
        source_prefix: input.job.spec.source.prefix.clone(),
        output_prefix: input.job.spec.output.prefix.clone(),
        frozen,
        capabilities,
        segments: outline.segments,
        shards: outline.shards,
        totals: outline.totals,
        left_out: outline.left_out,
        folded,
        superseded: outline.superseded,
        candidates,
    }
}

fn freeze(input: &PlanInput<'_>) -> Frozen {
    let PlanInput { job, limits, .. } = input;
    let spec = &job.spec;
    let largest = limits.target + limits.max_source.max(limits.cut + limits.max_record);
    let compression = match spec.output.compression {
        api::Compression::Auto => format::Compression::Auto,
        api::Compression::None => format::Compression::None,
        api::Compression::Gzip => format::Compression::Gzip,
        api::Compression::Zstd => format::Compression::Zstd,
    };
    let format = match spec.format.type_ {
        api::FormatType::Lines => format::Kind::Lines,
    };
    let metadata = spec.output.object_metadata.clone().unwrap_or_default();
    let deduplicate = spec.deduplicate.as_ref().map(|wanted| deduplicate(wanted, input));
    Frozen {
        format: format::Settings {
            format,
            compression,
            cut_bytes: limits.cut,
            max_record_bytes: limits.max_record,
        },
        part_bytes: limits.part.max(largest.div_ceil(PLANNED_PARTS)),
        target_bytes: limits.target,
        batch_bytes: limits.batch,
        skip_bad: spec.source.on_bad_source == OnFault::Skip,
        skip_missing: spec.source.on_missing_source == OnFault::Skip,
        attributes: Attributes {
            server_side_encryption: metadata.server_side_encryption,
            kms_key_id: metadata.kms_key_id,
            storage_class: metadata.storage_class,
            content_type: metadata.content_type,
            tags: metadata.tags,
        },
        deduplicate,
    }
}

fn deduplicate(wanted: &api::Deduplicate, input: &PlanInput<'_>) -> Deduplicate {
    let tombstone = wanted.tombstone.as_ref().map(|tombstone| Tombstone {
        pointer: tombstone.pointer.clone(),
        equals: tombstone.equals.clone(),
        expired_before: (tombstone.retention_seconds > 0).then(|| input.now - tombstone.retention_seconds),
    });
    Deduplicate {
        rules: Rules {
            key: wanted.key.clone(),
            version: wanted.version.clone(),
            tombstone,
            keep_unkeyed: wanted.on_unkeyed_record == api::OnUnkeyedRecord::Keep,
        },
        table_bytes: input.limits.table,
    }
}

/// Where a listing is written to while it goes on.
struct Writer<'a> {
    context: &'a Context,
    candidates: Output,
    hashes: BTreeMap<u32, String>,
    heartbeat: Heartbeat,
}

impl Writer<'_> {
    async fn store(&mut self, full: &mut Vec<Numbered>) -> Result<(), Error> {
        let ledger = &self.context.ledger;
        let puts: Vec<_> = full
            .drain(..)
            .map(|(number, segment)| put_segment(ledger, number, segment))
            .collect();
        let stored: Vec<(u32, String)> = stream::iter(puts)
            .buffer_unordered(SEGMENT_PUTS)
            .try_collect()
            .await?;
        self.hashes.extend(stored);
        Ok(self.heartbeat.step().await?)
    }
}

async fn put_segment(ledger: &Ledger, number: u32, segment: Segment) -> Result<(u32, String), Error> {
    Ok((number, ledger.put_segment(number, &segment).await?))
}

/// Goes through the listing once, in memory that does not grow with it.
async fn scan(
    store: &Arc<dyn Store>,
    input: &PlanInput<'_>,
    mut writer: Option<&mut Writer<'_>>,
) -> Result<(Outline, Vec<String>), Error> {
    let spec = &input.job.spec;
    let selector = Selector::new(
        &spec.source,
        &spec.state_prefix,
        spec.output.group_by,
        &input.limits,
        input.now,
    )?;
    let directory = manifest_directory(&spec.output.prefix);
    let published = published(store, &directory).await?;
    let mut consumed = Consumed::open(store, &directory, &spec.source.prefix, &published).await?;
    let mut builder = Builder::new(Shape {
        min_sources_per_group: spec.source.min_sources_per_group as u64,
        segment_bytes: input.limits.target,
        target_bytes: input.limits.target,
        parallelism: spec.parallelism as usize,
    });
    if spec.deduplicate.is_some() {
        let prefixes = (spec.output.prefix.as_str(), spec.source.prefix.as_str());
        let heartbeat = writer.as_deref_mut().map(|writer| &mut writer.heartbeat);
        let outputs = earlier_outputs(store, prefixes, &published, heartbeat).await?;
        builder = builder.with_earlier(outputs);
    }
    let mut full = Vec::new();
    let mut pages = Pages::of(spec.source.prefix.as_str());
    loop {
        let page = pages.next(&**store).await?;
        let is_last = page.is_none();
        for object in page.into_iter().flatten() {
            let known = consumed.contains(&object.key, &object.etag).await?;
            let line = place(input, &selector, &mut builder, object, known, &mut full)?;
            if let (Some(line), Some(writer)) = (line, writer.as_deref_mut()) {
                writer.candidates.append(&line.encode()).await?;
            }
        }
        if is_last {
            builder.finish(&mut full);
        }
        match writer.as_deref_mut() {
            Some(writer) => writer.store(&mut full).await?,
            None => full.clear(),
        }
        if is_last {
            break;
        }
    }
    let none = BTreeMap::new();
    let hashes = writer.as_ref().map_or(&none, |writer| &writer.hashes);
    Ok((builder.outline(hashes), consumed.jobs))
}

/// Puts an object where it belongs; returns its line among the candidates, if it has one.
fn place(
    input: &PlanInput<'_>,
    selector: &Selector,
    builder: &mut Builder,
    object: Object,
    consumed: bool,
    full: &mut Vec<Numbered>,
) -> Result<Option<Line>, Error> {
    match selector.judge(&object, consumed) {
        Verdict::Take { directory } => {
            if input.job.spec.output.prefix.len() + directory.len() + NAME_BYTES > MAX_KEY_BYTES {
                return Err(Error::NameTooLong(directory));
            }
            let Object { key, etag, size, .. } = object;
            let group = builder.take(
                directory,
                Source {
                    key: key.clone(),
                    etag: etag.clone(),
                    size,
                },
                full,
            );
            Ok(Some(Line {
                key,
                etag,
                group: Some(group),
                size: Some(size),
            }))
        }
        Verdict::Leave(reason) => {
            builder.leave(reason, &object.key);
            let Object { key, etag, .. } = object;
            Ok((reason == LeftOut::Consumed).then_some(Line {
                key,
                etag,
                group: None,
                size: None,
            }))
        }
        Verdict::Fail => Err(Error::Archived(object.key)),
    }
}
