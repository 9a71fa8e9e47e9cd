//! The real engine, worker and `decide` over a store, an API server and a clock of their own: whatever is
//! killed, lost, late or stale, every record comes out once, in the same bytes, and nothing is left over.
//!
//! `SIM_SEEDS=N` runs N seeds in all (24,000 by default); `SIM_SEED=S` runs one in the tests that are
//! named, for a failure message's seed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps
)]

mod again;
mod api;
mod deduplicated;
mod gc;
mod groups;
mod killed;
mod scenario;
mod store;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::MemoryApi;
use compaction_operator::api::{
    CompactionJob, DeletionPolicy, OnFault, SourceDisposition, condition, conditions,
};
use compaction_operator::store::Store;
use compaction_operator::verify::verify;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use scenario::{OUTPUT, STATE, Scenario, lines};
use store::requests::Requests;
use store::{Habits, MemoryStore};
use tokio::time::Instant;
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
    let manifests: Vec<serde_json::Value> = objects
        .iter()
        .filter(|(key, _)| key.ends_with("/manifest.json"))
        .filter(|(key, _)| objects.contains_key(&key.replace("manifest.json", "_SUCCESS")))
        .map(|(_, manifest)| serde_json::from_slice(&manifest.bytes).unwrap())
        .collect();
    let superseded: Vec<&serde_json::Value> = manifests
        .iter()
        .flat_map(|manifest| manifest["superseded"].as_array().unwrap())
        .collect();
    for manifest in &manifests {
        for output in manifest["outputs"].as_array().unwrap() {
            if superseded.contains(&&output["key"]) {
                continue;
            }
            let object = &objects[output["key"].as_str().unwrap()];
            assert_eq!(object.bytes.len() as u64, output["size"].as_u64().unwrap());
            // Where nothing keeps a late worker from writing the same bytes once more, they may have another ETag.
            assert!(object.etag == output["etag"].as_str().unwrap() || store.may_change_etags());
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

/// Where nobody but the faults is to blame, nothing ends a job.
fn assert_succeeded(api: &MemoryApi) {
    let status = api.job().status.unwrap_or_default();
    let stalled = condition(&status.conditions, conditions::STALLED).filter(|c| c.status == "True");
    assert_eq!(stalled.map(|condition| &condition.message), None);
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

/// What a user would ask, of some seeds: it reads every object again. Returns how many consumed sources
/// were not there to be compared.
async fn assert_verified(seed: u64, store: &MemoryStore, job: &CompactionJob) -> u64 {
    if !seed.is_multiple_of(8) {
        return 0;
    }
    store.calm();
    let published = store.objects().keys().any(|key| key.ends_with("/_SUCCESS"));
    let store: Arc<dyn Store> = Arc::new(store.clone());
    let report = verify(&store, job, None).await.unwrap();
    assert_eq!(report.is_good(), published, "{report}");
    report.unverifiable
}

/// A store with the scenario's sources.
fn filled(scenario: &Scenario, seed: u64, habits: Habits) -> MemoryStore {
    let store = MemoryStore::new(seed, habits);
    for (key, bytes) in &scenario.sources {
        store.set(key, bytes.clone());
    }
    store
}

/// A world in which nothing goes wrong but what becomes of `requests`.
fn calm_world(scenario: &Scenario, requests: &Requests) -> World {
    let habits = Habits {
        errors: 0,
        lost_answers: 0,
        ..scenario.habits
    };
    let store = filled(scenario, 1, habits).counting(requests);
    store.calm();
    let api = MemoryApi::new(1, &scenario.job);
    api.calm();
    let mut world = World::new(store, api, 1, 0);
    world.requests = requests.clone();
    world
}

async fn undisturbed(scenario: &Scenario) -> BTreeMap<String, Vec<u8>> {
    let mut world = calm_world(scenario, &Requests::default());
    world.run(false).await;
    outputs(&world.store)
}

async fn one_job(seed: u64) {
    let scenario = Scenario::new(seed);
    let expected = scenario.expect(&scenario.sources);
    let reference = undisturbed(&scenario).await;
    let store = filled(&scenario, seed, scenario.habits);
    let api = MemoryApi::new(seed, &scenario.job);
    let mut world = World::new(store.clone(), api, seed, scenario.faults);
    world.run(false).await;
    assert_succeeded(&world.api);
    assert_eq!(published(&store), expected.records);
    world.let_late_workers_end().await;
    assert_eq!(published(&store), expected.records, "after late workers");
    assert_eq!(
        outputs(&store),
        reference,
        "bytes differ from those of an undisturbed run"
    );
    if world.workers.iter().all(world::Worker::was_seen_to_end) {
        assert_nothing_left_over(&store);
    }
    let unverifiable = assert_verified(seed, &store, &scenario.job).await;
    let deletes = scenario.job.spec.source_disposition == SourceDisposition::Delete;
    assert!(deletes || unverifiable == 0, "{unverifiable} sources are gone");
    for key in scenario.sources.keys() {
        let there = store.objects().contains_key(key);
        assert_eq!(there, !(deletes && expected.taken.contains(key)), "{key}");
    }
}

/// As `one_job`, of the latest record of each key.
async fn deduplicated(seed: u64) {
    let mut scenario = Scenario::new(seed);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xDED0);
    deduplicated::deduplicating(&mut scenario, &mut rng);
    let reference = undisturbed(&scenario).await;
    let store = filled(&scenario, seed, scenario.habits);
    let api = MemoryApi::new(seed, &scenario.job);
    let mut world = World::new(store.clone(), api, seed, scenario.faults);
    world.run(false).await;
    assert_succeeded(&world.api);
    world.let_late_workers_end().await;
    assert_eq!(
        outputs(&store),
        reference,
        "bytes differ from those of an undisturbed run"
    );
    // Which sources lie in one stretch with a bad one is not for a model to know: there, tombstones may stay.
    let everything = scenario.expect(&scenario.sources);
    let found = published(&store);
    let (most, least) = [false, true]
        .map(|covered| deduplicated::latest(&scenario, &everything, covered))
        .into();
    if scenario.sources.values().all(|bytes| lines(bytes).is_some()) {
        assert_eq!(found, least);
    }
    for (group, records) in &most {
        let there = found.get(group).cloned().unwrap_or_default();
        let must: Vec<&String> = least.get(group).into_iter().flatten().collect();
        assert!(
            there.iter().all(|record| records.contains(record)),
            "group {group}: {there:?}"
        );
        assert!(
            must.iter().all(|record| there.contains(record)),
            "group {group}: {there:?}"
        );
    }
    let kept = found.values().map(Vec::len).sum::<usize>();
    let dropped = everything.records.values().map(Vec::len).sum::<usize>() - kept;
    let progress = world
        .api
        .job()
        .status
        .unwrap_or_default()
        .progress
        .unwrap_or_default();
    assert_eq!(
        (progress.records_kept, progress.records_dropped),
        (kept as i64, dropped as i64)
    );
    assert_verified(seed, &store, &scenario.job).await;
    if world.workers.iter().all(world::Worker::was_seen_to_end) {
        assert_nothing_left_over(&store);
    }
}

/// Jobs that follow each other while updates arrive: in the end, what one job over all of it would bring out.
async fn deduplicated_in_a_row(seed: u64) {
    let mut scenario = Scenario::new(seed);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xDED1);
    deduplicated::deduplicating(&mut scenario, &mut rng);
    // A tombstone that has gone knows nothing of an older record that comes later.
    scenario.job.spec.deduplicate.as_mut().unwrap().tombstone = None;
    let store = filled(&scenario, seed, scenario.habits);
    let mut expected = scenario::Expected::default();
    let mut worlds = Vec::new();
    for round in 0..5_u64 {
        let now = scenario.expect(&scenario.sources);
        for (group, records) in now.records {
            expected.records.entry(group).or_default().extend(records);
        }
        scenario.job.metadata.uid = Some(format!("uid-{seed}-{round}"));
        let api = MemoryApi::new(seed + round, &scenario.job);
        store.stir();
        let mut world = World::new(store.clone(), api, seed + round, scenario.faults);
        world.run(false).await;
        assert_succeeded(&world.api);
        world.let_late_workers_end().await;
        worlds.push(world);
        assert_eq!(
            sorted(published(&store)),
            sorted(deduplicated::latest(&scenario, &expected, false)),
            "round {round}"
        );
        if store.may_change_etags() {
            for key in outputs(&store).keys() {
                store.store_anew(key);
            }
        }
        scenario.sources.retain(|key, _| !now.taken.contains(key));
        let before: Vec<String> = scenario.sources.keys().cloned().collect();
        let count = rng.usize(0..12);
        scenario.add_sources(&mut rng, &format!("b{round}"), count);
        for (key, bytes) in scenario
            .sources
            .iter_mut()
            .filter(|(key, _)| !before.contains(key))
        {
            *bytes = deduplicated::source(&mut rng, key, 40);
            store.set(key, bytes.clone());
        }
    }
    assert_verified(seed, &store, &scenario.job).await;
}

fn sorted(mut records: BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    for records in records.values_mut() {
        records.sort();
    }
    records
}

/// Jobs that follow each other over the same prefixes, with sources that come and go in between.
async fn jobs_in_a_row(seed: u64) {
    let mut scenario = Scenario::new(seed);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xABCD);
    let store = filled(&scenario, seed, scenario.habits);
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut worlds = Vec::new();
    for round in 0..3_u64 {
        let now = scenario.expect(&scenario.sources);
        for (group, records) in now.records {
            expected.entry(group).or_default().extend(records);
        }
        scenario.job.metadata.uid = Some(format!("uid-{seed}-{round}"));
        let api = MemoryApi::new(seed + round, &scenario.job);
        store.stir();
        let mut world = World::new(store.clone(), api, seed + round, scenario.faults);
        world.run(false).await;
        assert_succeeded(&world.api);
        worlds.push(world);
        // What was taken is not a candidate any more; what is new is.
        scenario.sources.retain(|key, _| !now.taken.contains(key));
        for key in now.taken {
            if rng.u32(..6) == 0 {
                store.remove(&key);
            }
        }
        let (label, count) = (format!("b{round}"), rng.usize(0..12));
        let before: Vec<String> = scenario.sources.keys().cloned().collect();
        scenario.add_sources(&mut rng, &label, count);
        for (key, bytes) in scenario.sources.iter().filter(|(key, _)| !before.contains(key)) {
            store.set(key, bytes.clone());
        }
    }
    for world in &mut worlds {
        world.let_late_workers_end().await;
    }
    assert_eq!(sorted(published(&store)), sorted(expected));
    assert_verified(seed, &store, &scenario.job).await;
}

