//! Groups that cannot be done beside others that can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use compaction_operator::api::{
    CompactionJobStatus, GroupBy, OnFault, SourceDisposition, condition, conditions,
};
use compaction_operator::engine::Manifest;
use compaction_operator::store::Store;
use compaction_operator::verify::verify;

use crate::api::MemoryApi;
use crate::scenario::{Expected, OUTPUT, Scenario, lines};
use crate::store::{Habits, MemoryStore};
use crate::world::{Worker, World};
use crate::{
    assert_nothing_left_over, assert_succeeded, filled, outputs, published, run_seeds, simulate, undisturbed,
};

/// More than any job here has.
const ALL: i32 = 1000;

/// A job of some seed that stops at a fault unless so many groups may fail.
fn scenario(seed: u64) -> (Scenario, fastrand::Rng) {
    let mut scenario = Scenario::new(seed);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x6071);
    let spec = &mut scenario.job.spec;
    (spec.source.on_bad_source, spec.source.on_missing_source) = (OnFault::Fail, OnFault::Fail);
    spec.max_failed_groups = rng.i32(0..5);
    if rng.bool() {
        spec.output.group_by = GroupBy::Directory;
    }
    (scenario, rng)
}

fn status(api: &MemoryApi) -> CompactionJobStatus {
    api.job().status.unwrap_or_default()
}

pub fn manifest(store: &MemoryStore, uid: &str) -> Manifest {
    let key = format!("{OUTPUT}_compaction/{uid}/manifest.json");
    serde_json::from_slice(&store.objects()[&key].bytes).unwrap()
}

/// Keys of the list of consumed sources that a job has published.
pub fn consumed(store: &MemoryStore, uid: &str) -> BTreeSet<String> {
    let key = format!("{OUTPUT}_compaction/{uid}/consumed.jsonl");
    let objects = store.objects();
    let lines = objects[&key].bytes.split(|byte| *byte == b'\n').skip(1);
    let lines = lines.filter(|line| !line.is_empty());
    let keys = lines.map(|line| {
        let line: serde_json::Value = serde_json::from_slice(line).unwrap();
        line["key"].as_str().unwrap().to_owned()
    });
    keys.collect()
}

/// Makes some sources vanish, change or be refused, now that the plan has pinned them.
fn spoil(scenario: &Scenario, store: &MemoryStore, rng: &mut fastrand::Rng) -> BTreeSet<String> {
    let mut touched = BTreeSet::new();
    let faults = if scenario.job.spec.max_failed_groups == 0 {
        2
    } else {
        3
    };
    for key in scenario.sources.keys() {
        if rng.u32(..20) > 0 {
            continue;
        }
        match rng.u32(..faults) {
            0 => store.remove(key),
            1 => store.set(key, format!("new-{key}\n").into_bytes()),
            // It would be waited for where no group may fail.
            _ => store.deny(key),
        }
        touched.insert(key.clone());
    }
    touched
}

/// Outputs in the directories of these groups, or of all others.
fn of_groups(
    outputs: &BTreeMap<String, Vec<u8>>,
    groups: &BTreeSet<String>,
    wanted: bool,
) -> BTreeMap<String, Vec<u8>> {
    let is_of = |key: &&String| {
        let name = key.strip_prefix(OUTPUT).unwrap();
        let directory = name.rfind('/').map_or("", |slash| &name[..=slash]);
        groups.contains(directory) == wanted
    };
    let keys = outputs.keys().filter(is_of);
    keys.map(|key| (key.clone(), outputs[key].clone())).collect()
}

/// What is asked for every seed; only how much of it is good differs.
struct Case {
    scenario: Scenario,
    store: MemoryStore,
    world: World,
    expected: Expected,
    bad: BTreeSet<String>,
    touched: BTreeSet<String>,
}

impl Case {
    fn uid(&self) -> String {
        self.scenario.job.metadata.uid.clone().unwrap()
    }

    fn has_failed(&self) -> bool {
        let status = status(&self.world.api);
        condition(&status.conditions, conditions::STALLED).is_some_and(|stalled| stalled.status == "True")
    }

    /// Too many groups failed: nothing is published, and no source is gone.
    fn check_failure(&self) {
        let status = status(&self.world.api);
        let limit = self.scenario.job.spec.max_failed_groups;
        let stalled = condition(&status.conditions, conditions::STALLED).unwrap();
        assert!(!self.bad.is_empty() || !self.touched.is_empty(), "{stalled:?}");
        if limit == 0 {
            assert_eq!(stalled.reason, "WorkFailed", "{stalled:?}");
        } else {
            assert_eq!(stalled.reason, "TooManyFailedGroups", "{stalled:?}");
            assert!(status.failed_groups() > limit.into(), "{status:#?}");
        }
        assert!(published(&self.store).is_empty());
        self.check_sources(&BTreeSet::new(), false);
    }

