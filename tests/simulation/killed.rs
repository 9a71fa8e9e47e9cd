//! A worker killed at each of its requests in turn: before it arrives, or before its answer does. What seeds meet only by
//! chance comes here for certain, in small jobs.

use std::collections::BTreeMap;

use async_trait::async_trait;
use compaction_operator::api::{CompactionJob, Compression, GroupBy, Quantity};
use compaction_operator::worker::{ApiError, JobApi};
use json_patch::Patch;

use crate::api::MemoryApi;
use crate::deduplicated::deduplicating;
use crate::scenario::Scenario;
use crate::store::Habits;
use crate::store::requests::{Moment, Requests};
use crate::world::World;
use crate::{assert_nothing_left_over, assert_succeeded, filled, outputs};

/// The API server as a worker reaches it.
pub struct WorkersApi {
    pub api: MemoryApi,
    pub requests: Requests,
}

#[async_trait]
impl JobApi for WorkersApi {
    async fn get(&self) -> Result<CompactionJob, ApiError> {
        self.api.get().await
    }

    async fn patch_status(&self, patch: &Patch) -> Result<CompactionJob, ApiError> {
        let number = self.requests.arrive().await;
        let answer = self.api.patch_status(patch).await;
        self.requests.answer(number).await;
        answer
    }
}

fn small(seed: u64) -> Scenario {
    let mut scenario = Scenario::new(seed);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x1CED);
    scenario.habits = Habits {
        random_etags: false,
        errors: 0,
        lost_answers: 0,
        ..scenario.habits
    };
    scenario.job.spec.parallelism = rng.i32(1..3);
    scenario.sources.clear();
    let count = rng.usize(2..9);
    scenario.add_sources(&mut rng, "a", count);
    if seed % 2 == 1 {
        scenario.add_sources(&mut rng, "b", count);
        deduplicating(&mut scenario, &mut rng);
        hard(&mut scenario, &mut rng);
    }
    scenario
}

/// With ends of batches everywhere, also where nothing is kept yet, and with several stretches, of which some have a
/// source that cannot be read.
fn hard(scenario: &mut Scenario, rng: &mut fastrand::Rng) {
    let spec = &mut scenario.job.spec;
    spec.output.compression = Compression::Auto;
    spec.output.group_by = GroupBy::Directory;
    spec.source.min_sources_per_group = 1;
    spec.batch.size = Quantity::new(&rng.u64(20..200).to_string());
    if let Some(bytes) = rng.choice(scenario.sources.values_mut()) {
        *bytes = vec![0x1f, 0x8b, 8];
    }
}

/// Runs a job to its end; returns its outputs.
async fn run(scenario: &Scenario, requests: &Requests) -> BTreeMap<String, Vec<u8>> {
    let store = filled(scenario, 1, scenario.habits).counting(requests);
    store.calm();
    let api = MemoryApi::new(1, &scenario.job);
    api.calm();
    let mut world = World::new(store.clone(), api, 1, 0);
    world.requests = requests.clone();
    world.run(false).await;
    assert_succeeded(&world.api);
    assert_nothing_left_over(&store);
    outputs(&store)
}

/// Returns how often a worker was killed.
pub async fn at_every_request(seed: u64) -> u64 {
    let scenario = small(seed);
    let undisturbed = Requests::default();
    let reference = run(&scenario, &undisturbed).await;
    let count = undisturbed.count();
    for number in 1..=count {
        for moment in [Moment::BeforeItArrives, Moment::BeforeItsAnswer] {
            let outputs = run(&scenario, &Requests::kill_at(number, moment)).await;
            assert_eq!(
                outputs, reference,
                "killed at request {number} of {count}, {moment:?}"
            );
        }
    }
    2 * count
}
