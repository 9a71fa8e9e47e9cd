//! All workers killed at each of their requests in turn: before it arrives, or before its answer does. What seeds meet only
//! by chance comes here for certain, in small jobs.

use std::collections::BTreeMap;

use compaction_operator::api::{Compression, GroupBy, Quantity, SourceDisposition};

use crate::deduplicated::deduplicating;
use crate::scenario::{SOURCE, Scenario};
use crate::store::requests::{Moment, Requests};
use crate::{assert_nothing_left_over, assert_succeeded, calm_world, outputs, published};

fn small(seed: u64) -> Scenario {
    let mut scenario = Scenario::new(seed);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x1CED);
    scenario.habits.random_etags = false;
    scenario.job.spec.parallelism = rng.i32(1..3);
    scenario.job.spec.source.min_sources_per_group = 1;
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
    spec.batch.size = Quantity::new(&rng.u64(20..200).to_string());
    if let Some(bytes) = rng.choice(scenario.sources.values_mut()) {
        *bytes = vec![0x1f, 0x8b, 8];
    }
}

/// What there is at the end of a job.
#[derive(Debug, PartialEq)]
struct End {
    outputs: BTreeMap<String, Vec<u8>>,
    /// Records by group, as the manifest leads to them.
    published: BTreeMap<String, Vec<String>>,
    sources: Vec<String>,
}

/// Runs a job to its end; returns also how many workers were killed.
async fn run(scenario: &Scenario, requests: &Requests) -> (End, u32) {
    let mut world = calm_world(scenario, requests);
    world.run(false).await;
    assert_succeeded(&world.api);
    assert_nothing_left_over(&world.store);
    let sources = world.store.objects().into_keys();
    let end = End {
        outputs: outputs(&world.store),
        published: published(&world.store),
        sources: sources.filter(|key| key.starts_with(SOURCE)).collect(),
    };
    (end, world.kills)
}

/// Returns how often a worker was killed.
pub async fn at_every_request(seed: u64) -> u64 {
    let scenario = small(seed);
    let undisturbed = Requests::default();
    let (reference, _) = run(&scenario, &undisturbed).await;
    assert_right(&scenario, &reference);
    let count = undisturbed.count();
    let mut kills = 0;
    for number in 1..=count {
        for moment in [Moment::BeforeItArrives, Moment::BeforeItsAnswer] {
            let (end, killed) = run(&scenario, &Requests::kill_at(number, moment)).await;
            assert_eq!(
                end, reference,
                "killed at request {number} of {count}, {moment:?}"
            );
            assert!(killed > 0, "nobody was killed at request {number} of {count}");
            kills += u64::from(killed);
        }
    }
    kills
}

/// What other tests see of all seeds, `deduplicate` among them, is seen of these here in so far as it is simple.
fn assert_right(scenario: &Scenario, end: &End) {
    let expected = scenario.expect(&scenario.sources);
    if scenario.job.spec.deduplicate.is_none() {
        assert_eq!(end.published, expected.records);
    }
    let deletes = scenario.job.spec.source_disposition == SourceDisposition::Delete;
    let stay = |key: &&String| !(deletes && expected.taken.contains(*key));
    let sources: Vec<&String> = scenario.sources.keys().filter(stay).collect();
    assert_eq!(end.sources.iter().collect::<Vec<_>>(), sources);
}
