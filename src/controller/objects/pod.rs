//! A worker's pod: the job's template over defaults that a namespace enforcing `restricted` admits. What the
//! template sets stays, but for the few things that make a pod a worker of this epoch.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, EnvVar, EnvVarSource, LocalObjectReference,
    ObjectFieldSelector, Pod, PodSecurityContext, PodSpec, ResourceRequirements, SeccompProfile,
    SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::names::{EPOCH, SHARD, WORKER, account_name, owned, pod_name};
use crate::api::{ALLOCATOR, CompactionJob, DisruptionPolicy};

/// Annotation: a hash of what the pod was made as.
const FINGERPRINT: &str = "compaction.dev/made-as";
const CREDENTIALS: &str = "/etc/compaction/credentials";
const CA_BUNDLE: &str = "/etc/compaction/ca";
const GRACE_SECONDS: i64 = 60;
const MEMORY: &str = "256Mi";
const CPU: &str = "250m";

/// What the controller was started with, for every job's pods.
#[derive(Debug, Clone, Default)]
pub struct PodSettings {
    pub image: String,
    /// As the API server defaults it when absent.
    pub image_pull_policy: Option<String>,
    pub image_pull_secrets: Vec<String>,
    /// Names this cluster in the ledgers of a bucket.
    pub cluster: String,
    /// Filter of the workers' logs.
    pub log: String,
}

/// The pod of an epoch, with the annotation by which [`is_current`] knows it.
pub fn worker_pod(job: &CompactionJob, shard: i32, epoch: i64, settings: &PodSettings) -> Pod {
    let mut pod = build(job, shard, epoch, settings);
    let fingerprint = fingerprint(&pod);
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(FINGERPRINT.to_owned(), fingerprint);
    pod
}

/// Whether a pod would be made just like this today: from this template, by a controller with these settings.
pub fn is_current(pod: &Pod, job: &CompactionJob, shard: i32, epoch: i64, settings: &PodSettings) -> bool {
    let today = fingerprint(&build(job, shard, epoch, settings));
    pod.annotations().get(FINGERPRINT) == Some(&today)
}

fn fingerprint(pod: &Pod) -> String {
    let bytes = serde_json::to_vec(pod).unwrap_or_default();
    hex::encode(&Sha256::digest(bytes)[..8])
}

fn build(job: &CompactionJob, shard: i32, epoch: i64, settings: &PodSettings) -> Pod {
    let template = job.spec.template.as_deref().cloned().unwrap_or_default();
    let of_template = template.metadata.unwrap_or_default();
    let mut metadata = owned(job, pod_name(job, shard, epoch));
    let mut labels = of_template.labels.unwrap_or_default();
    labels.extend(metadata.labels.take().unwrap_or_default());
    labels.insert(SHARD.to_owned(), shard.to_string());
    labels.insert(EPOCH.to_owned(), epoch.to_string());
    metadata.labels = Some(labels);
    let mut annotations = of_template.annotations.unwrap_or_default();
    if job.spec.disruption_policy == DisruptionPolicy::Avoid {
        for (key, value) in [
            ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
            ("karpenter.sh/do-not-disrupt", "true"),
        ] {
            annotations.insert(key.to_owned(), value.to_owned());
        }
    }
    metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    let mut spec = template.spec.unwrap_or_default();
    complete_pod(&mut spec, job, settings);
    let grace = spec.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS);
    let arguments = arguments(job, shard, epoch, grace, settings);
    let container = worker_container(&mut spec);
    complete_container(container, arguments, job, settings);
    Pod {
        metadata,
        spec: Some(spec),
        status: None,
    }
}

fn complete_pod(spec: &mut PodSpec, job: &CompactionJob, settings: &PodSettings) {
    // A worker that ended has said why; whether another one follows is the controller's to decide.
    spec.restart_policy = Some("Never".to_owned());
    // It reads its job and patches its status.
    spec.automount_service_account_token = Some(true);
    spec.service_account_name.get_or_insert_with(|| account_name(job));
    spec.enable_service_links.get_or_insert(false);
    spec.termination_grace_period_seconds.get_or_insert(GRACE_SECONDS);
    let secrets = settings.image_pull_secrets.iter();
    spec.image_pull_secrets.get_or_insert_with(|| {
        secrets
            .map(|name| LocalObjectReference { name: name.clone() })
            .collect()
    });
    let security = spec
        .security_context
        .get_or_insert_with(PodSecurityContext::default);
    security.run_as_non_root.get_or_insert(true);
    security.seccomp_profile.get_or_insert_with(|| SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        localhost_profile: None,
    });
    spec.volumes
        .get_or_insert_default()
        .extend(references(job).into_iter().map(|reference| reference.volume));
}

