//! The plugin's calls to the API server, each with a deadline, and what their failures mean to people. Writes nothing
//! but the spec fields that [`Cluster::patch_spec`] is given.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::Error;
use super::target::{Kind, Target};
use crate::api::names::{EPOCH, JOB_UID, SHARD};
use crate::api::{CompactionJob, GROUP};
use crate::deadline::within;

/// A call, the client's own repetitions included.
const CALL: Duration = Duration::from_secs(15);

/// Under which name the API server remembers whose a field is. Not one that begins with `kubectl`: Flux takes the fields
/// of those for its own, and with that away what Git does not name (docs/plugin.md).
pub(super) const MANAGER: &str = "compaction-plugin";

/// So many names are offered in place of one that does not exist.
const OFFERED: usize = 3;

/// One namespace of a cluster.
#[derive(Clone)]
pub(super) struct Cluster {
    client: Client,
    pub namespace: String,
    server: String,
}

impl Cluster {
    pub(super) fn new(client: Client, namespace: String, server: String) -> Self {
        Self {
            client,
            namespace,
            server,
        }
    }

    pub(super) fn jobs(&self) -> Api<CompactionJob> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) fn objects(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource())
    }

    pub(super) async fn job(&self, name: &str) -> Result<CompactionJob, Error> {
        let what = format!("get the job {name}");
        let answer = self.ask(&what, self.jobs().get(name)).await;
        self.found(answer, Kind::Job, name).await
    }

    pub(super) async fn object(&self, target: &Target) -> Result<DynamicObject, Error> {
        let what = format!("get the {} {}", target.kind.word(), target.name);
        let objects = self.objects(target.kind);
        let answer = self.ask(&what, objects.get(&target.name)).await;
        self.found(answer, target.kind, &target.name).await
    }

    /// Sets fields of the spec, and nothing else.
    pub(super) async fn patch_spec(&self, target: &Target, fields: Value) -> Result<DynamicObject, Error> {
        let what = format!("change the {} {}", target.kind.word(), target.name);
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = json!({"spec": fields});
        let objects = self.objects(target.kind);
        let answer = self
            .ask(
                &what,
                objects.patch(&target.name, &parameters, &Patch::Merge(&patch)),
            )
            .await;
        self.found(answer, target.kind, &target.name).await
    }

    /// The job's worker pods, or those of one shard, in the order of shards and epochs.
    pub(super) async fn workers(&self, job: &CompactionJob, shard: Option<i32>) -> Result<Vec<Pod>, Error> {
        let parameters = ListParams::default().labels(&workers_of(job, shard));
        let pods = self.pods();
        let pods = self.ask("list the job's pods", pods.list(&parameters)).await?;
        let mut pods = pods.items;
        pods.sort_by_key(place);
        Ok(pods)
    }

    pub(super) async fn names(&self, kind: Kind) -> Result<Vec<String>, Error> {
        let what = format!("list the {}s", kind.word());
        let objects: Api<PartialObjectMeta<DynamicObject>> =
            Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource());
        let list = self.ask(&what, objects.list(&ListParams::default())).await;
        match list {
            Err(error) if is_not_found(&error) => Err(no_kind(kind)),
            list => Ok(list?.iter().map(ResourceExt::name_any).collect()),
        }
    }

    pub(super) async fn namespaces(&self) -> Result<Vec<String>, Error> {
        let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let all = ListParams::default();
        let list = self.ask("list the namespaces", namespaces.list(&all)).await?;
        Ok(list.iter().map(ResourceExt::name_any).collect())
    }

    /// Of an object that is not there it is told which ones are.
    async fn found<T>(&self, answer: Result<T, Error>, kind: Kind, name: &str) -> Result<T, Error> {
        match answer {
            Err(error) if is_not_found(&error) => {
                let near = match self.names(kind).await {
                    Ok(names) => nearest(name, names),
                    Err(error @ Error::NoKind { .. }) => return Err(error),
                    // Who may look at one may not list them all.
                    Err(_) => vec![format!("no right to list the {}s that are there", kind.word())],
                };
                Err(Error::NotFound {
                    what: kind.word(),
                    name: name.to_owned(),
                    namespace: self.namespace.clone(),
                    near,
                })
            }
            other => other,
        }
    }

    pub(super) async fn ask<T>(
        &self,
        call: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        match within(CALL, request).await {
            Ok(answer) => answer.map_err(|error| self.meaning(call, error)),
            Err(elapsed) => Err(Error::Late {
                call: call.to_owned(),
                server: self.server.clone(),
                limit: elapsed.0,
            }),
        }
    }

    pub(super) fn meaning(&self, call: &str, error: kube::Error) -> Error {
        let call = call.to_owned();
        match error {
            kube::Error::Api(status) if status.code == 401 => Error::Unauthorized {
                call,
                message: status.message,
            },
            kube::Error::Api(status) if status.is_forbidden() => Error::Forbidden {
                call,
                message: status.message,
            },
            kube::Error::SerdeError(source) => Error::Unreadable { call, source },
            kube::Error::HyperError(_) | kube::Error::Service(_) => Error::Unreachable {
                call,
                server: self.server.clone(),
                source: Box::new(error),
            },
            error => Error::Api {
                call,
                source: Box::new(error),
            },
        }
    }
}

/// Shard and epoch of a worker's pod; the order in which pods are told.
pub(super) fn place(pod: &Pod) -> (i64, i64) {
    let label = |name: &str| pod.labels().get(name).and_then(|text| text.parse().ok());
    (label(SHARD).unwrap_or_default(), label(EPOCH).unwrap_or_default())
}

/// The label selector of a job's worker pods.
pub(super) fn workers_of(job: &CompactionJob, shard: Option<i32>) -> String {
    let of_job = format!("{JOB_UID}={}", job.uid().unwrap_or_default());
    match shard {
        Some(shard) => format!("{of_job},{SHARD}={shard}"),
        None => of_job,
    }
}

fn is_not_found(error: &Error) -> bool {
    let Error::Api { source, .. } = error else {
        return false;
    };
    // Of a kind that is not there, the API server says it in plain text, without a reason.
    matches!(&**source, kube::Error::Api(status) if status.code == 404)
}

fn no_kind(kind: Kind) -> Error {
    Error::NoKind {
        resource: format!("{}s.{GROUP}", kind.singular()),
    }
}

/// The names that look most like `name`.
fn nearest(name: &str, mut names: Vec<String>) -> Vec<String> {
    let distance = |other: &String| strsim::damerau_levenshtein(name, other);
    names.sort_by_cached_key(|other| (distance(other), other.clone()));
    names.truncate(OFFERED);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_that_look_most_alike_are_offered_first() {
        let names = ["events", "logs-of-yesterday", "logs", "lakes", "metrics"];
        let near = nearest("lgos", names.map(str::to_owned).into());
        assert_eq!(near, ["logs", "lakes", "events"]);
        assert_eq!(nearest("logs", Vec::new()), [""; 0]);
    }
}
