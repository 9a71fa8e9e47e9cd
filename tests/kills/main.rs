//! `kill -9` of workers and of `run` itself at random moments, of real processes over real files: what
//! comes out is what an undisturbed run writes, byte for byte, and nothing else stays behind.
//!
//! `KILLS_SEED=S` chooses another series of moments; messages name the one that was used.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod content;
mod signals;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Child;
use std::time::Duration;

use common::program::{self, STATE_PREFIX, Workplace, children, finish, is_worker, wait_for};
use content::{Content, gzip};
use serde_json::{Value, json};

/// Batches far smaller than a part: nearly every checkpoint has a tail.
#[test]
fn eighty_kills_of_a_job_of_plain_sources_move_no_byte() {
    let place = Workplace::new();
    let mut content = Content::new(1);
    for number in 0..180 {
        place.put(
            &format!("in/large/{number:04}.log"),
            content.lines(180_000 + number * 2_000),
        );
    }
    // Has cuts inside.
    place.put("in/large/9999.log", content.lines(9 << 20));
    for number in 0..40 {
        place.put(&format!("in/small/{number}.log"), content.lines(150_000));
    }
    place.put("in/small/without-newline.log", "the last record has no newline");
    place.put("in/two/a.log", content.lines(100));
    place.put("in/two/b.log", content.lines(100));
    place.job(&json!({
        "output": {"targetObjectSize": "24Mi"},
        "batch": {"size": "512Ki"},
        "upload": {"partSize": "5Mi"},
        "backoffLimit": 100,
    }));
    Torture::new(place, "plain").of_parts_and_batches(3, 80).kill(80);
}

/// Two shards, whose workers run side by side; members of gzip are handed on as they are.
#[test]
fn eighty_kills_of_a_job_of_gzip_sources_in_two_shards_move_no_byte() {
    let place = Workplace::new();
    let mut content = Content::new(2);
    for group in ["a", "b/c", "d"] {
        for number in 0..50 {
            place.put(
                &format!("in/{group}/{number:04}.json.gz"),
                gzip(&content.lines(800_000 + number * 1_000)),
            );
        }
    }
    // Goes into outputs of another compression than its own.
    place.put("in/d/plain.json", content.lines(3 << 20));
    place.job(&json!({
        "output": {"targetObjectSize": "12Mi"},
        "batch": {"size": "1Mi"},
        "upload": {"partSize": "5Mi"},
        "parallelism": 2,
        "backoffLimit": 100,
    }));
    Torture::new(place, "gzip").of_parts_and_batches(3, 40).kill(80);
}

/// Most of the time goes into the plan, the publication and the clean-up.
#[test]
fn forty_kills_of_a_short_job_move_no_byte() {
    let place = Workplace::new();
    let mut content = Content::new(4);
    for group in 0..6 {
        for number in 0..20 {
            place.put(&format!("in/{group}/{number}.log"), content.lines(2_000));
        }
    }
    place.job(&json!({"batch": {"size": "16Ki"}, "backoffLimit": 100}));
    Torture::new(place, "short").kill(40);
}

/// A job that is run again and again, each time from the same state, until it was killed often enough.
struct Torture {
    place: Workplace,
    name: &'static str,
    seed: u64,
    random: fastrand::Rng,
    /// The state file before the first run: the UID, which output bytes depend on, is always the same.
    fresh: Value,
    outputs: BTreeMap<String, Vec<u8>>,
    manifest: Value,
    batches: i64,
    steps_beside_batches: Vec<i64>,
    sources: BTreeMap<String, Vec<u8>>,
}

impl Torture {
    /// Takes an undisturbed run for reference.
    fn new(place: Workplace, name: &'static str) -> Self {
        let seed = std::env::var("KILLS_SEED").map_or(1, |seed| seed.parse().unwrap());
        let sources = place.objects("in/");
        place.run().ends_with(0);
        let mut fresh = place.state();
        fresh["status"] = json!({"observedGeneration": -1});
        let mut torture = Self {
            outputs: place.outputs(),
            manifest: manifest(&place),
            batches: checkpoints(&place).map(|(_, batch)| batch).sum(),
            steps_beside_batches: steps_beside_batches(&place),
            place,
            name,
            seed,
            random: fastrand::Rng::with_seed(seed),
            fresh,
            sources,
        };
        torture.check();
        torture.begin_anew();
        torture
    }

    /// Ends the test if the job is too small to prove anything.
    fn of_parts_and_batches(self, outputs_of_several_parts: usize, batches: i64) -> Self {
        let large = self.outputs.values().filter(|output| output.len() > 10 << 20);
        assert!(large.count() >= outputs_of_several_parts);
        assert!(
            self.batches >= batches,
            "{}: only {} batches",
            self.name,
            self.batches
        );
        self
    }

    fn begin_anew(&mut self) {
        fs::remove_dir_all(self.place.object("out")).unwrap();
        fs::write(self.place.state_path(), self.fresh.to_string()).unwrap();
    }

    fn kill(mut self, kills: u32) {
        let (mut done, mut jobs) = (0, 0);
        while done < kills {
            done += self.one_job(kills - done);
            self.check();
            self.begin_anew();
            jobs += 1;
        }
        println!("{}: {done} kills in {jobs} jobs, seed {}", self.name, self.seed);
    }

