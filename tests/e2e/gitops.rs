//! What Flux and Argo CD see of jobs, by their own libraries: the right thing at each moment, and nothing wrong in between.
//!
//! With `E2E_RECORD` set to something, the jobs are recorded in `tests/gitops/recorded/`. Without, they are held
//! against the records, so that these stay what the operator says.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::store;
use crate::drift::Apply;
use crate::moment::{Moment, READY_WHEN};
use crate::site::{JOB, KEYS, Site, condition, slow, text_of, worker};
use crate::sources::{put, put_plain};
use crate::verdict::{Verdict, verdicts};
use crate::watch::{self, Life};

const OBJECTS: usize = 120;

/// Ends the test unless the tools make of this job what they have to in this moment.
#[track_caller]
fn seen(moment: &str, job: &Value) {
    let moment = Moment::named(moment);
    moment.judge(job);
    let ready_when = text_of(&job["spec"]["readyWhen"]);
    record(&moment.record(&ready_when), job);
    let recorded = moment.recorded(&ready_when);
    assert_eq!(
        says(job),
        says(&recorded),
        "{} is as it was recorded",
        moment.name
    );
}

/// Writes it down if it is asked for.
pub fn record(path: &Path, object: &Value) {
    if std::env::var_os("E2E_RECORD").is_some() {
        let mut object = object.clone();
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.remove("managedFields");
        metadata.remove("annotations");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{object:#}\n")).unwrap();
    }
}

/// All that a verdict depends on. Whether the store was reached is not a part of it.
pub fn says(job: &Value) -> (BTreeSet<[String; 3]>, bool, bool) {
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    let condition = |condition: &Value| ["type", "status", "reason"].map(|field| text_of(&condition[field]));
    (
        conditions
            .map(condition)
            .filter(|[type_, ..]| type_ != "StorageAccessible")
            .collect(),
        is_observed(job),
        job["metadata"]["deletionTimestamp"].is_string(),
    )
}

pub fn is_observed(job: &Value) -> bool {
    job["status"]["observedGeneration"] == job["metadata"]["generation"]
}

pub fn reason(job: &Value) -> String {
    condition(job, "Ready").1
}

/// The job once it is in this state.
#[track_caller]
fn until(site: &Site, job: &str, state: &str) -> Value {
    site.until(state, job, |job| {
        (is_observed(job) && reason(job) == state).then(|| job.clone())
    })
}

#[test]
fn a_job_whose_acceptance_is_waited_for_is_judged_right_all_its_life() {
    let site = Site::bare("gitops-accepted");
    live(&site, "Accepted", &Apply::server_side());
}

#[test]
fn a_job_whose_success_is_waited_for_is_judged_right_all_its_life() {
    let site = Site::bare("gitops-succeeded");
    live(&site, "Succeeded", &Apply::client_side());
}

/// Leads a job through everything that may happen to a good one.
fn live(site: &Site, ready_when: &str, tool: &Apply) {
    site.bucket.create();
    put(&site.bucket, OBJECTS);
    let mut spec = slow();
    spec["readyWhen"] = json!(ready_when);
    spec["batch"]["maxBackoffPeriodSeconds"] = json!(2);
    let manifest = site.job(JOB, spec.clone());
    // The one that goes first.
    let mut first = spec.clone();
    first["suspend"] = json!(true);
    site.apply(&site.job("first", first));
    tool.apply(site, &manifest);
    let life = Life::follow(site.command(&["get", "compactionjob", JOB]));
    seen("created", &site.get("compactionjob", JOB));
    tool.assert_nothing_to_do(site, &manifest);

    site.install(&[]);
    seen("waiting-for-job", &until(site, JOB, "WaitingForJob"));
    tool.assert_no_difference(site, &manifest);
    site.kubectl(&["delete", "compactionjob", "first"]);
    let starting = site.until("the missing Secret to be named", JOB, |job| {
        (reason(job) == "Starting" && condition(job, "Ready").2.contains(KEYS)).then(|| job.clone())
    });
    seen("starting", &starting);
    site.keys(&store().access_key, &store().secret_key);

    site.until_batches(JOB, 5);
    let running = until(site, JOB, "Running");
    // At once: on a slow machine the job may not be at work any more when something was looked at in between.
    site.patch(JOB, &json!({"spec": {"suspend": true}}));
    seen("running", &running);
    seen("suspended", &until(site, JOB, "Suspended"));
    // Not in the manifest, so it is no difference, and stays when the manifest is applied again.
    tool.assert_no_difference(site, &manifest);
    tool.assert_nothing_to_do(site, &manifest);

    allow_pods(site, "1");
    site.patch(JOB, &json!({"spec": {"suspend": false}}));
    seen("requeueing", &until(site, JOB, "Requeueing"));
    allow_pods(site, "9");
    let life = life.until("the end of the job", |job| {
        job["status"]["completionTime"].is_string()
    });
    seen("succeeded", life.last().unwrap());
    tool.assert_no_difference(site, &manifest);
    tool.assert_nothing_to_do(site, &manifest);

    // What passes too quickly to be waited for.
    let edited = |job: &Value| job["metadata"]["generation"] != 1 && !is_observed(job);
    seen(
        "edited",
        first_that(&life, edited).expect("an edit is seen before its effect"),
    );
    let in_state = |state| first_that(&life, move |job| is_observed(job) && reason(job) == state);
    seen(
        "stopping",
        in_state("Stopping").expect("a worker takes time to stop"),
    );
    // A worker may be done with these before a busy controller has looked; `decide` is held against the records of
    // them too, in its own tests.
    for (moment, state) in [("planning", "Planning"), ("publishing", "Publishing")] {
        if let Some(job) = in_state(state) {
            seen(moment, job);
        }
    }
    assert_judged_well(&life);
    assert_quiet(&life);

    site.apply(&site.job("again", spec));
    seen("nothing-to-compact", &until(site, "again", "NothingToCompact"));
}

fn first_that(life: &[Value], look: impl Fn(&Value) -> bool) -> Option<&Value> {
    life.iter().find(|job| look(job))
}

/// How many pods may exist in the namespace, the operator's own included.
fn allow_pods(site: &Site, pods: &str) {
    site.apply(&json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "pods"},
        "spec": {"hard": {"pods": pods}},
    }));
    watch::ask("the quota to be counted", || {
        let quota = site.get("resourcequota", "pods");
        (quota["status"]["hard"]["pods"] == pods && quota["status"]["used"]["pods"].is_string()).then_some(())
    });
}

