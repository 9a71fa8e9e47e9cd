//! A control plane without a node, for as long as a measurement takes. Never the tests' cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use compaction_operator::api::CompactionJob;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::time::sleep;

pub const LOOK: Duration = Duration::from_millis(200);

/// The tests' cluster is number 0.
const NUMBER: &str = "3";

pub struct Cluster {
    directory: PathBuf,
    pub client: Client,
}

impl Cluster {
    /// With the CRDs installed.
    pub async fn up() -> Self {
        let directory = PathBuf::from(script("up.sh").arg("--control-plane").printed());
        let kubeconfig = Kubeconfig::read_from(directory.join("kubeconfig")).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        let client = Client::try_from(config).unwrap();
        let cluster = Self { directory, client };
        let mut kubectl = Command::new(cluster.directory.join("bin/kubectl"));
        kubectl.env("KUBECONFIG", cluster.kubeconfig());
        kubectl.args([
            "create",
            "--filename",
            concat!(env!("CARGO_MANIFEST_DIR"), "/crds/compaction.dev.yaml"),
        ]);
        kubectl.printed();
        let jobs = Api::<CompactionJob>::all(cluster.client.clone());
        while jobs.list(&ListParams::default()).await.is_err() {
            sleep(LOOK).await;
        }
        cluster
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    pub fn process(&self, daemon: &str) -> u32 {
        let pid = std::fs::read_to_string(self.directory.join("pids").join(daemon));
        pid.unwrap().trim().parse().unwrap()
    }

    /// Requests that the API server has answered, by verb and resource. Without what the control plane does
    /// for itself.
    pub async fn requests(&self) -> BTreeMap<String, u64> {
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        let text = self.client.request_text(request).await.unwrap();
        let mut requests = BTreeMap::new();
        for line in text
            .lines()
            .filter(|line| line.starts_with("apiserver_request_total{"))
        {
            let label = |name: &str| {
                let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
                rest.split('"').next().unwrap()
            };
            let (resource, part) = (label("resource"), label(",subresource"));
            let slash = if part.is_empty() { "" } else { "/" };
            let count: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            *requests
                .entry(format!("{} {resource}{slash}{part}", label("verb")))
                .or_default() += count as u64;
        }
        requests
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        script("down.sh")
            .arg(&self.directory)
            .stderr(Stdio::null())
            .status()
            .ok();
    }
}

fn script(name: &str) -> Command {
    let mut command = Command::new(format!("{}/tests/cluster/{name}", env!("CARGO_MANIFEST_DIR")));
    if std::env::var_os("COMPACTION_TEST_CLUSTER").is_none() {
        command.env("COMPACTION_TEST_CLUSTER", NUMBER);
    }
    command
}

trait Printed {
    /// What a command prints that succeeds.
    fn printed(&mut self) -> String;
}

impl Printed for Command {
    fn printed(&mut self) -> String {
        let output = self.output().unwrap();
        assert!(
            output.status.success(),
            "{self:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}