fn worker_container(spec: &mut PodSpec) -> &mut Container {
    let containers = &mut spec.containers;
    let position = containers.iter().position(|container| container.name == WORKER);
    let position = position.unwrap_or_else(|| {
        containers.push(Container {
            name: WORKER.to_owned(),
            ..Container::default()
        });
        containers.len() - 1
    });
    &mut containers[position]
}

fn complete_container(
    container: &mut Container,
    arguments: Vec<String>,
    job: &CompactionJob,
    settings: &PodSettings,
) {
    container.image.get_or_insert_with(|| settings.image.clone());
    if container.image_pull_policy.is_none() {
        container
            .image_pull_policy
            .clone_from(&settings.image_pull_policy);
    }
    container.command = None;
    container.args = Some(arguments);
    let environment = container.env.get_or_insert_default();
    for variable in environment_of(settings) {
        if !environment.iter().any(|present| present.name == variable.name) {
            environment.push(variable);
        }
    }
    let mounts = references(job).into_iter().map(|reference| reference.mount);
    container.volume_mounts.get_or_insert_default().extend(mounts);
    container
        .termination_message_policy
        .get_or_insert_with(|| "FallbackToLogsOnError".to_owned());
    container.resources.get_or_insert_with(|| ResourceRequirements {
        requests: Some(quantities(&[("cpu", CPU), ("memory", MEMORY)])),
        limits: Some(quantities(&[("memory", MEMORY)])),
        ..ResourceRequirements::default()
    });
    let security = container
        .security_context
        .get_or_insert_with(SecurityContext::default);
    security.allow_privilege_escalation.get_or_insert(false);
    security.read_only_root_filesystem.get_or_insert(true);
    security.capabilities.get_or_insert_with(|| Capabilities {
        drop: Some(vec!["ALL".to_owned()]),
        add: None,
    });
}

fn arguments(job: &CompactionJob, shard: i32, epoch: i64, grace: i64, settings: &PodSettings) -> Vec<String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut arguments = vec!["worker".to_owned()];
    let mut add = |name: &str, value: String| arguments.push(format!("--{name}={value}"));
    add("namespace", text(&job.metadata.namespace));
    add("job", text(&job.metadata.name));
    add("job-uid", text(&job.metadata.uid));
    add("shard", shard.to_string());
    add("epoch", epoch.to_string());
    add("cluster", settings.cluster.clone());
    add("grace-seconds", grace.to_string());
    if job.spec.storage.s3.credentials_secret_ref.is_some() {
        add("credentials-dir", CREDENTIALS.to_owned());
    }
    if job.spec.storage.s3.ca_bundle_config_map_ref.is_some() {
        add("ca-bundle", format!("{CA_BUNDLE}/ca.crt"));
    }
    arguments
}

fn environment_of(settings: &PodSettings) -> [EnvVar; 4] {
    let plain = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    };
    let uid = EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            field_path: "metadata.uid".to_owned(),
            api_version: None,
        }),
        ..EnvVarSource::default()
    };
    [
        EnvVar {
            name: "POD_UID".to_owned(),
            value: None,
            value_from: Some(uid),
        },
        plain("COMPACTION_LOG_FORMAT", "json"),
        plain("COMPACTION_LOG", &settings.log),
        plain(ALLOCATOR.0, ALLOCATOR.1),
    ]
}

/// A Secret or `ConfigMap` that the job refers to; the kubelet mounts it, the controller never reads it.
struct Reference {
    volume: Volume,
    mount: VolumeMount,
}

fn references(job: &CompactionJob) -> Vec<Reference> {
    let s3 = &job.spec.storage.s3;
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let credentials = s3.credentials_secret_ref.as_ref().map(|reference| Reference {
        volume: Volume {
            name: "credentials".to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(reference.name.clone()),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
        mount: mount("credentials", CREDENTIALS),
    });
    let bundle = s3.ca_bundle_config_map_ref.as_ref().map(|reference| Reference {
        volume: Volume {
            name: "ca-bundle".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: reference.name.clone(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        mount: mount("ca-bundle", CA_BUNDLE),
    });
    [credentials, bundle].into_iter().flatten().collect()
}

fn quantities(of: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    of.iter()
        .map(|(name, value)| ((*name).to_owned(), Quantity((*value).to_owned())))
        .collect()
}

#[cfg(test)]
mod tests;
