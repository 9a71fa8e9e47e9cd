//! Runs a job in a world where things go wrong: workers are killed between any two requests or go on
//! though nobody counts on them any more, wait before they start, are evicted or cannot be made, answers are
//! lost, views are stale, controllers restart.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use compaction_operator::api::{CompactionJob, CompactionJobStatus, condition, conditions};
use compaction_operator::controller::{Observed, Watch, WorkerEnd, WorkerState, WorkerView, decide};
use compaction_operator::engine::Window;
use compaction_operator::worker::{self, End, Identity, JobApi, Start};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::api::{MemoryApi, WorkersApi};
use crate::scenario::tiny;
use crate::store::MemoryStore;
use crate::store::requests::Requests;

/// A job must end within this, or something hangs.
const PATIENCE: Duration = Duration::from_hours(4);

pub struct World {
    pub store: MemoryStore,
    pub api: MemoryApi,
    pub rng: fastrand::Rng,
    pub faults: u32,
    /// Another job over the same objects.
    pub rival: Option<MemoryApi>,
    /// Workers that were started; the harness knows of all, the controller only of those it can see.
    pub workers: Vec<Worker>,
    began: Instant,
    pub kills: u32,
    /// At every batch in a third of the worlds.
    pub pointer_interval: fn(i32) -> Duration,
    pub requests: Requests,
}

pub struct Worker {
    shard: i32,
    epoch: i64,
    seen: bool,
    handle: JoinHandle<()>,
    end: Arc<Mutex<Option<End>>>,
    stop: CancellationToken,
    killed: bool,
    /// Its container runs.
    started: Arc<AtomicBool>,
    /// It was killed through nobody's fault: why.
    lost: Option<&'static str>,
    joined: bool,
}

fn status(job: &CompactionJob) -> CompactionJobStatus {
    job.status.clone().unwrap_or_default()
}

fn ended(status: &CompactionJobStatus) -> bool {
    let stalled = condition(&status.conditions, conditions::STALLED);
    status.completion_time.is_some() || stalled.is_some_and(|condition| condition.status == "True")
}