    /// Good groups are published in the bytes that they have without all this; of the others there is nothing.
    fn check_success(&self, reference: &BTreeMap<String, Vec<u8>>) -> BTreeSet<String> {
        let manifest = manifest(&self.store, &self.uid());
        let failed: BTreeSet<String> = manifest.failed.iter().map(|group| group.group.clone()).collect();
        self.check_verdict(&manifest, &failed);
        let of_failed = |key: &&String| failed.contains(&self.scenario.group(key));
        let mut records = self.expected.records.clone();
        records.retain(|group, _| !failed.contains(group));
        assert_eq!(published(&self.store), records);
        let found = outputs(&self.store);
        assert_eq!(
            of_groups(&found, &failed, false),
            of_groups(reference, &failed, false)
        );
        // One that went on unseen may have written after the publication.
        if self.world.workers.iter().all(Worker::was_seen_to_end) {
            assert_eq!(of_groups(&found, &failed, true), BTreeMap::new());
            assert_nothing_left_over(&self.store);
        }
        let merged: BTreeSet<String> = self.planned().filter(|key| !of_failed(key)).cloned().collect();
        assert_eq!(consumed(&self.store, &self.uid()), merged);
        assert_eq!(manifest.sources.objects, merged.len() as u64);
        let size = |key: &String| self.scenario.sources[key].len() as u64;
        assert_eq!(manifest.sources.bytes, merged.iter().map(size).sum::<u64>());
        let deletes = self.scenario.job.spec.source_disposition == SourceDisposition::Delete;
        self.check_sources(&merged, deletes);
        failed
    }

    fn check_verdict(&self, manifest: &Manifest, failed: &BTreeSet<String>) {
        let status = status(&self.world.api);
        let limit = i64::from(self.scenario.job.spec.max_failed_groups);
        let told = status.publish.as_ref().unwrap().failed_groups;
        assert_eq!(manifest.failed.len(), failed.len(), "a group is named twice");
        assert_eq!(told, failed.len() as i64);
        assert!(told <= status.failed_groups() && status.failed_groups() <= limit);
        let culprits = |keys: &BTreeSet<String>| -> BTreeSet<String> {
            let planned = self.planned().filter(|key| keys.contains(*key));
            planned.map(|key| self.scenario.group(key)).collect()
        };
        assert!(
            failed.is_superset(&culprits(&self.bad)),
            "a bad source went through"
        );
        let blamed = &culprits(&self.bad) | &culprits(&self.touched);
        assert!(failed.is_subset(&blamed), "a group failed for no reason");
        let succeeded = condition(&status.conditions, conditions::SUCCEEDED).unwrap();
        let says = succeeded.message.contains("failed, see the manifest");
        assert_eq!((succeeded.status.as_str(), says), ("True", !failed.is_empty()));
    }

    /// Every source that was planned.
    fn planned(&self) -> impl Iterator<Item = &String> {
        let mut sizes: BTreeMap<String, i32> = BTreeMap::new();
        for key in self.scenario.sources.keys() {
            *sizes.entry(self.scenario.group(key)).or_default() += 1;
        }
        let least = self.scenario.job.spec.source.min_sources_per_group;
        let keys = self.scenario.sources.keys();
        keys.filter(move |key| sizes[&self.scenario.group(key)] >= least)
    }

    /// Deleted is what was merged, if that is wished, and nothing else.
    fn check_sources(&self, merged: &BTreeSet<String>, deletes: bool) {
        let objects = self.store.objects();
        for key in self
            .scenario
            .sources
            .keys()
            .filter(|key| !self.touched.contains(*key))
        {
            assert_eq!(
                objects.contains_key(key),
                !(deletes && merged.contains(key)),
                "{key}"
            );
        }
    }

    /// Everything is mended, and a job that follows brings out what this one did not.
    async fn follow(mut self, failed: &BTreeSet<String>) {
        self.store.allow();
        let mut all = published(&self.store);
        for key in &self.bad {
            let sound = format!("mended-{key}\n").into_bytes();
            self.scenario.sources.insert(key.clone(), sound);
        }
        for key in self.bad.iter().chain(&self.touched) {
            self.store.set(key, self.scenario.sources[key].clone());
        }
        let mut rest = self.scenario.expect(&self.scenario.sources).records;
        rest.retain(|group, _| failed.contains(group));
        all.extend(rest);
        self.scenario.job.metadata.uid = Some(format!("{}-next", self.uid()));
        let job = self.scenario.job.clone();
        let mut world = World::new(self.store.clone(), MemoryApi::new(7, &job), 7, 0);
        world.run(false).await;
        assert_succeeded(&world.api);
        assert_eq!(published(&self.store), all);
    }
}

