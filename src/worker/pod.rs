//! A worker as a pod of its job: what the controller tells it, where the job and the keys are found, how much
//! memory there is, and what a signal to stop means.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::fence::read;
use super::{ApiServer, End, Identity, JobApi, Start, memory, pointer_interval, run, store_settings};
use crate::api::{CompactionJob, Limits, exit};
use crate::engine::{Error, FenceError, Window};
use crate::store::{CredentialsFrom, S3, Settings};

/// So long before the end of its grace a worker stops waiting for the next checkpoint.
const MARGIN: Duration = Duration::from_secs(5);

/// What the controller starts a pod with.
pub struct PodArguments {
    pub namespace: String,
    pub job: String,
    pub identity: Identity,
    pub cluster: String,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// A mounted Secret.
    pub credentials: Option<PathBuf>,
    pub ca_bundle: Option<PathBuf>,
    /// In place of what the container's memory limit allows. Bytes.
    pub window: Option<u64>,
}

/// Runs one worker to its end, or until the process is told to stop. Uploads are never ended then: they
/// belong to the last checkpoint.
pub async fn run_pod(arguments: PodArguments) -> End {
    let stop = CancellationToken::new();
    let out_of_time = match stop_on_signal(stop.clone(), arguments.grace) {
        Ok(out_of_time) => out_of_time,
        Err(error) => return cannot_start(exit::RETRY, "SIGTERM cannot be heard", &error.to_string()),
    };
    tokio::select! {
        end = work(arguments, stop) => end,
        () = out_of_time.cancelled() => {
            End::stopped("no checkpoint was reached in time; the last one stands")
        }
    }
}

async fn work(arguments: PodArguments, stop: CancellationToken) -> End {
    match prepare(arguments, stop).await {
        Ok(start) => run(start).await,
        Err(end) => end,
    }
}

/// Cancels `stop` at the first SIGTERM or SIGINT, and what it returns when the grace has nearly passed.
/// Later signals change nothing.
fn stop_on_signal(stop: CancellationToken, grace: Duration) -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let out_of_time = CancellationToken::new();
    let told = out_of_time.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop: the next checkpoint is the last");
        stop.cancel();
        tokio::time::sleep(grace.saturating_sub(MARGIN)).await;
        told.cancel();
    });
    Ok(out_of_time)
}

/// Everything that a worker starts with. Reads the job first, for the store and the sizes.
async fn prepare(arguments: PodArguments, stop: CancellationToken) -> Result<Start, End> {
    let api = api_server(&arguments).await?;
    let job = job(&api, &arguments.identity).await?;
    let window_bytes = match arguments.window {
        Some(window) => window,
        None => window(&job)?,
    };
    let store = S3::new(&settings(&job, &arguments))
        .await
        .map_err(|error| cannot_start(exit::GIVE_UP, "the store cannot be used", &error.to_string()))?;
    tracing::info!(job = arguments.job, window_bytes, "worker starts");
    Ok(Start {
        identity: arguments.identity,
        api: Arc::new(api),
        store: Arc::new(store),
        cluster: arguments.cluster,
        window_bytes,
        read_bytes: Window::READ_BYTES,
        stop,
        pointer_interval,
        now: || jiff::Timestamp::now().as_second(),
        limits: Limits::of,
    })
}

async fn api_server(arguments: &PodArguments) -> Result<ApiServer, End> {
    let unusable = |error: &dyn std::fmt::Display| {
        cannot_start(exit::RETRY, "the API server cannot be used", &error.to_string())
    };
    let config = kube::Config::infer().await.map_err(|error| unusable(&error))?;
    let client = kube::Client::try_from(config).map_err(|error| unusable(&error))?;
    Ok(ApiServer::new(client, &arguments.namespace, &arguments.job))
}

/// The job, if it is the one that this worker was made for. Whether the epoch stands, the claim will tell.
async fn job(api: &dyn JobApi, identity: &Identity) -> Result<CompactionJob, End> {
    let job = read(api).await.map_err(|error| End::failed(&error.into()))?;
    if job.metadata.uid.as_deref() != Some(&identity.job_uid) {
        let error = FenceError::Fenced("the job was created anew".to_owned());
        return Err(End::failed(&error.into()));
    }
    Ok(job)
}

fn settings(job: &CompactionJob, arguments: &PodArguments) -> Settings {
    let mut settings = store_settings(&job.spec, None);
    if let Some(directory) = &arguments.credentials {
        settings.credentials = CredentialsFrom::Directory(directory.clone());
    }
    settings.ca_bundle.clone_from(&arguments.ca_bundle);
    settings
}

fn window(job: &CompactionJob) -> Result<u64, End> {
    let part = Limits::of(&job.spec)
        .map_err(|error| End::failed(&Error::Spec(error)))?
        .part;
    let limit = memory::limit();
    memory::window(limit, Window::least(part, Window::READ_BYTES)).map_err(|needed| End {
        code: exit::GIVE_UP,
        reason: "InvalidSpec".to_owned(),
        message: format!(
            "a memory limit of {} bytes is too small for parts of {part} bytes: at least {needed} are needed; raise resources.limits.memory of the container \"worker\" in spec.template, or lower upload.partSize",
            limit.unwrap_or_default()
        ),
    })
}

fn cannot_start(code: i32, what: &str, why: &str) -> End {
    End {
        code,
        reason: "CannotStart".to_owned(),
        message: format!("{what}: {why}"),
    }
}
