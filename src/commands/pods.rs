//! The commands that the operator's pods run: the controller, a worker, and the question whether a server is ready.

use std::error::Error as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use compaction_operator::controller;
use compaction_operator::deadline::within;
use compaction_operator::worker::{Identity, PodArguments, run_pod};
use hyper::StatusCode;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio_util::sync::CancellationToken;

use super::{Answer, FAILED, judged, wait_for_signal};
use crate::cli;

pub(crate) async fn controller(arguments: cli::ControllerArguments) -> Answer {
    let settings = controller::Settings {
        namespaces: arguments.namespaces,
        pods: controller::PodSettings {
            image: arguments.worker_image,
            image_pull_policy: arguments.worker_image_pull_policy,
            image_pull_secrets: arguments.worker_image_pull_secrets,
            cluster: arguments.cluster_id,
            log: std::env::var("COMPACTION_LOG").unwrap_or_else(|_| "info".to_owned()),
        },
        listen: arguments.listen,
        lease_namespace: arguments.lease_namespace,
        lease_name: arguments.lease_name,
        concurrency: arguments.concurrency,
    };
    let stop = CancellationToken::new();
    let signal = stop.clone();
    tokio::spawn(async move {
        wait_for_signal().await.ok();
        signal.cancel();
    });
    match controller::run(settings, stop).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            tracing::error!(%error, "the controller ends");
            Ok(ExitCode::from(FAILED))
        }
    }
}

/// The most that the kubelet takes of a termination message.
const TERMINATION_MESSAGE_BYTES: usize = 4096;

pub(crate) async fn worker(arguments: cli::WorkerArguments) -> Answer {
    let file = arguments.termination_message;
    let end = run_pod(PodArguments {
        namespace: arguments.namespace,
        job: arguments.job,
        identity: Identity {
            job_uid: arguments.job_uid,
            shard: arguments.shard,
            epoch: arguments.epoch,
            holder: arguments.holder,
        },
        cluster: arguments.cluster,
        grace: Duration::from_secs(arguments.grace_seconds),
        credentials: arguments.credentials_dir,
        ca_bundle: arguments.ca_bundle,
        window: arguments.window.map(|window| window.0),
    })
    .await;
    tracing::info!(
        code = end.code,
        reason = end.reason,
        why = end.message,
        "worker ends"
    );
    // The kubelet makes the file; without one there is nobody to tell.
    let told = std::fs::File::options().write(true).truncate(true).open(&file);
    if let Ok(mut told) = told
        && let Err(error) = told.write_all(end.line(TERMINATION_MESSAGE_BYTES)?.as_bytes())
    {
        tracing::warn!(%error, file = %file.display(), "the termination message cannot be written");
    }
    Ok(ExitCode::from(u8::try_from(end.code)?))
}

/// How long an answer may take that tells whether something is ready.
const READY: Duration = Duration::from_secs(5);
const READY_PAUSE: Duration = Duration::from_millis(500);

/// Asks again until `wait` has passed: what has just become ready may not be reached at once.
pub(crate) async fn ready(url: &str, wait: Duration) -> Answer {
    let uri: hyper::Uri = url.parse()?;
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let (is_ready, said) = ask_ready(uri.clone()).await;
        if is_ready || tokio::time::Instant::now() >= deadline {
            println!("{url}: {said}");
            return Ok(judged(is_ready));
        }
        tokio::time::sleep(READY_PAUSE).await;
    }
}

async fn ask_ready(uri: hyper::Uri) -> (bool, String) {
    let client = Client::builder(TokioExecutor::new()).build_http::<String>();
    match within(READY, client.get(uri)).await {
        Ok(Ok(answer)) => (answer.status() == StatusCode::OK, answer.status().to_string()),
        Ok(Err(error)) => (false, error.source().unwrap_or(&error).to_string()),
        Err(elapsed) => (false, elapsed.to_string()),
    }
}
