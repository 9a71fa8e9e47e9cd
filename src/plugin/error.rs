//! Why a command ends before its work is done, and what to do about it. Words only.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use kube::config::KubeconfigError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no cluster is configured: there is no kubeconfig at {looked}; set KUBECONFIG or give --kubeconfig"
    )]
    NoKubeconfig { looked: String },
    #[error("the kubeconfig {path}: {source}", path = .path.display())]
    Kubeconfig {
        path: PathBuf,
        source: Box<KubeconfigError>,
    },
    #[error("the kubeconfig has no {what} {name}; it has {}", or_none(.there, ", "))]
    Unknown {
        what: &'static str,
        name: String,
        there: Vec<String>,
    },
    #[error("the kubeconfig has no current context; give --context: {}", or_none(.there, ", "))]
    NoContext { there: Vec<String> },
    #[error("the kubeconfig: {}", chain(.0.as_ref()))]
    Config(#[source] Box<dyn StdError + Send + Sync>),
    #[error("a client of {server}: {}", chain(.source.as_ref()))]
    Client {
        server: String,
        source: Box<kube::Error>,
    },
    #[error("{call}: {server} cannot be reached: {}; is this the right context?", chain(.source.as_ref()))]
    Unreachable {
        call: String,
        server: String,
        source: Box<kube::Error>,
    },
    #[error("{call}: {server} did not answer within {} s", .limit.as_secs())]
    Late {
        call: String,
        server: String,
        limit: Duration,
    },
    #[error(
        "{call}: the cluster does not know who you are: {message}; log in again, or choose another --user"
    )]
    Unauthorized { call: String, message: String },
    #[error("{call}: you may not: {message}; docs/plugin.md lists the rights that are needed")]
    Forbidden { call: String, message: String },
    #[error(
        "the cluster knows no {resource}: the operator's CustomResourceDefinitions are not installed, or those of \
         an older version are; see docs/operator.md"
    )]
    NoKind { resource: String },
    #[error("there is no {what} {name} in the namespace {namespace}{}", perhaps(.near))]
    NotFound {
        what: &'static str,
        name: String,
        namespace: String,
        near: Vec<String>,
    },
    #[error(
        "{call}: the answer cannot be read: {source}; the operator's version may be another one than this program's, \
         {version}",
        version = env!("CARGO_PKG_VERSION")
    )]
    Unreadable { call: String, source: serde_json::Error },
    #[error("{call}: {}", chain(.source.as_ref()))]
    Api { call: String, source: Box<kube::Error> },
    #[error("the job {name} has not failed, so there is nothing to retry: {state}")]
    NotFailed { name: String, state: String },
    #[error("the {what} {name} was deleted")]
    Deleted { what: &'static str, name: String },
    #[error(
        "the job {name} has no worker pod{shard}: none was started yet, or all have ended well and are gone"
    )]
    NoPods { name: String, shard: String },
    #[error("only a job has an end to wait for; kubectl get compactionschedule {0} --watch")]
    NoEnd(String),
    #[error("the schedule {name} did not start a run: {why}")]
    NotRun { name: String, why: String },
    #[error("standard output: {0}")]
    Output(#[source] io::Error),
    #[error("the program cannot start: {0}")]
    Start(#[source] io::Error),
}

impl Error {
    /// Whoever read the output has gone, and needs no explanation.
    pub(super) fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// An error with its causes, each said once.
fn chain(error: &(dyn StdError + 'static)) -> String {
    if let Some(kube::Error::Api(status)) = error.downcast_ref() {
        return status.message.clone();
    }
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn or_none(names: &[String], between: &str) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(between)
}

fn perhaps(near: &[String]) -> String {
    if near.is_empty() {
        return ", which has none; -n chooses another".to_owned();
    }
    format!("; there is {}", near.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let cause = io::Error::other("connection refused");
        let error = kube::Error::ReadEvents(io::Error::other(cause));
        assert_eq!(chain(&error), "Error reading events stream: connection refused");
    }

    #[test]
    fn names_that_are_near_are_offered() {
        let mut error = Error::NotFound {
            what: "job",
            name: "lgos".to_owned(),
            namespace: "lake".to_owned(),
            near: vec!["logs".to_owned()],
        };
        assert_eq!(
            error.to_string(),
            "there is no job lgos in the namespace lake; there is logs"
        );
        if let Error::NotFound { near, .. } = &mut error {
            near.clear();
        }
        assert!(error.to_string().contains("-n chooses another"));
    }
}
