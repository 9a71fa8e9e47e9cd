//! A `run` of the program with its workers: what it logs, how far it is, and the memory it takes.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use compaction_operator::api::{CompactionJob, condition, conditions};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::common::goals::Memory;

const LOOK: Duration = Duration::from_millis(10);

pub struct Run {
    child: Child,
    state: PathBuf,
    log: Arc<Mutex<Vec<(Instant, Value)>>>,
    reading: Vec<JoinHandle<String>>,
    pub memory: Memory,
}

/// How far a job is: a plan, sequences, a publication, an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(bool, Vec<i64>, Option<bool>, Option<bool>);

impl Run {
    pub fn start(mut command: Command, state: PathBuf) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (mut stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let log = Arc::<Mutex<Vec<_>>>::default();
        let lines = Arc::clone(&log);
        let logged = tokio::spawn(async move {
            let mut rest = String::new();
            let mut stderr = BufReader::new(stderr).lines();
            while let Some(line) = stderr.next_line().await.unwrap() {
                match serde_json::from_str(&line) {
                    Ok(event) => lines.lock().unwrap().push((Instant::now(), event)),
                    Err(_) => rest.push_str(&line),
                }
            }
            rest
        });
        let said = tokio::spawn(async move {
            let mut said = String::new();
            stdout.read_to_string(&mut said).await.unwrap();
            said
        });
        let memory = Memory::watch(child.id().unwrap());
        Self {
            child,
            state,
            log,
            reading: vec![said, logged],
            memory,
        }
    }

    /// The job as it stands.
    pub fn job(&self) -> Option<CompactionJob> {
        read_job(&self.state)
    }

    pub fn mark(&self) -> Mark {
        let status = self.job().and_then(|job| job.status).unwrap_or_default();
        Mark(
            status.plan.is_some(),
            status
                .shards
                .iter()
                .map(|shard| shard.checkpoint.sequence)
                .collect(),
            status.publish.map(|publish| publish.announced),
            status.dispose.map(|dispose| dispose.finished),
        )
    }

    /// Waits until something is durable that was not at `mark`, or the run ends.
    pub async fn goes_on(&mut self, mark: &Mark) {
        while self.mark() == *mark && !self.has_ended() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a worker has noticed what began at `since`, by an attempt that failed in one of these ways.
    pub async fn knows(&mut self, since: Instant, kinds: &[&str]) -> Result<Instant, String> {
        loop {
            let noticed = self
                .log
                .lock()
                .unwrap()
                .iter()
                .find_map(|(at, event)| (*at >= since && is_trouble(event, kinds)).then_some(*at));
            if let Some(noticed) = noticed {
                return Ok(noticed);
            }
            if self.has_ended() {
                return Err(format!(
                    "the run ended before its worker noticed any of {kinds:?}"
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the status says that the store is not there, or until the end of a job that got on all the same:
    /// a connection was left, or the clock was put right.
    pub async fn waits(&mut self) {
        loop {
            let status = self.job().and_then(|job| job.status).unwrap_or_default();
            let store = condition(&status.conditions, conditions::STORAGE_ACCESSIBLE);
            if store.is_some_and(|store| store.status == "False") || self.has_ended() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end: how it ended, and all that it said.
    pub async fn end(&mut self) -> (ExitStatus, String) {
        let status = self.child.wait().await.unwrap();
        let mut said = String::new();
        for reading in self.reading.drain(..) {
            said.push_str(&reading.await.unwrap());
        }
        (status, said)
    }

    /// The last lines of the log, for whoever has to find out.
    pub fn last_words(&self) -> String {
        let log = self.log.lock().unwrap();
        let last = log.iter().rev().take(40).rev();
        let events: Vec<String> = last.map(|(_, event)| event.to_string()).collect();
        format!("\n    {}", events.join("\n    "))
    }
}

pub fn read_job(state: &Path) -> Option<CompactionJob> {
    let state = std::fs::read(state).ok()?;
    Some(serde_json::from_slice(&state).unwrap())
}

fn is_trouble(event: &Value, kinds: &[&str]) -> bool {
    let fields = &event["fields"];
    match fields["message"].as_str() {
        Some("attempt failed") => kinds.contains(&fields["kind"].as_str().unwrap_or_default()),
        // Where the batch has a shorter deadline than the request.
        Some("the batch in hand is dropped") => kinds.contains(&"Timeout"),
        _ => false,
    }
}
