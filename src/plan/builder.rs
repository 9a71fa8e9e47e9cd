//! Objects in key order → segments, groups and shards, in memory that does not grow with the listing.
//!
//! The keys of a directory are not contiguous in a listing (`a/1`, `a/b/2`, `a/c`), but those of its
//! whole subtree are: so the open groups form a stack as deep as the path. A group that fills a segment
//! hands it out; small groups share segments. At the end the segments are put in the order of their
//! groups, so that a group's sources follow each other.

use std::collections::BTreeMap;

use super::{Entry, LeftOut, LeftOutCount, Segment, SegmentRef, ShardPlan, Source, Totals};

/// A segment ends after so many sources.
pub const SEGMENT_SOURCES: usize = 512;
/// After so many segments, the next ones take twice the bytes: the list of them stays short however large
/// the sources are, and each is but a small part of all that came before it.
const SEGMENTS_OF_A_SIZE: usize = 4096;
const EXAMPLES: usize = 3;
/// What a source costs beside its bytes when shards are balanced: a request's latency, as bytes.
const SOURCE_COST: u64 = 64 << 10;

/// The frame into which the listing is cast.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub min_sources_per_group: u64,
    /// A segment ends after so many bytes, too; later ones of a long listing after more.
    pub segment_bytes: u64,
    pub target_bytes: u64,
    pub parallelism: usize,
}

pub struct Builder {
    shape: Shape,
    /// Open groups, each inside the one before.
    open: Vec<Group>,
    /// The segment that small groups share.
    shared: Draft,
    drafts: Vec<DraftRef>,
    next_group: u64,
    totals: Totals,
    left_out: BTreeMap<LeftOut, LeftOutCount>,
    dropped: Vec<u64>,
    /// Of groups that are to be whole, by directory: earlier outputs that come before their sources.
    earlier: Option<BTreeMap<String, Vec<Source>>>,
    superseded: Vec<Source>,
}

struct Group {
    ordinal: u64,
    directory: String,
    extension: String,
    draft: Draft,
    sources: u64,
    bytes: u64,
    handed_out: bool,
    /// Earlier outputs that are read again; no sources of their own.
    earlier: Vec<Source>,
}

#[derive(Default)]
struct Draft {
    segment: Segment,
    sources: u64,
    bytes: u64,
    /// The group that decides its place.
    ordinal: u64,
}

struct DraftRef {
    ordinal: u64,
    number: u32,
    sources: u64,
    bytes: u64,
}

/// What a finished listing came to; the hashes are added by whoever stored the segments.
pub struct Outline {
    pub segments: Vec<SegmentRef>,
    pub shards: Vec<ShardPlan>,
    pub totals: Totals,
    pub left_out: BTreeMap<LeftOut, LeftOutCount>,
    /// Groups that turned out too small. Ascending.
    pub dropped: Vec<u64>,
    /// Earlier outputs among the sources.
    pub superseded: Vec<Source>,
}

/// A full segment with its number, to be stored before the builder is asked to go on.
pub type Numbered = (u32, Segment);

