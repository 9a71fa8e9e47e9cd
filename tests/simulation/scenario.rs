//! What one seed stands for: sources, settings, and how much goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use compaction_operator::api::{CompactionJob, CompactionJobSpec, GroupBy, InvalidSpec, Limits};
use serde_json::json;

use crate::store::Habits;

pub const SOURCE: &str = "in/";
pub const OUTPUT: &str = "out/";
pub const STATE: &str = "state/";

pub struct Scenario {
    pub job: CompactionJob,
    pub sources: BTreeMap<String, Vec<u8>>,
    pub habits: Habits,
    /// Faults before everything becomes calm.
    pub faults: u32,
}

/// Sizes in single bytes instead of megabytes.
pub fn tiny(spec: &CompactionJobSpec) -> Result<Limits, InvalidSpec> {
    let bytes = |quantity: &compaction_operator::api::Quantity| quantity.bytes().unwrap();
    Ok(Limits {
        part: bytes(&spec.upload.part_size),
        batch: bytes(&spec.batch.size),
        target: bytes(&spec.output.target_object_size),
        // In proportion: else the plan would raise the parts beyond every output, for their number.
        max_source: bytes(&spec.source.max_object_size).min(9_000),
        cut: 48,
        max_record: 4096,
        table: 1200,
    })
}

pub fn job(rng: &mut fastrand::Rng, uid: &str) -> CompactionJob {
    let part = *rng.choice(&[64_u64, 100, 250]).unwrap();
    let compression = *rng.choice(&["Auto", "Auto", "None", "Gzip", "Zstd"]).unwrap();
    serde_json::from_value(json!({
        "apiVersion": "compaction.dev/v1alpha1",
        "kind": "CompactionJob",
        "metadata": {"name": "job", "namespace": "sim", "uid": uid, "generation": 1},
        "spec": {
            "storage": {"s3": {"bucket": "bucket"}},
            "source": {
                "prefix": SOURCE,
                "minObjectAgeSeconds": 0,
                "minSourcesPerGroup": rng.i32(1..4),
                "onBadSource": "Skip",
                "onMissingSource": "Skip",
            },
            "output": {
                "prefix": OUTPUT,
                "targetObjectSize": rng.u64(60..900),
                "compression": compression,
                "groupBy": if rng.u32(..4) == 0 { "All" } else { "Directory" },
            },
            "statePrefix": STATE,
            "batch": {
                "size": rng.u64(20..600),
                "uploadDeadlineSeconds": rng.i64(15..60),
                "maxAttempts": 100,
                "backoffPeriodSeconds": 1,
                "maxBackoffPeriodSeconds": 4,
            },
            "upload": {"partSize": part, "concurrency": rng.i32(1..4)},
            "read": {"concurrency": rng.i32(1..6)},
            "sourceDisposition": if rng.u32(..4) == 0 { "Delete" } else { "Retain" },
            "allowUnconditionalDelete": true,
            "sourceRetentionSeconds": rng.i64(0..20),
            "parallelism": rng.i32(1..4),
            "backoffLimit": 100,
        },
        "status": {"observedGeneration": -1},
    }))
    .unwrap()
}

impl Scenario {
    pub fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let job = job(&mut rng, &format!("uid-{seed}"));
        let random_etags = rng.bool();
        let habits = Habits {
            random_etags,
            conditional: rng.bool(),
            // Of the seed itself, so that all else stays what it was for each seed.
            lists_parts: !seed.is_multiple_of(6),
            errors: rng.u32(0..12),
            lost_answers: rng.u32(0..12),
            min_part: job.spec.upload.part_size.bytes().unwrap(),
        };
        let faults = rng.u32(0..40);
        let mut scenario = Self {
            job,
            sources: BTreeMap::new(),
            habits,
            faults,
        };
        let count = rng.usize(0..40);
        scenario.add_sources(&mut rng, "a", count);
        scenario
    }

    /// More sources, in directories some of which lie inside others.
    pub fn add_sources(&mut self, rng: &mut fastrand::Rng, label: &str, count: usize) {
        let directories = ["", "x/", "x/y/", "z/"];
        let directories = &directories[..rng.usize(1..=directories.len())];
        let compressions = if rng.bool() {
            vec![rng.u32(..3)]
        } else {
            vec![0, 1, 2]
        };
        for number in 0..count {
            let directory = rng.choice(directories).unwrap();
            let key = format!("{SOURCE}{directory}{label}{number:03}.json");
            let lines = rng.usize(0..12);
            let records: Vec<String> = (0..lines)
                .map(|line| format!("{label}{number}-{line}-{}", "v".repeat(rng.usize(0..30))))
                .collect();
            let newline = rng.u32(..5) > 0;
            let bad = rng.u32(..25) == 0;
            self.sources.insert(
                key,
                encode(&records, newline, *rng.choice(&compressions).unwrap(), bad),
            );
        }
    }

    /// The group of a source.
    pub fn group(&self, key: &str) -> String {
        let name = key.strip_prefix(SOURCE).unwrap();
        let directory = match self.job.spec.output.group_by {
            GroupBy::All => "",
            GroupBy::Directory => name.rfind('/').map_or("", |slash| &name[..=slash]),
        };
        directory.to_owned()
    }

    /// What a job over these sources must bring out: the records by group in order, and the keys whose
    /// records those are.
    pub fn expect(&self, sources: &BTreeMap<String, Vec<u8>>) -> Expected {
        let spec = &self.job.spec;
        let mut groups: BTreeMap<String, Vec<(&String, &Vec<u8>)>> = BTreeMap::new();
        for (key, bytes) in sources {
            groups.entry(self.group(key)).or_default().push((key, bytes));
        }
        let mut expected = Expected::default();
        for (group, members) in groups {
            if members.len() < spec.source.min_sources_per_group as usize {
                continue;
            }
            for (key, bytes) in members {
                let Some(records) = lines(bytes) else { continue };
                expected.taken.insert(key.clone());
                if !records.is_empty() {
                    expected.records.entry(group.clone()).or_default().extend(records);
                }
            }
        }
        expected
    }
}

#[derive(Default)]
pub struct Expected {
    pub records: BTreeMap<String, Vec<String>>,
    pub taken: BTreeSet<String>,
}

pub fn encode(records: &[String], newline: bool, compression: u32, bad: bool) -> Vec<u8> {
    let mut raw = records.join("\n").into_bytes();
    if newline && !raw.is_empty() {
        raw.push(b'\n');
    }
    let mut bytes = match compression {
        0 => raw,
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&raw).unwrap();
            encoder.finish().unwrap()
        }
        _ => zstd::encode_all(&raw[..], 1).unwrap(),
    };
    if bad && compression > 0 {
        bytes.truncate(bytes.len() - 3);
    }
    bytes
}

/// The records of an object whatever its compression; `None` when it is bad.
pub fn lines(bytes: &[u8]) -> Option<Vec<String>> {
    let raw = if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut raw = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(bytes), &mut raw).ok()?;
        raw
    } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        zstd::decode_all(bytes).ok()?
    } else {
        bytes.to_vec()
    };
    let text = String::from_utf8(raw).unwrap();
    Some(text.lines().map(ToOwned::to_owned).collect())
}
