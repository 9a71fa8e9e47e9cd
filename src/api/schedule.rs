//! `CompactionSchedule`: makes a `CompactionJob` of a template at each slot of a cron schedule.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::CompactionJobSpec;
use super::condition::reasons;

/// Compaction of what is new under a prefix, again and again.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "compaction.dev",
    version = "v1alpha1",
    kind = "CompactionSchedule",
    namespaced,
    cel,
    derive = "PartialEq",
    status = "CompactionScheduleStatus",
    shortname = "cpts",
    category = "compaction",
    doc = "Makes a CompactionJob at each slot of a cron schedule. Each job takes only what no earlier one has compacted.",
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextScheduleTime"),
    printcolumn(name = "Last Success", type_ = "date", json_path = ".status.lastSuccessfulTime"),
    printcolumn(name = "Active", type_ = "string", json_path = ".status.active[0].name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Zone", type_ = "string", json_path = ".spec.timeZone", priority = 1),
    printcolumn(name = "Last Run", type_ = "string", json_path = ".status.lastRun.name", priority = 1),
    printcolumn(name = "Missed", type_ = "integer", json_path = ".status.missedRuns", priority = 1),
    printcolumn(name = "Failures", type_ = "integer", json_path = ".status.consecutiveFailures", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = Rule::new("self.metadata.name.size() <= 36")
        .message("the name may have at most 36 characters, so that those of its jobs fit: the slot or the trigger is added to it"),
)]
#[x_kube(
    validation = Rule::new("!self.schedule.contains('TZ=')")
        .message("schedule may not name a time zone; write it into timeZone, such as timeZone: Europe/Berlin"),
    validation = Rule::new("self.schedule.contains('TZ=') || self.schedule.matches('^ *[^ @]+( +[^ ]+){4} *$') || self.schedule.matches('^@(hourly|daily|weekly|monthly|yearly)$')")
        .message("schedule must have exactly five fields (minute, hour, day of month, month, day of week; there are no seconds), or be @hourly, @daily, @weekly, @monthly or @yearly"),
    validation = Rule::new("self.timeZone != 'Local'")
        .message("timeZone must be the name of a time zone, such as Europe/Berlin; Local would depend on where the operator runs"),
    validation = Rule::new("self.jobTemplate.spec.mode == 'Execute'")
        .message("jobTemplate.spec.mode can only be Execute: a job that only plans does not end, and holds up the next"),
)]
pub struct CompactionScheduleSpec {
    /// Five fields as in crontab(5), or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    #[schemars(length(min = 1, max = 128))]
    pub schedule: String,
    /// In which the schedule's hours and days, and the template's dates, are meant: a name of the IANA database.
    #[serde(default = "default_time_zone")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: String,
    /// No slot runs. Runs that were started go on, and `manualTrigger` is obeyed.
    #[serde(default)]
    pub suspend: bool,
    /// What becomes of a slot while an earlier run is active.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// A slot that could not start within so many seconds is skipped. Absent: it waits until it can, or until the
    /// next slot takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 31_536_000))]
    pub starting_deadline_seconds: Option<i64>,
    /// What becomes of slots whose time passed while nobody could start them.
    #[serde(default)]
    pub missed_run_policy: MissedRunPolicy,
    /// Every run starts the same number of seconds after its slot, between 0 and this: which one follows from the
    /// schedule's UID, so that many schedules with the same slots are spread.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86_400))]
    pub jitter_seconds: i64,
    /// How many jobs that succeeded are kept.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 0, max = 100))]
    pub successful_jobs_history_limit: i32,
    /// How many jobs that failed are kept.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 0, max = 100))]
    pub failed_jobs_history_limit: i32,
    /// After so many runs in a row that failed no slot runs, until the spec is changed. 0: never.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub suspend_after_consecutive_failures: i32,
    /// Any text. Each time that it is changed, one run is started, whatever the schedule says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub manual_trigger: Option<String>,
    /// What each run is made of. A change is for the runs to come.
    pub job_template: JobTemplate,
}

