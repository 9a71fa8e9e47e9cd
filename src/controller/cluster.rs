//! The calls to the API server that a reconciliation makes, each with a deadline. Decides nothing.

use std::time::Duration;

use json_patch::Patch as JsonPatch;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::decide::{FinalizerChange, WorkerView};
use super::objects::{self, Access, JOB_UID, PodSettings};
use super::observe;
use crate::api::CompactionJob;
use crate::deadline::within;

/// A call, the client's own repetitions included.
const CALL: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{call}: the API server did not answer in time")]
    Late { call: &'static str },
    #[error("{call}: {source}")]
    Api {
        call: &'static str,
        source: Box<kube::Error>,
    },
    #[error("{kind} {name} exists and belongs to somebody else; remove or rename it")]
    NotOurs { kind: String, name: String },
    #[error("the next status cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What came of a patch whose tests protect what others write.
pub(super) enum Patched {
    Done(Box<CompactionJob>),
    /// The job is not what it was taken for, or is gone: look again.
    Refused,
}

/// What came of making a pod, or what it needs.
pub(super) enum Made {
    Done,
    /// The cluster does not allow it now: a quota, an admission policy, a namespace that goes away.
    Denied(String),
}

/// One namespace of the API server.
pub(super) struct Cluster {
    pub client: Client,
    pub namespace: String,
}

impl Cluster {
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The job's pods as they are now, not as a cache has them: one that was just made must not be missed.
    pub(super) async fn pods(&self, job: &CompactionJob) -> Result<Vec<(Pod, WorkerView)>, Error> {
        let uid = job.uid().unwrap_or_default();
        let of_job = ListParams::default().labels(&format!("{JOB_UID}={uid}"));
        let pods = call("list the job's pods", self.api::<Pod>().list(&of_job)).await?;
        let ours = pods
            .into_iter()
            .filter(|pod| pod.owner_references().iter().any(|owner| owner.uid == uid));
        Ok(ours
            .filter_map(|pod| observe::view(&pod).map(|view| (pod, view)))
            .collect())
    }

    pub(super) async fn patch_status(
        &self,
        job: &CompactionJob,
        patch: &JsonPatch,
    ) -> Result<Patched, Error> {
        let api = self.api::<CompactionJob>();
        let patch = Patch::Json::<()>(patch.clone());
        let (name, parameters) = (job.name_any(), as_controller());
        let answer = call(
            "patch the job's status",
            api.patch_status(&name, &parameters, &patch),
        )
        .await;
        patched(answer)
    }

    pub(super) async fn change_finalizer(
        &self,
        job: &CompactionJob,
        change: FinalizerChange,
    ) -> Result<Patched, Error> {
        let mut finalizers = job.finalizers().to_vec();
        change.apply(&mut finalizers);
        // The resource version keeps other people's finalizers safe.
        let patch = serde_json::json!({"metadata": {
            "uid": job.metadata.uid,
            "resourceVersion": job.metadata.resource_version,
            "finalizers": finalizers,
        }});
        let api = self.api::<CompactionJob>();
        let (name, parameters) = (job.name_any(), as_controller());
        let answer = call(
            "change the job's finalizer",
            api.patch(&name, &parameters, &Patch::Merge(&patch)),
        )
        .await;
        patched(answer)
    }

    pub(super) async fn delete_job(&self, job: &CompactionJob) -> Result<(), Error> {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: job.uid(),
                resource_version: job.resource_version(),
            }),
            ..DeleteParams::background()
        };
        let api = self.api::<CompactionJob>();
        gone(call("delete the job", api.delete(&job.name_any(), &parameters)).await)
    }

    /// Asks the kubelet to end a pod; the grace is the pod's own.
    pub(super) async fn delete_pod(&self, pod: &Pod) -> Result<(), Error> {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: pod.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        gone(
            call(
                "delete a pod",
                self.api::<Pod>().delete(&pod.name_any(), &parameters),
            )
            .await,
        )
    }

    /// The account, role and binding of the job's workers.
    pub(super) async fn allow_workers(&self, job: &CompactionJob) -> Result<Made, Error> {
        let Access {
            account,
            role,
            binding,
        } = objects::access(job);
        if let Some(account) = account
            && let denied @ Made::Denied(_) = self
                .create(job, "create the workers' service account", &account)
                .await?
        {
            return Ok(denied);
        }
        if let denied @ Made::Denied(_) = self.create(job, "create the workers' role", &role).await? {
            return Ok(denied);
        }
        self.create(job, "create the workers' role binding", &binding)
            .await
    }

    pub(super) async fn make_pod(
        &self,
        job: &CompactionJob,
        shard: i32,
        epoch: i64,
        settings: &PodSettings,
    ) -> Result<Made, Error> {
        let pod = objects::worker_pod(job, shard, epoch, settings);
        self.create(job, "create a pod", &pod).await
    }

    /// One that is there already is taken for ours only if it belongs to this very job.
    async fn create<K>(&self, job: &CompactionJob, what: &'static str, object: &K) -> Result<Made, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Serialize
            + std::fmt::Debug,
    {
        let api = self.api::<K>();
        match call(what, api.create(&PostParams::default(), object)).await {
            Ok(_) => Ok(Made::Done),
            Err(Error::Api { source, .. }) if is_denied(&source) => Ok(Made::Denied(message(&source))),
            Err(Error::Api { source, .. })
                if status(&source).is_some_and(kube::core::Status::is_already_exists) =>
            {
                let name = object.name_any();
                let there = call(what, api.get(&name)).await?;
                let uid = job.uid();
                if there
                    .owner_references()
                    .iter()
                    .any(|owner| Some(&owner.uid) == uid.as_ref())
                {
                    return Ok(Made::Done);
                }
                Err(Error::NotOurs {
                    kind: K::kind(&()).into_owned(),
                    name,
                })
            }
            Err(error) => Err(error),
        }
    }
}

