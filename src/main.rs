//! Parses the command line, starts what every command needs, and dispatches. No logic.

mod cli;
mod commands;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    log();
    // Fails only where one is installed already, and nothing before this installs one.
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return commands::exit(Err(error.into())),
    };
    let answer = runtime.block_on(async {
        match cli.command {
            Command::Run(arguments) => commands::run(arguments).await,
            Command::Plan(arguments) => commands::plan(arguments).await,
            Command::Verify(arguments) => commands::verify(arguments).await,
            Command::Probe(arguments) => commands::probe(arguments).await,
            Command::Gc(arguments) => commands::gc(arguments).await,
            Command::Demo { dir } => commands::demo(dir).await,
            Command::Crds => commands::print(compaction_operator::api::crds_yaml()),
            Command::Reference => commands::print(compaction_operator::api::reference()),
            Command::Controller(arguments) => commands::controller(arguments).await,
            Command::Worker(arguments) => commands::worker(*arguments).await,
            Command::LocalWorker(arguments) => commands::local_worker(arguments).await,
            Command::Ready { url, wait_seconds } => {
                commands::ready(&url, std::time::Duration::from_secs(wait_seconds)).await
            }
        }
    });
    runtime.shutdown_background();
    commands::exit(answer)
}

/// To standard error: `COMPACTION_LOG` says how much, `COMPACTION_LOG_FORMAT=json` how.
fn log() {
    let filter =
        EnvFilter::try_from_env("COMPACTION_LOG").unwrap_or_else(|_| EnvFilter::new("error,s3s=off"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::env::var("COMPACTION_LOG_FORMAT").is_ok_and(|format| format == "json") {
        log.json().init();
    } else {
        log.init();
    }
}
