//! Brings together what manifests say, what outputs hold and what sources hold. Pure: it reads nothing.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::content::{Content, Records};
use super::latest::Wrong;
use super::published::{Manifest, Output, Published};
use super::report::{Report, counted};
use crate::api::{CompactionJob, GroupBy};

pub(super) struct Comparison<'a> {
    source_prefix: &'a str,
    output_prefix: &'a str,
    group_by: GroupBy,
    groups: BTreeMap<String, Group>,
    /// Sources that the manifests say were consumed, less those that a list names.
    forgotten: u64,
    /// Only the latest record of each key is to be there.
    latest_only: bool,
    report: Report,
}

/// One group as its sources and its outputs have it.
#[derive(Default)]
struct Group {
    sources: Records,
    outputs: Records,
    /// Consumed sources that are not there as they were.
    gone: u64,
}

/// What became of an object.
pub(super) enum Found {
    Content(Content),
    /// Not there as it was.
    Gone,
    /// It is there, but cannot be decoded.
    Broken(String),
}

impl<'a> Comparison<'a> {
    pub(super) fn new(job: &'a CompactionJob) -> Self {
        Self {
            source_prefix: &job.spec.source.prefix,
            output_prefix: &job.spec.output.prefix,
            group_by: job.spec.output.group_by,
            groups: BTreeMap::new(),
            forgotten: 0,
            latest_only: job.spec.deduplicate.is_some(),
            report: Report::default(),
        }
    }

    fn problem(&mut self, sentence: String) {
        self.report.problems.add(sentence);
    }

    /// The group whose directory a key is in, as a reader of the bucket would see it.
    fn group(&mut self, directory: &str) -> &mut Group {
        let name = match self.group_by {
            GroupBy::Directory => directory,
            GroupBy::All => "",
        };
        self.groups.entry(name.to_owned()).or_default()
    }

