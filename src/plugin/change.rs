//! The commands that change something: one field of a spec each, by a merge patch under a name of the plugin's own.

use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher;
use serde_json::{Value, json};

use super::cluster::{Cluster, MANAGER};
use super::say::say;
use super::schedule::{Schedule, Status, Triggered, state, triggered};
use super::status;
use super::target::{Kind, Target};
use super::{Error, follow};
use crate::deadline::within;

/// How long the operator may take to start a run before it is no longer waited for.
const START: Duration = Duration::from_secs(20);

pub(super) async fn suspend(cluster: &Cluster, target: &Target, suspend: bool) -> Result<(), Error> {
    let object = cluster.object(target).await?;
    if suspends(&object) == suspend {
        return say(&format!("{target} has spec.suspend: {suspend} already"));
    }
    cluster.patch_spec(target, json!({"suspend": suspend})).await?;
    say(&format!("{target}: spec.suspend is {suspend} now"))?;
    warn(&object, "suspend");
    Ok(())
}

fn suspends(object: &DynamicObject) -> bool {
    object.data.pointer("/spec/suspend") == Some(&Value::Bool(true))
}

pub(super) async fn retry(cluster: &Cluster, name: &str) -> Result<(), Error> {
    let job = cluster.job(name).await?;
    if !status::has_failed(&job) {
        return Err(Error::NotFailed {
            name: name.to_owned(),
            state: status::state(&job),
        });
    }
    let target = Target {
        kind: Kind::Job,
        name: name.to_owned(),
    };
    let token = token();
    let object = cluster.patch_spec(&target, json!({"retryToken": token})).await?;
    say(&format!("{target}: spec.retryToken is {token} now"))?;
    if suspends(&object) {
        eprintln!("note: it is suspended; kubectl compaction resume {name} lets it go on");
    }
    warn(&object, "retryToken");
    Ok(())
}

pub(super) async fn run(cluster: &Cluster, name: &str) -> Result<(), Error> {
    let target = Target {
        kind: Kind::Schedule,
        name: name.to_owned(),
    };
    let before = cluster.object(&target).await?;
    let trigger = token();
    let patched = cluster
        .patch_spec(&target, json!({"manualTrigger": trigger}))
        .await?;
    say(&format!("{target}: spec.manualTrigger is {trigger} now"))?;
    warn(&before, "manualTrigger");
    let mut seen = schedule(&target, &patched)?.status;
    match within(START, started(cluster, &target, &trigger, &mut seen)).await {
        Ok(Ok(Triggered::Started(job))) => say(&format!(
            "compactionjob.compaction.dev/{job} is started; kubectl compaction status {job} -w"
        )),
        Ok(Ok(Triggered::NotStarted(why))) => Err(Error::NotRun {
            name: name.to_owned(),
            why,
        }),
        Ok(Err(error)) => Err(error),
        Err(_) => say(&format!(
            "the operator has not started it within {} s, and may still do so: kubectl compaction status \
             schedule/{name}\n{}",
            START.as_secs(),
            state(&seen)
        )),
    }
}

/// `seen`: the status at the last look.
async fn started(
    cluster: &Cluster,
    target: &Target,
    trigger: &str,
    seen: &mut Status,
) -> Result<Triggered, Error> {
    let call = format!("watch the schedule {}", target.name);
    let only = watcher::Config::default().fields(&format!("metadata.name={}", target.name));
    let mut changes = follow::events(cluster.objects(target.kind), only).applied_objects();
    loop {
        match changes.next().await.transpose() {
            Ok(object) => {
                let Some(object) = object else { continue };
                let schedule = schedule(target, &object)?;
                if let Some(outcome) = triggered(&target.name, trigger, seen, &schedule) {
                    return Ok(outcome);
                }
                *seen = schedule.status;
            }
            Err(error) => drop(follow::for_good(cluster, &call, error)?),
        }
    }
}

pub(super) fn schedule(target: &Target, object: &DynamicObject) -> Result<Schedule, Error> {
    Schedule::of(object).map_err(|source| Error::Unreadable {
        call: format!("get the schedule {}", target.name),
        source,
    })
}

/// A value that nobody has set before: the time, to the millisecond.
fn token() -> String {
    format!("{:.3}", Timestamp::now())
}

/// A field that is written down elsewhere is set back from there.
fn warn(object: &DynamicObject, field: &str) {
    if let Some(owner) = named_by(object, field) {
        eprintln!(
            "note: {owner} has set spec.{field} and may set it back; change it where that takes it from as well"
        );
    }
}

/// Who has this field of the spec in a manifest that is applied: a manager of server-side apply, or `kubectl apply`.
fn named_by(object: &DynamicObject, field: &str) -> Option<String> {
    let pointer = format!("/f:spec/f:{field}");
    let applied = object.managed_fields().iter().find(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        entry.operation.as_deref() == Some("Apply")
            && entry.manager.as_deref() != Some(MANAGER)
            && fields.is_some_and(|fields| fields.pointer(&pointer).is_some())
    });
    if let Some(entry) = applied {
        return entry.manager.clone();
    }
    let last = object
        .annotations()
        .get("kubectl.kubernetes.io/last-applied-configuration")?;
    let last: Value = serde_json::from_str(last).ok()?;
    let named = last.pointer(&format!("/spec/{field}")).is_some();
    named.then(|| "kubectl apply".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(metadata: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "compaction.dev/v1alpha1", "kind": "CompactionJob", "metadata": metadata,
        }))
        .unwrap()
    }

    fn managed(manager: &str, operation: &str) -> DynamicObject {
        let fields = json!({"f:spec": {"f:suspend": {}, "f:source": {"f:prefix": {}}}});
        object(json!({"name": "logs", "managedFields": [{
            "manager": manager, "operation": operation, "apiVersion": "compaction.dev/v1alpha1",
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        }]}))
    }

    #[test]
    fn a_field_that_is_applied_from_elsewhere_is_told_with_who_does_it() {
        let flux = managed("kustomize-controller", "Apply");
        assert_eq!(
            named_by(&flux, "suspend").as_deref(),
            Some("kustomize-controller")
        );
        assert_eq!(named_by(&flux, "retryToken"), None);
        // Defaults are among the fields of an update.
        assert_eq!(named_by(&managed("kubectl-create", "Update"), "suspend"), None);
        assert_eq!(named_by(&managed(MANAGER, "Apply"), "suspend"), None);
    }

    #[test]
    fn a_field_of_a_manifest_that_kubectl_applied_is_known_by_its_annotation() {
        let last = json!({"spec": {"suspend": false}}).to_string();
        let annotations = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
        let applied = object(json!({"name": "logs", "annotations": annotations}));
        assert_eq!(named_by(&applied, "suspend").as_deref(), Some("kubectl apply"));
        assert_eq!(named_by(&applied, "manualTrigger"), None);
    }

    #[test]
    fn a_token_fits_its_field_and_is_a_time() {
        let token = token();
        assert!(token.len() <= 63 && token.parse::<Timestamp>().is_ok(), "{token}");
    }
}
