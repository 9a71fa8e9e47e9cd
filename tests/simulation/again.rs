//! Outputs that are lost and built again, over sources that are not what they were the first time.

use std::collections::BTreeSet;
use std::time::Duration;

use compaction_operator::worker::at_every_batch;
use serde_json::json;

use crate::api::MemoryApi;
use crate::groups::{consumed, manifest};
use crate::scenario::{SOURCE, Scenario, encode};
use crate::store::Habits;
use crate::world::{Worker, World};
use crate::{assert_succeeded, assert_verified, filled, published, simulate};

/// One output over many batches, of sources of which one may be skipped.
fn one_output(seed: u64) -> Scenario {
    let mut scenario = Scenario::new(seed);
    let mut job = serde_json::to_value(&scenario.job).unwrap();
    let spec = json!({
        "source": {"minSourcesPerGroup": 1},
        "output": {"targetObjectSize": 100_000},
        "batch": {"size": 40},
        "parallelism": 1,
        "mode": "PlanOnly",
        "sourceDisposition": "Retain",
    });
    json_patch::merge(&mut job["spec"], &spec);
    scenario.job = serde_json::from_value(job).unwrap();
    scenario.sources = (0..40)
        .map(|number| {
            let records: Vec<String> = (0..3).map(|line| format!("a{number}-{line}-some text")).collect();
            let key = format!("{SOURCE}a{number:03}.json");
            (key, encode(&records, true, seed as u32 % 3, false))
        })
        .collect();
    scenario.habits = Habits {
        random_etags: false,
        errors: 0,
        lost_answers: 0,
        ..scenario.habits
    };
    scenario
}

async fn a_source_comes_back(seed: u64) {
    let scenario = one_output(seed);
    let uid = scenario.job.metadata.uid.clone().unwrap();
    let store = filled(&scenario, seed, scenario.habits);
    let mut world = World::new(store.clone(), MemoryApi::new(seed, &scenario.job), seed, 0);
    world.pointer_interval = at_every_batch;
    world.run_until(|status| status.plan.is_some()).await;
    let key = format!("{SOURCE}a003.json");
    store.remove(&key);
    world.api.edit(|job| job["spec"]["mode"] = "Execute".into());
    world
        .run_until(|status| {
            status
                .shards
                .iter()
                .any(|shard| shard.checkpoint.skipped_sources == 1)
        })
        .await;
    world.workers.iter_mut().for_each(Worker::kill);
    // What a killed one had sent on its way has arrived.
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.set(&key, scenario.sources[&key].clone());
    let before = world.api.job().status.unwrap().shards[0]
        .checkpoint
        .sha256
        .clone();
    world.swap_encoder();
    let after = world.api.job().status.unwrap().shards[0]
        .checkpoint
        .sha256
        .clone();
    assert_ne!(before, after, "no output is open");
    world.run(false).await;

    assert_succeeded(&world.api);
    assert_eq!(published(&store), scenario.expect(&scenario.sources).records);
    assert_eq!(manifest(&store, &uid).skipped, []);
    let all: BTreeSet<String> = scenario.sources.keys().cloned().collect();
    assert_eq!(consumed(&store, &uid), all);
    assert_verified(0, &store, &scenario.job).await;
}

#[test]
fn a_source_skipped_in_an_output_that_is_lost_counts_as_merged_once_it_is_merged() {
    for seed in 0..30 {
        simulate(a_source_comes_back(seed));
    }
}