impl Builder {
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            open: Vec::new(),
            shared: Draft::default(),
            drafts: Vec::new(),
            next_group: 0,
            totals: Totals::default(),
            left_out: BTreeMap::new(),
            dropped: Vec::new(),
            earlier: None,
            superseded: Vec::new(),
        }
    }

    /// Keeps each group in one shard, and puts before its sources what earlier jobs made of it.
    #[must_use]
    pub fn with_earlier(mut self, outputs: BTreeMap<String, Vec<Source>>) -> Self {
        self.earlier = Some(outputs);
        self
    }

    pub fn leave(&mut self, reason: LeftOut, key: &str) {
        self.totals.left_out += 1;
        let count = self.left_out.entry(reason).or_default();
        count.objects += 1;
        if count.examples.len() < EXAMPLES {
            count.examples.push(key.to_owned());
        }
    }

    /// Adds a source; sources come in the order of their keys. Full segments are pushed to `full`.
    /// Returns the number of its group.
    pub fn take(&mut self, directory: String, source: Source, full: &mut Vec<Numbered>) -> u64 {
        while self
            .open
            .last()
            .is_some_and(|group| !directory.starts_with(&group.directory))
        {
            self.close_group(full);
        }
        if self.open.last().is_none_or(|group| group.directory != directory) {
            let extension = extension(&source.key);
            let earlier = self
                .earlier
                .as_mut()
                .and_then(|earlier| earlier.remove(&directory));
            let mut group = Group::new(self.next_group, directory, extension);
            for output in earlier.into_iter().flatten() {
                group.add_earlier(output);
            }
            self.open.push(group);
            self.next_group += 1;
        }
        let segment_bytes = self.segment_bytes();
        let Some(group) = self.open.last_mut() else {
            return self.next_group;
        };
        let ordinal = group.ordinal;
        group.add(source);
        if group.sources >= self.shape.min_sources_per_group && group.draft.is_full(segment_bytes) {
            let draft = std::mem::take(&mut group.draft);
            group.handed_out = true;
            self.hand_out(draft, full);
        }
        ordinal
    }

    /// Ends the listing. After this, `outline` is complete.
    pub fn finish(&mut self, full: &mut Vec<Numbered>) {
        while !self.open.is_empty() {
            self.close_group(full);
        }
        let shared = std::mem::take(&mut self.shared);
        if shared.sources > 0 {
            self.hand_out(shared, full);
        }
    }

    fn close_group(&mut self, full: &mut Vec<Numbered>) {
        let Some(mut group) = self.open.pop() else { return };
        if group.sources < self.shape.min_sources_per_group {
            // Nothing of it was handed out yet.
            let earlier = group.earlier.len();
            let entries = group.draft.segment.entries.iter();
            let sources = entries.filter_map(|entry| match entry {
                Entry::Source(source) => Some(source),
                Entry::Group { .. } => None,
            });
            for source in sources.skip(earlier) {
                self.leave(LeftOut::GroupTooSmall, &source.key);
            }
            self.dropped.push(group.ordinal);
            return;
        }
        self.totals.groups += 1;
        self.totals.sources += group.sources + group.earlier.len() as u64;
        self.superseded.append(&mut group.earlier);
        self.totals.bytes += group.bytes;
        self.totals.estimated_outputs += group.bytes.div_ceil(self.shape.target_bytes).max(1);
        let rest = std::mem::take(&mut group.draft);
        if group.handed_out {
            if rest.sources > 0 {
                self.hand_out(rest, full);
            }
            return;
        }
        self.shared.absorb(rest);
        if self.shared.is_full(self.segment_bytes()) {
            let draft = std::mem::take(&mut self.shared);
            self.hand_out(draft, full);
        }
    }

    /// What fills the next segment. Bytes.
    fn segment_bytes(&self) -> u64 {
        let doublings = (self.drafts.len() / SEGMENTS_OF_A_SIZE).min(32);
        self.shape.segment_bytes.saturating_mul(1 << doublings)
    }

    fn hand_out(&mut self, draft: Draft, full: &mut Vec<Numbered>) {
        let number = self.drafts.len() as u32;
        self.drafts.push(DraftRef {
            ordinal: draft.ordinal,
            number,
            sources: draft.sources,
            bytes: draft.bytes,
        });
        full.push((number, draft.segment));
    }

    /// The outline, with the hash that each stored segment has.
    pub fn outline(mut self, hashes: &BTreeMap<u32, String>) -> Outline {
        self.drafts.sort_by_key(|draft| (draft.ordinal, draft.number));
        let segments: Vec<SegmentRef> = self
            .drafts
            .iter()
            .map(|draft| SegmentRef {
                number: draft.number,
                sha256: hashes.get(&draft.number).cloned().unwrap_or_default(),
                sources: draft.sources,
                bytes: draft.bytes,
            })
            .collect();
        let ordinals: Vec<u64> = self.drafts.iter().map(|draft| draft.ordinal).collect();
        // Small groups share a segment, but no group shares one with the rest of a large one.
        let may_begin = |index: usize| self.earlier.is_none() || ordinals[index] != ordinals[index - 1];
        let shards = shards(&segments, self.shape.parallelism, may_begin);
        self.dropped.sort_unstable();
        Outline {
            segments,
            shards,
            totals: self.totals,
            left_out: self.left_out,
            dropped: self.dropped,
            superseded: self.superseded,
        }
    }
}

