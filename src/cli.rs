//! The command line: what can be asked for. No logic.
#![allow(clippy::doc_markdown)] // The doc comments are the help text.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use compaction_operator::api::Quantity;
use compaction_operator::engine::Window;
use compaction_operator::local::LOCAL_CLUSTER;

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
    /// Try out what a job's store honours, and show what it means for the job. Leaves nothing behind.
    Probe(JobArguments),
    /// Show the working files that jobs have left in a bucket, and sweep those whose job is gone. Without --delete
    /// it changes nothing.
    Gc(GcArguments),
    /// Make a few thousand small objects, compact them, and show before and after.
    Demo {
        /// Where to put the demo's bucket; default: a directory of its own under the temporary one.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
    /// Print their fields as the page docs/reference.md.
    #[command(hide = true)]
    Reference,
    /// Run the operator: turns CompactionJobs of a cluster into worker pods.
    Controller(ControllerArguments),
    /// Run one worker of a job: what the controller's pods do.
    Worker(Box<WorkerArguments>),
    /// Run one worker of a job; started by `run`.
    #[command(hide = true)]
    LocalWorker(LocalWorkerArguments),
    /// Ask whether something is ready: ends with 0 if a GET of the URL is answered with 200.
    #[command(hide = true)]
    Ready {
        /// Plain http.
        #[arg(long)]
        url: String,
        /// How long to go on asking.
        #[arg(long, default_value_t = 0)]
        wait_seconds: u64,
    },
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

#[derive(Debug, Args)]
pub struct RunArguments {
    #[command(flatten)]
    pub job: JobArguments,
    /// Where the job's status is kept; default: JOB.state.json beside the manifest.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Bytes that a worker may have in memory at one time.
    #[arg(long, value_name = "SIZE", default_value_t = Size(Window::DEFAULT_BYTES))]
    pub window: Size,
}

#[derive(Debug, Args)]
pub struct GcArguments {
    #[command(flatten)]
    pub job: JobArguments,
    /// Whose working files: `local` are those of `run`, others those of an operator with this --cluster-id.
    #[arg(long, value_name = "ID", default_value = LOCAL_CLUSTER)]
    pub cluster_id: String,
    /// UIDs of the jobs that live, with spaces or commas between them; `-` reads them from standard input. None
    /// at all is an error.
    #[arg(long, value_name = "UIDS")]
    pub live: Vec<String>,
    /// No job lives but those of state files.
    #[arg(long)]
    pub none_live: bool,
    /// State files of `run` whose jobs live, besides those in the manifest's directory.
    #[arg(long, value_name = "FILE")]
    pub state: Vec<PathBuf>,
    /// What was written later than so long ago is let be.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    pub min_age_seconds: u32,
    /// Sweep what is abandoned.
    #[arg(long)]
    pub delete: bool,
}

/// What the controller tells the pod that it makes; every flag can come from the environment.
#[derive(Debug, Args)]
pub struct WorkerArguments {
    /// Where the job is.
    #[arg(long, env = "COMPACTION_NAMESPACE")]
    pub namespace: String,
    /// The job's name.
    #[arg(long, env = "COMPACTION_JOB", value_name = "NAME")]
    pub job: String,
    /// The job's UID: one of the same name that was created anew is another job.
    #[arg(long, env = "COMPACTION_JOB_UID", value_name = "UID")]
    pub job_uid: String,
    #[arg(long, env = "COMPACTION_SHARD", value_name = "N")]
    pub shard: i32,
    #[arg(long, env = "COMPACTION_EPOCH", value_name = "N")]
    pub epoch: i64,
    /// UID of this pod, by the downward API.
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pub holder: String,
    /// Names the cluster in the ledger's path.
    #[arg(long, env = "COMPACTION_CLUSTER", value_name = "ID")]
    pub cluster: String,
    /// The pod's terminationGracePeriodSeconds.
    #[arg(
        long,
        env = "COMPACTION_GRACE_SECONDS",
        value_name = "SECONDS",
        default_value_t = 60
    )]
    pub grace_seconds: u64,
    /// A mounted Secret with accessKeyId, secretAccessKey and perhaps sessionToken.
    #[arg(long, env = "COMPACTION_CREDENTIALS_DIR", value_name = "DIR")]
    pub credentials_dir: Option<PathBuf>,
    /// PEM certificates to trust besides those of the system.
    #[arg(long, env = "COMPACTION_CA_BUNDLE", value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,
    /// Bytes in memory at one time; default: from the container's memory limit.
    #[arg(long, env = "COMPACTION_WINDOW", value_name = "SIZE")]
    pub window: Option<Size>,
    /// Gets the worker's end as a line of JSON, if the file exists.
    #[arg(
        long,
        env = "COMPACTION_TERMINATION_MESSAGE",
        value_name = "FILE",
        default_value = "/dev/termination-log"
    )]
    pub termination_message: PathBuf,
}

#[derive(Debug, Args)]
pub struct LocalWorkerArguments {
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

/// A number of bytes as people write it: 64Mi.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = Quantity::new(text).bytes();
        bytes.map(Self).ok_or_else(|| format!("{text} is not a size"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1 << 20) {
            write!(f, "{}Mi", self.0 >> 20)
        } else {
            write!(f, "{}", self.0)
        }
    }
}