/// Sources that are bad, vanish, change or are refused, while workers are killed and answers lost.
async fn groups_fail(seed: u64) {
    let (mut scenario, mut rng) = scenario(seed);
    let limit = scenario.job.spec.max_failed_groups;
    scenario.job.spec.max_failed_groups = ALL;
    let reference = undisturbed(&scenario).await;
    scenario.job.spec.max_failed_groups = limit;
    let store = filled(&scenario, seed, scenario.habits);
    let api = MemoryApi::new(seed, &scenario.job);
    let mut world = World::new(store.clone(), api, seed, scenario.faults);
    world.run_until(|status| status.plan.is_some()).await;
    let touched = spoil(&scenario, &store, &mut rng);
    world.run(false).await;
    world.let_late_workers_end().await;
    let sources = scenario.sources.iter();
    let bad = sources.filter(|(_, bytes)| lines(bytes).is_none());
    let case = Case {
        expected: scenario.expect(&scenario.sources),
        bad: bad.map(|(key, _)| key.clone()).collect(),
        scenario,
        store,
        world,
        touched,
    };
    if case.has_failed() {
        return case.check_failure();
    }
    if status(&case.world.api).publish.is_none() {
        return;
    }
    let failed = case.check_success(&reference);
    if seed.is_multiple_of(8) {
        case.store.calm();
        case.store.allow();
        let store: Arc<dyn Store> = Arc::new(case.store.clone());
        let report = verify(&store, &case.scenario.job, None).await.unwrap();
        assert!(report.is_good(), "{report}");
        assert_eq!(report.failed.count, failed.len() as u64);
    }
    case.follow(&failed).await;
}

/// The store loses every upload of one group, and that group alone fails. Returns whether it did.
async fn output_is_lost_again_and_again(seed: u64) -> bool {
    let mut scenario = Scenario::new(seed);
    let spec = &mut scenario.job.spec;
    (spec.max_failed_groups, spec.parallelism) = (1, 1);
    spec.output.group_by = GroupBy::Directory;
    spec.batch.max_attempts = 3;
    let habits = Habits {
        errors: 0,
        lost_answers: 0,
        ..scenario.habits
    };
    let reference = undisturbed(&scenario).await;
    let store = filled(&scenario, seed, habits);
    store.calm();
    store.lose_uploads(&format!("{OUTPUT}x/part"));
    let api = MemoryApi::new(seed, &scenario.job);
    api.calm();
    let mut world = World::new(store.clone(), api, seed, 0);
    world.run(false).await;
    assert_succeeded(&world.api);
    assert_nothing_left_over(&store);
    let Some(publish) = status(&world.api).publish else {
        return false;
    };
    let failed: BTreeSet<String> = (publish.failed_groups == 1)
        .then(|| "x/".to_owned())
        .into_iter()
        .collect();
    assert_eq!(outputs(&store), of_groups(&reference, &failed, false));
    let manifest = manifest(&store, scenario.job.metadata.uid.as_ref().unwrap());
    for group in &manifest.failed {
        assert_eq!(
            (group.group.as_str(), group.reason.as_str()),
            ("x/", "OutputLost")
        );
    }
    assert_eq!(manifest.failed.len(), failed.len());
    !failed.is_empty()
}

/// The store loses every upload, and no group may fail: the job ends. Returns whether it failed.
async fn every_output_is_lost(seed: u64) -> bool {
    let mut scenario = Scenario::new(seed);
    let spec = &mut scenario.job.spec;
    (spec.batch.max_attempts, spec.backoff_limit) = (3, 3);
    let store = filled(&scenario, seed, scenario.habits);
    store.calm();
    store.lose_uploads(OUTPUT);
    let api = MemoryApi::new(seed, &scenario.job);
    api.calm();
    let mut world = World::new(store.clone(), api, seed, 0);
    world.run(false).await;
    let status = status(&world.api);
    let stalled = condition(&status.conditions, conditions::STALLED).unwrap();
    if stalled.status == "True" {
        assert_eq!(stalled.reason, "BackoffLimitExceeded", "{stalled:?}");
        assert!(stalled.message.contains("was lost"), "{stalled:?}");
    }
    stalled.status == "True"
}

#[test]
fn a_job_whose_output_is_lost_again_and_again_ends() {
    let lost = (0..20).filter(|seed| simulate(every_output_is_lost(*seed)));
    assert!(lost.count() > 0, "no output was large enough for an upload");
}

#[test]
fn groups_that_cannot_be_done_leave_the_others_as_they_are() {
    run_seeds("groups_fail", 8, |seed| simulate(groups_fail(seed)));
}

#[test]
fn a_group_whose_output_is_lost_again_and_again_does_not_stop_the_others() {
    let lost = (0..40).filter(|seed| simulate(output_is_lost_again_and_again(*seed)));
    assert!(lost.count() > 0, "no output was large enough for an upload");
}
