//! Everything goes wrong at once, at random: workers, operators, the store and the API server are killed, processes
//! stand still, the network is cut. Every job ends all the same, with every record once and nothing left over.
//! Needs the directory of a cluster of `tests/cluster` in `E2E_NODE`, and runs alone.
//!
//! `CHAOS_SECONDS` says for how long, `CHAOS_SEED` makes the choices of another run again, `CHAOS_TABLE` names a file
//! that the figures are written to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{kubectl, node, run, script, store};
use crate::common::{entries, open_uploads};
use crate::site::{Site, condition, has_ended, slow, sum, text_of};
use crate::sources::{assert_compacted_to, put_plain};
use crate::watch;

/// Jobs that work beside each other, each over sources of its own.
const JOBS: usize = 4;
const OBJECTS: usize = 400;
const OBJECT_BYTES: usize = 64 << 10;
const SHARDS: usize = 2;
/// What [`Weather::disturb`] has to choose from.
const CHOICES: u32 = 14;
/// What every storm begins with, however short it is: a worker is killed, the store is cut off.
const FIRST: [u32; 2] = [0, 12];

#[test]
fn whatever_is_killed_stopped_or_cut_off_every_job_ends_with_every_record_once() {
    let seconds = number("CHAOS_SECONDS").unwrap_or(45);
    let seed = number("CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..100_000));
    println!("CHAOS_SEED={seed} CHAOS_SECONDS={seconds}");
    let site = Site::new("chaos");
    for index in 0..JOBS {
        put_plain(&site.bucket, &format!("in/{index}/"), OBJECTS, OBJECT_BYTES);
    }
    let before = uploads();

    let looks = Meanwhile::begin(look_at_uploads);
    let storm = storm(&site.namespace, seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut jobs: Vec<(String, Value)> = Vec::new();
    while jobs.is_empty() || Instant::now() < end {
        let round = jobs.len() / JOBS;
        let started = (0..JOBS).map(|index| (format!("job-{round}-{index}"), spec(round, index)));
        let started: Vec<(String, Value)> = started.collect();
        for (name, spec) in &started {
            let job = site.job(name, spec.clone());
            watch::ask("the API server to take a job", || {
                site.try_apply(&job).status.success().then_some(())
            });
        }
        while Instant::now() < end && !started.iter().all(|(name, _)| has_succeeded(&site, name)) {
            sleep(Duration::from_secs(1));
        }
        jobs.extend(started);
    }
    let damage = storm.end();

    for (name, _) in &jobs {
        site.until_succeeded(name);
        site.until_condition(name, "Reconciling", "False");
    }
    let opened = looks.end();
    assert!(
        !opened.is_subset(&before),
        "no look at the disk has seen an upload"
    );
    let statuses: Vec<Value> = jobs
        .iter()
        .map(|(name, _)| site.get("compactionjob", name))
        .collect();
    for (_, spec) in &jobs {
        let prefix = |of: &str| text_of(&spec[of]["prefix"]);
        assert_compacted_to(&site.bucket, &prefix("source"), &prefix("output"));
        assert!(site.verify(spec.clone()).contains(&format!("{OBJECTS} sources")));
    }
    assert_eq!(site.bucket.keys("_compaction/"), [""; 0], "no ledger is left");
    let left = uploads();
    let left: Vec<&String> = left.difference(&before).collect();
    assert_eq!(left, [""; 0], "no upload is left open");
    let kinds: Vec<&&str> = damage.done.keys().collect();
    assert!(kinds.len() >= FIRST.len(), "{kinds:?}");
    let epochs: i64 = statuses.iter().map(|job| sum(job, "/epoch")).sum();
    assert!(epochs > (jobs.len() * SHARDS) as i64, "no shard was taken over");
    tell(seed, seconds, &damage, &statuses);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Of about a hundred batches in two shards, with outputs of several parts.
fn spec(round: usize, index: usize) -> Value {
    let mut spec = slow();
    let own = json!({
        "source": {"prefix": format!("in/{index}/")},
        "output": {"prefix": format!("out/{round}/{index}/"), "targetObjectSize": "8Mi"},
        "parallelism": SHARDS,
        "batch": {
            "size": "256Ki",
            "uploadDeadlineSeconds": 15,
            "maxBackoffPeriodSeconds": 5,
            "maxAttempts": 100,
        },
        "backoffLimit": 100,
    });
    json_patch::merge(&mut spec, &own);
    spec
}

fn has_succeeded(site: &Site, job: &str) -> bool {
    let output = site
        .command(&["get", "compactionjob", job, "--output", "json"])
        .output();
    let job: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap_or_default();
    condition(&job, "Succeeded").0 == "True"
}

/// The uploads that MinIO keeps on its disk.
fn uploads() -> BTreeSet<String> {
    let pods = entries(&node().join("var/lib/kubelet/pods"));
    let disks = pods
        .iter()
        .map(|pod| pod.join("volumes/kubernetes.io~empty-dir/data"));
    disks.flat_map(|disk| open_uploads(&disk)).collect()
}

/// All that were ever open.
fn look_at_uploads(over: &AtomicBool) -> BTreeSet<String> {
    let mut opened = BTreeSet::new();
    while !over.load(Ordering::Relaxed) {
        opened.append(&mut uploads());
        sleep(Duration::from_millis(500));
    }
    opened
}

/// What goes on in a thread until it is over.
struct Meanwhile<T> {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Meanwhile<T> {
    fn begin(work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        Self {
            over,
            thread: Some(std::thread::spawn(move || work(&ends))),
        }
    }

    fn end(mut self) -> T {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// Also when the test has failed: what is left of the cluster is asked for the cause.
impl<T> Drop for Meanwhile<T> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

#[derive(Default)]
struct Damage {
    /// How often what was done.
    done: BTreeMap<&'static str, u32>,
    /// What the store has sent meanwhile.
    sent: Traffic,
}

/// Disturbs the cluster until it is calmed, and mends each thing before the next.
fn storm(namespace: &str, seed: u64) -> Meanwhile<Damage> {
    let mut weather = Weather {
        namespace: namespace.to_owned(),
        random: fastrand::Rng::with_seed(seed),
    };
    Meanwhile::begin(move |over| {
        let mut damage = Damage::default();
        let mut first = FIRST.into_iter().peekable();
        while !over.load(Ordering::Relaxed) {
            weather.pause(1, 4);
            damage.sent.look();
            let choice = first.peek().copied();
            let choice = choice.unwrap_or_else(|| weather.random.u32(..CHOICES));
            if let Some(what) = weather.disturb(choice) {
                *damage.done.entry(what).or_default() += 1;
                first.next();
            }
        }
        damage.sent.look();
        damage
    })
}

struct Weather {
    namespace: String,
    random: fastrand::Rng,
}

impl Weather {
    /// Does something, if there is what it is done to; returns what.
    fn disturb(&mut self, choice: u32) -> Option<&'static str> {
        let worker = "app.kubernetes.io/name=compaction-worker";
        let operator = "app.kubernetes.io/name=compaction-operator";
        let namespace = self.namespace.clone();
        match choice {
            0..3 => {
                let (_, uid) = self.pod(&namespace, worker)?;
                signal("KILL", &uid).then_some("worker killed")
            }
            3 => {
                let (pod, _) = self.pod(&namespace, worker)?;
                let force = ["--force", "--grace-period=0"];
                delete(&namespace, &pod, &force).then_some("worker's pod deleted by force")
            }
            4 => {
                let (pod, _) = self.pod(&namespace, worker)?;
                delete(&namespace, &pod, &[]).then_some("worker's pod deleted")
            }
            5..7 => {
                let (_, uid) = self.pod(&namespace, worker)?;
                self.stand_still(&uid).then_some("worker stood still")
            }
            7 => {
                let (_, uid) = self.pod(&namespace, operator)?;
                self.stand_still(&uid).then_some("operator stood still")
            }
            8 => {
                let (_, uid) = self.pod(&namespace, operator)?;
                signal("KILL", &uid).then_some("operator killed")
            }
            9 => {
                let (pod, _) = self.pod(&namespace, operator)?;
                delete(&namespace, &pod, &[]).then_some("operator's pod deleted")
            }
            10 => {
                let (_, uid) = self.pod("storage", "app=minio")?;
                signal("KILL", &uid).then_some("store killed")
            }
            11 => Some(self.for_a_while(
                "daemon.sh",
                ["stop", "start"],
                "kube-apiserver",
                "API server killed",
            )),
            12 => Some(self.for_a_while("cut.sh", ["on", "off"], "store", "store cut off from pods")),
            _ => Some(self.for_a_while("cut.sh", ["on", "off"], "network", "pods cut off from all")),
        }
    }

    /// Name and UID of a pod that runs.
    fn pod(&mut self, namespace: &str, selector: &str) -> Option<(String, String)> {
        let mut get = kubectl();
        get.args([
            "get",
            "pods",
            "--output",
            "json",
            "--namespace",
            namespace,
            "--selector",
            selector,
        ]);
        let list: Value = serde_json::from_slice(&get.output().unwrap().stdout).ok()?;
        let mut pods = list["items"].as_array()?.clone();
        pods.retain(|pod| pod["status"]["phase"] == "Running" && !has_ended(pod));
        let pod = pods.get(self.random.usize(..pods.len().max(1)))?;
        let metadata = &pod["metadata"];
        Some((text_of(&metadata["name"]), text_of(&metadata["uid"])))
    }

    fn stand_still(&mut self, uid: &str) -> bool {
        let stopped = signal("STOP", uid);
        if stopped {
            self.pause(2, 25);
            // It may have been killed meanwhile.
            signal("CONT", uid);
        }
        stopped
    }

    fn for_a_while(
        &mut self,
        name: &str,
        [begin, end]: [&str; 2],
        what: &str,
        done: &'static str,
    ) -> &'static str {
        run(&mut script(name, &[begin, what]));
        self.pause(2, 15);
        run(&mut script(name, &[end, what]));
        done
    }

    fn pause(&mut self, least: u64, most: u64) {
        sleep(Duration::from_millis(self.random.u64(least * 1000..=most * 1000)));
    }
}

/// Whether the processes of the pod were there to get it.
fn signal(signal: &str, uid: &str) -> bool {
    succeeds(&mut script("signal.sh", &[signal, uid]))
}

fn delete(namespace: &str, pod: &str, how: &[&str]) -> bool {
    let mut delete = kubectl();
    delete.args(["delete", "pod", pod, "--namespace", namespace, "--wait=false"]);
    succeeds(delete.args(how))
}

fn succeeds(command: &mut Command) -> bool {
    command.output().unwrap().status.success()
}

/// Bytes that MinIO has sent to its clients, looked at so often that little is lost when its counter starts anew.
#[derive(Default)]
struct Traffic {
    bytes: u64,
    last: u64,
}

impl Traffic {
    fn look(&mut self) {
        let Some(now) = sent_by_store() else { return };
        self.bytes += if now < self.last { now } else { now - self.last };
        self.last = now;
    }
}

/// `None` while it is away.
fn sent_by_store() -> Option<u64> {
    let address = store().url.strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect_timeout(&address.parse().ok()?, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let path = "/minio/v2/metrics/cluster";
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let line = answer
        .lines()
        .find(|line| line.starts_with("minio_s3_traffic_sent_bytes"))?;
    line.rsplit(' ')
        .next()?
        .parse::<f64>()
        .ok()
        .map(|bytes| bytes as u64)
}

/// Prints the figures of `docs/reliability.md`.
fn tell(seed: u64, seconds: u64, damage: &Damage, jobs: &[Value]) {
    let total = |pointer: &str| jobs.iter().map(|job| sum(job, pointer)).sum::<i64>();
    let sources = jobs.len() * OBJECTS * OBJECT_BYTES;
    let mebibytes = |bytes: u64| bytes >> 20;
    let mut table = format!("| seed {seed}, {seconds} s | |\n|---|---|\n");
    let mut row = |what: &str, count: String| writeln!(table, "| {what} | {count} |").unwrap();
    row("jobs, each verified", jobs.len().to_string());
    for (what, count) in &damage.done {
        row(what, count.to_string());
    }
    row(
        &format!("epochs, of {SHARDS} shards a job"),
        total("/epoch").to_string(),
    );
    row("checkpoints and claims refused", total("/refused").to_string());
    row("checkpoints", total("/checkpoint/sequence").to_string());
    row("bytes of sources", format!("{} MiB", mebibytes(sources as u64)));
    row(
        "bytes that the store has sent",
        format!("{} MiB", mebibytes(damage.sent.bytes)),
    );
    println!("{table}");
    if let Ok(file) = std::env::var("CHAOS_TABLE") {
        std::fs::write(file, table).unwrap();
    }
}