/// Of a run that goes well: nobody is told that it is ready before it is, nor ever that it has failed.
#[track_caller]
fn assert_judged_well(life: &[Value]) {
    let judged = judge(life);
    for (job, verdict) in &judged {
        let waits = ["WaitingForJob", "Stopping", "Suspended"].contains(&reason(job).as_str());
        let accepted = is_observed(job) && (waits || job["status"]["plan"].is_object());
        let succeeded = is_observed(job) && condition(job, "Succeeded").0 == "True";
        let ready = if job["spec"]["readyWhen"] == "Accepted" {
            accepted
        } else {
            succeeded
        };
        let told = format!("{verdict:#?} of {job:#}");
        assert!(ready || verdict.kstatus != "Current", "{told}");
        assert!(ready || verdict.health.status != "Healthy", "{told}");
        assert_eq!(verdict.expressions == "Current", succeeded, "{told}");
        assert_ne!(verdict.kstatus, "Failed", "{told}");
        assert_ne!(verdict.expressions, "Failed", "{told}");
        assert_ne!(verdict.health.status, "Degraded", "{told}");
    }
    let last = judged.last().unwrap().1.kstatus.as_str();
    assert_eq!(last, "Current", "of {} versions", judged.len());
}

fn judge(life: &[Value]) -> Vec<(&Value, Verdict)> {
    let objects: Vec<&Value> = life.iter().collect();
    life.iter().zip(verdicts(&objects)).collect()
}

/// A job that only makes progress gives Argo CD nothing to do: what changes meanwhile is what it is told to ignore.
#[track_caller]
fn assert_quiet(life: &[Value]) {
    let settings =
        std::fs::read_to_string(crate::cluster::tree().join("examples/gitops/argocd/argocd-cm.yaml"))
            .unwrap();
    let settings: Value = serde_saphyr::from_str(&settings).unwrap();
    let ignored =
        &settings["data"]["resource.customizations.ignoreResourceUpdates.compaction.dev_CompactionJob"];
    let ignored: Value = serde_saphyr::from_str(ignored.as_str().unwrap()).unwrap();
    let ignored = ignored["jsonPointers"].as_array().unwrap();
    let rest = |job: &Value| {
        let mut job = job.clone();
        // These Argo CD ignores by itself.
        let own = [
            json!("/metadata/resourceVersion"),
            json!("/metadata/managedFields"),
        ];
        for pointer in ignored.iter().chain(&own) {
            let (parent, field) = pointer.as_str().unwrap().rsplit_once('/').unwrap();
            job.pointer_mut(parent)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove(field);
        }
        job
    };
    // A worker may decide to publish before the controller has looked.
    let at_work =
        |job: &Value| is_observed(job) && reason(job) == "Running" && job["status"]["publish"].is_null();
    // A condition is worth a look.
    let conditions = |job: &Value| job["status"]["conditions"].clone();
    let steps = life.windows(2);
    let steps = steps.filter(|step| step.iter().all(at_work) && conditions(&step[0]) == conditions(&step[1]));
    let steps: Vec<_> = steps.collect();
    assert!(steps.len() >= 3, "it makes {} steps", steps.len());
    for step in steps {
        assert_eq!(rest(&step[0]), rest(&step[1]));
    }
}

