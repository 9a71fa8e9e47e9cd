//! The real engine, worker and `decide` over a store, an API server and a clock of their own: whatever is
//! killed, lost, late or stale, every record comes out once, in the same bytes, and nothing is left over.
//!
//! `SIM_SEEDS=N` runs N seeds (20,000 by default); `SIM_SEED=S` runs one, for a failure message's seed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps
)]

mod api;
mod scenario;
mod store;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use api::MemoryApi;
use compaction_operator::api::GroupBy;
use scenario::{OUTPUT, STATE, Scenario, lines};
use store::{Habits, MemoryStore};
use world::World;

fn simulate<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

fn outputs(store: &MemoryStore) -> BTreeMap<String, Vec<u8>> {
    let own = format!("{OUTPUT}_compaction/");
    let objects = store.objects().into_iter();
    objects
        .filter(|(k, _)| k.starts_with(OUTPUT) && !k.starts_with(&own))
        .map(|(k, o)| (k, o.bytes.to_vec()))
        .collect()
}

/// Records by group, from the outputs that the manifests name.
fn published(store: &MemoryStore) -> BTreeMap<String, Vec<String>> {
    let objects = store.objects();
    let mut records: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, manifest) in objects.iter().filter(|(key, _)| key.ends_with("/manifest.json")) {
        assert!(
            objects.contains_key(&key.replace("manifest.json", "_SUCCESS")),
            "{key} without _SUCCESS"
        );
        let manifest: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
        for output in manifest["outputs"].as_array().unwrap() {
            let object = &objects[output["key"].as_str().unwrap()];
            assert_eq!(object.bytes.len() as u64, output["size"].as_u64().unwrap());
            assert_eq!(object.etag, output["etag"].as_str().unwrap());
            let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &object.bytes);
            assert_eq!(format!("{crc:016x}"), output["crc64nvme"].as_str().unwrap());
            let found = lines(&object.bytes).expect("an output can be decoded");
            assert_eq!(
                found.len() as u64,
                output["records"].as_u64().unwrap(),
                "{output}"
            );
            records
                .entry(output["group"].as_str().unwrap().to_owned())
                .or_default()
                .extend(found);
        }
    }
    records.retain(|_, records| !records.is_empty());
    records
}

fn assert_nothing_left_over(store: &MemoryStore) {
    assert_eq!(store.open_uploads(), Vec::<String>::new(), "open uploads");
    for key in store.objects().keys() {
        let own = key.starts_with(STATE) || key.contains("/_compaction/");
        let stays = ["/manifest.json", "/_SUCCESS", "/consumed.jsonl"]
            .iter()
            .any(|name| key.ends_with(name));
        assert!(!own || stays, "left over: {key}");
    }
}

/// A store with the scenario's sources.
fn filled(scenario: &Scenario, seed: u64, habits: Habits) -> MemoryStore {
    let store = MemoryStore::new(seed, habits);
    for (key, bytes) in &scenario.sources {
        store.set(key, bytes.clone());
    }
    store
}

async fn undisturbed(scenario: &Scenario) -> BTreeMap<String, Vec<u8>> {
    let habits = Habits {
        errors: 0,
        lost_answers: 0,
        ..scenario.habits
    };
    let store = filled(scenario, 1, habits);
    store.calm();
    let api = MemoryApi::new(1, &scenario.job);
    api.calm();
    World::new(store.clone(), api, 1, 0).run(false).await;
    outputs(&store)
}

async fn one_job(seed: u64) {
    let mut scenario = Scenario::new(seed);
    scenario.expect(scenario.job.spec.output.group_by == GroupBy::All);
    let reference = undisturbed(&scenario).await;
    let store = filled(&scenario, seed, scenario.habits);
    let api = MemoryApi::new(seed, &scenario.job);
    let mut world = World::new(store.clone(), api, seed, scenario.faults);
    world.run(false).await;
    assert_eq!(published(&store), scenario.records);
    world.let_late_workers_end().await;
    assert_eq!(published(&store), scenario.records, "after late workers");
    assert_eq!(
        outputs(&store),
        reference,
        "bytes differ from those of an undisturbed run"
    );
    if world.workers.iter().all(world::Worker::was_seen_to_end) {
        assert_nothing_left_over(&store);
    }
}

fn run_seeds(name: &str, scenario: impl Fn(u64) + Send + Sync) {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        return scenario(seed.parse().unwrap());
    }
    let seeds: u64 = std::env::var("SIM_SEEDS").map_or(20_000, |seeds| seeds.parse().unwrap());
    let next = AtomicU64::new(0);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if catch_unwind(AssertUnwindSafe(|| scenario(seed))).is_err() {
                        next.store(seeds, Ordering::Relaxed);
                        panic!("{name} fails with SIM_SEED={seed}");
                    }
                }
            });
        }
    });
}

#[test]
fn whatever_happens_every_record_comes_out_once_in_the_same_bytes() {
    run_seeds("one_job", |seed| simulate(one_job(seed)));
}
