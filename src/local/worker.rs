//! A worker as a child process: its orders come from the state file and its standard input.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::LOCAL_CLUSTER;
use super::process::STOP;
use super::state::StateFile;
use crate::api::{Limits, exit};
use crate::engine::Window;
use crate::store::S3;
use crate::worker::{self, End, Identity, JobApi, Start, store_settings};

/// What a driver starts its workers with.
pub struct WorkerArguments {
    pub state: PathBuf,
    pub shard: i32,
    pub epoch: i64,
    pub endpoint: Option<String>,
    pub window_bytes: u64,
}

/// Runs one worker to its end.
pub async fn run_worker(arguments: WorkerArguments) -> End {
    match start(arguments).await {
        Ok(start) => worker::run(start).await,
        Err(message) => End {
            code: exit::GIVE_UP,
            reason: "CannotStart".to_owned(),
            message,
        },
    }
}

async fn start(arguments: WorkerArguments) -> Result<Start, String> {
    let api = StateFile::new(&arguments.state);
    let job = api.get().await.map_err(|error| error.to_string())?;
    let settings = store_settings(&job.spec, arguments.endpoint);
    let store = S3::new(&settings).await.map_err(|error| error.to_string())?;
    let stop = CancellationToken::new();
    obey(stop.clone());
    Ok(Start {
        identity: Identity {
            job_uid: job.metadata.uid.unwrap_or_default(),
            shard: arguments.shard,
            epoch: arguments.epoch,
            holder: Uuid::new_v4().to_string(),
        },
        api: Arc::new(api),
        store: Arc::new(store),
        cluster: LOCAL_CLUSTER.to_owned(),
        window_bytes: arguments.window_bytes,
        read_bytes: Window::READ_BYTES,
        stop,
        pointer_interval: worker::at_every_batch,
        now: || jiff::Timestamp::now().as_second(),
        limits: Limits::of,
    })
}

/// Stops at the next checkpoint when told to, and at once when the driver is gone: a worker that nobody
/// counts on would only cost resources.
fn obey(stop: CancellationToken) {
    std::thread::spawn(move || {
        let mut line = String::new();
        loop {
            line.clear();
            match std::io::stdin().read_line(&mut line) {
                Ok(0) | Err(_) => std::process::exit(exit::FENCED),
                Ok(_) if line == STOP => stop.cancel(),
                Ok(_) => {}
            }
        }
    });
}
