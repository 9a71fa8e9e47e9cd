//! Keeping the latest record of each key: beside `DuckDB`, within the memory of a small pod, and beside the plain job.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use bytes::Bytes;
use compaction_operator::deduplicate::{Entry, Latest, Layout, Position};
use compaction_operator::store::Put;

use crate::block_on;
use crate::measure::{Cost, measure, median};
use crate::server::{BUCKET, Kind, Server, list, store};
use crate::work::compaction;

const PAIRS: usize = 3;
const GIB: u64 = 1 << 30;
/// Of a source.
const SOURCE_BYTES: usize = 8 << 20;
/// What the worker of a pod with a memory limit of 256 MiB takes for its window.
const WINDOW_OF_256_MIB: &str = "144Mi";

const SPEC: &str = "  deduplicate: {key: [/user/id], version: /updated_at}\n";

pub fn deduplicate() {
    beside_duckdb();
    many_keys();
    keys_of_a_gibibyte();
    beside_the_plain_job();
}

/// Updates of `keys` things, in no order of keys; the version of each is greater than that of the one before.
struct Updates {
    keys: u64,
    record_bytes: usize,
    rng: fastrand::Rng,
    made: u64,
}

impl Updates {
    fn new(keys: u64, record_bytes: usize) -> Self {
        let rng = fastrand::Rng::with_seed(7);
        Self {
            keys,
            record_bytes,
            rng,
            made: 0,
        }
    }

    /// As many as fill a source. The first ones have each key once.
    fn source(&mut self) -> Bytes {
        let mut lines = Vec::with_capacity(SOURCE_BYTES + self.record_bytes);
        while lines.len() < SOURCE_BYTES {
            let number = if self.made < self.keys {
                self.made
            } else {
                self.rng.u64(..self.keys)
            };
            // Spread over all hashes and of no order, as identifiers are.
            let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let from = lines.len();
            write!(
                lines,
                r#"{{"op":"update","user":{{"id":"{id:016x}","plan":"free"}},"updated_at":{},"note":""#,
                1_700_000_000_000 + self.made
            )
            .unwrap();
            while lines.len() - from < self.record_bytes - 3 {
                lines.push(self.rng.alphanumeric() as u8);
            }
            lines.extend_from_slice(b"\"}\n");
            self.made += 1;
        }
        lines.into()
    }
}

/// Puts about so many bytes of updates; returns how many of both there are.
fn fill(server: &Server, mut updates: Updates, bytes: u64) -> (u64, u64) {
    let mut put = 0;
    block_on(async {
        let store = store(&server.endpoint).await;
        while put < bytes {
            let source = updates.source();
            put += source.len() as u64;
            let key = format!("in/{:012}.json", updates.made);
            store.put(&key, source, Put::default()).await.unwrap();
        }
    });
    (put, updates.made)
}

