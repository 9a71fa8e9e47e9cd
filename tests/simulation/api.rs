//! An API server in memory: JSON Patch with tests, the CRD's transition rules, and lost answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use compaction_operator::api::CompactionJob;
use compaction_operator::worker::{ApiError, JobApi};
use json_patch::Patch;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::store::requests::Requests;

struct State {
    job: Value,
    /// Older versions, for watchers that lag behind.
    history: Vec<Value>,
    rng: fastrand::Rng,
    calm: bool,
    away: bool,
    /// Whose pointer moved to another body, and when.
    moves: Vec<(String, Instant)>,
}

#[derive(Clone)]
pub struct MemoryApi(Arc<Mutex<State>>);

impl MemoryApi {
    pub fn new(seed: u64, job: &CompactionJob) -> Self {
        let mut job = serde_json::to_value(job).unwrap();
        job["metadata"]["resourceVersion"] = json!("1");
        let rng = fastrand::Rng::with_seed(seed);
        let state = State {
            history: vec![job.clone()],
            job,
            rng,
            calm: false,
            away: false,
            moves: Vec::new(),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    pub fn calm(&self) {
        let mut state = self.0.lock().unwrap();
        (state.calm, state.away) = (true, false);
    }

    pub fn set_away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }

    /// The truth.
    pub fn job(&self) -> CompactionJob {
        serde_json::from_value(self.0.lock().unwrap().job.clone()).unwrap()
    }

    pub fn moves(&self) -> Vec<(String, Instant)> {
        self.0.lock().unwrap().moves.clone()
    }

    /// What a watcher sees that is `behind` versions late.
    pub fn stale(&self, behind: usize) -> CompactionJob {
        let state = self.0.lock().unwrap();
        let index = state.history.len().saturating_sub(1 + behind);
        serde_json::from_value(state.history[index].clone()).unwrap()
    }

    /// Deletes the job and creates it anew.
    pub fn replace(&self, job: &CompactionJob) {
        let mut state = self.0.lock().unwrap();
        state.accept(serde_json::to_value(job).unwrap());
        // Watchers see the deletion.
        state.history.clear();
        let job = state.job.clone();
        state.history.push(job);
        state.calm = false;
    }

    /// A change that no fence guards, as by a user or a test.
    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut state = self.0.lock().unwrap();
        let mut job = state.job.clone();
        change(&mut job);
        state.accept(job);
    }

    async fn request<T>(
        &self,
        effect: impl FnOnce(&mut State) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let (there, back, error, lost) = {
            let mut state = self.0.lock().unwrap();
            let error = state.away || (!state.calm && state.rng.u32(..1000) < 15);
            let lost = !state.calm && state.rng.u32(..1000) < 15;
            (state.rng.u64(1..40), state.rng.u64(1..40), error, lost)
        };
        tokio::time::sleep(Duration::from_millis(there)).await;
        if error {
            return Err(ApiError::Unknown("simulated".to_owned()));
        }
        let outcome = effect(&mut self.0.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(back)).await;
        if lost {
            Err(ApiError::Unknown("simulated lost answer".to_owned()))
        } else {
            outcome
        }
    }
}

impl State {
    fn accept(&mut self, mut job: Value) {
        let version: u64 = self.job["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        job["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        self.job = job.clone();
        self.history.push(job);
    }

    fn patch(&mut self, patch: &Patch) -> Result<(), ApiError> {
        let mut job = self.job.clone();
        if let Err(error) = json_patch::patch(&mut job, patch) {
            return Err(ApiError::Refused(error.to_string()));
        }
        // The rules of the CRD.
        let before = self.job["status"]["shards"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        for (old, new) in before
            .iter()
            .zip(job["status"]["shards"].as_array().into_iter().flatten())
        {
            let falls = |path: &str| {
                new.pointer(path).and_then(Value::as_i64) < old.pointer(path).and_then(Value::as_i64)
            };
            if falls("/epoch") || falls("/checkpoint/sequence") {
                return Err(ApiError::Refused("a number falls".to_owned()));
            }
            if new.pointer("/checkpoint/body") != old.pointer("/checkpoint/body") {
                let holder = new["holder"].as_str().unwrap_or_default().to_owned();
                self.moves.push((holder, Instant::now()));
            }
        }
        self.accept(job);
        Ok(())
    }
}

#[async_trait]
impl JobApi for MemoryApi {
    async fn get(&self) -> Result<CompactionJob, ApiError> {
        self.request(|state| Ok(serde_json::from_value(state.job.clone()).unwrap()))
            .await
    }

    async fn patch_status(&self, patch: &Patch) -> Result<CompactionJob, ApiError> {
        self.request(|state| {
            state.patch(patch)?;
            Ok(serde_json::from_value(state.job.clone()).unwrap())
        })
        .await
    }
}

/// The API server as workers reach it.
pub struct WorkersApi {
    pub api: MemoryApi,
    pub requests: Requests,
}

#[async_trait]
impl JobApi for WorkersApi {
    async fn get(&self) -> Result<CompactionJob, ApiError> {
        let number = self.requests.arrive().await;
        let answer = self.api.get().await;
        self.requests.answer(number).await;
        answer
    }

    async fn patch_status(&self, patch: &Patch) -> Result<CompactionJob, ApiError> {
        let number = self.requests.arrive().await;
        let answer = self.api.patch_status(patch).await;
        self.requests.answer(number).await;
        answer
    }
}
