//! From the pods of a job to what `decide` knows of its workers. Pure.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;

use super::decide::{WorkerEnd, WorkerState, WorkerView};
use super::objects::{EPOCH, SHARD, WORKER};

const MAX_WHY_CHARS: usize = 400;

/// `None` for a pod without a worker's labels, which is none of ours.
pub fn view(pod: &Pod) -> Option<WorkerView> {
    Some(WorkerView {
        shard: pod.labels().get(SHARD)?.parse().ok()?,
        epoch: pod.labels().get(EPOCH)?.parse().ok()?,
        state: state(pod),
    })
}

fn state(pod: &Pod) -> WorkerState {
    let container = worker_container(pod);
    let terminated = container
        .and_then(|container| container.state.as_ref()?.terminated.as_ref())
        // Of a container that was never started, or is gone, the kubelet makes an end up.
        .filter(|terminated| terminated.reason.as_deref() != Some("ContainerStatusUnknown"));
    match (disruption(pod), terminated) {
        // It was told to go and went at a checkpoint: as good as any end.
        (_, Some(terminated)) if terminated.exit_code == 0 => WorkerState::Ended(end(terminated)),
        (Some(why), terminated) if terminated.is_some() || phase(pod) == "Failed" => WorkerState::Lost(why),
        (_, Some(terminated)) => WorkerState::Ended(end(terminated)),
        _ if phase(pod) == "Failed" || phase(pod) == "Succeeded" => {
            WorkerState::Lost("the pod ended, and nothing is known of its worker".to_owned())
        }
        _ if container.is_some_and(runs) => WorkerState::Running,
        _ => WorkerState::Waiting(why_waiting(pod, container)),
    }
}

fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

fn worker_container(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == WORKER)
}

fn runs(container: &ContainerStatus) -> bool {
    container
        .state
        .as_ref()
        .is_some_and(|state| state.running.is_some())
}

