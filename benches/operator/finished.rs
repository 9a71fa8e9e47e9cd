//! The memory of a controller that is started beside 10,000 finished jobs.

use std::time::{Duration, Instant};

use compaction_operator::api::CompactionJob;
use futures::{TryStreamExt, stream};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::sleep;

use crate::cluster::{Cluster, LOOK};
use crate::controller::{self, Controller};
use crate::kubelet::Kubelet;
use crate::workload::{self, NAMESPACE, Workload};
use crate::{goal, mebibytes};

const JOBS: usize = 10_000;
const CREATED_AT_A_TIME: usize = 32;
const GOAL_MEBIBYTES: f64 = 150.0;
/// What the controller does later than at once shows in this time.
const AFTER: Duration = Duration::from_secs(30);

pub async fn measure() {
    println!("## A controller that is started beside {JOBS} finished jobs\n");
    let cluster = Cluster::up().await;
    let (finished, alone) = one_finished(&cluster).await;
    make_others(&cluster, &finished).await;
    let requests = cluster.requests().await;
    let began = Instant::now();
    let controller = Controller::start(&cluster);
    let (passes, failed) = settle(&controller).await;
    let (seconds, cpu) = (
        began.elapsed().as_secs_f64(),
        controller::cpu(controller.process()),
    );
    let mut patches = cluster.requests().await;
    let patches = patches.remove("PATCH compactionjobs/status").unwrap_or_default()
        - requests
            .get("PATCH compactionjobs/status")
            .copied()
            .unwrap_or_default();
    let settled = controller::resident(controller.process());
    sleep(AFTER).await;
    let after = controller::resident(controller.process());
    let peak = controller::peak(controller.process());
    let length = serde_json::to_string(&finished).unwrap().len();
    println!("a finished job is {length} bytes of JSON without managedFields; its status is a real job's");
    println!("with 1 finished job    {:.0} MiB resident", mebibytes(alone));
    println!(
        "with {JOBS}            {:.0} MiB resident when settled, {:.0} MiB {} s later, peak {:.0} MiB",
        mebibytes(settled),
        mebibytes(after),
        AFTER.as_secs(),
        mebibytes(peak)
    );
    println!(
        "settled after {seconds:.1} s: {passes} passes, {failed} failed, {patches} patches of a status, {cpu:.1} s of CPU"
    );
    let goal_bytes = GOAL_MEBIBYTES;
    goal(
        &format!("at most {goal_bytes} MiB with {JOBS} finished jobs, at any time"),
        mebibytes(peak) <= GOAL_MEBIBYTES,
        &format!("{:.0} MiB", mebibytes(peak)),
    );
}

/// A job that went through all of it, and what its controller had resident then.
async fn one_finished(cluster: &Cluster) -> (CompactionJob, u64) {
    let workload = Workload::start().await;
    let _kubelet = Kubelet::start(cluster.client.clone(), workload.workers(cluster.client.clone()));
    let controller = Controller::start(cluster);
    let api = Api::<CompactionJob>::namespaced(cluster.client.clone(), NAMESPACE);
    let job = workload.job(0);
    api.create(&PostParams::default(), &job).await.unwrap();
    loop {
        let mut job = api.get("job-0").await.unwrap();
        if job
            .status
            .as_ref()
            .is_some_and(|status| status.completion_time.is_some())
        {
            job.metadata.managed_fields = None;
            let resident = controller::resident(controller.process());
            controller.stop();
            return (job, resident);
        }
        sleep(LOOK).await;
    }
}

async fn make_others(cluster: &Cluster, finished: &CompactionJob) {
    let api = Api::<CompactionJob>::namespaced(cluster.client.clone(), NAMESPACE);
    let endpoint = finished.spec.storage.s3.endpoint.clone().unwrap();
    let status = json!({"status": finished.status});
    stream::iter((1..JOBS).map(Ok))
        .try_for_each_concurrent(CREATED_AT_A_TIME, |number| {
            let (api, job, status) = (api.clone(), workload::job(number, &endpoint), status.clone());
            async move {
                api.create(&PostParams::default(), &job).await?;
                let name = job.metadata.name.unwrap_or_default();
                api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
                    .await
                    .map(drop)
            }
        })
        .await
        .unwrap();
}

/// Waits until every job had a pass, none is under way and none has ended between two looks.
async fn settle(controller: &Controller) -> (u64, u64) {
    let mut before = 0;
    loop {
        if let Some(passes) = controller.passes().await {
            if passes.ended >= JOBS as u64 && passes.ended == before && passes.under_way == 0 {
                return (passes.ended, passes.failed);
            }
            before = passes.ended;
        }
        sleep(LOOK).await;
    }
}