/// Under which name the API server remembers whose a field is.
pub(super) fn as_controller() -> PatchParams {
    PatchParams {
        field_manager: Some("compaction-operator".to_owned()),
        ..PatchParams::default()
    }
}

pub(super) async fn call<T>(
    call: &'static str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match within(CALL, request).await {
        Ok(answer) => answer.map_err(|source| Error::Api {
            call,
            source: Box::new(source),
        }),
        Err(_) => Err(Error::Late { call }),
    }
}

pub(super) fn status(error: &kube::Error) -> Option<&kube::core::Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

pub(super) fn message(error: &kube::Error) -> String {
    status(error).map_or_else(|| error.to_string(), |status| status.message.clone())
}

/// The object breaks the schema or a rule.
pub(super) fn refused(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.is_invalid() && !is_of_policy(status))
}

/// The cluster's policy denies what is valid by itself, with a code that says little: a policy without a `reason`
/// answers 422, a webhook what it likes, and 400 where it names none.
/// <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>
/// <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>
fn is_of_policy(status: &kube::core::Status) -> bool {
    let message = &status.message;
    let of_webhook = message.starts_with("admission webhook \"") && message.contains("\" denied the request");
    of_webhook || message.contains(" is forbidden: ValidatingAdmissionPolicy '")
}

/// 403 is a quota, an admission policy, a right that the operator lacks, or a namespace that goes away; 422 a template that
/// no pod can have, or a policy; a webhook's denial has any code.
/// All may change without the job, and none is the work's fault.
pub(super) fn is_denied(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.is_invalid() || status.is_forbidden() || is_of_policy(status))
}

fn patched(answer: Result<CompactionJob, Error>) -> Result<Patched, Error> {
    match answer {
        Ok(job) => Ok(Patched::Done(Box::new(job))),
        Err(Error::Api { source, .. })
            if status(&source).is_some_and(|s| s.is_invalid() || s.is_conflict() || s.is_not_found()) =>
        {
            tracing::debug!(why = message(&source), "a patch was refused");
            Ok(Patched::Refused)
        }
        Err(error) => Err(error),
    }
}

/// What is to be deleted and is gone, or is another one by now, needs no deleting.
pub(super) fn gone<T>(answer: Result<T, Error>) -> Result<(), Error> {
    match answer {
        Err(Error::Api { source, .. })
            if status(&source).is_some_and(|s| s.is_not_found() || s.is_conflict()) =>
        {
            Ok(())
        }
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn error(message: &str, reason: &str, code: u16) -> kube::Error {
        kube::Error::Api(Status::failure(message, reason).with_code(code).boxed())
    }

    #[test]
    fn a_policy_that_gives_no_reason_denies_what_is_valid() {
        let denied = "compactionjobs.compaction.dev \"logs-m1\" is forbidden: ValidatingAdmissionPolicy 'frozen' with \
                      binding 'frozen' denied request: nothing is compacted during the audit";
        for (reason, code) in [("Invalid", 422), ("Forbidden", 403)] {
            let error = error(denied, reason, code);
            assert_eq!((refused(&error), is_denied(&error)), (false, true), "{reason}");
        }
    }

    #[test]
    fn a_webhook_denies_what_is_valid_with_any_code() {
        let denied =
            "admission webhook \"validate.policies.example.com\" denied the request: no jobs at night";
        let without =
            "admission webhook \"validate.policies.example.com\" denied the request without explanation";
        for (message, reason, code) in [
            (denied, "", 400),
            (without, "", 400),
            (denied, "Invalid", 422),
            (denied, "Forbidden", 403),
            (denied, "InternalError", 500),
        ] {
            let error = error(message, reason, code);
            assert_eq!((refused(&error), is_denied(&error)), (false, true), "{code}");
        }
    }

    #[test]
    fn an_answer_that_is_no_denial_is_neither() {
        for (message, reason, code) in [
            (
                "the body of the request was in an unknown format",
                "BadRequest",
                400,
            ),
            (
                "Internal error occurred: failed calling webhook \"a\": timeout",
                "InternalError",
                500,
            ),
        ] {
            let error = error(message, reason, code);
            assert_eq!((refused(&error), is_denied(&error)), (false, false), "{code}");
        }
    }

    #[test]
    fn what_breaks_a_rule_is_refused_whatever_its_name() {
        let invalid = "CompactionJob.compaction.dev \"ValidatingAdmissionPolicy\" is invalid: spec.output.prefix: Required";
        assert!(refused(&error(invalid, "Invalid", 422)));
        assert!(!refused(&error("exceeded quota", "Forbidden", 403)));
    }
}
