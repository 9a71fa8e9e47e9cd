//! Compaction beside a plain concurrent copy with the same client, on the same server, in one run; and
//! the memory of a worker at 1 GiB and 8 GiB of input. Prints the tables of `docs/performance.md`.
//!
//! `cargo bench --bench compaction` (or `make bench`) runs all of it; `-- speed` or `-- memory` a half.
//! Server, copy and compaction are processes of their own, so that CPU time is told apart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use compaction_operator::local::server;
use compaction_operator::store::{AccessKeys, CredentialsFrom, Put, S3, Settings, Store};
use futures::{StreamExt, TryStreamExt, stream};

const PAIRS: usize = 3;
const COPY_CONCURRENCY: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", dir] => block_on(serve(Path::new(dir))),
        ["copy", from, to] => block_on(copy(from, to)),
        ["speed"] => speed(),
        ["memory"] => memory(),
        _ => {
            speed();
            memory();
        }
    }
}

fn block_on<F: Future<Output = ()>>(future: F) {
    tokio::runtime::Runtime::new().unwrap().block_on(future);
}

/// Until standard input closes.
async fn serve(dir: &Path) {
    let server = server::start(dir).await.unwrap();
    let keys = server.keys();
    println!("{}\n{}\n{}", server.endpoint(), keys.access_key, keys.secret_key);
    tokio::task::spawn_blocking(|| std::io::stdin().lines().count())
        .await
        .unwrap();
}

async fn copy(from: &str, to: &str) {
    let mut settings = Settings::new("bench");
    settings.endpoint = std::env::var("BENCH_ENDPOINT").ok();
    settings.credentials = CredentialsFrom::Keys(AccessKeys {
        access_key: std::env::var("AWS_ACCESS_KEY_ID").unwrap(),
        secret_key: std::env::var("AWS_SECRET_ACCESS_KEY").unwrap(),
    });
    let store: Arc<dyn Store> = Arc::new(S3::new(&settings).await.unwrap());
    let mut objects = Vec::new();
    loop {
        let after = objects
            .last()
            .map(|object: &compaction_operator::store::Object| object.key.clone());
        let page = store.list(from, after.as_deref()).await.unwrap();
        objects.extend(page.objects);
        if !page.more {
            break;
        }
    }
    let concurrency = if objects[0].size > 1 << 20 {
        8
    } else {
        COPY_CONCURRENCY
    };
    stream::iter(objects)
        .map(|object| {
            let (store, key) = (Arc::clone(&store), format!("{to}{}", &object.key[from.len()..]));
            let copy = async move {
                let bytes = store.read(&object.key, 0..object.size, &object.etag).await?;
                store.put(&key, bytes, Put::default()).await
            };
            async { tokio::spawn(copy).await.unwrap() }
        })
        .buffer_unordered(concurrency)
        .try_for_each(|_| async { Ok(()) })
        .await
        .unwrap();
}

/// A server over a temporary directory with the bucket `bench`.
struct Server {
    _directory: tempfile::TempDir,
    bucket: PathBuf,
    child: Child,
    _input: ChildStdin,
    endpoint: String,
    keys: [String; 2],
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bucket = directory.path().join("bench");
        std::fs::create_dir(&bucket).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", directory.path().to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let (endpoint, keys) = (line(), [line(), line()]);
        Self {
            _directory: directory,
            bucket,
            child,
            _input: input,
            endpoint,
            keys,
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("AWS_ACCESS_KEY_ID", &self.keys[0])
            .env("AWS_SECRET_ACCESS_KEY", &self.keys[1]);
        command
            .env("BENCH_ENDPOINT", &self.endpoint)
            .stderr(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn clear(&self, prefix: &str) {
        std::fs::remove_dir_all(self.bucket.join(prefix)).ok();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a finished process took. CPU: with all that it waited for.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
    peak_bytes: u64,
}

fn measure(mut command: Command) -> Cost {
    let before = children_cpu();
    let began = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut peak_bytes = 0;
    let status = loop {
        peak_bytes = peak_bytes.max(peak_of_tree(child.id()));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let wall = began.elapsed().as_secs_f64();
    assert!(status.success(), "{command:?}: {status}");
    Cost {
        wall,
        cpu: children_cpu() - before,
        peak_bytes,
    }
}

/// Seconds of user and system time of all children that were waited for: fields 16 and 17 of
/// `/proc/self/stat`, in ticks of 10 ms.
fn children_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<f64>().unwrap();
    (ticks(16) + ticks(17)) / 100.0
}

/// The largest peak of a process or one of its children.
fn peak_of_tree(pid: u32) -> u64 {
    let peak = |pid: u32| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .unwrap_or(0)
            << 10
    };
    let mut children = String::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        children += &std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    }
    children
        .split_whitespace()
        .map(|child| peak(child.parse().unwrap()))
        .max()
        .unwrap_or(0)
        .max(peak(pid))
}

#[derive(Clone, Copy)]
enum Codec {
    None,
    Gzip,
    Zstd,
}

impl Codec {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// A source of about `size` stored bytes.
    fn source(self, size: usize, rng: &mut fastrand::Rng) -> Vec<u8> {
        let raw_size = match self {
            Self::None => size,
            Self::Gzip => size * 13 / 4,
            Self::Zstd => size * 3,
        };
        let mut raw = Vec::with_capacity(raw_size + 400);
        while raw.len() < raw_size {
            let (id, user) = (rng.u64(..), rng.u32(..5000));
            let path = "abcdefgh".chars().nth(rng.usize(..8)).unwrap();
            writeln!(
                raw,
                r#"{{"time":"2026-11-24T09:00:00Z","level":"info","request":"{id:016x}","user":{user},"path":"/api/v1/{path}/items","status":200,"duration_ms":{},"message":"request finished"}}"#,
                rng.u32(..900)
            )
            .unwrap();
        }
        match self {
            Self::None => raw,
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
                encoder.write_all(&raw).unwrap();
                encoder.finish().unwrap()
            }
            Self::Zstd => zstd::encode_all(&raw[..], 3).unwrap(),
        }
    }
}

