//! Compaction beside a plain concurrent copy with the same client, on the same server, in one run; and
//! the memory of a worker at 1 GiB and 8 GiB of input. Prints the tables of `docs/performance.md`.
//!
//! `cargo bench --bench compaction` (or `make bench`) runs all of it; `-- speed` or `-- memory` a half,
//! `-- speed minio none` one server and one compression. Server, copy and compaction are processes of
//! their own, so that CPU time is told apart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Embedded, Endpoint, Minio};
use compaction_operator::store::{AccessKeys, CredentialsFrom, Object, Put, S3, Settings, Store};
use futures::{StreamExt, TryStreamExt, stream};

const PAIRS: usize = 3;
const COPY_CONCURRENCY: usize = 64;

const BUCKET: &str = "bench";
const SERVERS: [Kind; 2] = [Kind::Minio, Kind::Embedded];
const CODECS: [Codec; 3] = [Codec::None, Codec::Gzip, Codec::Zstd];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", dir] => block_on(serve(Path::new(dir))),
        ["copy", from, to] => block_on(copy(from, to)),
        ["speed", server, codec] => {
            let server = SERVERS.into_iter().filter(|kind| kind.name() == server);
            let codec: Vec<Codec> = CODECS.into_iter().filter(|kind| kind.name() == codec).collect();
            speed(server, &codec);
        }
        ["speed"] => speed(SERVERS, &CODECS),
        ["memory"] => memory(),
        _ => {
            speed(SERVERS, &CODECS);
            memory();
        }
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

/// Until standard input closes.
async fn serve(dir: &Path) {
    let (endpoint, _server) = Embedded::serve(dir).await;
    println!(
        "{}\n{}\n{}",
        endpoint.url, endpoint.access_key, endpoint.secret_key
    );
    tokio::task::spawn_blocking(|| std::io::stdin().lines().count())
        .await
        .unwrap();
}

async fn store(endpoint: &Endpoint) -> Arc<dyn Store> {
    let mut settings = Settings::new(BUCKET);
    settings.endpoint = Some(endpoint.url.clone());
    settings.credentials = CredentialsFrom::Keys(AccessKeys {
        access_key: endpoint.access_key.clone(),
        secret_key: endpoint.secret_key.clone(),
    });
    Arc::new(S3::new(&settings).await.unwrap())
}

async fn list(store: &dyn Store, prefix: &str) -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    loop {
        let after = objects.last().map(|object| object.key.clone());
        let page = store.list(prefix, after.as_deref()).await.unwrap();
        objects.extend(page.objects);
        if !page.more {
            return objects;
        }
    }
}

async fn copy(from: &str, to: &str) {
    let variable = |name| std::env::var(name).unwrap();
    let endpoint = Endpoint {
        url: variable("BENCH_ENDPOINT"),
        access_key: variable("AWS_ACCESS_KEY_ID"),
        secret_key: variable("AWS_SECRET_ACCESS_KEY"),
    };
    let store = store(&endpoint).await;
    let objects = list(&*store, from).await;
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

#[derive(Clone, Copy)]
enum Kind {
    Minio,
    Embedded,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Minio => "minio",
            Self::Embedded => "embedded",
        }
    }
}

/// A server with an empty bucket.
struct Server {
    endpoint: Endpoint,
    /// Ends it.
    _process: Box<dyn std::any::Any>,
}

