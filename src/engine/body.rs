//! What the ledger and the manifest hold: plain data with a version, documented in `docs/ledger.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::deduplicate::Passes;
use crate::format::{Codec, Offset};

pub(crate) const BODY_VERSION: u32 = 3;
pub(crate) const MANIFEST_VERSION: u32 = 1;

/// The state of a shard after one batch. True only when a checkpoint names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Body {
    pub version: u32,
    /// Hash of the plan that this is a state of.
    pub plan: String,
    pub shard: usize,
    pub sequence: i64,
    /// Batches done.
    pub batch: i64,
    pub run: Run,
    /// Hash of the body before this one; empty for a shard's first.
    pub previous: String,
    /// The first thing not merged yet.
    pub cursor: Cursor,
    /// Outputs that this batch finished.
    pub finished: Vec<OutputRecord>,
    /// Sources that this batch left out.
    pub skipped: Vec<SkippedAt>,
    /// The group that this body gives up: what outputs it has do not count.
    pub failed: Option<FailedGroup>,
    pub open: Option<OpenOutput>,
    /// Where the work stood when an open output was lost: up to there batches are done again, and the
    /// attempts go on counting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redone_to: Option<Cursor>,
    pub totals: Totals,
    /// Of a plan that keeps the latest record of each key only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<Deduplication>,
}

/// The bodies that one worker wrote have consecutive sequences and computable names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Run {
    pub epoch: i64,
    pub holder: String,
    /// Sequence of the run's first body.
    pub first: i64,
    /// The body that the run went on from.
    pub after: Option<BodyRef>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BodyRef {
    pub name: String,
    pub sha256: String,
}

/// A place in a shard's sources: `segment` counts from the shard's first, `entry` from the segment's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cursor {
    pub segment: usize,
    pub entry: usize,
    /// Set when the place is inside a source.
    pub offset: Option<Offset>,
    /// The group that was being merged.
    pub group: Option<GroupState>,
    /// Records of the source before `offset`, where a plan numbers them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub records: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How far a stretch of whole groups is deduplicated: first all of it is marked, then settled, then written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deduplication {
    pub stage: Stage,
    /// Where the stretch begins.
    pub start: Cursor,
    /// The group that follows it, as segment and entry; null at the shard's end, or as long as it is marked.
    pub end: Option<(usize, usize)>,
    /// Sources of the shard that are marked, and their stored bytes.
    pub marked_sources: u64,
    pub marked_bytes: u64,
    /// Records of the stretch.
    pub records: u64,
    /// The entries of those records, as far as they are stored.
    pub runs: Vec<RunOfEntries>,
    /// Sources of the stretch that are left out.
    pub skipped: Vec<SkippedPlace>,
    pub passes: Passes,
    /// The survivors of each pass: the object that lists their bitmaps.
    pub survivors: Vec<BodyRef>,
    /// How many they are.
    pub kept: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    #[default]
    Mark,
    Settle,
    Write,
}

/// Entries of marked records, each key's newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunOfEntries {
    pub name: String,
    pub sha256: String,
    pub entries: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SkippedPlace {
    pub segment: usize,
    pub entry: usize,
    pub reason: String,
}

/// A source that was left out, and its place: work that goes back to before it looks at it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SkippedAt {
    pub segment: usize,
    pub entry: usize,
    pub key: String,
    pub reason: String,
}

/// Bitmaps of survivors, in the order of positions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bitmaps {
    pub name: String,
    pub sha256: String,
    /// The last position in it.
    pub last: u64,
}

impl Cursor {
    pub(crate) fn at(segment: usize, entry: usize) -> Self {
        Self {
            segment,
            entry,
            ..Self::default()
        }
    }

    /// Whether this place comes after `other`.
    pub(crate) fn is_beyond(&self, other: &Self) -> bool {
        let place = |cursor: &Self| {
            let offset = cursor.offset.map_or((0, 0), |at| (at.stored, at.skip));
            (cursor.segment, cursor.entry, offset)
        };
        place(self) > place(other)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupState {
    pub ordinal: u64,
    pub directory: String,
    pub extension: String,
    /// Number of the group's next output in this shard.
    pub number: u32,
    /// Codec of the group's outputs, once known.
    pub codec: Option<Codec>,
    /// It was given up: the rest of it is passed over.
    pub failed: bool,
}

/// An output that goes on in the next batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenOutput {
    /// Where its first byte comes from: what is gone back to when it is lost.
    pub start: Start,
    pub key: String,
    pub codec: Codec,
    /// Who encoded it; another encoder may not go on with it.
    pub encoder: String,
    pub upload: OpenUpload,
    /// Bytes in whole parts, or, when the object is finished already, all bytes so far.
    pub sent_bytes: u64,
    pub tail: Option<Tail>,
    /// State of the CRC-64/NVME over all bytes so far.
    pub crc: u64,
    pub records: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Start {
    pub cursor: Cursor,
    pub batch: i64,
    pub totals: Totals,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum OpenUpload {
    /// Less than a part so far.
    NotOpened,
    /// ETags of the parts, from number 1 on.
    Open { id: String, parts: Vec<String> },
    /// A worker before had finished the object already.
    Finished { etag: String, size: u64 },
}

/// The bytes of an open output that do not fill a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tail {
    pub name: String,
    pub size: u64,
    pub sha256: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Totals {
    /// Sources done, skipped ones included.
    pub sources: u64,
    /// Their stored bytes.
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub skipped: u64,
    /// Records that are the latest of their key, as far as that is settled; written or not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kept: u64,
    /// Records that were not the latest of their key.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
    pub failed_groups: u64,
}

/// A finished output, as the manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutputRecord {
    pub key: String,
    pub size: u64,
    /// As the store gave it, with its quotes.
    pub etag: String,
    /// CRC-64/NVME of all bytes, 16 hexadecimal digits.
    pub crc64nvme: String,
    pub records: u64,
    /// Directory of the group, relative to the source and the output prefix.
    pub group: String,
    /// What recognises it in its metadata; not part of the manifest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SkippedSource {
    pub key: String,
    pub reason: String,
}

/// A group of which nothing is published, because something of it cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedGroup {
    /// Directory of the group, as in an output.
    pub group: String,
    /// Its number in the plan; not part of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<u64>,
    /// From a closed list.
    pub reason: String,
    pub message: String,
}

/// `manifest.json`: names the outputs. Documented and stable; unknown fields are to be ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub version: u32,
    pub job: crate::plan::JobName,
    pub plan_sha256: String,
    pub source_prefix: String,
    pub output_prefix: String,
    pub outputs: Vec<OutputRecord>,
    /// Outputs of earlier jobs that these replace.
    pub superseded: Vec<String>,
    pub sources: ManifestSources,
    pub records_dropped: u64,
    pub skipped: Vec<SkippedSource>,
    /// Groups of which nothing is in the outputs.
    #[serde(default)]
    pub failed: Vec<FailedGroup>,
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestSources {
    pub objects: u64,
    pub bytes: u64,
    pub records: u64,
}
