//! The command line: what can be asked for. No logic.
#![allow(clippy::doc_markdown)] // The doc comments are the help text.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Compacts objects in S3-compatible storage: durable at every batch, resumable from every checkpoint.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a CompactionJob on this machine; started again, it goes on from its last checkpoint.
    Run(RunArguments),
    /// Show what a CompactionJob would do. Writes nothing.
    Plan(JobArguments),
    /// Read sources and outputs again, and say whether every record is there once.
    Verify(JobArguments),
    /// Make a few thousand small objects, compact them, and show before and after.
    Demo {
        /// Where to put the demo's bucket; default: a directory of its own under the temporary one.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
    /// Run the operator: turns CompactionJobs of a cluster into worker pods.
    Controller(ControllerArguments),
    /// Run one worker of a job; started by `run`.
    #[command(hide = true)]
    Worker(WorkerArguments),
}

#[derive(Debug, Clone, Args)]
pub struct JobArguments {
    /// A CompactionJob manifest, as for kubectl apply.
    #[arg(short = 'f', long = "filename", value_name = "JOB.yaml")]
    pub manifest: PathBuf,
    /// Use an embedded S3 server over this directory in place of the endpoint; a bucket is a sub-directory.
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// Keeps a worker below 128 MiB of memory.
pub const DEFAULT_WINDOW: &str = "80Mi";

#[derive(Debug, Args)]
pub struct RunArguments {
    #[command(flatten)]
    pub job: JobArguments,
    /// Where the job's status is kept; default: JOB.state.json beside the manifest.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Bytes that a worker may have in memory at one time, e.g. 80Mi.
    #[arg(long, value_name = "SIZE", default_value = DEFAULT_WINDOW)]
    pub window: String,
}

#[derive(Debug, Args)]
pub struct WorkerArguments {
    #[arg(long)]
    pub state: PathBuf,
    #[arg(long)]
    pub shard: i32,
    #[arg(long)]
    pub epoch: i64,
    #[arg(long)]
    pub endpoint: Option<String>,
    #[arg(long)]
    pub window: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub struct ControllerArguments {
    /// Namespaces whose jobs are worked on; default: all.
    #[arg(long, value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Image of the worker pods.
    #[arg(long)]
    pub worker_image: String,
    /// IfNotPresent, Always or Never; default: as the cluster has it.
    #[arg(long)]
    pub worker_image_pull_policy: Option<String>,
    /// Secrets in the jobs' namespaces with which the image is pulled.
    #[arg(long, value_delimiter = ',')]
    pub worker_image_pull_secrets: Vec<String>,
    /// Names this cluster in the working files of a bucket; clusters that share a bucket need different ones.
    #[arg(long, default_value = "default")]
    pub cluster_id: String,
    /// Serves /metrics, /livez and /readyz.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: std::net::SocketAddr,
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub lease_namespace: String,
    #[arg(long, default_value = "compaction-operator")]
    pub lease_name: String,
    /// Jobs that are looked at at the same time.
    #[arg(long, default_value_t = 16)]
    pub concurrency: u16,
}