impl Server {
    fn start(kind: Kind) -> Self {
        let server = match kind {
            Kind::Minio => {
                let minio = Minio::start();
                Self {
                    endpoint: minio.endpoint.clone(),
                    _process: Box::new(minio),
                }
            }
            Kind::Embedded => EmbeddedProcess::start(),
        };
        let client = server.endpoint.client();
        block_on(client.create_bucket().bucket(BUCKET).send()).unwrap();
        server
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("AWS_ACCESS_KEY_ID", &self.endpoint.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.endpoint.secret_key)
            .env("BENCH_ENDPOINT", &self.endpoint.url)
            .stderr(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn clear(&self, prefix: &str) {
        block_on(async {
            let store = store(&self.endpoint).await;
            let keys: Vec<String> = list(&*store, prefix).await.into_iter().map(|o| o.key).collect();
            for keys in keys.chunks(1000) {
                store.delete(keys).await.unwrap();
            }
        });
    }
}

/// The embedded server in a process of its own.
struct EmbeddedProcess {
    _directory: tempfile::TempDir,
    child: Child,
    _input: ChildStdin,
}

impl EmbeddedProcess {
    fn start() -> Server {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", directory.path().to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let endpoint = Endpoint {
            url: line(),
            access_key: line(),
            secret_key: line(),
        };
        let process = Self {
            _directory: directory,
            child,
            _input: input,
        };
        Server {
            endpoint,
            _process: Box::new(process),
        }
    }
}

impl Drop for EmbeddedProcess {
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
    let contents: Vec<Bytes> = (0..8).map(|_| codec.source(size, &mut rng).into()).collect();
    let content = |number: usize| contents[number % contents.len()].clone();
    block_on(async {
        let store = store(&server.endpoint).await;
        stream::iter(0..count)
            .map(|number| {
                let (store, content) = (&store, content(number));
                async move {
                    let key = format!("{prefix}/{number:07}.json");
                    store.put(&key, content, Put::default()).await.unwrap();
                }
            })
            .buffer_unordered(16)
            .collect::<()>()
            .await;
    });
    (0..count).map(|number| content(number).len() as u64).sum()
}

fn compaction(server: &Server, directory: &Path, number: usize) -> Command {
    let manifest = directory.join(format!("job-{number}.yaml"));
    let endpoint = &server.endpoint.url;
    let text = format!(
        "apiVersion: compaction.dev/v1alpha1\nkind: CompactionJob\nmetadata: {{name: bench}}\nspec:\n  \
         storage: {{s3: {{bucket: {BUCKET}, endpoint: \"{endpoint}\"}}}}\n  \
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

fn speed(servers: impl IntoIterator<Item = Kind>, codecs: &[Codec]) {
    println!(
        "| server | objects | compression | copy MB/s | compaction MB/s | speed ratio | copy CPU s/GB | compaction CPU s/GB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let cases = [(8_000_000, 128), (100_000, 5_000), (10_000, 20_000)];
    let kinds = servers
        .into_iter()
        .flat_map(|kind| codecs.iter().map(move |codec| (kind, *codec)));
    for (kind, codec) in kinds {
        for (size, count) in cases {
            let server = Server::start(kind);
            let work = tempfile::tempdir().unwrap();
            let gigabytes = fill(&server, "in", codec, size, count) as f64 / 1e9;
            let mut pairs = Vec::new();
            for number in 0..=PAIRS {
                let mut command = server.command(&std::env::current_exe().unwrap());
                command.args(["copy", "in/", &format!("copy{number}/")]);
                let copied = measure(command);
                server.clear(&format!("copy{number}/"));
                let compacted = measure(compaction(&server, work.path(), number));
                server.clear(&format!("out{number}/"));
                // The first pair warms the page cache.
                if number > 0 {
                    pairs.push((copied, compacted));
                }
            }
            let of = |f: &dyn Fn(&(Cost, Cost)) -> f64| median(pairs.iter().map(f).collect());
            println!(
                "| {} | {count} x {} | {} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} |",
                kind.name(),
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
    for codec in CODECS {
        for gigabytes in [1_usize, 8] {
            let server = Server::start(Kind::Embedded);
            let work = tempfile::tempdir().unwrap();
            fill(&server, "in", codec, 8 << 20, gigabytes * 128);
            let cost = measure(compaction(&server, work.path(), 0));
            let mebibytes = cost.peak_bytes as f64 / f64::from(1 << 20);
            println!("| {gigabytes} GiB | {} | {mebibytes:.0} MiB |", codec.name());
        }
    }
}
