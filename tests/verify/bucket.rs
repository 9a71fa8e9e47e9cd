//! A bucket with sources, outputs and what jobs say of them, to be broken by a test.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use compaction_operator::store::Store;
use compaction_operator::verify::{Error, Report, verify};
use crc_fast::{CrcAlgorithm, checksum};
use serde_json::json;

use crate::store::{Habits, MemoryStore};

#[derive(Default)]
pub struct Bucket {
    sources: BTreeMap<String, Vec<u8>>,
    pub jobs: Vec<Job>,
    /// `Directory` where it is empty.
    pub group_by: &'static str,
    pub job_uid: Option<&'static str>,
    /// Keys that the last job's list does not take over from the others, if it takes them over.
    forgotten: Option<Vec<String>>,
    /// The lists that were taken over are still there.
    pub keep_lists: bool,
    /// What is stored or deleted after the jobs.
    afterwards: Vec<(String, Option<Vec<u8>>)>,
}

pub struct Job {
    uid: &'static str,
    pub source_prefix: &'static str,
    pub success: bool,
    pub outputs: Vec<Output>,
    consumed: Vec<String>,
    pub superseded: Vec<String>,
    pub skipped: Vec<(&'static str, &'static str)>,
    /// Directories of groups.
    pub failed: Vec<&'static str>,
    /// What the manifest says; right where it is absent.
    pub records_of_sources: Option<u64>,
}

#[derive(Clone)]
pub struct Output {
    key: String,
    pub group: String,
    pub bytes: Vec<u8>,
    pub records: u64,
}

/// Each piece in a member of its own.
pub fn gzip(pieces: &[&[u8]]) -> Vec<u8> {
    let member = |piece: &&[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(piece).unwrap();
        encoder.finish().unwrap()
    };
    pieces.iter().flat_map(member).collect()
}

/// Each piece in a frame of its own.
pub fn zstd(pieces: &[&[u8]]) -> Vec<u8> {
    pieces
        .iter()
        .flat_map(|piece| zstd::encode_all(*piece, 1).unwrap())
        .collect()
}

impl Job {
    pub fn new(uid: &'static str) -> Self {
        Self {
            uid,
            source_prefix: "in/",
            success: true,
            outputs: Vec::new(),
            consumed: Vec::new(),
            superseded: Vec::new(),
            skipped: Vec::new(),
            failed: Vec::new(),
            records_of_sources: None,
        }
    }

    pub fn output(&mut self, key: &str, bytes: Vec<u8>, records: u64) {
        let name = key.strip_prefix("out/").unwrap();
        let group = name.rfind('/').map_or("", |slash| &name[..=slash]).to_owned();
        self.outputs.push(Output {
            key: key.to_owned(),
            group,
            bytes,
            records,
        });
    }

    pub fn replace_output(&mut self, index: usize, bytes: Vec<u8>, records: u64) {
        (self.outputs[index].bytes, self.outputs[index].records) = (bytes, records);
    }

    pub fn consumes(&mut self, keys: &[&str]) {
        self.consumed.extend(keys.iter().map(ToString::to_string));
    }

    fn manifest(&self) -> serde_json::Value {
        let outputs = self.outputs.iter().map(|output| {
            json!({
                "key": output.key,
                "size": output.bytes.len(),
                "etag": "\"any\"",
                "crc64nvme": format!("{:016x}", checksum(CrcAlgorithm::Crc64Nvme, &output.bytes)),
                "records": output.records,
                "group": output.group,
            })
        });
        let records = self.outputs.iter().map(|output| output.records).sum();
        json!({
            "version": 1,
            "job": {"namespace": "", "name": "job", "uid": self.uid},
            "planSha256": "",
            "sourcePrefix": self.source_prefix,
            "outputPrefix": "out/",
            "outputs": outputs.collect::<Vec<_>>(),
            "superseded": self.superseded,
            "sources": {
                "objects": self.consumed.len(),
                "bytes": 0,
                "records": self.records_of_sources.unwrap_or(records),
            },
            "recordsDropped": 0,
            "skipped": self.skipped.iter().map(|(key, reason)| json!({"key": key, "reason": reason}))
                .collect::<Vec<_>>(),
            "failed": self.failed.iter()
                .map(|group| json!({"group": group, "reason": "SourceChanged", "message": "in/x has changed"}))
                .collect::<Vec<_>>(),
        })
    }
}