/// A job that is deleted in the middle and created anew, while its workers go on.
async fn created_anew(seed: u64) {
    let mut scenario = Scenario::new(seed);
    let expected = scenario.expect(&scenario.sources);
    let store = filled(&scenario, seed, scenario.habits);
    let api = MemoryApi::new(seed, &scenario.job);
    let mut world = World::new(store.clone(), api.clone(), seed, scenario.faults / 2);
    world.run(true).await;
    let unpublished = api.job().status.unwrap_or_default().publish.is_none();
    if unpublished {
        scenario.job.metadata.uid = Some(format!("uid-{seed}-anew"));
        api.replace(&scenario.job);
        store.stir();
        world.forget_workers();
        world.faults = scenario.faults / 2;
    }
    world.run(false).await;
    assert_succeeded(&api);
    world.let_late_workers_end().await;
    assert_eq!(published(&store), expected.records);
    assert_verified(seed, &store, &scenario.job).await;
}

/// A job that is deleted in the middle, and to be cleaned up.
async fn deleted(seed: u64) {
    let mut scenario = Scenario::new(seed);
    scenario.job.spec.deletion_policy = DeletionPolicy::Cleanup;
    let expected = scenario.expect(&scenario.sources);
    let store = filled(&scenario, seed, scenario.habits);
    let foreign = format!("{OUTPUT}part-0123456789ab-000-00000");
    store.set(&foreign, b"somebody else's".to_vec());
    let api = MemoryApi::new(seed, &scenario.job);
    let mut world = World::new(store.clone(), api.clone(), seed, scenario.faults / 2);
    world.run(true).await;
    world.faults = scenario.faults / 2;
    world.delete().await;
    let status = api.job().status.unwrap_or_default();
    world.let_late_workers_end().await;
    let mut left = outputs(&store);
    assert!(left.remove(&foreign).is_some(), "it is nobody's of this job");
    if status.is_announced() {
        assert_eq!(published(&store), expected.records);
    }
    // One that went on unseen may have written after the clean-up.
    if world.workers.iter().all(world::Worker::was_seen_to_end) {
        assert_nothing_left_over(&store);
        if status.publish.is_none() {
            let objects = store.objects();
            assert_eq!(objects.len(), scenario.sources.len() + 1, "{:?}", objects.keys());
        }
    }
    store.remove(&foreign);
    assert_verified(seed, &store, &scenario.job).await;
}

