//! Workers as child processes of the same binary. They end when this process does, because the pipe
//! that is their standard input closes then.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};

use crate::api::ALLOCATOR;
use crate::controller::WorkerEnd;
use crate::store::AccessKeys;

/// The line on its standard input that asks a worker to stop at the next checkpoint.
pub(crate) const STOP: &str = "stop\n";

/// How long a worker may take to reach a checkpoint when it is to stop.
pub(crate) const GRACE: Duration = Duration::from_secs(30);

/// What every worker of a run is started with.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub program: PathBuf,
    pub state: PathBuf,
    /// In place of the endpoint in the spec, with its keys.
    pub endpoint: Option<Endpoint>,
    pub window_bytes: u64,
}

#[derive(Debug, Clone)]
pub struct Endpoint {
    pub url: String,
    pub keys: AccessKeys,
}

/// Shard, epoch and end of a worker that is gone.
pub(crate) type Ended = (i32, i64, WorkerEnd);

pub(crate) struct Process {
    pub shard: i32,
    pub epoch: i64,
    input: Option<ChildStdin>,
    kill: Option<oneshot::Sender<()>>,
    stopping: Option<Instant>,
}

impl Process {
    pub(crate) fn start(
        recipe: &Recipe,
        shard: i32,
        epoch: i64,
        ended: mpsc::UnboundedSender<Ended>,
    ) -> std::io::Result<Self> {
        let mut command = Command::new(&recipe.program);
        command.arg("local-worker").arg("--state").arg(&recipe.state);
        command.args(["--shard", &shard.to_string(), "--epoch", &epoch.to_string()]);
        command.args(["--window", &recipe.window_bytes.to_string()]);
        if std::env::var_os(ALLOCATOR.0).is_none() {
            command.env(ALLOCATOR.0, ALLOCATOR.1);
        }
        if let Some(endpoint) = &recipe.endpoint {
            command.args(["--endpoint", &endpoint.url]);
            command.env("AWS_ACCESS_KEY_ID", &endpoint.keys.access_key);
            command.env("AWS_SECRET_ACCESS_KEY", &endpoint.keys.secret_key);
            command.env_remove("AWS_SESSION_TOKEN");
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A terminal interrupts a whole group; workers stop when the driver says so.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let mut output = child.stdout.take();
        let (kill, killed) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let mut said = String::new();
            let read = async {
                if let Some(output) = &mut output {
                    // What cannot be read is told like a worker that said nothing.
                    output.read_to_string(&mut said).await.ok();
                }
            };
            tokio::select! {
                () = read => {}
                _ = killed => { child.start_kill().ok(); }
            }
            let code = child.wait().await.ok().and_then(|status| status.code());
            // The driver may be gone already.
            ended.send((shard, epoch, worker_end(code, &said))).ok();
        });
        Ok(Self {
            shard,
            epoch,
            input,
            kill: Some(kill),
            stopping: None,
        })
    }

    /// Asks the worker to stop at the next checkpoint; said again after [`GRACE`], ends it at once.
    pub(crate) async fn stop(&mut self) {
        match (self.stopping, &mut self.input) {
            (None, Some(input)) => {
                self.stopping = Some(Instant::now());
                // A worker that has ended already does not read this.
                input.write_all(STOP.as_bytes()).await.ok();
            }
            (Some(since), _) if since.elapsed() < GRACE => {}
            _ => {
                if let Some(kill) = self.kill.take() {
                    kill.send(()).ok();
                }
            }
        }
    }
}

/// What else it printed comes before.
fn worker_end(code: Option<i32>, printed: &str) -> WorkerEnd {
    let said = printed.lines().last().unwrap_or_default();
    let end = code.and_then(|code| WorkerEnd::said(code, said));
    end.unwrap_or_else(|| WorkerEnd::unsaid(code))
}