impl World {
    pub fn new(store: MemoryStore, api: MemoryApi, seed: u64, faults: u32) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self {
            store,
            api,
            rng,
            faults,
            rival: None,
            workers: Vec::new(),
            began: Instant::now(),
            kills: 0,
            pointer_interval: match seed % 3 {
                0 => worker::at_every_batch,
                1 => worker::pointer_interval,
                _ => |_| Duration::from_secs(7),
            },
            requests: Requests::default(),
        }
    }

    fn now(&self) -> jiff::Timestamp {
        let begin = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        begin + jiff::SignedDuration::try_from(self.began.elapsed()).unwrap()
    }

    /// Runs until the job is finished or failed, or, with `stop_early`, until all faults have happened.
    pub async fn run(&mut self, stop_early: bool) {
        let faults_left = !stop_early;
        self.run_while(|job, faults| !ended(&status(job)) && (faults_left || faults > 0))
            .await;
    }

    pub async fn run_until(&mut self, reached: impl Fn(&CompactionJobStatus) -> bool) {
        self.run_while(|job, _| !reached(&status(job)) && !ended(&status(job)))
            .await;
    }

    /// Deletes the job, and runs until nothing keeps it.
    pub async fn delete(&mut self) {
        let now = self.now().to_string();
        self.api
            .edit(|job| job["metadata"]["deletionTimestamp"] = now.into());
        self.run_while(|job, _| job.has_finalizer()).await;
    }

    async fn run_while(&mut self, more: impl Fn(&CompactionJob, u32) -> bool) {
        let mut memory = Watch::default();
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.requests.take_kill() {
                self.kills += 1;
                self.workers.iter_mut().for_each(Worker::kill);
            }
            if !more(&self.api.job(), self.faults) {
                return;
            }
            self.one_round(&mut memory).await;
            self.disturb(&mut memory);
            let pause = self.rng.u64(20..600);
            sleep(Duration::from_millis(pause)).await;
        }
        panic!("the job hangs: {:#?}", self.api.job().status);
    }

    async fn one_round(&mut self, memory: &mut Watch) {
        let behind = if self.faults > 0 && self.rng.u32(..4) == 0 {
            self.rng.usize(1..4)
        } else {
            0
        };
        let job = self.api.stale(behind);
        let others: Vec<_> = self.rival.iter().map(MemoryApi::job).collect();
        let workers: Vec<WorkerView> = self.workers.iter().filter(|w| w.seen).map(Worker::view).collect();
        let unchanged = memory.look(job.status.as_ref(), &workers);
        let observed = Observed {
            job: &job,
            workers: &workers,
            others: &others,
            unchanged: &unchanged,
            now: self.now(),
        };
        let decision = decide(&observed).unwrap();
        if !decision.patch.0.is_empty() && self.api.patch_status(&decision.patch).await.is_err() {
            return;
        }
        // A change of the finalizers tests the version that was seen.
        if let Some(change) = decision.finalizer.filter(|_| behind == 0) {
            let mut finalizers = job.metadata.finalizers.clone().unwrap_or_default();
            change.apply(&mut finalizers);
            self.api
                .edit(|job| job["metadata"]["finalizers"] = finalizers.into());
        }
        for (shard, epoch) in decision.stop {
            for worker in self
                .workers
                .iter_mut()
                .filter(|w| w.shard == shard && w.epoch == epoch)
            {
                if self.rng.bool() {
                    worker.stop.cancel();
                } else {
                    worker.kill();
                }
            }
        }
        for (shard, epoch) in decision.start {
            // A controller may die between the patch and the start.
            if self.faults > 0 && self.rng.u32(..12) == 0 {
                self.faults -= 1;
                *memory = Watch::default();
                continue;
            }
            self.start(shard, epoch);
        }
    }

    fn start(&mut self, shard: i32, epoch: i64) {
        let holder = format!("h{}", self.workers.len());
        let job_uid = self.api.job().metadata.uid.unwrap();
        let stop = CancellationToken::new();
        let end = Arc::new(Mutex::new(None));
        let part_bytes = self.api.job().spec.upload.part_size.bytes().unwrap();
        let read_bytes = self.rng.u64(10..120);
        let start = Start {
            identity: Identity {
                job_uid,
                shard,
                epoch,
                holder,
            },
            api: Arc::new(WorkersApi {
                api: self.api.clone(),
                requests: self.requests.clone(),
            }),
            store: Arc::new(self.store.clone()),
            cluster: "sim".to_owned(),
            // Little more than what one step needs: reads, parts and small outputs wait for each other's room.
            window_bytes: Window::least(part_bytes, read_bytes) + self.rng.u64(..1500),
            read_bytes,
            stop: stop.clone(),
            pointer_interval: self.pointer_interval,
            now: || 1_800_000_000,
            limits: tiny,
        };
        let slot = Arc::clone(&end);
        let mishap = if self.faults > 0 { self.rng.u32(..24) } else { 24 };
        let pause = Duration::from_millis(if mishap < 4 { self.rng.u64(0..90_000) } else { 0 });
        let started = Arc::new(AtomicBool::new(pause.is_zero()));
        let starting = Arc::clone(&started);
        let handle = tokio::spawn(async move {
            sleep(pause).await;
            starting.store(true, Ordering::Relaxed);
            let ended = worker::run(start).await;
            *slot.lock().unwrap() = Some(ended);
        });
        self.workers.push(Worker {
            shard,
            epoch,
            seen: true,
            handle,
            end,
            stop,
            killed: false,
            started,
            lost: None,
            joined: false,
        });
        if let (4 | 5, Some(worker)) = (mishap, self.workers.last_mut()) {
            worker.lose("it cannot be made: quota");
        }
    }

    fn disturb(&mut self, memory: &mut Watch) {
        if self.faults == 0 {
            self.store.calm();
            self.api.calm();
            return;
        }
        let running: Vec<usize> = (0..self.workers.len())
            .filter(|i| self.workers[*i].seen && self.workers[*i].runs())
            .collect();
        let victim = self.rng.choice(running);
        self.faults -= 1;
        match (self.rng.u32(..14), victim) {
            (0..=2, Some(victim)) => {
                self.kills += 1;
                self.workers[victim].kill();
            }
            (3 | 4, Some(victim)) => self.workers[victim].lose("evicted"),
            (5, Some(victim)) => self.workers[victim].stop.cancel(),
            // Force-deleted: the controller sees it no more, but it goes on.
            (6 | 7, Some(victim)) => self.workers[victim].seen = false,
            (8, _) => self.store.set_away(true),
            (9 | 10, _) => self.store.set_away(false),
            (11, _) => self.api.set_away(self.rng.bool()),
            (12, _) => *memory = Watch::default(),
            (13, _) => self.swap_encoder(),
            _ => {}
        }
    }

    /// As if the open outputs had been begun by a worker of another version. None may run.
    pub fn swap_encoder(&self) {
        use sha2::{Digest, Sha256};
        if self.workers.iter().any(Worker::runs) {
            return;
        }
        let job = self.api.job();
        let uid = job.metadata.uid.clone().unwrap();
        for (index, shard) in job.status.unwrap_or_default().shards.iter().enumerate() {
            let key = format!("{}sim/{uid}/{}", crate::scenario::STATE, shard.checkpoint.body);
            let Some(stored) = self.store.objects().get(&key).cloned() else {
                continue;
            };
            let mut body: serde_json::Value = serde_json::from_slice(&stored.bytes).unwrap();
            if body["open"].is_null() {
                continue;
            }
            body["open"]["encoder"] = "gzip/0/older".into();
            let bytes = serde_json::to_vec(&body).unwrap();
            let sha256 = hex::encode(Sha256::digest(&bytes));
            self.store.tamper(&key, bytes);
            self.api
                .edit(|job| job["status"]["shards"][index]["checkpoint"]["sha256"] = sha256.clone().into());
        }
    }

    /// They go on, but their job is gone.
    pub fn forget_workers(&mut self) {
        for worker in &mut self.workers {
            worker.seen = false;
        }
    }

    /// Waits for the workers that nobody counts on any more.
    pub async fn let_late_workers_end(&mut self) {
        for worker in self.workers.iter_mut().filter(|worker| !worker.joined) {
            let _ = (&mut worker.handle).await;
            worker.joined = true;
        }
    }
}

