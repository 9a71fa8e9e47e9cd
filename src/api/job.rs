//! `CompactionJob`: what the user asks for.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{CompactionJobStatus, Deduplicate, Quantity};

pub const GROUP: &str = "compaction.dev";
pub const VERSION: &str = "v1alpha1";
/// Keeps a deleted job until its last worker has cleaned up.
pub const FINALIZER: &str = "compaction.dev/cleanup";

/// Compaction of the objects under one prefix, done once.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "compaction.dev",
    version = "v1alpha1",
    kind = "CompactionJob",
    namespaced,
    cel,
    derive = "PartialEq",
    status = "CompactionJobStatus",
    shortname = "cptj",
    category = "compaction",
    doc = "Merges many small objects under a prefix of an S3-compatible bucket into few large ones, batch by batch, each durable before it counts.",
    printcolumn(name = "State", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress.summary"),
    printcolumn(name = "Eta", type_ = "string", json_path = ".status.progress.estimatedCompletionTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Shards", type_ = "integer", json_path = ".status.plan.shards", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = Rule::new("self.metadata.name.size() <= 46")
        .message("the name may have at most 46 characters, so that the names of worker pods fit"),
)]
#[x_kube(
    validation = Rule::new("self.storage == oldSelf.storage && self.source == oldSelf.source && self.format == oldSelf.format && self.output == oldSelf.output && self.statePrefix == oldSelf.statePrefix && self.batch.size == oldSelf.batch.size && self.upload.partSize == oldSelf.upload.partSize")
        .message("storage, source, format, output, statePrefix, batch.size and upload.partSize cannot be changed, because the plan depends on them; create a new CompactionJob"),
    validation = Rule::new("has(self.deduplicate) == has(oldSelf.deduplicate) && (!has(self.deduplicate) || self.deduplicate == oldSelf.deduplicate)")
        .message("deduplicate cannot be changed, because the plan depends on it; create a new CompactionJob"),
    validation = Rule::new("!has(self.deduplicate) || self.maxFailedGroups == 0")
        .message("maxFailedGroups must be 0 with deduplicate: groups are deduplicated several at a time, so none can be given up alone"),
    validation = Rule::new("!self.output.prefix.startsWith(self.source.prefix) && !self.source.prefix.startsWith(self.output.prefix)")
        .message("source.prefix and output.prefix may not contain each other, or outputs would become sources"),
    validation = Rule::new("!self.statePrefix.startsWith(self.output.prefix) && !self.output.prefix.startsWith(self.statePrefix) && !self.source.prefix.startsWith(self.statePrefix)")
        .message("statePrefix may not contain the source or output prefix, nor lie inside the output prefix"),
    validation = Rule::new("self.batch.backoffPeriodSeconds <= self.batch.maxBackoffPeriodSeconds")
        .message("batch.backoffPeriodSeconds may not exceed batch.maxBackoffPeriodSeconds"),
    validation = Rule::new("!has(self.template) || !has(self.template.spec) || !has(self.template.spec.restartPolicy) || self.template.spec.restartPolicy == 'Never'")
        .message("template.spec.restartPolicy can only be Never, because the controller starts the next worker itself"),
)]
pub struct CompactionJobSpec {
    /// Where the objects are.
    pub storage: Storage,
    /// Which objects are read.
    pub source: Source,
    /// What the objects hold.
    #[serde(default)]
    pub format: Format,
    /// Absent: every record is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<Deduplicate>,
    /// What is written.
    pub output: Output,
    /// Prefix of the working files (plan, checkpoints' bodies, tails), in the same bucket.
    #[serde(default = "default_state_prefix")]
    #[schemars(regex(pattern = r"^[^/].*/$"), length(max = 512))]
    pub state_prefix: String,
    #[serde(default)]
    pub batch: Batch,
    #[serde(default)]
    pub upload: Upload,
    #[serde(default)]
    pub read: Read,
    /// What happens to the sources once their bytes are in a published output.
    #[serde(default)]
    pub source_disposition: SourceDisposition,
    /// How long sources outlive the publication when they are deleted.
    #[serde(default = "default_source_retention_seconds")]
    #[schemars(range(min = 0, max = 315_360_000))]
    pub source_retention_seconds: i64,
    /// Delete sources on a store without conditional deletes, where a source that is replaced at that very
    /// moment would be lost.
    #[serde(default)]
    pub allow_unconditional_delete: bool,
    /// How many workers run at the same time. The number of shards is frozen in the plan.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 64))]
    pub parallelism: i32,
    /// `PlanOnly` stops after planning and shows the plan; changed to `Execute`, that plan is run.
    #[serde(default)]
    pub mode: Mode,
    /// Stops the workers and keeps the checkpoints.
    #[serde(default)]
    pub suspend: bool,
    /// How many workers in a row a shard may lose without a new checkpoint, by the work's own fault.
    #[serde(default = "default_backoff_limit")]
    #[schemars(range(min = 0, max = 100))]
    pub backoff_limit: i32,
    /// How many groups may be given up for a fault of their own (a bad, changed, missing or refused source)
    /// while the others go on. A group that several shards have a piece of counts for each piece that fails. 0:
    /// the first such fault stops the job.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub max_failed_groups: i32,
    /// The job fails when workers have run for so long in all. Time in which none runs is not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 315_360_000))]
    pub total_active_deadline_seconds: Option<i64>,
    /// The job fails when it has work and no worker could start on it for so long: no quota, no image, no
    /// Secret, another job in front. Absent: it waits for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 315_360_000))]
    pub pending_deadline_seconds: Option<i64>,
    /// The job is deleted so long after it failed or nothing was left to do. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 315_360_000))]
    pub ttl_seconds_after_finished: Option<i64>,
    /// Changed on a failed job, lets it go on from its checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub retry_token: Option<String>,
    /// What the condition `Ready` waits for, and with it whoever applied the job.
    #[serde(default)]
    pub ready_when: ReadyWhen,
    /// What becomes of the working files and unpublished outputs when the job is deleted before its end.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Whether node autoscalers may move a worker away, which costs the batch in hand.
    #[serde(default)]
    pub disruption_policy: DisruptionPolicy,
    /// The worker pods: what is set here stands, and the rest is filled in. The container named `worker` is the
    /// worker, others run beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::crd::template_in_brief")]
    pub template: Option<Box<PodTemplateSpec>>,
}