    /// The name of the group of a source or an output.
    pub(super) fn group_of<'k>(&self, key: &'k str) -> &'k str {
        let prefix = [self.source_prefix, self.output_prefix]
            .into_iter()
            .find(|prefix| key.starts_with(*prefix));
        match self.group_by {
            GroupBy::Directory => directory(key, prefix.unwrap_or_default()),
            GroupBy::All => "",
        }
    }

    /// Records of all sources that were read.
    pub(super) fn records(&self) -> u64 {
        self.report.records
    }

    /// What is wrong with the keys of a group. Of sources that are gone nobody knows what they held.
    pub(super) fn take_wrong(&mut self, group: &str, wrong: &Wrong) {
        let gone = self.forgotten > 0 || self.groups.get(group).is_some_and(|group| group.gone > 0);
        let name = format!("group {}{group}", self.source_prefix);
        let mut say = |count: u64, what: &str, sure: bool| {
            if count > 0 && (sure || !gone) {
                let keys = counted(count, "key");
                self.report.problems.add(format!("{name}: {keys} {what}"));
            }
        };
        say(wrong.missing, "without a record in its outputs", true);
        say(
            wrong.stale,
            "with another record in its outputs than the latest",
            false,
        );
        say(
            wrong.superfluous,
            "with more records in its outputs than the latest",
            false,
        );
    }

    pub(super) fn take_jobs(&mut self, published: &[Published], job_uid: Option<&str>) {
        match job_uid {
            Some(uid) if published.iter().all(|job| job.uid != uid) => {
                self.problem(format!(
                    "job {uid} has published nothing under {}",
                    self.output_prefix
                ));
            }
            None if published.is_empty() => self.problem(format!(
                "nothing that comes from {} is published under {}",
                self.source_prefix, self.output_prefix
            )),
            _ => {}
        }
        for Published { uid, manifest, .. } in published {
            self.forgotten += manifest.sources.objects;
            let records: u64 = manifest.outputs.iter().map(|output| output.records).sum();
            let records = records + manifest.records_dropped;
            if records != manifest.sources.records {
                self.problem(format!(
                    "the manifest of job {uid} says {} of its sources, but {} of its outputs",
                    counted(manifest.sources.records, "record"),
                    counted(records, "record")
                ));
            }
            if manifest.records_dropped > 0 && !self.latest_only {
                let dropped = counted(manifest.records_dropped, "record");
                self.problem(format!(
                    "the manifest of job {uid} says that {dropped} were dropped"
                ));
            }
            for source in &manifest.skipped {
                self.report
                    .skipped
                    .add(format!("source {}: {}", source.key, source.reason));
            }
            self.take_failed(manifest);
        }
    }

    /// Of a group that failed in a job, that job has published nothing.
    fn take_failed(&mut self, manifest: &Manifest) {
        for failed in &manifest.failed {
            let name = format!("group {}{}", self.source_prefix, failed.group);
            for output in manifest.outputs.iter().filter(|o| o.group == failed.group) {
                let key = &output.key;
                self.problem(format!("{name} failed, but output {key} of it is published"));
            }
            let (reason, message) = (&failed.reason, &failed.message);
            self.report.failed.add(format!("{name}: {reason}: {message}"));
        }
    }

    /// The outputs that count: named by a manifest and superseded by none.
    pub(super) fn outputs(&mut self, published: Vec<Published>) -> Vec<Output> {
        let mut outputs: BTreeMap<String, Output> = BTreeMap::new();
        let mut superseded = Vec::new();
        for Published { manifest, .. } in published {
            superseded.extend(manifest.superseded);
            for output in manifest.outputs {
                if let Some(twice) = outputs.insert(output.key.clone(), output) {
                    self.problem(format!("output {} is named by two manifests", twice.key));
                }
            }
        }
        for key in superseded {
            outputs.remove(&key);
        }
        outputs.into_values().collect()
    }

    pub(super) fn take_output(&mut self, output: &Output, size: u64, found: Found) {
        self.report.outputs += 1;
        let Output { key, group, .. } = output;
        let directory = directory(key, self.output_prefix);
        if !key.starts_with(self.output_prefix) || directory != group {
            self.problem(format!(
                "output {key} is not in the directory of its group, {}{group}",
                self.output_prefix
            ));
        }
        match found {
            Found::Gone => self.problem(format!(
                "output {key} is missing, or was replaced while it was read"
            )),
            Found::Broken(why) => self.problem(format!("output {key} cannot be decoded: {why}")),
            Found::Content(content) => {
                for difference in differences(output, size, &content) {
                    self.problem(format!("output {key} {difference}"));
                }
                self.group(directory).outputs += content.records;
            }
        }
    }

    pub(super) fn take_source(&mut self, key: &str, found: Found) {
        self.forgotten = self.forgotten.saturating_sub(1);
        let directory = directory(key, self.source_prefix);
        match found {
            Found::Gone => {
                self.report.unverifiable += 1;
                self.group(directory).gone += 1;
            }
            Found::Broken(why) => self.problem(format!("source {key} cannot be decoded: {why}")),
            Found::Content(content) => {
                self.report.sources += 1;
                self.report.records += content.records.count;
                self.group(directory).sources += content.records;
            }
        }
    }

    /// The verdict on every group, once all outputs and sources are taken.
    pub(super) fn conclude(mut self) -> Report {
        self.report.groups = self.groups.len() as u64;
        self.report.unverifiable += self.forgotten;
        // Where only the latest records are kept, they were compared key by key.
        let groups = std::mem::take(&mut self.groups);
        let to_judge = if self.latest_only { BTreeMap::new() } else { groups };
        for (name, group) in to_judge {
            self.judge(&format!("group {}{name}", self.source_prefix), &group);
        }
        if self.forgotten > 0 {
            let sources = counted(self.forgotten, "consumed source");
            self.report.remarks.add(format!(
                "{sources} in no list any more, being gone when a later job was planned"
            ));
        }
        self.report.problems.first.sort();
        self.report
    }

    fn judge(&mut self, name: &str, group: &Group) {
        let (sources, outputs) = (group.sources, group.outputs);
        let difference = counted(outputs.count.abs_diff(sources.count), "record");
        let more = outputs.count > sources.count;
        match outputs.count.cmp(&sources.count) {
            Ordering::Less => self.problem(format!("{name}: {difference} too few in its outputs")),
            Ordering::Equal if outputs != sources => self.problem(format!(
                "{name}: as many records in its outputs as in its sources, but not the same ones"
            )),
            Ordering::Greater if group.gone == 0 && self.forgotten == 0 => {
                self.problem(format!("{name}: {difference} too many in its outputs"));
            }
            _ => {}
        }
        let hold = format!(
            "hold {} beyond those of",
            if more { difference } else { "no records".to_owned() }
        );
        if group.gone > 0 {
            self.report.remarks.add(format!(
                "{name}: {} deleted, replaced or archived since; its outputs {hold} the others",
                counted(group.gone, "source")
            ));
        } else if self.forgotten > 0 && more {
            self.report
                .remarks
                .add(format!("{name}: its outputs {hold} its sources"));
        }
    }
}

/// In what an output is not what its manifest says.
fn differences(output: &Output, size: u64, content: &Content) -> Vec<String> {
    let mut differences = Vec::new();
    let crc = format!("{:016x}", content.crc64nvme);
    if size != output.size {
        differences.push(format!(
            "was altered: it has {size} bytes, and its manifest says {}",
            output.size
        ));
    } else if crc != output.crc64nvme {
        differences.push(format!(
            "was altered: its CRC-64/NVME is {crc}, and its manifest says {}",
            output.crc64nvme
        ));
    }
    if content.records.count != output.records {
        let holds = counted(content.records.count, "record");
        differences.push(format!("holds {holds}, and its manifest says {}", output.records));
    }
    differences
}

/// The directory of a key, relative to `prefix`; with its slash, unless it is empty.
fn directory<'a>(key: &'a str, prefix: &str) -> &'a str {
    let name = key.strip_prefix(prefix).unwrap_or(key);
    name.rfind('/').map_or("", |slash| &name[..=slash])
}