impl Group {
    fn new(ordinal: u64, directory: String, extension: String) -> Self {
        Self {
            ordinal,
            directory,
            extension,
            draft: Draft::default(),
            sources: 0,
            bytes: 0,
            handed_out: false,
            earlier: Vec::new(),
        }
    }

    fn add_earlier(&mut self, output: Source) {
        self.earlier.push(output.clone());
        self.add(output);
        // It does not make the group any larger.
        self.sources -= 1;
    }

    fn add(&mut self, source: Source) {
        if self.draft.sources == 0 {
            self.draft.ordinal = self.ordinal;
            self.draft.segment.entries.push(Entry::Group {
                ordinal: self.ordinal,
                directory: self.directory.clone(),
                extension: self.extension.clone(),
            });
        }
        self.sources += 1;
        self.bytes += source.size;
        self.draft.sources += 1;
        self.draft.bytes += source.size;
        self.draft.segment.entries.push(Entry::Source(source));
    }
}

impl Draft {
    fn is_full(&self, segment_bytes: u64) -> bool {
        self.sources >= SEGMENT_SOURCES as u64 || self.bytes >= segment_bytes
    }

    fn absorb(&mut self, other: Self) {
        if self.sources == 0 {
            self.ordinal = other.ordinal;
        }
        self.sources += other.sources;
        self.bytes += other.bytes;
        self.segment.entries.extend(other.segment.entries);
    }
}

/// Cuts the segments into at most `parallelism` runs of about the same cost, each at a segment where one may
/// begin.
fn shards(segments: &[SegmentRef], parallelism: usize, may_begin: impl Fn(usize) -> bool) -> Vec<ShardPlan> {
    let cost = |segment: &SegmentRef| segment.bytes + segment.sources * SOURCE_COST;
    let total: u64 = segments.iter().map(cost).sum();
    let wanted = parallelism.min(segments.len());
    let mut shards: Vec<ShardPlan> = Vec::with_capacity(wanted);
    let mut before = 0;
    for (index, segment) in segments.iter().enumerate() {
        // The middle of the segment decides, so that the runs are as even as segments allow.
        let middle = u128::from(before) + u128::from(cost(segment)) / 2;
        let place = (middle * wanted as u128 / u128::from(total.max(1))) as usize;
        before += cost(segment);
        if shards.is_empty() || (place >= shards.len() && shards.len() < wanted && may_begin(index)) {
            shards.push(ShardPlan {
                first: index,
                count: 0,
                sources: 0,
                bytes: 0,
            });
        }
        if let Some(shard) = shards.last_mut() {
            shard.count += 1;
            shard.sources += segment.sources;
            shard.bytes += segment.bytes;
        }
    }
    shards
}

/// `.json` of `logs/a.json.gz`: the last extension below that of the compression, if it looks like one.
fn extension(key: &str) -> String {
    let name = key.rsplit('/').next().unwrap_or(key);
    let bare = [".gz", ".gzip", ".zst", ".zstd"]
        .iter()
        .find_map(|e| name.strip_suffix(e))
        .unwrap_or(name);
    match bare.rfind('.') {
        Some(dot) if dot > 0 => {
            let extension = &bare[dot + 1..];
            let plain =
                (1..=10).contains(&extension.len()) && extension.bytes().all(|b| b.is_ascii_alphanumeric());
            if plain {
                bare[dot..].to_owned()
            } else {
                String::new()
            }
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