fn default_state_prefix() -> String {
    "_compaction/".to_owned()
}
fn default_source_retention_seconds() -> i64 {
    86_400
}
fn default_parallelism() -> i32 {
    1
}
fn default_backoff_limit() -> i32 {
    6
}

#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    pub s3: S3,
}

/// A bucket of an S3-compatible store.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.endpoint) || self.endpoint.startsWith('https://') || self.endpoint.startsWith('http://')").message("endpoint must start with https:// or http://"))]
pub struct S3 {
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub bucket: String,
    /// Default: from the environment; us-east-1 with an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,
    /// Default: AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub endpoint: Option<String>,
    #[serde(default)]
    pub addressing_style: AddressingStyle,
    /// A Secret with the keys `accessKeyId`, `secretAccessKey` and, optionally, `sessionToken`. Absent: what the
    /// worker finds in its environment (a role of its service account, environment variables, a profile).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
    /// A `ConfigMap` whose key `ca.crt` holds PEM certificates to trust besides the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_config_map_ref: Option<LocalReference>,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LocalReference {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How the bucket is named in requests.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressingStyle {
    /// In the path when an endpoint is set, else in the host name.
    #[default]
    Auto,
    Path,
    Virtual,
}

#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    #[schemars(regex(pattern = r"^[^/].*/$"), length(max = 512))]
    pub prefix: String,
    /// Globs over the key after the prefix; `**` crosses directories. Absent: every object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub include: Vec<String>,
    /// Globs of what is left out even if included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub exclude: Vec<String>,
    /// Objects modified less than this long ago are left to the next job.
    #[serde(default = "default_min_object_age_seconds")]
    #[schemars(range(min = 0, max = 315_360_000))]
    pub min_object_age_seconds: i64,
    /// Larger objects are left alone.
    #[serde(default = "default_max_object_size")]
    pub max_object_size: Quantity,
    /// Groups with fewer objects are left alone.
    #[serde(default = "default_min_sources_per_group")]
    #[schemars(range(min = 1, max = 512))]
    pub min_sources_per_group: i32,
    /// What to do with an object that cannot be read as its format: truncated, corrupt, archived.
    #[serde(default)]
    pub on_bad_source: OnFault,
    /// What to do with an object that is gone when its turn comes.
    #[serde(default)]
    pub on_missing_source: OnFault,
}

