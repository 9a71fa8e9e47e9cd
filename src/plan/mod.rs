//! Listing → plan: which objects are merged, in which groups, by which shards. Pure: no I/O, no clock.
//!
//! A plan is a small header and a number of segments, each a run of sources in the order in which they
//! are merged. Segments are handed out while the listing goes on, so that memory does not grow with the
//! number of objects; the header is made at the end. Whatever output bytes depend on is frozen in it.

mod builder;
mod segment;
mod select;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use builder::{Builder, Numbered, Outline, SEGMENT_SOURCES, Shape};
pub use segment::{Entry, Segment, Source};
pub use select::{InvalidGlob, LeftOut, Selector, Verdict};

use crate::deduplicate::Rules;
use crate::format;
use crate::store::{Attributes, Capabilities};

/// The version of the plan's form; a worker that does not know it stops.
pub const VERSION: u32 = 3;

/// A batch ends after so many sources even if they are tiny, so that it stays well within its deadline.
pub const BATCH_SOURCES: u64 = 4096;

/// The header of a plan. Its hash in the job's status is what makes it the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    pub version: u32,
    pub job: JobName,
    pub source_prefix: String,
    pub output_prefix: String,
    pub frozen: Frozen,
    /// What the store honoured when the plan was made.
    pub capabilities: Capabilities,
    /// In the order in which they are merged.
    pub segments: Vec<SegmentRef>,
    pub shards: Vec<ShardPlan>,
    pub totals: Totals,
    /// Per reason, what was left out.
    pub left_out: BTreeMap<LeftOut, LeftOutCount>,
    /// Jobs whose consumed lists this plan has taken over into its own.
    pub folded: Vec<String>,
    /// Outputs of earlier jobs that are read again and replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub superseded: Vec<Source>,
    pub candidates: CandidatesRef,
}

/// What tells whether the list of candidates, and that of the groups left out after it, are as they were stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CandidatesRef {
    pub crc64nvme: String,
    pub dropped_sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobName {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// All that output bytes depend on beside the sources, and the rules for sources that turn out bad.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Frozen {
    pub format: format::Settings,
    /// Size of every part but the last. Bytes.
    pub part_bytes: u64,
    /// An output is closed at the first cut where it has this size. Bytes.
    pub target_bytes: u64,
    /// A batch ends at the first cut after so many stored bytes of sources.
    pub batch_bytes: u64,
    pub skip_bad: bool,
    pub skip_missing: bool,
    pub attributes: Attributes,
    /// Only the latest record of each key is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<Deduplicate>,
}

/// How the latest records are found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deduplicate {
    pub rules: Rules,
    /// Keys in memory at one time take so many bytes, at most. Output bytes do not depend on it.
    pub table_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SegmentRef {
    /// Its name in the ledger is made of this.
    pub number: u32,
    pub sha256: String,
    pub sources: u64,
    pub bytes: u64,
}

/// The segments of one shard: `segments[first..first + count]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShardPlan {
    pub first: usize,
    pub count: usize,
    pub sources: u64,
    pub bytes: u64,
}

impl Frozen {
    /// How often each source is read.
    fn readings(&self) -> u64 {
        if self.deduplicate.is_some() { 2 } else { 1 }
    }

    /// An estimate: the end of a batch depends on where cuts lie.
    pub fn batches(&self, shard: &ShardPlan) -> u64 {
        self.readings() * batches(shard.sources, shard.bytes, self.batch_bytes)
    }
}

/// How many batches so much work will take, as far as one can know before doing it.
pub fn batches(sources: u64, bytes: u64, batch_bytes: u64) -> u64 {
    bytes.div_ceil(batch_bytes).max(sources.div_ceil(BATCH_SOURCES))
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Totals {
    pub sources: u64,
    pub bytes: u64,
    pub groups: u64,
    pub left_out: u64,
    pub estimated_outputs: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeftOutCount {
    pub objects: u64,
    /// The first few keys.
    pub examples: Vec<String>,
}

impl Plan {
    /// Name of an output: a function of the plan alone, so that every worker of a shard finds the same.
    pub fn output_key(
        &self,
        sha256: &str,
        directory: &str,
        shard: usize,
        number: u32,
        extension: &str,
    ) -> String {
        let outputs = self.outputs_prefix(sha256, directory);
        format!("{outputs}{shard:03}-{number:05}{extension}")
    }

    /// What the names of all outputs in `directory` begin with.
    pub fn outputs_prefix(&self, sha256: &str, directory: &str) -> String {
        format!("{}{directory}{}", self.output_prefix, output_mark(sha256))
    }

    /// What recognises an output of this plan in the object's metadata.
    pub fn output_token(sha256: &str, shard: usize, directory: &str, number: u32, encoder: &str) -> String {
        use sha2::{Digest, Sha256};
        let text = format!("{sha256}\n{shard}\n{directory}\n{number}\n{encoder}");
        hex::encode(Sha256::digest(text))
    }

    /// Stored bytes of the outputs that it replaces.
    pub fn superseded_bytes(&self) -> u64 {
        self.superseded.iter().map(|output| output.size).sum()
    }

    /// Whether nothing that the plan leaves unread may hold older records of a key. What is too young comes later,
    /// and what the user excludes is none of the data.
    pub fn covers_older(&self) -> bool {
        let unread = |reason| self.left_out.contains_key(&reason);
        !unread(LeftOut::TooLarge) && !unread(LeftOut::Archived)
    }

    /// An estimate of the requests the job makes: (reads and lists, writes).
    pub fn estimated_requests(&self) -> (u64, u64) {
        let objects = self.totals.sources + self.totals.left_out;
        let ranges = self
            .totals
            .sources
            .max(self.totals.bytes.div_ceil(crate::api::CUT_BYTES));
        let reads = objects.div_ceil(1000) + self.frozen.readings() * ranges;
        let parts = self.totals.bytes.div_ceil(self.frozen.part_bytes);
        let batches: u64 = self.shards.iter().map(|shard| self.frozen.batches(shard)).sum();
        let writes = parts.max(self.totals.estimated_outputs) + 2 * batches + self.segments.len() as u64 + 4;
        (reads, writes)
    }
}

/// What the names of a plan's outputs begin with, after the directory.
fn output_mark(sha256: &str) -> String {
    format!("part-{}-", sha256.get(..12).unwrap_or(sha256))
}

/// What the name of an output tells of it: the reverse of [`Plan::output_key`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputName {
    pub directory: String,
    pub shard: usize,
    pub number: u32,
}

impl OutputName {
    /// `None` when `key` is no name that the plan of this hash gives to an output.
    pub fn of(key: &str, output_prefix: &str, sha256: &str) -> Option<Self> {
        let name = key.strip_prefix(output_prefix)?;
        let begin = name.rfind('/').map_or(0, |slash| slash + 1);
        let (directory, name) = name.split_at(begin);
        let (shard, rest) = name.strip_prefix(&output_mark(sha256))?.split_once('-')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some(Self {
            directory: directory.to_owned(),
            shard: shard.parse().ok()?,
            number: rest[..digits].parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests;
