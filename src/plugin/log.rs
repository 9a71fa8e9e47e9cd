//! The log of one worker's pod, from its first line or from where a connection broke, to its last.

use std::io;
use std::time::Duration;

use futures::AsyncBufReadExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::LogParams;
use kube::{Api, ResourceExt as _};

use super::Error;
use super::cluster::Cluster;
use super::say::say_bytes;
use crate::api::names::WORKER;
use crate::deadline::within;

/// Until the head of the answer is there.
const ANSWER: Duration = Duration::from_secs(15);
/// A worker that logs nothing for so long may be cut off: its log is asked for again.
const SILENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Log {
    cluster: Cluster,
    pods: Api<Pod>,
    pod: String,
    uid: Option<String>,
    prefix: String,
    /// Lines that are wanted of what there is; all that come later are.
    tail: Option<i64>,
    /// When the last line that was printed was written.
    last: Option<Timestamp>,
}

impl Log {
    pub(super) fn new(cluster: &Cluster, pod: &Pod, prefix: String, tail: Option<i64>) -> Self {
        Self {
            cluster: cluster.clone(),
            pods: cluster.pods(),
            pod: pod.name_any(),
            uid: pod.uid(),
            prefix,
            tail,
            last: None,
        }
    }

    /// What there is.
    pub(super) async fn print(mut self) -> Result<(), Error> {
        self.read(false).await
    }

    /// All that comes, until the worker has ended or its pod is gone.
    pub(super) async fn follow(mut self) -> Result<(), Error> {
        loop {
            let call = format!("get the pod {}", self.pod);
            let pod = self.cluster.ask(&call, self.pods.get_opt(&self.pod)).await;
            let pod = match pod {
                Ok(pod) => pod.filter(|pod| pod.uid() == self.uid),
                Err(error) if is_passing(&error) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(pod) = pod else { return Ok(()) };
            // What is read of a worker that had ended before is all of it.
            let ended = has_ended(&pod);
            match self.read(!ended).await {
                Ok(()) if ended => return Ok(()),
                Ok(()) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One request's lines, after those that were printed before.
    async fn read(&mut self, follow: bool) -> Result<(), Error> {
        let call = format!("read the log of the pod {}", self.pod);
        let parameters = LogParams {
            container: Some(WORKER.to_owned()),
            follow,
            timestamps: true,
            tail_lines: self.tail.filter(|_| self.last.is_none()),
            // Rounded down: lines of this second come again, and are left out below.
            since_time: self
                .last
                .and_then(|last| Timestamp::from_second(last.as_second()).ok()),
            ..LogParams::default()
        };
        let log = self.pods.log_stream(&self.pod, &parameters);
        let mut log = std::pin::pin!(match within(ANSWER, log).await {
            Ok(log) => log.map_err(|error| self.cluster.meaning(&call, error))?,
            Err(_) => return Err(interrupted(call, "no answer")),
        });
        let before = self.last;
        let mut line = Vec::new();
        loop {
            line.clear();
            match within(SILENCE, log.read_until(b'\n', &mut line)).await {
                Ok(Ok(0)) => return Ok(()),
                Ok(Ok(_)) => self.tell(&line, before)?,
                Ok(Err(error)) => return Err(interrupted(call, &error.to_string())),
                Err(_) => return Err(interrupted(call, "silence")),
            }
        }
    }

    /// What was written up to `before` was printed before.
    fn tell(&mut self, line: &[u8], before: Option<Timestamp>) -> Result<(), Error> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let Some((time, text)) = timed(line) else {
            // Not the worker's: the kubelet says why there is no log, or no more of it.
            eprintln!("{}: {}", self.pod, String::from_utf8_lossy(line));
            return Ok(());
        };
        if before.is_some_and(|before| time <= before) {
            return Ok(());
        }
        self.last = Some(time);
        let mut line = self.prefix.clone().into_bytes();
        line.extend_from_slice(text);
        say_bytes(&line)
    }
}

fn interrupted(call: String, why: &str) -> Error {
    let source = kube::Error::ReadEvents(io::Error::other(why.to_owned()));
    Error::Api {
        call,
        source: Box::new(source),
    }
}

/// Whether the same may go better in a moment.
fn is_passing(error: &Error) -> bool {
    matches!(
        error,
        Error::Late { .. } | Error::Unreachable { .. } | Error::Api { .. }
    )
}

/// The time that the kubelet puts before each line, and the line.
fn timed(line: &[u8]) -> Option<(Timestamp, &[u8])> {
    let mut parts = line.splitn(2, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    Some((time, parts.next().unwrap_or_default()))
}

fn worker(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == WORKER)
}

/// Whether the worker has run, so that there is a log.
pub(super) fn has_started(pod: &Pod) -> bool {
    let state = worker(pod).and_then(|worker| worker.state.as_ref());
    state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
}

fn has_ended(pod: &Pod) -> bool {
    let state = worker(pod).and_then(|worker| worker.state.as_ref());
    state.is_some_and(|state| state.terminated.is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_lines_time_is_told_from_the_line() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let (at, text) = timed(b"2026-01-01T00:00:05.123456789Z {\"level\": \"INFO\"}").unwrap();
        assert_eq!(at, time("2026-01-01T00:00:05.123456789Z"));
        assert_eq!(text, b"{\"level\": \"INFO\"}");
        let empty = timed(b"2026-01-01T00:00:05Z");
        assert_eq!(empty, Some((time("2026-01-01T00:00:05Z"), &b""[..])));
        assert_eq!(timed(b"unable to retrieve container logs"), None);
        assert_eq!(timed(b"\xff\xfe \xff"), None);
    }

    #[test]
    fn a_worker_that_waits_has_no_log_and_one_that_ended_has_all_of_it() {
        let pod = |state: Value| -> Pod {
            let status = json!({
                "name": "worker", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state,
            });
            serde_json::from_value(json!({"status": {"containerStatuses": [status]}})).unwrap()
        };
        let waits = pod(json!({"waiting": {"reason": "ImagePullBackOff"}}));
        let runs = pod(json!({"running": {}}));
        let ended = pod(json!({"terminated": {"exitCode": 1}}));
        assert_eq!([&waits, &runs, &ended].map(has_started), [false, true, true]);
        assert_eq!([&waits, &runs, &ended].map(has_ended), [false, false, true]);
        assert!(!has_started(&Pod::default()));
    }
}
