//! Two goals that hold whatever goes wrong: bounded memory, and no work done again but what follows the last
//! acknowledged checkpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::program::children;

/// `--window`, in bytes: little more than the least for parts of 5 MiB, so that the limit is soon reached.
pub const WINDOW: u64 = 36 << 20;
/// What a worker may have in memory: its window, and what the program takes beside it.
pub const MOST_MEMORY: u64 = WINDOW + (64 << 20);

const LOOK: Duration = Duration::from_millis(10);

/// Watches the memory of the workers of a `run`.
pub struct Memory {
    highest: Arc<AtomicU64>,
    watching: JoinHandle<()>,
}

impl Memory {
    pub fn watch(run: u32) -> Self {
        let highest = Arc::<AtomicU64>::default();
        let watching = tokio::spawn(watch(run, Arc::clone(&highest)));
        Self { highest, watching }
    }

    /// The most that a worker had. Bytes.
    pub fn peak(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }

    pub fn check(&self) -> Result<(), String> {
        let peak = self.peak();
        let problem = || format!("a worker had {peak} bytes in memory, of {MOST_MEMORY} at most");
        (1..=MOST_MEMORY)
            .contains(&peak)
            .then_some(())
            .ok_or_else(problem)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// The kernel keeps the highest value of each process until its end.
async fn watch(run: u32, highest: Arc<AtomicU64>) {
    loop {
        for worker in children(run) {
            let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap_or_default();
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            highest.fetch_max(kib.unwrap_or_default() << 10, Ordering::Relaxed);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What a job of one shard reads of its sources, beside what its checkpoint says.
#[derive(Debug, Clone)]
pub struct Reads {
    /// Bytes before each source, in the order in which they are merged.
    before: BTreeMap<String, u64>,
    state: PathBuf,
    needless: Vec<String>,
}

impl Reads {
    pub fn new(sources: &[(String, Bytes)], state: PathBuf) -> Self {
        let mut end = 0;
        let before = sources.iter().map(|(key, bytes)| {
            let begin = end;
            end += bytes.len() as u64;
            (key.clone(), begin)
        });
        Self {
            before: before.collect(),
            state,
            needless: Vec::new(),
        }
    }

    /// Takes down that a source is read up to this byte.
    pub fn take(&mut self, key: &str, last: u64) {
        let Some(before) = self.before.get(key) else {
            return;
        };
        let done = self.bytes_in_checkpoint();
        if before + last < done {
            self.needless.push(format!(
                "{key} up to {last} was read when {done} bytes were in a checkpoint"
            ));
        }
    }

    fn bytes_in_checkpoint(&self) -> u64 {
        let state = std::fs::read(&self.state).unwrap_or_default();
        let job: Value = serde_json::from_slice(&state).unwrap_or_default();
        let bytes = &job["status"]["shards"][0]["checkpoint"]["bytesRead"];
        bytes.as_u64().unwrap_or_default()
    }

    /// Whether nothing was read again but what follows the last acknowledged checkpoint.
    pub fn check(&self) -> Result<(), String> {
        let needless = || self.needless.join("\n    ");
        self.needless.is_empty().then_some(()).ok_or_else(needless)
    }
}
