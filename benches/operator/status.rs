//! The largest status there can be: 100,000 batches in 64 shards, with all that can go wrong. Pods and status
//! are the controller's own; claims, plan and checkpoints go through the workers' fence. No store and no
//! bytes: what stands in a status is a count of them.
//!
//! Not every checkpoint is made, but one at each batch at which a number becomes longer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use compaction_operator::api::{Checkpoint, CompactionJob, DisposeStatus, PlanStatus, PublishStatus, exit};
use compaction_operator::engine::Fence;
use compaction_operator::worker::{ApiServer, End, Identity, ShardFence};
use futures::{TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::controller::Controller;
use crate::goal;
use crate::kubelet::{Kubelet, Run};
use crate::workload::{self, NAMESPACE};

const SHARDS: i32 = 64;
const BATCHES: i64 = 100_000;
/// Batches of a shard.
const TOTAL: i64 = BATCHES / SHARDS as i64 + 1;
const AT_A_TIME: usize = 4;
const BATCH_BYTES: i64 = 256 << 20;
const GOAL_BYTES: usize = 64 << 10;
/// As many characters as a status takes of a failure.
const MESSAGE_CHARS: usize = 512;
/// Failures that a status keeps.
const FAILURES: usize = 16;
/// A look between two steps.
const ON_THE_WAY: &str = "between two of these steps";
const LOOK: Duration = Duration::from_millis(100);
/// What messages are made of, which differ in their bytes a character in JSON; and the batches of each shard at
/// which checkpoints are made, before all workers fail and after that.
const TEXTS: [(&str, char, &[i64], &[i64]); 3] = [
    ("messages of ASCII", 'a', &[1, 10, 100], &[1000, TOTAL - 1]),
    ("messages of three bytes a character", '語', &[], &[TOTAL - 1]),
    (
        "messages that JSON escapes, six bytes a character",
        '<',
        &[],
        &[TOTAL - 1],
    ),
];

pub async fn measure() {
    println!("## The status of a job of {BATCHES} batches and {SHARDS} shards\n");
    for (text, character, before, after) in TEXTS {
        let cluster = Cluster::up().await;
        let greatest = Box::pin(run(&cluster, character, [before, after])).await;
        println!("\n{text}: at most {} bytes, {}:", greatest.total, greatest.step);
        for (part, bytes) in &greatest.parts {
            println!("  {bytes:>6} {part}");
        }
        let what = format!("status and managedFields of at most {GOAL_BYTES} bytes at every step, {text}");
        goal(
            &what,
            greatest.total <= GOAL_BYTES,
            &format!("{} bytes", greatest.total),
        );
    }
}

/// A job from its first claim to its end; returns where it was greatest.
async fn run(cluster: &Cluster, character: char, batches: [&[i64]; 2]) -> Size {
    let (arriving, pods) = mpsc::unbounded_channel();
    let _kubelet = Kubelet::start(cluster.client.clone(), held(arriving));
    let _controller = Controller::start(cluster);
    let api = Api::<CompactionJob>::namespaced(cluster.client.clone(), NAMESPACE);
    let mut job = workload::job(0, "http://nowhere.invalid");
    job.spec.parallelism = SHARDS;
    job.spec.retry_token = Some("t".repeat(63));
    job.spec.backoff_limit = 100;
    (
        job.spec.batch.backoff_period_seconds,
        job.spec.batch.max_backoff_period_seconds,
    ) = (5, 5);
    api.create(&PostParams::default(), &job).await.unwrap();
    let mut driver = Driver {
        cluster,
        pods,
        message: character.to_string().repeat(MESSAGE_CHARS + 1),
        workers: BTreeMap::new(),
        greatest: Size::default(),
    };
    driver.drive(batches).await;
    driver.greatest
}

/// A pod that runs until it is told how to end.
type Held = (Pod, oneshot::Sender<End>);

fn held(arriving: mpsc::UnboundedSender<Held>) -> Arc<Run> {
    Arc::new(move |pod| {
        let (end, told) = oneshot::channel();
        arriving.send((pod, end)).ok();
        Box::pin(async move { told.await.unwrap_or_else(|_| ended(exit::DONE, "Done", "")) })
    })
}

fn ended(code: i32, reason: &str, message: &str) -> End {
    End {
        code,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

struct Worker {
    identity: Identity,
    fence: ShardFence,
    end: oneshot::Sender<End>,
}

struct Driver<'a> {
    cluster: &'a Cluster,
    pods: mpsc::UnboundedReceiver<Held>,
    message: String,
    workers: BTreeMap<i32, Worker>,
    greatest: Size,
}

impl Driver<'_> {
    async fn drive(&mut self, [before, after]: [&[i64]; 2]) {
        self.take_pods(1).await;
        self.plan().await;
        self.take_pods(SHARDS as usize - 1).await;
        let mut sequence = 2;
        for batch in before {
            self.advance(*batch, sequence).await;
            self.look(&format!("at batch {batch} of each shard")).await;
            sequence += batch;
        }
        self.fail(sequence).await;
        for batch in after {
            sequence += batch;
            self.advance(*batch, sequence).await;
            self.look(&format!("at batch {batch} of each shard, after failures"))
                .await;
        }
        self.finish(sequence).await;
    }

    /// Claims the shards of the next pods.
    async fn take_pods(&mut self, count: usize) {
        for _ in 0..count {
            let (pod, end) = self.pods.recv().await.unwrap();
            let identity = workload::identity(&pod);
            let api = Arc::new(ApiServer::new(self.cluster.client.clone(), NAMESPACE, "job-0"));
            let (fence, _) = ShardFence::claim(api, identity.clone()).await.unwrap();
            let worker = Worker { identity, fence, end };
            self.workers.insert(worker.identity.shard, worker);
        }
        self.look("when shards are claimed").await;
    }

    async fn plan(&mut self) {
        let sha256 = "5".repeat(64);
        let plan = PlanStatus {
            location: format!("plan-{}-{sha256}.json", self.workers[&0].identity.holder),
            sha256,
            shards: SHARDS,
            batches: BATCHES,
            source_objects: 268_435_456,
            source_bytes: BATCHES * BATCH_BYTES,
            skipped_objects: 10_000_000,
            estimated_output_objects: BATCHES,
            upload_days: Some(7),
        };
        let totals = vec![TOTAL; SHARDS as usize];
        self.workers[&0].fence.set_plan(plan, totals).await.unwrap();
        self.look("when it is planned").await;
    }

    async fn advance(&mut self, batch: i64, sequence: i64) {
        self.point(batch, sequence).await;
        self.look("before its progress is summed up").await;
        let summary = format!("{}/", batch * i64::from(SHARDS));
        let is_shown = |summary_shown: &str| summary_shown.starts_with(&summary);
        self.wait_until(|status| status["progress"]["summary"].as_str().is_some_and(is_shown))
            .await;
    }

    /// Moves every shard's pointer, a few at a time, as their pace spreads them.
    async fn point(&self, batch: i64, sequence: i64) {
        stream::iter(self.workers.values().map(Ok))
            .try_for_each_concurrent(AT_A_TIME, |worker| {
                let checkpoint = checkpoint(worker, batch, sequence);
                worker.fence.advance(checkpoint, TOTAL)
            })
            .await
            .unwrap();
    }

    /// Every worker fails, each in its own words, the last one because of the store. A late checkpoint of each
    /// is refused.
    async fn fail(&mut self, sequence: i64) {
        let late = std::mem::take(&mut self.workers);
        let mut fences = Vec::new();
        for (shard, Worker { identity, fence, end }) in late {
            let code = if shard == SHARDS - 1 {
                exit::STORAGE
            } else {
                exit::RETRY
            };
            end.send(ended(code, "UploadDeadlineExceeded", &self.message))
                .ok();
            fences.push((identity, fence));
        }
        self.wait_until(|status| {
            let shards = status["shards"].as_array().unwrap();
            status["failures"].as_array().is_some_and(|f| f.len() == FAILURES)
                && shards.iter().any(|shard| !shard["retryTime"].is_null())
        })
        .await;
        self.look("when every worker has failed").await;
        self.take_pods(SHARDS as usize).await;
        for (identity, fence) in fences {
            let late = Checkpoint {
                sequence: sequence + 1,
                ..Checkpoint::default()
            };
            assert!(fence.advance(late, 1).await.is_err(), "{identity:?} is late");
        }
        self.look("when every late worker is refused").await;
    }

    async fn finish(&mut self, sequence: i64) {
        self.point(TOTAL, sequence + 1).await;
        for (_, worker) in std::mem::take(&mut self.workers) {
            worker.end.send(ended(exit::DONE, "Done", "")).ok();
        }
        self.take_pods(1).await;
        let mut publish = PublishStatus {
            sha256: "7".repeat(64),
            outputs: BATCHES,
            ..PublishStatus::default()
        };
        self.workers[&0].fence.set_publish(publish.clone()).await.unwrap();
        publish.announced = true;
        self.workers[&0].fence.set_publish(publish).await.unwrap();
        self.look("when it is published").await;
        self.workers
            .remove(&0)
            .unwrap()
            .end
            .send(ended(exit::DONE, "Done", ""))
            .ok();
        self.take_pods(1).await;
        let dispose = DisposeStatus {
            done: 268_435_456,
            total: 268_435_456,
            changed: 10_000_000,
            sources_done: true,
            finished: true,
        };
        self.workers[&0].fence.set_dispose(dispose).await.unwrap();
        self.workers
            .remove(&0)
            .unwrap()
            .end
            .send(ended(exit::DONE, "Done", ""))
            .ok();
        self.wait_until(|status| !status["completionTime"].is_null())
            .await;
        self.look("at its end").await;
    }

    async fn wait_until(&mut self, holds: impl Fn(&Value) -> bool) {
        while !holds(&self.look(ON_THE_WAY).await) {
            sleep(LOOK).await;
        }
    }

    /// Measures the job as the API server gives it; returns its status.
    async fn look(&mut self, step: &str) -> Value {
        let path = format!("/apis/compaction.dev/v1alpha1/namespaces/{NAMESPACE}/compactionjobs/job-0");
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let text = self.cluster.client.request_text(request).await.unwrap();
        let mut job: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            bytes(&job),
            text.trim_end().len(),
            "the size is that of the answer"
        );
        let size = Size::of(step, &job);
        if step != ON_THE_WAY {
            println!("{:>6} bytes {step}", size.total);
        }
        if size.total > self.greatest.total {
            self.greatest = size;
        }
        job["status"].take()
    }
}