/// Sources that vanish or are replaced once the plan is made.
async fn sources_change(seed: u64) {
    let mut scenario = Scenario::new(seed);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x1234);
    scenario.job.spec.source.on_missing_source = if rng.bool() { OnFault::Skip } else { OnFault::Fail };
    let expected = scenario.expect(&scenario.sources);
    let store = filled(&scenario, seed, scenario.habits);
    let api = MemoryApi::new(seed, &scenario.job);
    let mut world = World::new(store.clone(), api.clone(), seed, scenario.faults);
    world.run_until(|status| status.plan.is_some()).await;
    let mut touched = BTreeMap::new();
    for key in scenario.sources.keys() {
        if rng.u32(..12) > 0 {
            continue;
        }
        if rng.bool() {
            store.remove(key);
            touched.insert(key.clone(), None);
        } else {
            let bytes = format!("new-{key}\n").into_bytes();
            store.set(key, bytes.clone());
            touched.insert(key.clone(), Some(bytes));
        }
    }
    world.run(false).await;
    world.let_late_workers_end().await;
    // A new version is never deleted, and nothing of it is merged.
    for (key, bytes) in &touched {
        let there = store.objects().get(key).map(|object| object.bytes.to_vec());
        assert_eq!(there, *bytes, "{key}");
    }
    let found = published(&store);
    let failed = condition(
        &api.job().status.unwrap_or_default().conditions,
        conditions::STALLED,
    )
    .is_some_and(|condition| condition.status == "True");
    if failed {
        assert!(!touched.is_empty() && found.is_empty(), "{:?}", api.job().status);
        return;
    }
    for (group, records) in &expected.records {
        let untouched = |record: &&String| {
            let number = record.split('-').next().unwrap_or_default();
            let number: usize = number.trim_start_matches('a').parse().unwrap();
            !touched
                .keys()
                .any(|key| key.ends_with(&format!("a{number:03}.json")))
        };
        let wanted: Vec<&String> = records.iter().filter(untouched).collect();
        let there: Vec<&String> = found.get(group).into_iter().flatten().filter(untouched).collect();
        assert_eq!(there, wanted, "group {group}");
    }
    assert_verified(seed, &store, &scenario.job).await;
}