    /// Runs the job to its end; returns how often it was killed on the way.
    fn one_job(&mut self, most: u32) -> u32 {
        let (mut kills, mut lost) = (0, 0);
        let mut run = self.place.start();
        while kills < most {
            if self.random.u8(..4) == 0 {
                self.wait_for_progress(&mut run);
            }
            std::thread::sleep(Duration::from_millis(self.random.u64(..120)));
            if run.try_wait().unwrap().is_some() {
                break;
            }
            let workers = children(run.id());
            if self.random.u8(..4) == 0 {
                run.kill().unwrap();
                finish(run);
                lost += workers.len();
                wait_for("the workers of a killed run to end", || {
                    workers.iter().all(|worker| !is_worker(*worker)).then_some(())
                });
                self.at_most_one_batch_is_redone_for_each_of(lost);
                run = self.place.start();
            } else if !workers.is_empty() {
                lost += 1;
                program::signal(workers[self.random.usize(..workers.len())], "-KILL");
            } else {
                continue;
            }
            kills += 1;
        }
        let said = finish(run);
        assert_eq!(said.code, Some(0), "{}, seed {}: {said:#?}", self.name, self.seed);
        kills
    }

    fn wait_for_progress(&self, run: &mut Child) {
        let sequences = || -> Option<Vec<Value>> {
            let state = self.place.read_state()?;
            let shards = state["status"]["shards"].as_array()?;
            Some(
                shards
                    .iter()
                    .map(|shard| shard["checkpoint"]["sequence"].clone())
                    .collect(),
            )
        };
        let before = sequences();
        wait_for("a checkpoint", || {
            (sequences() != before || run.try_wait().unwrap().is_some()).then_some(())
        });
    }

    /// A batch leaves a body in the ledger, under the sequence that it ends with and the name of the worker
    /// that did it. So bodies beyond the first of their sequence are batches that were done again; the
    /// batch in which a worker was killed may have left one or not.
    fn at_most_one_batch_is_redone_for_each_of(&self, lost: usize) {
        let ledger = self.place.keys(STATE_PREFIX);
        let bodies = ledger.iter().filter(|key| key.contains("/bodies/"));
        // `…/shard-000/bodies/<sequence>-<epoch>-<holder>.json`
        let sequences: Vec<&str> = bodies
            .map(|key| &key[..key.rfind("/bodies/").unwrap() + "/bodies/".len() + 12])
            .collect();
        let distinct = sequences.iter().collect::<BTreeSet<_>>().len();
        let redone = sequences.len() - distinct;
        assert!(
            redone <= lost,
            "{}, seed {}: {redone} batches were done again after {lost} workers were lost",
            self.name,
            self.seed
        );
    }

    fn check(&self) {
        let (place, seed) = (&self.place, self.seed);
        let name = self.name;
        let outputs = place.outputs();
        assert_eq!(
            outputs.keys().collect::<Vec<_>>(),
            self.outputs.keys().collect::<Vec<_>>(),
            "{name}, seed {seed}: other outputs"
        );
        for (key, bytes) in &outputs {
            assert!(
                *bytes == self.outputs[key],
                "{name}, seed {seed}: {key} has other bytes"
            );
        }
        assert_eq!(manifest(place), self.manifest, "{name}, seed {seed}");
        assert!(
            place.objects("in/") == self.sources,
            "{name}, seed {seed}: sources were touched"
        );
        self.no_acknowledged_batch_was_redone();

        assert_eq!(
            place.keys(STATE_PREFIX),
            [""; 0],
            "{name}, seed {seed}: left in the ledger"
        );
        let uid = self.fresh["metadata"]["uid"].as_str().unwrap();
        let beside: BTreeSet<String> = place.keys("out/_compaction/").into_iter().collect();
        let expected = ["manifest.json", "_SUCCESS", "consumed.jsonl"];
        assert_eq!(
            beside,
            expected
                .map(|file| format!("out/_compaction/{uid}/{file}"))
                .into()
        );
        assert_eq!(place.open_uploads(), [""; 0], "{name}, seed {seed}: left open");
    }

    /// Every batch is one checkpoint, and so is every step of the other duties; a checkpoint raises the
    /// sequence by one. So the sequence exceeds the batches by the same number as in an undisturbed run,
    /// unless batches were done again after they had been acknowledged.
    fn no_acknowledged_batch_was_redone(&self) {
        assert_eq!(
            steps_beside_batches(&self.place),
            self.steps_beside_batches,
            "{}, seed {}: {:#}",
            self.name,
            self.seed,
            self.place.status()["shards"]
        );
    }
}

/// Per shard, by how much its sequence exceeds its batches.
fn steps_beside_batches(place: &Workplace) -> Vec<i64> {
    checkpoints(place)
        .map(|(sequence, batch)| sequence - batch)
        .collect()
}

/// Per shard, sequence and batch.
fn checkpoints(place: &Workplace) -> impl Iterator<Item = (i64, i64)> {
    let status = place.status();
    let shards = status["shards"].as_array().unwrap().clone();
    shards.into_iter().map(|shard| {
        let number = |field: &str| shard["checkpoint"][field].as_i64().unwrap();
        (number("sequence"), number("batch"))
    })
}

/// The manifest, but for what the store gives each object anew.
fn manifest(place: &Workplace) -> Value {
    let mut manifest = place.manifest();
    for output in manifest["outputs"].as_array_mut().unwrap() {
        output.as_object_mut().unwrap().remove("etag").unwrap();
    }
    manifest
}