fn default_time_zone() -> String {
    "Etc/UTC".to_owned()
}
fn default_history_limit() -> i32 {
    3
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConcurrencyPolicy {
    /// It waits; when the next slot comes first, it is skipped.
    #[default]
    Forbid,
    /// It starts beside the earlier run, up to ten at one time.
    Allow,
    /// The earlier run is deleted, and the slot starts when that is gone.
    Replace,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedRunPolicy {
    /// One run, for the latest of them. The others are counted in `missedRuns`.
    #[default]
    RunOnce,
    /// None: a slot that could not start within a minute is skipped, and counted in `missedRuns`.
    Skip,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct JobTemplate {
    #[serde(default, skip_serializing_if = "JobMetadata::is_empty")]
    pub metadata: JobMetadata,
    /// A job's spec. `source.prefix`, `output.prefix` and `statePrefix` may hold `${date:FORMAT}`,
    /// `${hoursAgo:N}`, `${hoursAgo:N:FORMAT}` and `${scheduledTime}`.
    #[schemars(schema_with = "spec_that_can_be_changed")]
    pub spec: CompactionJobSpec,
}

/// What a plan depends on cannot be changed in a job, and can be in a template.
fn spec_that_can_be_changed(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = CompactionJobSpec::json_schema(generator);
    if let Some(Value::Array(rules)) = schema.get_mut("x-kubernetes-validations") {
        let is_about_a_change = |rule: &Value| rule["rule"].as_str().is_some_and(|r| r.contains("oldSelf"));
        rules.retain(|rule| !is_about_a_change(rule));
    }
    schema
}

/// Labels and annotations of each job. Those under `compaction.dev/` are the operator's.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct JobMetadata {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

impl JobMetadata {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CompactionScheduleStatus {
    /// The generation of the spec that this status speaks of; -1 before the first look.
    #[serde(default = "not_observed")]
    pub observed_generation: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// Schedule, time zone, and how many seconds later each run starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_schedule: Option<String>,
    /// Which slots are dealt with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<SlotsStatus>,
    /// The slot of the run that was started last for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// When a run succeeded last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// When the next slot starts. Absent while none will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// Slots that came and were not run. Of those that passed at one go at most 1000 are counted.
    #[serde(default)]
    pub missed_runs: i64,
    /// The latest slot that was not run, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_skip: Option<Skip>,
    /// Runs that failed since the last one that succeeded.
    #[serde(default)]
    pub consecutive_failures: i32,
    /// The `spec.manualTrigger` that was last obeyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_manual_trigger: Option<String>,
    /// The number of the last run by `manualTrigger`, which its name ends with.
    #[serde(default)]
    pub manual_runs: i64,
    /// Runs that have neither succeeded nor failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 10))]
    pub active: Vec<ActiveRun>,
    /// The run that was started last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
}

/// How many runs may be active at one time.
pub const MAX_ACTIVE_RUNS: usize = 10;

fn not_observed() -> i64 {
    -1
}

impl Default for CompactionScheduleStatus {
    fn default() -> Self {
        Self {
            observed_generation: not_observed(),
            conditions: Vec::new(),
            effective_schedule: None,
            slots: None,
            last_schedule_time: None,
            last_successful_time: None,
            next_schedule_time: None,
            missed_runs: 0,
            last_skip: None,
            consecutive_failures: 0,
            last_manual_trigger: None,
            manual_runs: 0,
            active: Vec::new(),
            last_run: None,
        }
    }
}

/// A slot belongs to a schedule and a time zone: when these are changed, only later ones count.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SlotsStatus {
    pub schedule: String,
    pub time_zone: String,
    /// Slots up to this time were run or skipped, or came before the schedule did. None of them is run any more, but
    /// for those in `passedOver`.
    pub settled_until: Time,
    /// The longest times of more than a day in which no slot was run: an outage, or a clock that was set far ahead.
    /// When the clock is set back to one, slots in it are run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_PASSED_OVER))]
    pub passed_over: Vec<PassedOver>,
}

pub const MAX_PASSED_OVER: usize = 4;

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct PassedOver {
    /// The last slot before, or another time up to which slots are dealt with.
    pub after: Time,
    /// The first slot after, or another time from which slots count.
    pub before: Time,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Skip {
    /// Absent: a manual run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot_time: Option<Time>,
    pub reason: SkipReason,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
    /// When it was skipped: of a slot that nobody could start, when that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

reasons! {
    /// The closed list of reasons why a slot was not run.
    #[derive(JsonSchema, Serialize, Deserialize)]
    pub enum SkipReason {
        /// The next slot came while an earlier run was still active.
        PreviousRunActive,
        /// It could not start within `startingDeadlineSeconds`.
        StartingDeadlineExceeded,
        /// Nobody could start it at its time: the operator did not run, or the clock was set forward.
        Missed,
        /// It was waiting when `suspend` was set.
        Suspended,
        /// Too many runs in a row have failed.
        Halted,
        /// It was still to start when `schedule`, `timeZone` or `jitterSeconds` was changed.
        ScheduleChanged,
        /// No job can be made of the template.
        InvalidTemplate,
        /// The API server refuses the job.
        JobRefused,
        /// The cluster did not allow the job: a quota, an admission policy, a namespace that goes away.
        JobDenied,
        /// A job of this name exists and belongs to somebody else.
        NameConflict,
    }
}

impl SkipReason {
    /// Whether somebody wanted it so, by a change of the schedule.
    pub fn is_wanted(self) -> bool {
        matches!(self, Self::Suspended | Self::ScheduleChanged)
    }
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ActiveRun {
    pub name: String,
    pub uid: String,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastRun {
    pub name: String,
    pub uid: String,
    /// The run's slot. Of a manual run: when it was started.
    pub scheduled_time: Time,
    /// Absent while it is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RunResult>,
    /// The reason of the job's own condition.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunResult {
    Succeeded,
    Failed,
    /// Before its end.
    Deleted,
}

reasons! {
    /// The closed list of reasons of a schedule's conditions; that of `Ready` is the state word that kubectl shows.
    /// `LastRunSucceeded` has the reason of the run's job.
    pub enum ScheduleReason {
        /// The next slot is waited for.
        Scheduled,
        /// A run is active.
        Running,
        /// A slot is due and waits for an earlier run.
        Waiting,
        Suspended,
        /// Too many runs in a row have failed.
        Halted,
        InvalidSchedule,
        InvalidTimeZone,
        InvalidTemplate,
        /// The API server refused the last job.
        JobRefused,
        /// The cluster does not allow a job now; it is tried again.
        JobDenied,
        /// A job of that name exists and belongs to somebody else.
        NameConflict,
        /// Slots up to a later time than now are dealt with: the clock was set back.
        ClockBehind,
        NoRunYet,
    }
}
