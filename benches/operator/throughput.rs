//! 1,000 jobs of one small batch beside 1,000 `batch/v1` Jobs whose pods end at once.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use compaction_operator::api::{CompactionJob, condition, conditions};
use compaction_operator::worker::End;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{ListParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::cluster::Cluster;
use crate::controller::{self, Controller};
use crate::kubelet::Kubelet;
use crate::workload::{NAMESPACE, Workload};
use crate::{goal, mebibytes};

pub const JOBS: usize = 1000;
const CREATED_AT_A_TIME: usize = 16;

pub async fn measure(count: usize) {
    println!("## {count} CompactionJobs of one small batch beside {count} batch/v1 Jobs\n");
    let cluster = Cluster::up().await;
    let jobs = batch_jobs(&cluster, count).await;
    let (compactions, succeeded) = compaction_jobs(&cluster, count).await;
    println!("| | finished per minute | its controller: CPU s | its controller: peak memory | pods |");
    println!("|---|---|---|---|---|");
    let costs = [("batch/v1 Job", &jobs), ("CompactionJob", &compactions)];
    for (kind, cost) in costs {
        let (per_minute, peak) = (cost.per_minute(), mebibytes(cost.peak));
        let pods = cost.requests["POST pods"];
        println!(
            "| {count} {kind}s | {per_minute:.0} | {:.1} | {peak:.0} MiB | {pods} |",
            cost.cpu
        );
    }
    for (kind, cost) in costs {
        cost.print_requests(kind);
    }
    println!(
        "\nCompactionJob : Job = {:.2} finished per minute, {:.2} CPU, {:.2} peak memory",
        compactions.per_minute() / jobs.per_minute(),
        compactions.cpu / jobs.cpu,
        compactions.peak as f64 / jobs.peak as f64,
    );
    let found = format!("{succeeded} of {count}");
    goal("every CompactionJob succeeds", succeeded == count, &found);
}

/// What it took until all were finished.
struct Cost {
    jobs: usize,
    seconds: f64,
    cpu: f64,
    peak: u64,
    /// Of all parties: controller, workers, stub, watchers.
    requests: BTreeMap<String, u64>,
}

impl Cost {
    fn per_minute(&self) -> f64 {
        self.jobs as f64 * 60.0 / self.seconds
    }

    fn print_requests(&self, kind: &str) {
        println!("\nrequests of controller, workers, stub and this program for each {kind}:");
        for (request, count) in &self.requests {
            let count = *count as f64 / self.jobs as f64;
            if count >= 0.1 {
                println!("  {count:>5.1} {request}");
            }
        }
    }
}

async fn batch_jobs(cluster: &Cluster, count: usize) -> Cost {
    let done = || End {
        code: 0,
        reason: "Done".to_owned(),
        message: String::new(),
    };
    let _kubelet = Kubelet::start(
        cluster.client.clone(),
        Arc::new(move |_| Box::pin(async move { done() })),
    );
    let job = |number| -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": format!("job-{number}"), "namespace": NAMESPACE},
            "spec": {"template": {"spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "true", "image": "bench"}],
            }}},
        }))
        .unwrap()
    };
    let is_finished = |job: &Job| {
        job.status
            .as_ref()
            .is_some_and(|status| status.completion_time.is_some())
    };
    let manager = cluster.process("kube-controller-manager");
    run_all(cluster, manager, (0..count).map(job).collect(), is_finished).await
}

/// Also how many succeeded.
async fn compaction_jobs(cluster: &Cluster, count: usize) -> (Cost, usize) {
    let workload = Workload::start().await;
    let _kubelet = Kubelet::start(cluster.client.clone(), workload.workers(cluster.client.clone()));
    let controller = Controller::start(cluster);
    controller.wait_until_it_serves().await;
    let jobs = (0..count).map(|number| workload.job(number)).collect();
    let cost = run_all(cluster, controller.process(), jobs, is_finished).await;
    let api = Api::<CompactionJob>::all(cluster.client.clone());
    let jobs = api.list(&ListParams::default()).await.unwrap();
    (
        cost,
        jobs.iter()
            .filter(|job| is_finished(job) && has_succeeded(job))
            .count(),
    )
}

/// Failed, or succeeded with nothing left to clean up.
fn is_finished(job: &CompactionJob) -> bool {
    let failed = |status| is(status, conditions::STALLED);
    job.status
        .as_ref()
        .is_some_and(|status| status.completion_time.is_some() || failed(&status.conditions))
}

fn has_succeeded(job: &CompactionJob) -> bool {
    job.status
        .as_ref()
        .is_some_and(|status| is(&status.conditions, conditions::SUCCEEDED))
}

fn is(all: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition], type_: &str) -> bool {
    condition(all, type_).is_some_and(|condition| condition.status == "True")
}

/// Creates objects and waits until all are finished; the cost is `process`'s.
async fn run_all<K>(cluster: &Cluster, process: u32, objects: Vec<K>, is_finished: fn(&K) -> bool) -> Cost
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    K: Serialize + Send + Sync + 'static,
{
    let api = Api::<K>::namespaced(cluster.client.clone(), NAMESPACE);
    let (cpu, requests) = (controller::cpu(process), cluster.requests().await);
    let began = Instant::now();
    let count = objects.len();
    let finished = tokio::spawn(all_finished(api.clone(), count, is_finished));
    stream::iter(objects)
        .map(Ok)
        .try_for_each_concurrent(CREATED_AT_A_TIME, |object| {
            let api = api.clone();
            async move { api.create(&PostParams::default(), &object).await.map(drop) }
        })
        .await
        .unwrap();
    finished.await.unwrap();
    let seconds = began.elapsed().as_secs_f64();
    let mut all_requests = cluster.requests().await;
    for (request, before) in requests {
        *all_requests.entry(request).or_default() -= before;
    }
    Cost {
        jobs: count,
        seconds,
        cpu: controller::cpu(process) - cpu,
        peak: controller::peak(process),
        requests: all_requests,
    }
}

async fn all_finished<K>(api: Api<K>, count: usize, is_finished: fn(&K) -> bool)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut finished = HashSet::new();
    let mut objects = pin!(
        watcher(api, watcher::Config::default())
            .default_backoff()
            .applied_objects()
    );
    while finished.len() < count {
        let object = objects.next().await.unwrap();
        if let Some(object) = object.ok().filter(is_finished) {
            finished.insert(object.name_any());
        }
    }
}