/// Why the cluster took the pod away, if it did: eviction, preemption, a node that was lost or drained.
fn disruption(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.iter().flatten();
    let target = conditions
        .into_iter()
        .find(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True");
    let (reason, message) = match target {
        Some(target) => (target.reason.as_ref(), target.message.as_ref()),
        // Set by the kubelet or the node controller, never by the end of a container.
        None if status.reason.is_some() => (status.reason.as_ref(), status.message.as_ref()),
        None => return None,
    };
    Some(sentence(reason, message))
}

fn end(terminated: &ContainerStateTerminated) -> WorkerEnd {
    let code = terminated.exit_code;
    let said = terminated.message.as_deref().unwrap_or_default();
    if let Some(end) = WorkerEnd::said(code, said) {
        return end;
    }
    if terminated.reason.as_deref() == Some("OOMKilled") {
        let message = "it was killed for using more memory than its limit; raise the memory limit of the \
                       container worker in spec.template";
        return WorkerEnd {
            code: Some(code),
            reason: "OOMKilled".to_owned(),
            message: message.to_owned(),
        };
    }
    WorkerEnd::unsaid(Some(code))
}

fn why_waiting(pod: &Pod, container: Option<&ContainerStatus>) -> String {
    let waiting = container.and_then(|container| container.state.as_ref()?.waiting.as_ref());
    if let Some(waiting) = waiting {
        if waiting.reason.as_deref() == Some("ContainerCreating") {
            return creating(pod);
        }
        return sentence(waiting.reason.as_ref(), waiting.message.as_ref());
    }
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let unscheduled = conditions
        .into_iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    match unscheduled {
        Some(condition) => sentence(condition.reason.as_ref(), condition.message.as_ref()),
        None => creating(pod),
    }
}

/// The kubelet tells only in events that a Secret is missing, so the names are said here.
fn creating(pod: &Pod) -> String {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let needs: Vec<String> = volumes
        .filter_map(|volume| {
            let secret = volume
                .secret
                .as_ref()
                .and_then(|secret| secret.secret_name.clone());
            let config = volume.config_map.as_ref().map(|config| config.name.clone());
            secret
                .map(|name| format!("Secret {name}"))
                .or_else(|| config.map(|name| format!("ConfigMap {name}")))
        })
        .collect();
    if needs.is_empty() {
        return "the container is being created".to_owned();
    }
    format!("the container is being created; it needs {}", needs.join(" and "))
}

fn sentence(reason: Option<&String>, message: Option<&String>) -> String {
    let (reason, message) = (
        reason.map_or("", String::as_str),
        message.map_or("", String::as_str),
    );
    let text = match (reason, message) {
        ("", text) | (text, "") => text.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    };
    text.chars().take(MAX_WHY_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::exit;

    fn seen(status: Value) -> WorkerState {
        let pod = json!({
            "metadata": {"labels": {"compaction.dev/shard": "2", "compaction.dev/epoch": "5"}},
            "spec": {"containers": [], "volumes": [{"name": "credentials", "secret": {"secretName": "keys"}}]},
            "status": status,
        });
        let view = view(&serde_json::from_value(pod).unwrap()).unwrap();
        assert_eq!((view.shard, view.epoch), (2, 5));
        view.state
    }

    fn with_container(state: Value) -> Value {
        json!({
            "phase": "Running",
            "containerStatuses": [
                {"name": "sidecar", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}},
                {"name": "worker", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state},
            ],
        })
    }

    fn ended(code: i32, reason: &str, message: &str) -> Value {
        with_container(json!({"terminated": {"exitCode": code, "reason": reason, "message": message}}))
    }

    #[test]
    fn a_reason_that_is_no_word_is_not_taken_from_whoever_wrote_it() {
        for reason in ["", "two words", "\u{1f600}", &"A".repeat(65)] {
            let said = json!({"code": 3, "reason": reason, "message": "m"}).to_string();
            let WorkerState::Ended(end) = seen(ended(3, "Error", &said)) else {
                panic!("it ended")
            };
            assert_eq!(
                (end.code, end.reason.as_str()),
                (Some(3), "WorkerLost"),
                "{reason}"
            );
        }
    }

    #[test]
    fn a_pod_without_our_labels_is_none_of_ours() {
        assert_eq!(view(&Pod::default()), None);
    }

    #[test]
    fn a_worker_runs_when_its_container_does_and_not_when_another_one_does() {
        assert_eq!(seen(with_container(json!({"running": {}}))), WorkerState::Running);
        let waiting =
            with_container(json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}));
        assert_eq!(
            seen(waiting),
            WorkerState::Waiting("ImagePullBackOff: no such image".to_owned())
        );
    }

    #[test]
    fn why_a_pod_waits_is_told() {
        let unscheduled = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"},
        ]});
        assert_eq!(
            seen(unscheduled),
            WorkerState::Waiting("Unschedulable: 0/1 nodes".to_owned())
        );
        let creating = with_container(json!({"waiting": {"reason": "ContainerCreating"}}));
        let WorkerState::Waiting(why) = seen(creating) else {
            panic!("it waits")
        };
        assert!(why.contains("Secret keys"), "{why}");
        assert!(matches!(
            seen(json!({"phase": "Pending"})),
            WorkerState::Waiting(_)
        ));
    }

    #[test]
    fn the_end_is_what_the_worker_said_if_its_code_agrees() {
        let said = r#"{"code":64,"reason":"BadSource","message":"in/a is cut short"}"#;
        let WorkerState::Ended(end) = seen(ended(exit::GIVE_UP, "Error", said)) else {
            panic!("it ended")
        };
        assert_eq!((end.code, end.reason.as_str()), (Some(64), "BadSource"));
        let WorkerState::Ended(end) = seen(ended(137, "Error", said)) else {
            panic!("it ended")
        };
        assert_eq!((end.code, end.reason.as_str()), (Some(137), "WorkerLost"));
        let WorkerState::Ended(end) = seen(ended(137, "OOMKilled", "")) else {
            panic!("it ended")
        };
        assert_eq!(end.reason, "OOMKilled");
    }

    #[test]
    fn an_evicted_worker_is_nobodys_fault_unless_it_ended_well() {
        let mut evicted = ended(137, "Error", "");
        evicted["conditions"] = json!([
            {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "for another"},
        ]);
        assert_eq!(
            seen(evicted.clone()),
            WorkerState::Lost("PreemptionByScheduler: for another".to_owned())
        );
        evicted["containerStatuses"][1]["state"]["terminated"]["exitCode"] = json!(0);
        assert!(matches!(seen(evicted), WorkerState::Ended(_)));
        let pressure = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
        assert_eq!(
            seen(pressure),
            WorkerState::Lost("Evicted: low on memory".to_owned())
        );
    }

    #[test]
    fn a_pod_that_was_deleted_before_its_container_was_started_is_nobodys_fault() {
        let mut deleted = ended(
            137,
            "ContainerStatusUnknown",
            "The container could not be located",
        );
        deleted["phase"] = json!("Failed");
        assert!(matches!(seen(deleted), WorkerState::Lost(_)));
    }

    #[test]
    fn one_that_is_to_be_disrupted_runs_until_it_ends() {
        let mut running = with_container(json!({"running": {}}));
        running["conditions"] =
            json!([{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]);
        assert_eq!(seen(running), WorkerState::Running);
    }
}
