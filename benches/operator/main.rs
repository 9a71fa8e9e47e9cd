//! The operator at scale, against a real API server: 1,000 jobs beside 1,000 `batch/v1` Jobs, the largest
//! status there can be, and 10,000 finished jobs. Prints the figures of `docs/performance.md`.
//!
//! `cargo bench --bench operator` (or `make bench`) runs all of it; `-- throughput`, `-- status` or
//! `-- finished` a part, `-- throughput 100` with fewer jobs. Must be run by root. Each part has an etcd, an API server and a controller manager
//! of its own (`tests/cluster/up.sh --control-plane`) and the controller as a process of its own. There is no
//! node: a stub marks the pods, and runs the workers of jobs in this process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod controller;
mod finished;
mod kubelet;
mod status;
mod throughput;
mod workload;

fn main() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match words[..] {
        ["throughput"] => runtime.block_on(throughput::measure(throughput::JOBS)),
        ["throughput", count] => runtime.block_on(throughput::measure(count.parse().unwrap())),
        ["status"] => runtime.block_on(status::measure()),
        ["finished"] => runtime.block_on(finished::measure()),
        _ => runtime.block_on(async {
            throughput::measure(throughput::JOBS).await;
            status::measure().await;
            finished::measure().await;
        }),
    }
}

/// Says whether a goal is reached.
fn goal(what: &str, reached: bool, found: &str) {
    let verdict = if reached { "reached" } else { "MISSED" };
    println!("goal: {what}: {verdict} ({found})\n");
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