fn default_min_object_age_seconds() -> i64 {
    3600
}
fn default_max_object_size() -> Quantity {
    Quantity::new("128Mi")
}
fn default_min_sources_per_group() -> i32 {
    2
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFault {
    /// The object's group fails, and the object is named; with it the job, unless `maxFailedGroups` allows it.
    #[default]
    Fail,
    /// The object is left out, counted in the status and listed in the manifest.
    Skip,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Format {
    #[serde(rename = "type", default)]
    pub type_: FormatType,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FormatType {
    /// Records that end with a newline (NDJSON, text logs), plain, gzip or zstd.
    #[default]
    Lines,
}

#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    #[schemars(regex(pattern = r"^[^/].*/$"), length(max = 512))]
    pub prefix: String,
    /// An output is closed at the first cut where it has at least this size, as stored.
    #[serde(default = "default_target_object_size")]
    pub target_object_size: Quantity,
    #[serde(default)]
    pub compression: Compression,
    #[serde(default)]
    pub group_by: GroupBy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_metadata: Option<ObjectMetadata>,
}

fn default_target_object_size() -> Quantity {
    Quantity::new("256Mi")
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// That of each group's first source.
    #[default]
    Auto,
    None,
    Gzip,
    Zstd,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupBy {
    /// The objects of one directory go into outputs of their own, in the directory of the same name.
    #[default]
    Directory,
    /// All objects go into the same outputs.
    All,
}

/// How outputs are stored.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ObjectMetadata {
    /// `AES256`, `aws:kms` or `aws:kms:dsse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// What happens between two checkpoints.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Batch {
    /// A batch ends at the first cut after so many bytes of sources, as stored.
    pub size: Quantity,
    /// From the first byte read to the acknowledged checkpoint.
    #[schemars(range(min = 1, max = 86_400))]
    pub upload_deadline_seconds: i64,
    /// How often a batch may pass its deadline.
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: i32,
    /// Wait before the next worker of a shard; doubled for each loss in a row.
    #[schemars(range(min = 0, max = 86_400))]
    pub backoff_period_seconds: i64,
    #[schemars(range(min = 0, max = 86_400))]
    pub max_backoff_period_seconds: i64,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            size: Quantity::new("256Mi"),
            upload_deadline_seconds: 900,
            max_attempts: 5,
            backoff_period_seconds: 10,
            max_backoff_period_seconds: 600,
        }
    }
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Upload {
    /// What one `UploadPart` sends: 5Mi to 5Gi. Raised in the plan where outputs would need too many parts.
    pub part_size: Quantity,
    /// Parts in flight.
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: i32,
}

impl Default for Upload {
    fn default() -> Self {
        Self {
            part_size: Quantity::new("8Mi"),
            concurrency: 4,
        }
    }
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Read {
    /// Reads in flight, as far as the window has room for them.
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: i32,
}

impl Default for Read {
    fn default() -> Self {
        Self { concurrency: 64 }
    }
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceDisposition {
    #[default]
    Retain,
    Delete,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    #[default]
    Execute,
    PlanOnly,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadyWhen {
    /// The job was understood and is being worked on.
    #[default]
    Accepted,
    /// The outputs are published.
    Succeeded,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeletionPolicy {
    /// Working files stay until `compaction-operator gc --delete`; outputs that were not published stay.
    #[default]
    Orphan,
    /// A last worker removes them; the job is gone after ten minutes, whatever happens.
    Cleanup,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DisruptionPolicy {
    #[default]
    Allow,
    /// Workers carry the annotations by which cluster-autoscaler and Karpenter leave a pod alone.
    Avoid,
}