/// As long as a real one: the body's name and hash, totals, and an attempt that failed.
fn checkpoint(worker: &Worker, batch: i64, sequence: i64) -> Checkpoint {
    let Identity {
        shard, epoch, holder, ..
    } = &worker.identity;
    Checkpoint {
        sequence,
        batch,
        body: format!("shard-{shard:03}/bodies/{sequence:012}-{epoch}-{holder}.json"),
        sha256: format!("{batch:064x}"),
        bytes_read: batch * BATCH_BYTES,
        bytes_written: batch * BATCH_BYTES,
        skipped_sources: batch * 100,
        records_kept: 0,
        records_dropped: 0,
        failed_groups: 0,
        attempts: 1,
        time: None,
    }
}

/// Bytes of status and managedFields in an answer of the API server.
#[derive(Default)]
struct Size {
    step: String,
    total: usize,
    parts: BTreeMap<String, usize>,
}

impl Size {
    fn of(step: &str, job: &Value) -> Self {
        let managed = bytes(&job["metadata"]["managedFields"]);
        let mut parts: BTreeMap<String, usize> = BTreeMap::from([("managedFields".to_owned(), managed)]);
        for (name, value) in job["status"].as_object().into_iter().flatten() {
            parts.insert(format!("status.{name}"), bytes(value));
        }
        Self {
            step: step.to_owned(),
            total: bytes(&job["status"]) + managed,
            parts,
        }
    }
}

/// Of a value as the API server writes it, which escapes three characters that others do not.
fn bytes(value: &Value) -> usize {
    let text = value.to_string();
    text.len() + 5 * text.matches(['<', '>', '&']).count()
}