#[test]
fn jobs_that_are_planned_only_deleted_or_have_failed_are_judged_right() {
    let site = Site::new("gitops-ends");
    for ready_when in READY_WHEN {
        for (moment, _) in &ends() {
            start(&site, moment, ready_when);
        }
    }
    for (moment, state) in &ends() {
        for ready_when in READY_WHEN {
            let name = name(moment, ready_when);
            if *moment == "deleted" {
                site.until_batches(&name, 2);
                site.kubectl(&["delete", "compactionjob", &name, "--wait=false"]);
            }
            // `until` takes a failure for the end of the test.
            let get = || site.command(&["get", "compactionjob", &name]);
            let job = watch::until(&format!("{name} to be {state}"), get, |job| {
                (is_observed(job) && reason(job) == *state).then(|| job.clone())
            });
            seen(moment, &job);
        }
    }
    // An edit alone does not help, and whoever waits for the failure is told of it all the same.
    let failed = name("failed-work", READY_WHEN[0]);
    site.patch(&failed, &json!({"spec": {"parallelism": 2}}));
    site.kubectl(&[
        "wait",
        "compactionjob",
        &failed,
        "--for=condition=Stalled",
        "--timeout=1m",
    ]);
    let job = site.get("compactionjob", &failed);
    assert!(is_observed(&job));
    seen("failed-work", &job);
}

/// Moments, and the state that is shown in each.
fn ends() -> [(&'static str, &'static str); 7] {
    [
        // It must not come to its end before.
        ("deleted", "Stopping"),
        ("planned", "Planned"),
        ("failed-work", "WorkFailed"),
        ("failed-groups", "TooManyFailedGroups"),
        ("failed-pending", "PendingDeadlineExceeded"),
        ("failed-deadline", "DeadlineExceeded"),
        ("failed-upload-deadline", "UploadDeadlineExceeded"),
    ]
}

fn name(moment: &str, ready_when: &str) -> String {
    format!("{moment}-{}", ready_when.to_lowercase())
}

/// A job that comes to this moment by itself, over objects of its own.
fn start(site: &Site, moment: &str, ready_when: &str) {
    let name = name(moment, ready_when);
    let put = |folder: &str, objects: usize, size: usize| {
        put_plain(&site.bucket, &format!("{name}/in/{folder}"), objects, size);
    };
    let put_bad = |folder: &str| {
        let key = format!("{name}/in/{folder}bad.json.gz");
        // It begins like gzip and is cut short.
        site.bucket.put(&[(key, vec![0x1f, 0x8b, 8, 0, 0])].into());
    };
    let spec = match moment {
        "planned" => {
            put("", 4, 1000);
            json!({"mode": "PlanOnly"})
        }
        "failed-work" => {
            put("", 4, 1000);
            put_bad("");
            json!({})
        }
        "failed-groups" => {
            for folder in ["a/", "b/", "c/"] {
                put(folder, 2, 1000);
                put_bad(folder);
            }
            json!({"maxFailedGroups": 1})
        }
        "failed-pending" => json!({
            "storage": {"s3": {"credentialsSecretRef": {"name": "no-such-secret"}}},
            "pendingDeadlineSeconds": 2,
        }),
        "failed-deadline" => {
            put("", 120, 1000);
            let mut spec = slow();
            spec["totalActiveDeadlineSeconds"] = json!(2);
            spec
        }
        "failed-upload-deadline" => {
            put("", 4, 4 << 20);
            let mut container = worker("128Mi");
            container["resources"]["limits"]["cpu"] = json!("30m");
            json!({
                "batch": {"uploadDeadlineSeconds": 1, "maxAttempts": 1},
                "template": {"spec": {"containers": [container]}},
            })
        }
        "deleted" => {
            put("", 120, 1000);
            let mut spec = slow();
            spec["deletionPolicy"] = json!("Cleanup");
            spec
        }
        _ => panic!("{moment} does not come by itself"),
    };
    let mut spec = spec;
    spec["readyWhen"] = json!(ready_when);
    let mut job = site.job(&name, spec);
    job["spec"]["source"]["prefix"] = json!(format!("{name}/in/"));
    job["spec"]["output"]["prefix"] = json!(format!("{name}/out/"));
    site.apply(&job);
}
