//! The controller as a process of its own, and what processes cost. Never calls its code.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::cluster::{Cluster, LOOK};

pub struct Controller {
    child: Child,
    address: SocketAddr,
}

impl Controller {
    pub fn start(cluster: &Cluster) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_compaction-operator"))
            .args([
                "controller",
                "--worker-image",
                "bench",
                "--listen",
                &address.to_string(),
            ])
            .env("KUBECONFIG", cluster.kubeconfig())
            .spawn()
            .unwrap();
        Self { child, address }
    }

    /// Gives the Lease back, so that the next one need not wait for its end.
    pub fn stop(mut self) {
        let told = Command::new("kill").arg(self.process().to_string()).status();
        assert!(told.unwrap().success() && self.child.wait().unwrap().success());
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    pub async fn wait_until_it_serves(&self) {
        while self.passes().await.is_none() {
            sleep(LOOK).await;
        }
    }

    /// Passes that have ended, how many of them in an error, and passes under way. `None` before it serves.
    pub async fn passes(&self) -> Option<Passes> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        let request = b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        let sum = |name: &str| {
            let lines = text.lines().filter(|line| line.starts_with(name));
            lines
                .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
                .sum()
        };
        Some(Passes {
            ended: sum("controller_runtime_reconcile_total{"),
            failed: sum("controller_runtime_reconcile_errors_total{"),
            under_way: sum("controller_runtime_active_workers{"),
        })
    }
}

pub struct Passes {
    pub ended: u64,
    pub failed: u64,
    pub under_way: u64,
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Seconds of user and system time: fields 14 and 15 of `/proc/PID/stat`, in ticks of 10 ms.
pub fn cpu(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<f64>().unwrap();
    (ticks(14) + ticks(15)) / 100.0
}

pub fn resident(process: u32) -> u64 {
    memory(process, "VmRSS:")
}

pub fn peak(process: u32) -> u64 {
    memory(process, "VmHWM:")
}

fn memory(process: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
