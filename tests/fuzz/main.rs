//! What is read from a bucket, a manifest or a status, with bytes that nobody has in mind: nothing panics or hangs,
//! memory stays bounded, and what is accepted means the same however it comes in.
//!
//! Each target has files in `corpus/`, which go first, and are then altered at random. `FUZZ_SECONDS` is for all
//! targets together (10), `FUZZ_TARGET` names some by a part of their name. Inputs follow from `FUZZ_SEED` (1), as
//! far as the time allows, so that a change is judged by much the same inputs as the one before; `make fuzz` takes any seed.
//! An input that fails is stored, and belongs in the corpus once it is mended.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod formats;
mod mutation;
mod parsed;
#[allow(dead_code)] // a part of it is of use here
#[path = "../simulation/store.rs"]
mod store;
mod stored;
mod target;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use mutation::Mutation;
use peak_alloc::PeakAlloc;
use target::{Outcome, TARGETS, Target};

/// Counts what Rust code asks for; the zstd library asks for more by itself, within its own bound.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// No input takes nearly as long; one that hangs is told from one that is slow.
const HANGS: Duration = Duration::from_mins(2);
/// Inputs that did something new are altered further, so many at most.
const MOST_KEPT: usize = 300;

#[test]
fn whatever_bytes_are_read_they_are_refused_or_mean_the_same_each_time() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("FUZZ_SEED").unwrap_or(1);
    let seconds = number("FUZZ_SECONDS").unwrap_or(10);
    let only = std::env::var("FUZZ_TARGET").unwrap_or_default();
    println!("FUZZ_SEED={seed}");
    let targets: Vec<&Target> = TARGETS.iter().filter(|t| t.name.contains(&only)).collect();
    assert!(!targets.is_empty(), "no target has {only:?} in its name");
    let share = Duration::from_secs(seconds) / targets.len() as u32;
    println!("| target | inputs | accepted | outcomes | memory |\n|---|---|---|---|---|");
    for target in targets {
        Fuzz::new(target, seed).run(share);
    }
}

struct Fuzz {
    target: &'static Target,
    seed: u64,
    mutation: Mutation,
    kept: Vec<Vec<u8>>,
    outcomes: BTreeSet<String>,
    inputs: u64,
    accepted: u64,
    /// The most that one input made the code ask for.
    memory: usize,
}

impl Fuzz {
    fn new(target: &'static Target, seed: u64) -> Self {
        Self {
            target,
            seed,
            mutation: Mutation::new(seed, target.form),
            kept: corpus(target.name),
            outcomes: BTreeSet::new(),
            inputs: 0,
            accepted: 0,
            memory: 0,
        }
    }

    /// The corpus, and then what comes of it until the time is over.
    fn run(mut self, time: Duration) {
        let (watch, current) = mpsc::channel();
        let name = self.target.name;
        std::thread::scope(|threads| {
            threads.spawn(move || end_hanging(name, &current));
            for input in self.kept.clone() {
                self.one(&input, &watch);
            }
            assert!(self.accepted > 0, "{name}: nothing in the corpus is accepted");
            let began = Instant::now();
            while began.elapsed() < time {
                let input = self.mutation.of(&self.kept);
                if self.one(&input, &watch) && self.kept.len() < MOST_KEPT {
                    self.kept.push(input);
                }
            }
            drop(watch);
        });
        let (inputs, accepted, outcomes) = (self.inputs, self.accepted, self.outcomes.len());
        let mebibytes = self.memory as f64 / f64::from(1 << 20);
        println!("| {name} | {inputs} | {accepted} | {outcomes} | {mebibytes:.1} MiB |");
    }

    /// Returns whether this input has led to something new.
    fn one(&mut self, input: &[u8], watch: &mpsc::Sender<Vec<u8>>) -> bool {
        watch.send(input.to_vec()).unwrap();
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.target.run)(input)));
        let memory = MEMORY.peak_usage().saturating_sub(before);
        let limit = self.target.memory(input.len());
        let what = match &outcome {
            Err(_) => Some("it panics".to_owned()),
            Ok(_) if memory > limit => Some(format!("{memory} bytes of memory, more than {limit}")),
            Ok(_) => None,
        };
        if let Some(what) = what {
            let (name, seed) = (self.target.name, self.seed);
            let path = keep(name, input);
            panic!(
                "{name}: {what}; FUZZ_SEED={seed}; the input is {}",
                path.display()
            );
        }
        self.inputs += 1;
        self.memory = self.memory.max(memory);
        match outcome.unwrap() {
            Outcome::Accepted(how) => {
                self.accepted += 1;
                self.outcomes.insert(how)
            }
            Outcome::Refused(why) => self.outcomes.insert(without_numbers(&why)),
        }
    }
}

/// Ends the program when an input is not followed by another one.
fn end_hanging(name: &str, inputs: &Receiver<Vec<u8>>) {
    let mut current = Vec::new();
    loop {
        match inputs.recv_timeout(HANGS) {
            Ok(input) => current = input,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                eprintln!("{name} hangs; the input is {}", keep(name, &current).display());
                std::process::abort();
            }
        }
    }
}

/// Stores an input that failed.
fn keep(target: &str, input: &[u8]) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("fuzz")
        .join(target);
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join(format!("{:016x}", target::checksum(input)));
    std::fs::write(&path, input).unwrap();
    path
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target);
    let files =
        std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

/// Refusals that differ in a number only are the same.
fn without_numbers(text: &str) -> String {
    let mut short: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    short.truncate(short.floor_char_boundary(60));
    while short.contains("00") {
        short = short.replace("00", "0");
    }
    short
}