/// Two jobs over the same prefixes at the same time: one waits, and finds its work done.
async fn two_at_once(seed: u64) {
    let mut scenario = Scenario::new(seed);
    let expected = scenario.expect(&scenario.sources);
    let store = filled(&scenario, seed, scenario.habits);
    let mut world = |uid: &str, created: i64| {
        let metadata = &mut scenario.job.metadata;
        metadata.uid = Some(format!("{uid}-{seed}"));
        metadata.name = Some(uid.to_owned());
        metadata.creation_timestamp = Some(Time(jiff::Timestamp::from_second(created).unwrap()));
        let api = MemoryApi::new(seed, &scenario.job);
        World::new(
            store.clone(),
            api,
            seed ^ u64::from(uid.as_bytes()[0]),
            scenario.faults,
        )
    };
    let (mut first, mut second) = (world("a", 1), world("b", 1 + (seed % 2) as i64));
    (first.rival, second.rival) = (Some(second.api.clone()), Some(first.api.clone()));
    tokio::join!(first.run(false), second.run(false));
    assert_succeeded(&first.api);
    assert_succeeded(&second.api);
    first.let_late_workers_end().await;
    second.let_late_workers_end().await;
    assert_eq!(published(&store), expected.records);
    assert_verified(seed, &store, &scenario.job).await;
}