impl Bucket {
    pub fn source(&mut self, key: &str, bytes: Vec<u8>) {
        self.sources.insert(key.to_owned(), bytes);
    }

    pub fn afterwards(&mut self, key: &str, bytes: Option<Vec<u8>>) {
        self.afterwards.push((key.to_owned(), bytes));
    }

    /// The last job's list names what the others have consumed too, but for `forgotten`.
    pub fn take_over_lists(&mut self, forgotten: &[&str]) {
        self.forgotten = Some(forgotten.iter().map(ToString::to_string).collect());
    }

    pub fn verify(&self) -> Report {
        self.try_verify().unwrap()
    }

    pub fn try_verify(&self) -> Result<Report, Error> {
        self.run(false)
    }

    pub fn verify_while_away(&self) -> Result<Report, Error> {
        self.run(true)
    }

    fn run(&self, away: bool) -> Result<Report, Error> {
        let job = serde_json::from_value(json!({
            "apiVersion": "compaction.dev/v1alpha1",
            "kind": "CompactionJob",
            "metadata": {"name": "job"},
            "spec": {
                "storage": {"s3": {"bucket": "bucket"}},
                "source": {"prefix": "in/"},
                "output": {
                    "prefix": "out/",
                    "groupBy": if self.group_by.is_empty() { "Directory" } else { self.group_by },
                },
            },
        }));
        let memory = self.fill();
        memory.set_away(away);
        let store: Arc<dyn Store> = Arc::new(memory);
        let (job, uid) = (job.unwrap(), self.job_uid);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        // A task of its own, as whoever calls it may be one.
        let task = async move { tokio::spawn(async move { verify(&store, &job, uid).await }).await };
        runtime.unwrap().block_on(task).unwrap()
    }

    fn fill(&self) -> MemoryStore {
        let store = MemoryStore::new(1, Habits::GOOD);
        for (key, bytes) in &self.sources {
            store.set(key, bytes.clone());
        }
        let etag = |key: &String| {
            store
                .objects()
                .get(key)
                .map_or("\"gone\"".to_owned(), |object| object.etag.clone())
        };
        for (index, job) in self.jobs.iter().enumerate() {
            let last = index + 1 == self.jobs.len();
            for output in &job.outputs {
                store.set(&output.key, output.bytes.clone());
            }
            let file = |name: &str| format!("out/_compaction/{}/{name}", job.uid);
            store.set(
                &file("manifest.json"),
                serde_json::to_vec_pretty(&job.manifest()).unwrap(),
            );
            let mut consumed: Vec<&String> = match &self.forgotten {
                Some(forgotten) if last => {
                    let all = self.jobs.iter().flat_map(|job| &job.consumed);
                    all.filter(|key| !forgotten.contains(key)).collect()
                }
                _ => job.consumed.iter().collect(),
            };
            consumed.sort();
            let lines: String = consumed
                .iter()
                .map(|key| json!({"key": key, "etag": etag(key)}).to_string() + "\n")
                .collect();
            let header = json!({"version": 1, "sourcePrefix": job.source_prefix});
            if last || self.keep_lists || self.forgotten.is_none() {
                store.set(&file("consumed.jsonl"), format!("{header}\n{lines}").into_bytes());
            }
            if job.success {
                store.set(&file("_SUCCESS"), Vec::new());
            }
        }
        for (key, bytes) in &self.afterwards {
            match bytes {
                Some(bytes) => store.set(key, bytes.clone()),
                None => store.remove(key),
            }
        }
        store
    }
}
