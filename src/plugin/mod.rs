//! `kubectl compaction`: what a person asks of jobs and schedules in a cluster. Knows the API's types and the API server;
//! never a store, a Secret or the controller, and writes no field but `suspend`, `retryToken` and `manualTrigger`.

mod change;
mod cli;
mod cluster;
mod complete;
mod connect;
mod error;
mod follow;
mod log;
mod logs;
mod say;
mod schedule;
mod status;
mod target;
mod watch;
mod words;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use jiff::Timestamp;
use tracing_subscriber::EnvFilter;

pub use error::Error;

use cli::{Cli, Command, StatusArguments};
use cluster::Cluster;
use say::say;
use status::End;
use target::Kind;

/// The job that was watched failed.
const FAILED: u8 = 1;
/// The command could not be carried out.
const UNUSABLE: u8 = 2;
/// What a shell shows for a program whose reader has gone.
const CLOSED: u8 = 141;

/// Under this name kubectl asks for completions.
const COMPLETER: &str = "kubectl_complete-compaction";

/// The whole program.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let called = arguments
        .first()
        .and_then(|path| Path::new(path).file_stem()?.to_str());
    let outcome = if called == Some(COMPLETER) {
        block_on(complete::complete(arguments.get(1..).unwrap_or_default())).map(|()| ExitCode::SUCCESS)
    } else {
        block_on(command(Cli::parse()))
    };
    outcome.unwrap_or_else(|error| {
        if error.is_closed_output() {
            return ExitCode::from(CLOSED);
        }
        eprintln!("error: {error}");
        ExitCode::from(UNUSABLE)
    })
}

fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let filter = EnvFilter::try_from_env("COMPACTION_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    // Fails only where one is installed already, and nothing before this installs one.
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Error::Start)?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

async fn command(cli: Cli) -> Result<ExitCode, Error> {
    let cluster = connect::connect(&cli.connection).await?;
    let done = match cli.command {
        Command::Status(arguments) => return show(&cluster, &arguments).await,
        Command::Suspend { target } => change::suspend(&cluster, &target, true).await,
        Command::Resume { target } => change::suspend(&cluster, &target, false).await,
        Command::Retry { job } => change::retry(&cluster, &job.0).await,
        Command::Run { schedule } => change::run(&cluster, &schedule.0).await,
        Command::Logs(arguments) => logs::logs(&cluster, &arguments).await,
    };
    done.map(|()| ExitCode::SUCCESS)
}

async fn show(cluster: &Cluster, arguments: &StatusArguments) -> Result<ExitCode, Error> {
    let StatusArguments { target, watch } = arguments;
    let lines = match target.kind {
        Kind::Schedule if *watch => return Err(Error::NoEnd(target.name.clone())),
        Kind::Schedule => {
            let object = cluster.object(target).await?;
            let schedule = change::schedule(target, &object)?;
            schedule::lines(&object, &schedule, Timestamp::now())
        }
        Kind::Job => {
            let job = cluster.job(&target.name).await?;
            if *watch {
                return Ok(match watch::watch(cluster, job).await? {
                    End::Succeeded => ExitCode::SUCCESS,
                    End::Failed => ExitCode::from(FAILED),
                });
            }
            status::lines(&job, Timestamp::now())
        }
    };
    lines.iter().try_for_each(|line| say(line))?;
    Ok(ExitCode::SUCCESS)
}
