//! `logs`: what a job's workers log, and with `--follow` what the workers log that are still to come, until the job ends.
//! Passes lines on as they are.

use std::collections::HashSet;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher;
use tokio::task::JoinSet;

use super::cli::LogsArguments;
use super::cluster::{Cluster, place, workers_of};
use super::log::{Log, has_started};
use super::{Error, follow, status};
use crate::api::CompactionJob;
use crate::deadline::within;

/// The last lines of a job's workers have so long to come after its end.
const LAST_LINES: Duration = Duration::from_secs(15);

pub(super) async fn logs(cluster: &Cluster, arguments: &LogsArguments) -> Result<(), Error> {
    let job = cluster.job(&arguments.job.0).await?;
    if arguments.follow && status::end(&job).is_none() {
        return Follower::new(cluster, job, arguments).run().await;
    }
    let pods = cluster.workers(&job, arguments.shard).await?;
    if pods.is_empty() {
        let shard = arguments.shard.map(|shard| format!(" of shard {shard}"));
        return Err(Error::NoPods {
            name: job.name_any(),
            shard: shard.unwrap_or_default(),
        });
    }
    for pod in &pods {
        let prefix = if pods.len() > 1 {
            prefix(pod)
        } else {
            String::new()
        };
        if !has_started(pod) {
            eprintln!("{} has not started yet", pod.name_any());
            continue;
        }
        Log::new(cluster, pod, prefix, arguments.tail).print().await?;
    }
    Ok(())
}

/// Whose line it is, where there are several: `[SHARD/EPOCH] `.
fn prefix(pod: &Pod) -> String {
    let (shard, epoch) = place(pod);
    format!("[{shard}/{epoch}] ")
}

/// The pods of a job, each with a task of its own that reads its log.
struct Follower<'a> {
    cluster: &'a Cluster,
    job: CompactionJob,
    arguments: &'a LogsArguments,
    /// UIDs of the pods whose logs are read or were.
    taken: HashSet<String>,
    readers: JoinSet<Result<(), Error>>,
}

impl<'a> Follower<'a> {
    fn new(cluster: &'a Cluster, job: CompactionJob, arguments: &'a LogsArguments) -> Self {
        Self {
            cluster,
            job,
            arguments,
            taken: HashSet::new(),
            readers: JoinSet::new(),
        }
    }

    async fn run(mut self) -> Result<(), Error> {
        let name = self.job.name_any();
        let of_job = watcher::Config::default().labels(&workers_of(&self.job, self.arguments.shard));
        let mut pods = follow::events(self.cluster.pods(), of_job).applied_objects();
        let mut changes = Box::pin(follow::job(self.cluster, &name));
        loop {
            tokio::select! {
                pod = pods.next() => match pod.transpose() {
                    Ok(pod) => pod.iter().for_each(|pod| self.take(pod)),
                    Err(error) => self.goes_on("watch the job's pods", error)?,
                },
                change = changes.next() => match change.transpose() {
                    Ok(Some(Some(job))) if job.uid() == self.job.uid() && status::end(&job).is_none() => {}
                    Ok(_) => break,
                    Err(error) => self.goes_on("watch the job", error)?,
                },
                Some(read) = self.readers.join_next() => joined(read)?,
            }
        }
        self.finish().await
    }

    fn take(&mut self, pod: &Pod) {
        if !has_started(pod) || !self.taken.insert(pod.uid().unwrap_or_default()) {
            return;
        }
        let log = Log::new(self.cluster, pod, prefix(pod), self.arguments.tail);
        self.readers.spawn(log.follow());
    }

    fn goes_on(&self, call: &str, error: watcher::Error) -> Result<(), Error> {
        let why = follow::for_good(self.cluster, call, error)?;
        eprintln!("{why}; it is tried again");
        Ok(())
    }

    /// The job has ended: pods that the watch has not shown yet, and the rest of every log.
    async fn finish(mut self) -> Result<(), Error> {
        let pods = self.cluster.workers(&self.job, self.arguments.shard).await?;
        for pod in &pods {
            self.take(pod);
        }
        let read = futures::stream::poll_fn(|context| self.readers.poll_join_next(context));
        // A worker that goes on after the job's end, as when it removes working files, is not waited for.
        let rest = read.map(joined).try_collect::<()>();
        within(LAST_LINES, rest).await.unwrap_or(Ok(()))
    }
}

/// A reader that panicked or was aborted has nothing to say.
fn joined(read: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    read.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_told_by_shard_and_epoch_and_pods_are_in_their_order() {
        let pod = |shard: &str, epoch: &str| -> Pod {
            let labels = json!({"compaction.dev/shard": shard, "compaction.dev/epoch": epoch});
            serde_json::from_value(json!({"metadata": {"labels": labels}})).unwrap()
        };
        let mut pods = [pod("10", "1"), pod("2", "11"), pod("2", "9")];
        pods.sort_by_key(place);
        let prefixes: Vec<String> = pods.iter().map(prefix).collect();
        assert_eq!(prefixes, ["[2/9] ", "[2/11] ", "[10/1] "]);
    }
}
