//! Jobs of one small batch, their sources in the embedded server, and their workers, which are the real ones
//! in this process.

use std::collections::HashMap;
use std::sync::Arc;

use compaction_operator::api::{CompactionJob, Limits};
use compaction_operator::engine::Window;
use compaction_operator::local::server::{self, Server};
use compaction_operator::store::{CredentialsFrom, S3, Settings, Store};
use compaction_operator::worker::{ApiServer, Identity, Start, pointer_interval, run};
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::kubelet::Run;

pub const NAMESPACE: &str = "default";
const BUCKET: &str = "bench";

pub struct Workload {
    directory: tempfile::TempDir,
    server: Server,
    store: Arc<dyn Store>,
}

impl Workload {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(BUCKET)).unwrap();
        let server = server::start(directory.path()).await.unwrap();
        let mut settings = Settings::new(BUCKET);
        settings.endpoint = Some(server.endpoint());
        settings.credentials = CredentialsFrom::Keys(server.keys());
        let store = Arc::new(S3::new(&settings).await.unwrap());
        Self {
            directory,
            server,
            store,
        }
    }

    /// Job `number`, over two sources of its own.
    pub fn job(&self, number: usize) -> CompactionJob {
        let sources = self.directory.path().join(BUCKET).join(format!("in/{number}"));
        std::fs::create_dir_all(&sources).unwrap();
        for source in ["a", "b"] {
            std::fs::write(sources.join(source), "a record\n").unwrap();
        }
        job(number, &self.server.endpoint())
    }

    /// Runs workers as their pods would, with the pods' arguments.
    pub fn workers(&self, client: Client) -> Arc<Run> {
        let store = Arc::clone(&self.store);
        Arc::new(move |pod| {
            let start = start(&pod, client.clone(), Arc::clone(&store));
            Box::pin(run(start))
        })
    }
}

pub fn job(number: usize, endpoint: &str) -> CompactionJob {
    let job = json!({
        "apiVersion": "compaction.dev/v1alpha1", "kind": "CompactionJob",
        "metadata": {"name": format!("job-{number}"), "namespace": NAMESPACE},
        "spec": {
            "storage": {"s3": {"bucket": BUCKET, "endpoint": endpoint}},
            "source": {"prefix": format!("in/{number}/"), "minObjectAgeSeconds": 0},
            "output": {"prefix": format!("out/{number}/")},
        },
    });
    serde_json::from_value::<CompactionJob>(job).unwrap()
}

pub fn identity(pod: &Pod) -> Identity {
    let arguments = arguments(pod);
    Identity {
        job_uid: arguments["job-uid"].clone(),
        shard: arguments["shard"].parse().unwrap(),
        epoch: arguments["epoch"].parse().unwrap(),
        holder: pod.uid().unwrap(),
    }
}

fn arguments(pod: &Pod) -> HashMap<String, String> {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let flags = container
        .args
        .iter()
        .flatten()
        .filter_map(|flag| flag.strip_prefix("--")?.split_once('='));
    flags
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn start(pod: &Pod, client: Client, store: Arc<dyn Store>) -> Start {
    let arguments = arguments(pod);
    Start {
        identity: identity(pod),
        api: Arc::new(ApiServer::new(client, &arguments["namespace"], &arguments["job"])),
        store,
        cluster: arguments["cluster"].clone(),
        window_bytes: Window::DEFAULT_BYTES,
        read_bytes: Window::READ_BYTES,
        stop: CancellationToken::new(),
        pointer_interval,
        now: || jiff::Timestamp::now().as_second(),
        limits: Limits::of,
    }
}
