//! What is parsed piece by piece from a bucket: lists, manifests and records of uploads, by those who read them.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use compaction_operator::api::{CompactionJob, CompactionJobSpec, Limits};
use compaction_operator::engine::{Ledgers, PlanInput, preview};
use compaction_operator::store::Store;
use compaction_operator::verify::verify;
use serde_json::{Value, json};

use crate::store::{Habits, MemoryStore};
use crate::target::Outcome;

const NOW: i64 = 1_800_000_000;
const SOURCES: [&str; 4] = ["in/a.log", "in/b.log", "in/d/c.log", "in/d/d.log"];

fn store() -> MemoryStore {
    let store = MemoryStore::new(1, Habits::GOOD);
    store.calm();
    for key in SOURCES {
        store.set(key, format!("a record of {key}\n").into_bytes());
    }
    store
}

fn job(more: &Value) -> CompactionJob {
    let mut job = json!({
        "apiVersion": "compaction.dev/v1alpha1",
        "kind": "CompactionJob",
        "metadata": {"name": "job", "namespace": "default", "uid": "new"},
        "spec": {
            "storage": {"s3": {"bucket": "bucket"}},
            "source": {"prefix": "in/", "minObjectAgeSeconds": 0, "minSourcesPerGroup": 1},
            "output": {"prefix": "out/"},
        },
    });
    json_patch::merge(&mut job["spec"], more);
    serde_json::from_value(job).unwrap()
}

fn limits(spec: &CompactionJobSpec) -> Limits {
    Limits::of(spec).unwrap()
}

/// Time passes as fast as it can: the store's answers take some.
fn simulate<T, E: ToString + Debug>(future: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime
        .unwrap()
        .block_on(future)
        .map_err(|error| error.to_string())
}

fn plan(store: &MemoryStore, job: &CompactionJob) -> Result<u64, String> {
    let input = PlanInput {
        job,
        limits: limits(&job.spec),
        now: NOW,
    };
    let store: Arc<dyn Store> = Arc::new(store.clone());
    simulate(preview(&store, &input)).map(|plan| plan.totals.sources)
}

fn outcome(result: Result<impl ToString, String>) -> Outcome {
    match result {
        Ok(how) => Outcome::Accepted(how.to_string()),
        Err(why) => Outcome::Refused(why),
    }
}

/// The list of what an earlier job consumed, as the next plan and `verify` read it.
pub fn consumed(list: &[u8]) -> Outcome {
    let store = store();
    store.set("out/_compaction/old/consumed.jsonl", list.to_vec());
    store.set("out/_compaction/old/_SUCCESS", Vec::new());
    let job = job(&json!({}));
    let taken = plan(&store, &job);
    assert_eq!(plan(&store, &job), taken);
    if let Ok(taken) = &taken {
        assert!(*taken <= SOURCES.len() as u64);
    }
    let manifest = json!({
        "version": 1, "job": {"namespace": "default", "name": "job", "uid": "old"}, "planSha256": "",
        "sourcePrefix": "in/", "outputPrefix": "out/", "outputs": [], "superseded": [],
        "sources": {"objects": 0, "bytes": 0, "records": 0}, "recordsDropped": 0, "skipped": [],
    });
    store.set(
        "out/_compaction/old/manifest.json",
        manifest.to_string().into_bytes(),
    );
    look(&store, &job);
    outcome(taken)
}

/// The manifest of an earlier job, as a plan that deduplicates and `verify` read it.
pub fn published(manifest: &[u8]) -> Outcome {
    let store = store();
    store.set("out/_compaction/old/manifest.json", manifest.to_vec());
    store.set("out/_compaction/old/_SUCCESS", Vec::new());
    store.set(
        "out/_compaction/old/consumed.jsonl",
        b"{\"version\":1,\"sourcePrefix\":\"in/\"}\n".to_vec(),
    );
    let job = job(&json!({"deduplicate": {"key": ["/id"]}}));
    let taken = plan(&store, &job);
    assert_eq!(plan(&store, &job), taken);
    look(&store, &job);
    outcome(taken)
}

/// Whatever `verify` finds, it comes to an end.
fn look(store: &MemoryStore, job: &CompactionJob) {
    let store: Arc<dyn Store> = Arc::new(store.clone());
    let _ = simulate(verify(&store, job, None));
}

/// The record of an upload in a ledger whose job is gone.
pub fn upload(record: &[u8]) -> Outcome {
    let store = store();
    let ledger = "state/local/0b5e5e0a-8a4f-4d65-9a6c-0f3f1c0f7a11/";
    store.set(
        &format!("{ledger}uploads/000-1-h-0-0-0-0.intended.json"),
        record.to_vec(),
    );
    store.set(
        &format!("{ledger}uploads/000-1-h-0-0-0-0.opened.json"),
        record.to_vec(),
    );
    let dynamic: Arc<dyn Store> = Arc::new(store.clone());
    let ledgers = Ledgers::open(dynamic, "state/", "local", BTreeSet::new(), NOW, 0);
    let ledgers = simulate(ledgers).unwrap();
    let found = simulate(ledgers.find()).unwrap();
    assert_eq!(found.directories.len(), 1);
    let swept = simulate(ledgers.sweep(&found.directories[0].job_uid));
    for key in SOURCES {
        assert!(store.objects().contains_key(key), "{key} is gone");
    }
    // What could not be read stays for somebody to look at.
    let left = store.objects().keys().any(|key| key.starts_with(ledger));
    assert_eq!(left, swept.is_err());
    outcome(swept.map(|()| "swept"))
}