impl Worker {
    /// The controller knew of it to the end, so that nothing it did came after the clean-up.
    pub fn was_seen_to_end(&self) -> bool {
        self.seen
    }

    fn runs(&self) -> bool {
        !self.killed && self.end.lock().unwrap().is_none()
    }

    /// Between any two steps; what is on its way to the store may still arrive or not.
    pub fn kill(&mut self) {
        if self.runs() {
            self.killed = true;
            self.handle.abort();
        }
    }

    fn lose(&mut self, why: &'static str) {
        if self.runs() {
            self.lost = Some(why);
            self.kill();
        }
    }

    fn view(&self) -> WorkerView {
        let end = self.end.lock().unwrap().clone();
        let state = match end {
            Some(end) => WorkerState::Ended(WorkerEnd {
                code: Some(end.code),
                reason: end.reason,
                message: end.message,
            }),
            None if let Some(why) = self.lost => WorkerState::Lost(why.to_owned()),
            None if self.killed => WorkerState::Ended(WorkerEnd {
                code: None,
                reason: "Killed".to_owned(),
                message: "killed".to_owned(),
            }),
            None if self.started.load(Ordering::Relaxed) => WorkerState::Running,
            None => WorkerState::Waiting("its image is pulled".to_owned()),
        };
        WorkerView {
            shard: self.shard,
            epoch: self.epoch,
            state,
        }
    }
}