/// How often the pointer moves when nothing goes wrong. Returns batches done and moves made.
async fn paced(seed: u64) -> (i64, usize) {
    let scenario = Scenario::new(seed);
    let habits = Habits {
        errors: 0,
        lost_answers: 0,
        ..scenario.habits
    };
    let store = filled(&scenario, seed, habits);
    store.calm();
    let api = MemoryApi::new(seed, &scenario.job);
    api.calm();
    let mut world = World::new(store.clone(), api.clone(), seed, 0);
    world.pointer_interval = compaction_operator::worker::pointer_interval;
    world.run(false).await;
    assert_eq!(outputs(&store), undisturbed(&scenario).await);
    let mut moves: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
    for (holder, at) in api.moves() {
        moves.entry(holder).or_default().push(at);
    }
    for (holder, moves) in &moves {
        // The last one does not wait.
        for pair in moves[..moves.len() - 1].windows(2) {
            assert!(pair[1] - pair[0] >= Duration::from_secs(1), "{holder}");
        }
    }
    let shards = api.job().status.unwrap_or_default().shards;
    let batches = shards.iter().map(|shard| shard.checkpoint.batch).sum();
    (batches, moves.values().map(Vec::len).sum())
}

/// Runs the seeds of one scenario: its share, one part in `parts`, of all.
fn run_seeds(name: &str, parts: u64, scenario: impl Fn(u64) + Send + Sync) {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        let filter = tracing_subscriber::EnvFilter::from_env("SIM_LOG");
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .without_time()
            .with_test_writer()
            .try_init()
            .ok();
        return scenario(seed.parse().unwrap());
    }
    let seeds: u64 = std::env::var("SIM_SEEDS").map_or(24_000, |seeds| seeds.parse().unwrap()) / parts;
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
    run_seeds("one_job", 2, |seed| simulate(one_job(seed)));
}

#[test]
fn the_latest_record_of_each_key_comes_out_in_the_same_bytes_whatever_happens() {
    run_seeds("deduplicated", 8, |seed| simulate(deduplicated(seed)));
}

#[test]
fn the_latest_records_of_five_jobs_in_a_row_are_those_of_all_sources_together() {
    run_seeds("deduplicated_in_a_row", 24, |seed| {
        simulate(deduplicated_in_a_row(seed));
    });
}

#[test]
fn jobs_that_follow_each_other_take_only_what_is_new() {
    run_seeds("jobs_in_a_row", 8, |seed| simulate(jobs_in_a_row(seed)));
}

#[test]
fn a_job_created_anew_does_not_mix_with_the_workers_of_the_old_one() {
    run_seeds("created_anew", 5, |seed| simulate(created_anew(seed)));
}

#[test]
fn a_job_deleted_in_the_middle_leaves_nothing_but_what_it_published() {
    run_seeds("deleted", 8, |seed| simulate(deleted(seed)));
}

#[test]
fn of_two_jobs_over_the_same_objects_one_waits() {
    run_seeds("two_at_once", 8, |seed| simulate(two_at_once(seed)));
}

#[test]
fn sources_that_change_or_vanish_are_neither_merged_nor_deleted() {
    run_seeds("sources_change", 5, |seed| simulate(sources_change(seed)));
}

#[test]
fn a_worker_killed_at_any_of_its_requests_changes_no_byte_and_leaves_nothing_over() {
    let kills = AtomicU64::new(0);
    run_seeds("killed", 2_000, |seed| {
        kills.fetch_add(simulate(killed::at_every_request(seed)), Ordering::Relaxed);
    });
    println!("{} kills", kills.into_inner());
}

#[test]
fn the_pointer_keeps_its_pace_and_leads_to_every_batch() {
    let (mut batches, mut moves) = (0, 0);
    for seed in 0..40 {
        let (more, moved) = simulate(paced(seed));
        batches += more as usize;
        moves += moved;
    }
    assert!(moves < batches, "{moves} moves for {batches} batches");
}