fn beside_duckdb() {
    println!(
        "\n| DuckDB | updates | keys | its CPU s | worker CPU s | CPU ratio | its MB/s | worker MB/s | its memory | worker memory |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let server = Server::start(Kind::Embedded);
    let work = tempfile::tempdir().unwrap();
    let keys = GIB / 500 / 5;
    let filled = fill(&server, Updates::new(keys, 500), GIB);
    let bucket = server.directory.join(BUCKET);
    let file = work.path().join("theirs.json");
    let as_files = [bucket.join("in/*.json"), file.clone()];
    beside("of files", &server, as_files, &file, keys, filled);
    let through_s3 = ["in/*.json", "theirs.json"].map(|key| PathBuf::from(format!("s3://{BUCKET}/{key}")));
    beside(
        "over S3",
        &server,
        through_s3,
        &bucket.join("theirs.json"),
        keys,
        filled,
    );
}

/// `DuckDB` reads the first path, and writes the second, which is there as a file; the job is the same.
fn beside(
    name: &str,
    server: &Server,
    paths: [PathBuf; 2],
    theirs: &Path,
    keys: u64,
    (bytes, records): (u64, u64),
) {
    let work = tempfile::tempdir().unwrap();
    let mut pairs = Vec::new();
    for number in 0..PAIRS {
        let mut command = server.command(&duckdb());
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compaction/deduplicate.py"));
        command.args(&paths).stderr(Stdio::inherit());
        let peer = measure(command);
        let job = measure(compaction(server, work.path(), number, SPEC));
        let ours = lines(&outputs(server, number));
        assert!(ours == lines(&[theirs.to_owned()]), "the results differ");
        assert_eq!(ours.len() as u64, keys);
        server.clear(&format!("out{number}/"));
        pairs.push((peer, job));
    }
    let of = |f: &dyn Fn(&(Cost, Cost)) -> f64| median(pairs.iter().map(f).collect());
    let megabytes = bytes as f64 / 1e6;
    println!(
        "| {name} | {records} of 500 bytes | {keys} | {:.1} | {:.1} | {:.2} | {:.0} | {:.0} | {:.0} MiB | {:.0} MiB |",
        of(&|(peer, _)| peer.cpu),
        of(&|(_, job)| job.cpu),
        of(&|(peer, job)| job.cpu / peer.cpu),
        of(&|(peer, _)| megabytes / peer.wall),
        of(&|(_, job)| megabytes / job.wall),
        of(&|(peer, _)| mebibytes(peer.peak_bytes)),
        of(&|(_, job)| mebibytes(job.peak_bytes)),
    );
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Python with `DuckDB`.
fn duckdb() -> PathBuf {
    let mut install = Command::new("tests/servers/build.sh");
    let built = install.arg("duckdb").stderr(Stdio::inherit()).output().unwrap();
    assert!(built.status.success(), "DuckDB is not there");
    PathBuf::from(String::from_utf8(built.stdout).unwrap().trim())
}

fn outputs(server: &Server, number: usize) -> Vec<PathBuf> {
    let prefix = format!("out{number}/");
    let objects = block_on(async { list(&*store(&server.endpoint).await, &prefix).await });
    let keys = objects.into_iter().map(|object| object.key);
    let keys = keys.filter(|key| !key.contains("/_compaction/"));
    keys.map(|key| server.directory.join(BUCKET).join(key)).collect()
}

/// In one order.
fn lines(files: &[PathBuf]) -> Vec<Vec<u8>> {
    let contents = files.iter().map(|file| std::fs::read(file).unwrap());
    let mut lines: Vec<Vec<u8>> = contents
        .flat_map(|content| {
            let lines = content
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty());
            lines.map(<[u8]>::to_vec).collect::<Vec<_>>()
        })
        .collect();
    lines.sort_unstable();
    lines
}

/// Ten million keys in a pod of 256 MiB.
fn many_keys() {
    println!("\n| updates | keys | window | peak memory of the worker | passes |");
    println!("|---|---|---|---|---|");
    let server = Server::start(Kind::Embedded);
    let work = tempfile::tempdir().unwrap();
    let keys = 10_000_000;
    let (_, records) = fill(&server, Updates::new(keys, 120), keys * 122);
    let mut command = compaction(&server, work.path(), 0, SPEC);
    command.args(["--window", WINDOW_OF_256_MIB]);
    let log = work.path().join("log");
    logged(&mut command, &log);
    let cost = measure(command);
    let log = std::fs::read_to_string(log).unwrap();
    let passes: u32 = log
        .lines()
        .filter_map(|line| line.split("passes=").nth(1))
        .map(|n| n.trim().parse::<u32>().unwrap())
        .sum();
    println!(
        "| {records} of 120 bytes | {keys} | {WINDOW_OF_256_MIB} | {:.0} MiB | {passes} |",
        mebibytes(cost.peak_bytes)
    );
}

fn logged(command: &mut Command, log: &Path) {
    command.env("COMPACTION_LOG", "info").env("NO_COLOR", "1");
    command.stderr(std::fs::File::create(log).unwrap());
}

/// How many keys one pass takes with a table of 1 GiB.
fn keys_of_a_gibibyte() {
    println!("\n| table of 1 GiB | keys | peak memory |");
    println!("|---|---|---|");
    for versioned in ["", "versioned"] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .arg("table")
            .env("VERSIONED", versioned)
            .stdout(Stdio::inherit());
        let cost = measure(command);
        println!(" {:.0} MiB |", mebibytes(cost.peak_bytes));
    }
}

pub fn fill_table() {
    let versioned = std::env::var("VERSIONED").unwrap() == "versioned";
    let mut latest = Latest::new(Layout { versioned }, GIB);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut keys = 0_u64;
    loop {
        let entry = Entry {
            hash: rng.u128(..),
            version: i128::from(1_700_000_000_000 + keys) * 1_000_000_000_000_000_000,
            position: Position::new(0, 0, keys + 1).unwrap(),
            expired: false,
        };
        if !latest.take_all(&mut vec![entry]) {
            break;
        }
        keys += 1;
    }
    let version = if versioned {
        "with a version"
    } else {
        "by position"
    };
    print!("| {version} | {keys} |");
    std::io::stdout().flush().unwrap();
}

/// What the write stage does for each byte read, where it drops nothing, beside the job that keeps every record.
fn beside_the_plain_job() {
    println!("\n| objects | plain job MB/s | write stage MB/s | speed ratio |");
    println!("|---|---|---|---|");
    let server = Server::start(Kind::Embedded);
    let work = tempfile::tempdir().unwrap();
    let (bytes, records) = fill(&server, Updates::new(GIB / 500 * 2, 500), GIB);
    let mut pairs = Vec::new();
    for number in 0..=PAIRS {
        let plain = batches(compaction(&server, work.path(), 2 * number, ""));
        server.clear(&format!("out{}/", 2 * number));
        let writing = batches(compaction(&server, work.path(), 2 * number + 1, SPEC));
        server.clear(&format!("out{}/", 2 * number + 1));
        if number > 0 {
            pairs.push((plain, writing));
        }
    }
    let of = |f: &dyn Fn(&(f64, f64)) -> f64| median(pairs.iter().map(f).collect());
    let megabytes = bytes as f64 / 1e6;
    println!(
        "| {records} records of 500 bytes | {:.0} | {:.0} | {:.2} |",
        of(&|(plain, _)| megabytes / plain),
        of(&|(_, writing)| megabytes / writing),
        of(&|(plain, writing)| plain / writing),
    );
}

/// Seconds from the plan, or from when it is settled what is kept, to the last batch.
fn batches(mut command: Command) -> f64 {
    command.env("COMPACTION_LOG", "info").env("NO_COLOR", "1");
    command.stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut began, mut ended) = (Instant::now(), None);
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains("duty=Batches") || line.contains("settled which") {
            began = Instant::now();
        } else if line.contains("duty=Publish") {
            ended = Some(began.elapsed());
        }
    }
    assert!(child.wait().unwrap().success());
    ended.unwrap().as_secs_f64()
}
