//! In place of nodes: marks each pod as running, then as ended with what ran in its place. The same for every
//! pod. Pods are bound to no node, as there is none; nobody who reads their status minds.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;

use compaction_operator::worker::End;
use futures::StreamExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Pods at one time: what a kubelet takes.
const ROOM: usize = 110;
/// Bytes that a kubelet keeps of what a container says at its end.
const MESSAGE: usize = 4096;

/// What runs in place of a pod's containers.
pub type Run = dyn Fn(Pod) -> BoxFuture<'static, End> + Send + Sync;

/// Works until it is dropped.
pub struct Kubelet(JoinHandle<()>);

impl Kubelet {
    pub fn start(client: Client, run: Arc<Run>) -> Self {
        Self(tokio::spawn(work(client, run)))
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn work(client: Client, run: Arc<Run>) {
    let room = Arc::new(Semaphore::new(ROOM));
    let mut known = HashSet::new();
    let pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default());
    let mut pods = pin!(pods.default_backoff().applied_objects());
    while let Some(pod) = pods.next().await {
        let Ok(pod) = pod else { continue };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase == Some("Pending") && known.insert(pod.uid().unwrap()) {
            let (client, run, room) = (client.clone(), Arc::clone(&run), Arc::clone(&room));
            tokio::spawn(async move {
                let _place = room.acquire_owned().await.unwrap();
                serve(&client, pod, &run).await;
            });
        }
    }
}

async fn serve(client: &Client, pod: Pod, run: &Arc<Run>) {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap());
    let (name, container) = (
        pod.name_any(),
        pod.spec.as_ref().unwrap().containers[0].name.clone(),
    );
    let mark = async |phase: &str, state: Value| {
        let status = json!({"status": {"phase": phase, "containerStatuses": [{
            "name": container, "image": "bench", "imageID": "bench", "ready": phase == "Running",
            "restartCount": 0, "state": state,
        }]}});
        // One that is deleted meanwhile has nothing to be marked.
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .ok();
    };
    mark("Running", json!({"running": {"startedAt": Timestamp::now()}})).await;
    let end = run(pod).await;
    let phase = if end.code == 0 { "Succeeded" } else { "Failed" };
    let message = end.line(MESSAGE).unwrap();
    let terminated = json!({"exitCode": end.code, "message": message, "finishedAt": Timestamp::now()});
    mark(phase, json!({"running": null, "terminated": terminated})).await;
}
