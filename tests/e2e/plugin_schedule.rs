//! The kubectl plugin over schedules, with the operator that does what it asks for.

use serde_json::{Value, json};

use crate::plugin::{Plugin, assert_contains, managers_of};
use crate::schedule::{edit, runs, schedule, until, until_state};
use crate::site::{Site, text_of};
use crate::sources::{assert_compacted, put_named};

const SCHEDULE: &str = "by-plugin";
const AS_TARGET: &str = "schedule/by-plugin";

/// Waits until the status tells how this run has ended.
#[track_caller]
fn ended(site: &Site, run: &str) -> Value {
    until(site, &format!("the end of {run}"), SCHEDULE, |schedule| {
        let last = &schedule["status"]["lastRun"];
        (last["name"] == run && last["result"].is_string()).then(|| last.clone())
    })
}

#[test]
fn a_schedule_is_run_suspended_and_resumed_by_the_plugin() {
    let (site, plugin) = (Site::new("plugin-schedule"), Plugin::install());
    put_named(&site.bucket, "first", 24);
    // Its slots are far away: what runs is what the plugin starts.
    site.apply(&schedule(&site, SCHEDULE, json!({"schedule": "0 0 29 2 *"})));
    until_state(&site, SCHEDULE, "Scheduled");
    assert_contains(
        &plugin.says(&site, &["status", AS_TARGET]),
        &[
            "Schedule  by-plugin in e2e-plugin-schedule, created ",
            "State     Scheduled: the next run starts at ",
            "Slots     0 0 29 2 * Etc/UTC",
            "Next      in ",
        ],
    );

    let said = plugin.says(&site, &["run", SCHEDULE]);
    let text = site.kubectl(&["get", "cpts", SCHEDULE, "-o", "json", "--show-managed-fields"]);
    let object: Value = serde_json::from_str(&text).unwrap();
    let trigger = text_of(&object["spec"]["manualTrigger"]);
    assert_eq!(managers_of(&object, "f:manualTrigger"), ["compaction-plugin"]);
    assert_contains(
        &said,
        &[
            &format!("compactionschedule.compaction.dev/by-plugin: spec.manualTrigger is {trigger} now"),
            "compactionjob.compaction.dev/by-plugin-m1 is started; kubectl compaction status by-plugin-m1 -w",
        ],
    );
    let watched = plugin.says(&site, &["status", "by-plugin-m1", "-w"]);
    assert_contains(&watched, &["Succeeded: 24 sources"]);
    ended(&site, "by-plugin-m1");
    assert_compacted(&site.bucket);
    assert_eq!(runs(&site, SCHEDULE).len(), 1, "one run was asked for");
    let shown = plugin.says(&site, &["status", AS_TARGET]);
    assert_contains(
        &shown,
        &[
            "Last run      by-plugin-m1, ",
            " ago: Succeeded",
            "Last success  ",
        ],
    );

    let said = plugin.says(&site, &["suspend", AS_TARGET]);
    assert_contains(
        &said,
        &["compactionschedule.compaction.dev/by-plugin: spec.suspend is true now"],
    );
    until_state(&site, SCHEDULE, "Suspended");
    assert_contains(&plugin.says(&site, &["suspend", AS_TARGET]), &["already"]);
    let shown = plugin.says(&site, &["status", AS_TARGET]);
    let resume = "to let it go on: kubectl compaction resume schedule/by-plugin";
    assert_contains(&shown, &["Suspended: no slot is run", resume]);
    // By hand it runs all the same, and takes what is new.
    put_named(&site.bucket, "second", 24);
    assert_contains(
        &plugin.says(&site, &["run", SCHEDULE]),
        &["by-plugin-m2 is started"],
    );
    assert_eq!(ended(&site, "by-plugin-m2")["result"], "Succeeded");
    assert_compacted(&site.bucket);

    assert_contains(
        &plugin.says(&site, &["resume", AS_TARGET]),
        &["spec.suspend is false now"],
    );
    until_state(&site, SCHEDULE, "Scheduled");
    let shown = plugin.says(&site, &["status", AS_TARGET]);
    assert!(!shown.contains("to let it go on"), "{shown}");
}

#[test]
fn a_schedule_that_cannot_run_is_told_by_the_plugin() {
    let (site, plugin) = (Site::new("plugin-refused"), Plugin::install());
    site.apply(&schedule(&site, SCHEDULE, json!({"schedule": "0 0 29 2 *"})));
    until_state(&site, SCHEDULE, "Scheduled");
    // What the template becomes is refused: source and output are the same.
    let clash = json!({"source": {"prefix": "${date:in}/"}, "output": {"prefix": "in/out/"}});
    edit(&site, SCHEDULE, &json!({"jobTemplate": {"spec": clash}}));
    // The second refusal is the same as the first, word for word.
    for _ in 0..2 {
        let refused = plugin.refuses(&site, &["run", SCHEDULE]);
        assert_contains(
            &refused,
            &[
                "the schedule by-plugin did not start a run: JobRefused: ",
                "may not contain each other",
            ],
        );
    }
    assert_contains(
        &plugin.says(&site, &["status", AS_TARGET]),
        &[
            "State     JobRefused: ",
            "Missed    0; the last: a manual run, JobRefused: ",
        ],
    );
    let unknown = json!({"source": {"prefix": "${day}/"}});
    edit(&site, SCHEDULE, &json!({"jobTemplate": {"spec": unknown}}));
    assert_contains(
        &plugin.refuses(&site, &["run", SCHEDULE]),
        &[
            "the schedule by-plugin did not start a run: InvalidTemplate: ",
            "${day} is not known",
        ],
    );
    assert_eq!(runs(&site, SCHEDULE).len(), 0);

    // Its run does not end by itself, and the next one waits for it.
    let no_keys = json!({
        "source": {"prefix": "in/"},
        "output": {"prefix": "out/"},
        "storage": {"s3": {"credentialsSecretRef": {"name": "no-such-secret"}}},
    });
    edit(&site, SCHEDULE, &json!({"jobTemplate": {"spec": no_keys}}));
    // What the mistake held up.
    until_state(&site, SCHEDULE, "Running");
    assert_contains(
        &plugin.says(&site, &["run", SCHEDULE]),
        &[
            "the operator has not started it within 20 s, and may still do so",
            "Waiting: the run of manualTrigger waits for by-plugin-m1, which is active",
        ],
    );
    assert_eq!(runs(&site, SCHEDULE).len(), 1);

    assert_contains(
        &plugin.refuses(&site, &["run", "by-plugni"]),
        &["there is no schedule by-plugni in the namespace e2e-plugin-refused; there is by-plugin"],
    );
    assert_contains(
        &plugin.refuses(&site, &["status", AS_TARGET, "-w"]),
        &["only a job has an end to wait for; kubectl get compactionschedule by-plugin --watch"],
    );
    let namespace = site.namespace.as_str();
    assert_eq!(
        plugin.completes(&["run", "-n", namespace, ""]),
        ["by-plugin", ":4"]
    );
    assert_eq!(
        plugin.completes(&["suspend", "-n", namespace, "s"]),
        ["schedule/by-plugin", ":4"]
    );
}