/// Fills `prefix`; a few different contents are repeated, as making them is slower than moving them.
fn fill(server: &Server, prefix: &str, codec: Codec, size: usize, count: usize) -> u64 {
    let mut rng = fastrand::Rng::with_seed(1);
    let contents: Vec<Vec<u8>> = (0..8).map(|_| codec.source(size, &mut rng)).collect();
    let directory = server.bucket.join(prefix);
    std::fs::create_dir_all(&directory).unwrap();
    (0..count)
        .map(|number| {
            let content = &contents[number % contents.len()];
            std::fs::write(directory.join(format!("{number:07}.json")), content).unwrap();
            content.len() as u64
        })
        .sum()
}

fn compaction(server: &Server, directory: &Path, number: usize) -> Command {
    let manifest = directory.join(format!("job-{number}.yaml"));
    let endpoint = &server.endpoint;
    let text = format!(
        "apiVersion: compaction.dev/v1alpha1\nkind: CompactionJob\nmetadata: {{name: bench}}\nspec:\n  \
         storage: {{s3: {{bucket: bench, endpoint: \"{endpoint}\"}}}}\n  \
         source: {{prefix: in/, minObjectAgeSeconds: 0}}\n  output: {{prefix: out{number}/}}\n"
    );
    std::fs::write(&manifest, text).unwrap();
    let mut command = server.command(Path::new(env!("CARGO_BIN_EXE_compaction-operator")));
    command.arg("run").arg("-f").arg(manifest);
    command
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn speed() {
    println!(
        "| objects | compression | copy MB/s | compaction MB/s | speed ratio | copy CPU s/GB | compaction CPU s/GB |"
    );
    println!("|---|---|---|---|---|---|---|");
    let cases = [(8_000_000, 128), (100_000, 5_000), (10_000, 20_000)];
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        for (size, count) in cases {
            let server = Server::start();
            let work = tempfile::tempdir().unwrap();
            let gigabytes = fill(&server, "in", codec, size, count) as f64 / 1e9;
            let mut pairs = Vec::new();
            for number in 0..=PAIRS {
                let mut command = server.command(&std::env::current_exe().unwrap());
                command.args(["copy", "in/", &format!("copy{number}/")]);
                let copied = measure(command);
                server.clear(&format!("copy{number}"));
                let compacted = measure(compaction(&server, work.path(), number));
                server.clear(&format!("out{number}"));
                // The first pair warms the page cache.
                if number > 0 {
                    pairs.push((copied, compacted));
                }
            }
            let of = |f: &dyn Fn(&(Cost, Cost)) -> f64| median(pairs.iter().map(f).collect());
            println!(
                "| {count} x {} | {} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} |",
                if size < 1_000_000 {
                    format!("{} KB", size / 1000)
                } else {
                    format!("{} MB", size / 1_000_000)
                },
                codec.name(),
                of(&|(copy, _)| gigabytes * 1e3 / copy.wall),
                of(&|(_, job)| gigabytes * 1e3 / job.wall),
                of(&|(copy, job)| copy.wall / job.wall),
                of(&|(copy, _)| copy.cpu / gigabytes),
                of(&|(_, job)| job.cpu / gigabytes),
            );
        }
    }
}

fn memory() {
    println!("\n| input | compression | peak memory of a worker |");
    println!("|---|---|---|");
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        for gigabytes in [1_usize, 8] {
            let server = Server::start();
            let work = tempfile::tempdir().unwrap();
            fill(&server, "in", codec, 8 << 20, gigabytes * 128);
            let cost = measure(compaction(&server, work.path(), 0));
            let mebibytes = cost.peak_bytes as f64 / f64::from(1 << 20);
            println!("| {gigabytes} GiB | {} | {mebibytes:.0} MiB |", codec.name());
        }
    }
}
