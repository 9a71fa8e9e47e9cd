//! Plans over a million keys: memory does not grow with the listing, and no step is repeated for each key.
//!
//! One test, because the peak of a process is one. The listing is made up page by page as it is asked for.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use compaction_operator::api::{
    Checkpoint, CompactionJob, DisposeStatus, FailedGroup, Limits, PlanStatus, PublishStatus,
};
use compaction_operator::engine::{
    Context, Fence, FenceError, Ledger, PlanInput, Window, Writer, make_plan, preview,
};
use compaction_operator::plan::{Builder, Entry, LeftOut, Numbered, Outline, SEGMENT_SOURCES, Shape, Source};
use compaction_operator::store::{
    Capabilities, Completion, Deleted, Error, ErrorKind, Head, Object, Page, Part, Put, Result, Store,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const FEW: u64 = 100_000;
const MANY: u64 = 1_000_000;
/// What ten times as many keys may cost. Bytes.
const GROWTH: u64 = 32 << 20;
const PARALLELISM: usize = 8;
const SMALL: u64 = 1000;
/// Two of them make an output.
const LARGE: u64 = 8 << 20;

/// How the keys lie in directories.
struct Tree {
    name: &'static str,
    /// Key number `i`; ascending. Of fixed length where `consumed` says so.
    key: fn(u64) -> String,
    /// Of every object. Bytes.
    size: u64,
    /// Groups and their sources that a plan has at a count of keys; the other keys are in groups of one.
    expected: fn(u64) -> (u64, u64),
    /// An earlier job has consumed every key.
    consumed: bool,
}

/// Pairs of digits of a number below a million.
fn digits(i: u64) -> (u64, u64, u64) {
    (i / 10_000, i / 100 % 100, i % 100)
}

static TREES: [Tree; 8] = [
    Tree {
        name: "one directory",
        key: |i| format!("in/{i:07}.json.gz"),
        size: SMALL,
        expected: |count| (1, count),
        consumed: false,
    },
    Tree {
        name: "directories in directories",
        key: |i| {
            let (a, b, c) = digits(i);
            format!("in/{a:02}/{b:02}/{c:02}")
        },
        size: SMALL,
        expected: |count| (count / 100, count),
        consumed: false,
    },
    Tree {
        // `in/00/00/00`, `in/00/00/01/x`, `in/00/00/01/y`, `in/00/00/03`, … `in/00/00z`, `in/00/01/00`, …
        name: "directories between objects on every level",
        key: |i| {
            let (a, b, c) = digits(i);
            match c {
                99 => format!("in/{a:02}/{b:02}z"),
                _ => match c % 3 {
                    0 => format!("in/{a:02}/{b:02}/{c:02}"),
                    1 => format!("in/{a:02}/{b:02}/{c:02}/x"),
                    _ => format!("in/{a:02}/{b:02}/{:02}/y", c - 1),
                },
            }
        },
        // `in/a/`, `in/a/b/` and `in/a/b/c/`.
        size: SMALL,
        expected: |count| (count / 10_000 + count / 100 + count / 100 * 33, count),
        consumed: false,
    },
    Tree {
        name: "paths as deep as a key can be",
        key: |i| format!("in/{}{i:07}", "d/".repeat(400 + (i / 100_000) as usize)),
        size: SMALL,
        expected: |count| (count / 100_000, count),
        consumed: false,
    },
    Tree {
        name: "large objects",
        key: |i| format!("in/{:03}/{:04}", i / 10_000, i % 10_000),
        size: LARGE,
        expected: |count| (count / 10_000, count),
        consumed: false,
    },
    Tree {
        name: "pairs",
        key: |i| format!("in/{:07}/{}", i / 2, i % 2),
        size: SMALL,
        expected: |count| (count / 2, count),
        consumed: false,
    },
    Tree {
        name: "each alone, so that none is taken",
        key: |i| format!("in/{i:07}/x"),
        size: SMALL,
        expected: |_| (0, 0),
        consumed: false,
    },
    Tree {
        name: "all consumed before",
        key: |i| format!("in/{i:07}"),
        size: SMALL,
        expected: |_| (0, 0),
        consumed: true,
    },
];

/// A store with this many keys and nothing else, which forgets what is put.
struct Fake {
    tree: &'static Tree,
    count: u64,
    lists: AtomicU64,
    /// Sources in the segments, and lines in the list of candidates.
    sources: AtomicU64,
    candidates: AtomicU64,
}

const MANIFESTS: &str = "out/_compaction/";
const CONSUMED: &str = "out/_compaction/earlier/consumed.jsonl";
const SUCCESS: &str = "out/_compaction/earlier/_SUCCESS";
const HEADER: &str = "{\"version\":1,\"sourcePrefix\":\"in/\"}\n";

impl Fake {
    fn new(tree: &'static Tree, count: u64) -> Arc<Self> {
        Arc::new(Self {
            tree,
            count,
            lists: AtomicU64::new(0),
            sources: AtomicU64::new(0),
            candidates: AtomicU64::new(0),
        })
    }

    /// The first key greater than `after`, by its number.
    fn number_after(&self, after: Option<&str>) -> u64 {
        let Some(after) = after else { return 0 };
        let (mut from, mut to) = (0, self.count);
        while from < to {
            let middle = u64::midpoint(from, to);
            if (self.tree.key)(middle).as_str() <= after {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// A line of what was consumed; all are as long as the first.
    fn line(&self, i: u64) -> String {
        format!("{{\"key\":\"{}\",\"etag\":\"\\\"e\\\"\"}}\n", (self.tree.key)(i))
    }

    fn consumed_size(&self) -> u64 {
        HEADER.len() as u64 + self.count * self.line(0).len() as u64
    }

    fn consumed(&self, range: Range<u64>) -> Bytes {
        let (header, line) = (HEADER.len() as u64, self.line(0).len() as u64);
        let first = range.start.saturating_sub(header) / line;
        let mut text = if range.start < header {
            HEADER.to_owned()
        } else {
            String::new()
        };
        let start = if range.start < header {
            0
        } else {
            header + first * line
        };
        for i in first..self.count.min(first + (range.end - range.start) / line + 2) {
            text += &self.line(i);
        }
        let text = Bytes::from(text);
        text.slice((range.start - start) as usize..(range.end - start) as usize)
    }

    fn count_lines(&self, key: &str, body: &[u8]) {
        let counter = if key.contains("/segment-") {
            let sources = memchr::memmem::find_iter(body, b"{\"key\":").count();
            self.sources.fetch_add(sources as u64, Ordering::Relaxed);
            return;
        } else if key.ends_with("candidates.jsonl") {
            &self.candidates
        } else {
            return;
        };
        let lines = memchr::memchr_iter(b'\n', body).count();
        counter.fetch_add(lines as u64, Ordering::Relaxed);
    }
}

fn object(key: String, size: u64) -> Object {
    Object {
        key,
        etag: "\"e\"".to_owned(),
        size,
        modified: 1_700_000_000,
        readable: true,
    }
}

#[async_trait]
impl Store for Fake {
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        if prefix != "in/" {
            let known = self.tree.consumed && prefix == MANIFESTS;
            let keys: &[&str] = if known { &[SUCCESS, CONSUMED] } else { &[] };
            let objects = keys.iter().map(|key| object((*key).to_owned(), 0)).collect();
            return Ok(Page { objects, more: false });
        }
        let first = self.number_after(after);
        let end = self.count.min(first + 1000);
        Ok(Page {
            objects: (first..end)
                .map(|i| object((self.tree.key)(i), self.tree.size))
                .collect(),
            more: end < self.count,
        })
    }

    async fn head(&self, key: &str) -> Result<Option<Head>> {
        Ok((key == CONSUMED).then(|| Head {
            etag: "\"c\"".to_owned(),
            size: self.consumed_size(),
            token: None,
        }))
    }

    async fn get(&self, _: &str, _: u64) -> Result<Option<Bytes>> {
        Ok(None)
    }

    async fn read(&self, key: &str, range: Range<u64>, _: &str) -> Result<Bytes> {
        if key == CONSUMED {
            return Ok(self.consumed(range));
        }
        Err(Error {
            operation: "GetObject",
            target: key.to_owned(),
            kind: ErrorKind::NotFound,
            detail: String::new(),
        })
    }

    async fn put(&self, key: &str, body: Bytes, _: Put<'_>) -> Result<String> {
        self.count_lines(key, &body);
        Ok("\"e\"".to_owned())
    }

    async fn create_upload(&self, _: &str, _: Put<'_>) -> Result<String> {
        Ok("upload".to_owned())
    }

    async fn upload_part(&self, key: &str, _: &str, _: u32, body: Bytes) -> Result<String> {
        self.count_lines(key, &body);
        Ok("\"p\"".to_owned())
    }

    async fn list_parts(&self, _: &str, _: &str) -> Result<Option<Vec<Part>>> {
        Ok(None)
    }

    async fn complete(&self, _: &str, _: &str, _: &[Part], _: u64) -> Completion {
        Completion::Done("\"e\"".to_owned())
    }

    async fn abort(&self, _: &str, _: &str) -> Result<()> {
        Ok(())
    }

    async fn list_uploads(&self, _: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn delete(&self, _: &[String]) -> Result<()> {
        Ok(())
    }

    async fn delete_if_match(&self, _: &str, _: &str) -> Result<Deleted> {
        Ok(Deleted::Missing)
    }

    async fn upload_days(&self, _: &[&str]) -> Result<Option<u32>> {
        Ok(None)
    }

    async fn time(&self, _: &str) -> Result<Option<i64>> {
        Ok(None)
    }

    async fn probe(&self, _: &[String; 2]) -> Result<Capabilities> {
        Ok(Capabilities::default())
    }

    fn with_capabilities(&self, _: Capabilities) -> Arc<dyn Store> {
        Self::new(self.tree, self.count)
    }
}

/// Agrees to everything.
struct Agreeable;

#[async_trait]
impl Fence for Agreeable {
    async fn look(&self) -> Result<(), FenceError> {
        Ok(())
    }
    async fn advance(&self, _: Checkpoint, _: i64) -> Result<(), FenceError> {
        Ok(())
    }
    async fn give_up(&self, _: Checkpoint, _: i64, _: FailedGroup) -> Result<(), FenceError> {
        Ok(())
    }
    async fn set_plan(&self, _: PlanStatus, _: Vec<i64>) -> Result<(), FenceError> {
        Ok(())
    }
    async fn set_publish(&self, _: PublishStatus) -> Result<(), FenceError> {
        Ok(())
    }
    async fn set_dispose(&self, _: DisposeStatus) -> Result<(), FenceError> {
        Ok(())
    }
    async fn show_progress(&self) -> Result<(), FenceError> {
        Ok(())
    }
}

fn job() -> CompactionJob {
    serde_json::from_value(json!({
        "apiVersion": "compaction.dev/v1alpha1",
        "kind": "CompactionJob",
        "metadata": {"name": "job", "namespace": "default", "uid": "this"},
        "spec": {
            "storage": {"s3": {"bucket": "bucket"}},
            "source": {"prefix": "in/"},
            "output": {"prefix": "out/", "targetObjectSize": "16Mi"},
            "parallelism": PARALLELISM,
        },
    }))
    .unwrap()
}

/// The peak of this process's resident memory so far. Bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The listing through the builder alone. `check`: also that the sources of a group follow each other and
/// are in key order, for which every directory and a key of every segment are kept.
fn build(tree: &Tree, count: u64, check: bool) -> Outline {
    let mut builder = Builder::new(Shape {
        min_sources_per_group: 2,
        segment_bytes: 2 * LARGE,
        target_bytes: 2 * LARGE,
        parallelism: PARALLELISM,
    });
    let mut full: Vec<Numbered> = Vec::new();
    let mut directories: Vec<Vec<u64>> = Vec::new();
    let mut sources = 0;
    let mut take_out = |full: &mut Vec<Numbered>| {
        for (number, segment) in full.drain(..) {
            assert_eq!(number as usize, directories.len());
            let mut of_segment = Vec::new();
            let (mut directory, mut last) = (String::new(), String::new());
            for entry in segment.entries {
                match entry {
                    Entry::Group {
                        directory: entered, ..
                    } => {
                        of_segment.extend(check.then(|| hash(&entered)));
                        (directory, last) = (entered, String::new());
                    }
                    Entry::Source(source) => {
                        let name = source
                            .key
                            .strip_prefix("in/")
                            .and_then(|key| key.strip_prefix(&directory));
                        assert!(
                            name.is_some_and(|name| !name.contains('/')),
                            "{} in {directory}",
                            source.key
                        );
                        assert!(last < source.key);
                        last = source.key;
                        sources += 1;
                    }
                }
            }
            directories.push(of_segment);
        }
    };
    for i in 0..count {
        let key = (tree.key)(i);
        let directory = key[3..=key.rfind('/').unwrap()].to_owned();
        let source = Source {
            key,
            etag: "\"e\"".to_owned(),
            size: tree.size,
        };
        builder.take(directory, source, &mut full);
        take_out(&mut full);
    }
    builder.finish(&mut full);
    take_out(&mut full);
    let outline = builder.outline(&std::collections::BTreeMap::new());
    assert_eq!(outline.totals.sources, sources);
    let in_order = outline
        .segments
        .iter()
        .flat_map(|segment| &directories[segment.number as usize]);
    let mut seen = BTreeSet::new();
    let mut last = None;
    for directory in in_order {
        assert!(
            last == Some(directory) || seen.insert(directory),
            "a group is in two places"
        );
        last = Some(directory);
    }
    outline
}

fn check_outline(tree: &Tree, count: u64, outline: &Outline) {
    let (groups, sources) = if tree.consumed {
        (1, count)
    } else {
        (tree.expected)(count)
    };
    let totals = outline.totals;
    assert_eq!(
        (totals.groups, totals.sources, totals.left_out),
        (groups, sources, count - sources)
    );
    assert_eq!(outline.dropped.len() as u64, count - sources);
    // Every segment is full but the last of a group that fills some, and the last of all. Large sources
    // fill more of them, but not one for every few sources: the list of segments is kept in memory.
    let full = sources / SEGMENT_SOURCES as u64;
    let most = 2 * full + 1 + if tree.size == SMALL { 0 } else { 8 * 4096 };
    assert!(
        outline.segments.len() as u64 <= most,
        "{} segments",
        outline.segments.len()
    );
    assert_eq!(outline.shards.len(), PARALLELISM.min(outline.segments.len()));
    for shard in &outline.shards {
        let even = sources / PARALLELISM as u64;
        assert!(
            shard.sources.abs_diff(even) <= 2 * SEGMENT_SOURCES as u64,
            "{} of {even}",
            shard.sources
        );
    }
}

async fn check_preview(tree: &'static Tree, count: u64, input: &PlanInput<'_>) {
    let fake = Fake::new(tree, count);
    let store: Arc<dyn Store> = fake.clone();
    let plan = preview(&store, input).await.unwrap();
    let (groups, sources) = (tree.expected)(count);
    assert_eq!((plan.totals.groups, plan.totals.sources), (groups, sources));
    assert_eq!(plan.totals.left_out, count - sources);
    let reason = if tree.consumed {
        LeftOut::Consumed
    } else {
        LeftOut::GroupTooSmall
    };
    let left_out = plan.left_out.get(&reason).map_or(0, |count| count.objects);
    assert_eq!(left_out, count - sources);
    // The pages, and one look for what was published.
    assert_eq!(fake.lists.load(Ordering::Relaxed), count / 1000 + 1);
}

async fn check_plan(tree: &'static Tree, count: u64, input: &PlanInput<'_>) {
    let fake = Fake::new(tree, count);
    let store: Arc<dyn Store> = fake.clone();
    let writer = Writer {
        shard: 0,
        epoch: 1,
        holder: "holder".to_owned(),
    };
    let context = Context {
        store: Arc::clone(&store),
        ledger: Ledger::new(store, "_compaction/", "cluster", "this", writer),
        fence: Arc::new(Agreeable),
        window: Window {
            bytes: Window::DEFAULT_BYTES,
            uploads: 4,
            reads: 64,
            read_bytes: Window::READ_BYTES,
        },
        stop: CancellationToken::new(),
    };
    let planned = make_plan(&context, input).await.unwrap();
    let (_, sources) = (tree.expected)(count);
    assert_eq!(planned.status.source_objects as u64, sources);
    assert_eq!(fake.sources.load(Ordering::Relaxed), sources);
    if sources > 0 {
        assert_eq!(fake.candidates.load(Ordering::Relaxed), count);
        assert_eq!(fake.lists.load(Ordering::Relaxed), count / 1000 + 1);
    } else {
        // Clean-up of what turned out to be no plan.
        assert!(fake.lists.load(Ordering::Relaxed) <= count / 1000 + 4);
    }
}

#[tokio::test]
async fn ten_times_as_many_keys_cost_ten_times_the_requests_and_no_more_memory() {
    let job = job();
    let input = PlanInput {
        job: &job,
        limits: Limits::of(&job.spec).unwrap(),
        now: 1_800_000_000,
    };
    let mut before = 0;
    for count in [FEW, MANY] {
        for tree in &TREES {
            println!("{count}, {}", tree.name);
            check_outline(tree, count, &build(tree, count, count == FEW));
            check_preview(tree, count, &input).await;
            check_plan(tree, count, &input).await;
            let growth = peak() - before;
            println!("  peak {} KiB", peak() >> 10);
            assert!(
                count == FEW || growth < GROWTH,
                "{}: {growth} bytes more",
                tree.name
            );
        }
        before = peak();
    }
}
