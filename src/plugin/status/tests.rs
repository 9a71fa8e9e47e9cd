use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A job in the middle of its work, changed by a merge patch.
fn job(change: Value) -> CompactionJob {
    let shard = |index: i32, epoch: i64, batch: i64, seconds: i64| {
        json!({
            "index": index, "epoch": epoch, "holder": "a-uid", "refused": 0, "totalBatches": 8, "startSequence": 0,
            "checkpoint": {
                "sequence": batch, "batch": batch, "bytesRead": batch << 20, "bytesWritten": batch << 19,
                "time": format!("2026-01-01T00:59:{:02}Z", 60 - seconds),
            },
        })
    };
    let mut job = json!({
        "apiVersion": "compaction.dev/v1alpha1",
        "kind": "CompactionJob",
        "metadata": {
            "name": "logs", "namespace": "lake", "uid": "126bd000-0000", "generation": 1,
            "creationTimestamp": "2026-01-01T00:50:00Z",
        },
        "spec": {
            "storage": {"s3": {"bucket": "bucket"}},
            "source": {"prefix": "in/"},
            "output": {"prefix": "out/"},
        },
        "status": {
            "observedGeneration": 1,
            "conditions": [ready("Running", "workers compact batch by batch")],
            "startTime": "2026-01-01T00:50:30Z",
            "activeSeconds": 60, "activeSince": "2026-01-01T00:55:00Z",
            "plan": {
                "sha256": "s", "location": "l", "shards": 2, "batches": 16, "sourceObjects": 3000,
                "sourceBytes": 16 << 20, "skippedObjects": 11, "estimatedOutputObjects": 1,
            },
            "progress": {
                "summary": "9/16", "percent": 56, "bytesRead": 9 << 20, "bytesWritten": 9 << 19,
                "skippedSources": 0, "estimatedCompletionTime": "2026-01-01T01:04:30Z",
            },
            "shards": [shard(0, 1, 8, 40), shard(1, 3, 1, 5)],
        },
    });
    json_patch::merge(&mut job, &change);
    serde_json::from_value(job).unwrap()
}

fn ready(reason: &str, message: &str) -> Value {
    condition_of("Ready", "True", reason, message)
}

fn condition_of(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-01T00:59:00Z", "observedGeneration": 1,
    })
}

fn failed() -> CompactionJob {
    job(json!({"status": {
        "conditions": [
            condition_of("Ready", "False", "WorkFailed", "in/a.gz is cut short"),
            condition_of("Stalled", "True", "WorkFailed", "in/a.gz is cut short"),
            condition_of("Succeeded", "False", "WorkFailed", "in/a.gz is cut short"),
        ],
        "failures": [
            {"shard": 0, "batch": 1, "reason": "StoreUnavailable", "message": "503", "count": 4, "time": "2026-01-01T00:51:00Z"},
            {"shard": 1, "batch": 2, "reason": "BadSource", "message": "in/a.gz is cut short", "count": 1, "time": "2026-01-01T00:59:30Z"},
        ],
    }}))
}

fn text(job: &CompactionJob) -> String {
    lines(job, now()).join("\n")
}

#[test]
fn a_running_job_is_shown_with_its_plan_its_progress_and_its_shards() {
    let wanted = "\
Job          logs in lake, created 10m ago
State        Running: workers compact batch by batch
Plan         3000 sources (16.00 MiB) in 16 batches of 2 shards, about 1 output; 11 objects left out
Progress     [===========>        ] 56%, 9/16 batches, 9.00 MiB read, 4.50 MiB written
Eta          in about 4m30s (2026-01-01T01:04:30Z)
Workers ran  6m

SHARD  STATE  BATCHES                      READ      WRITTEN     CHECKPOINT  EPOCH  POD             REFUSED
0      done   [====================]  8/8  8.00 MiB  4.00 MiB    40s ago     1      logs-126bd-0-1  0
1      runs   [==>                 ]  1/8  1.00 MiB  512.00 KiB  5s ago      3      logs-126bd-1-3  0";
    assert_eq!(text(&job(json!({}))), wanted);
}

#[test]
fn a_failed_job_shows_its_latest_failures_first_and_how_to_go_on() {
    let text = text(&failed());
    let wanted = "
LAST FAILURE  SHARD  BATCH  TIMES  WHY
30s ago       1      2      1      BadSource: in/a.gz is cut short
9m ago        0      1      4      StoreUnavailable: 503

once the cause is mended, it goes on from its checkpoints: kubectl compaction retry logs";
    assert!(text.ends_with(wanted), "{text}");
    assert!(
        text.contains("State        WorkFailed: in/a.gz is cut short"),
        "{text}"
    );
    assert!(text.contains("1      stopped"), "{text}");
}

#[test]
fn a_job_that_nobody_has_looked_at_says_so() {
    let text = text(&job(json!({"status": null})));
    assert!(text.contains("the operator has not looked at it yet"), "{text}");
    assert!(!text.contains("SHARD"), "{text}");
}

#[test]
fn a_change_that_the_operator_has_not_seen_is_told() {
    let text = text(&job(json!({"metadata": {"generation": 2}})));
    assert!(
        text.contains("has not seen the last change of the spec yet"),
        "{text}"
    );
}

#[test]
fn why_a_job_waits_is_said_in_the_operators_words() {
    let storage = "AccessDenied: the keys are wrong; change the Secret";
    let waits = job(json!({"status": {"conditions": [
        ready("WaitingForJob", "waits for lake/first"),
        condition_of("StorageAccessible", "False", "Unreachable", storage),
    ]}}));
    let text = text(&waits);
    assert!(text.contains("WaitingForJob: waits for lake/first"), "{text}");
    assert!(text.contains(&format!("Unreachable: {storage}")), "{text}");
}

#[test]
fn a_shard_whose_worker_was_lost_shows_when_the_next_one_starts() {
    let mut job = job(json!({}));
    let shard = &mut job.status.as_mut().unwrap().shards[1];
    shard.retry_time = serde_json::from_value(json!("2026-01-01T01:00:20Z")).unwrap();
    assert!(text(&job).contains("1      retries in 20s"));
    let shard = &mut job.status.as_mut().unwrap().shards[1];
    (shard.retry_time, shard.holder) = (None, String::new());
    let text = text(&job);
    assert!(
        text.contains("1      starts") && text.ends_with("3      -               0"),
        "{text}"
    );
}

#[test]
fn a_published_job_shows_what_was_published_and_what_is_deleted() {
    let text = text(&job(json!({"status": {
        "conditions": [ready("Succeeded", "done"), condition_of("Succeeded", "True", "Succeeded", "done")],
        "publishTime": "2026-01-01T00:58:00Z",
        "publish": {"sha256": "s", "outputs": 1, "sources": 2998, "announced": true},
        "progress": {"skippedSources": 2},
        "dispose": {"done": 5, "total": 2998, "changed": 1},
    }})));
    for wanted in [
        "Left out     2 bad or missing sources",
        "Published    1 output of 2998 sources, 2m ago",
        "Disposed     5 of 2998 sources deleted; 1 had changed and were left alone",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in {text}");
    }
    assert!(
        !text.contains("kubectl compaction"),
        "nothing is to be done: {text}"
    );
}

#[test]
fn a_suspended_job_and_a_plan_say_how_they_go_on() {
    let suspended = job(json!({"spec": {"suspend": true}}));
    assert!(text(&suspended).ends_with("kubectl compaction resume logs"));
    let planned = job(json!({"spec": {"mode": "PlanOnly"}}));
    assert!(text(&planned).ends_with("set spec.mode to Execute"));
}

#[test]
fn a_job_has_ended_when_it_is_published_or_has_failed_as_it_is_now() {
    assert_eq!(end(&job(json!({}))), None);
    assert_eq!(end(&failed()), Some(End::Failed));
    let mut retried = failed();
    retried.metadata.generation = Some(2);
    assert_eq!(end(&retried), None, "the retry was not seen yet");
    assert!(has_failed(&retried), "it may be edited, and retried at once");
    let mut published = retried;
    let mut conditions = json!([condition_of("Succeeded", "True", "Succeeded", "done")]);
    published.status.as_mut().unwrap().conditions = serde_json::from_value(conditions.clone()).unwrap();
    assert_eq!(end(&published), Some(End::Succeeded));
    assert!(!has_failed(&published));
    let stalled = condition_of("Stalled", "True", "WorkFailed", "cannot delete");
    conditions.as_array_mut().unwrap().push(stalled);
    published.status.as_mut().unwrap().conditions = serde_json::from_value(conditions).unwrap();
    assert_eq!(end(&published), Some(End::Succeeded), "its outputs are there");
    assert!(has_failed(&published), "its sources can be deleted yet");
}

#[test]
fn only_what_is_new_is_told() {
    let before = job(json!({}));
    assert_eq!(news(Some(&before), &before, now()), [""; 0]);
    let first = news(None, &before, now());
    assert_eq!(first.len(), 3, "state, plan and progress: {first:#?}");
    let mut after = job(json!({"status": {"progress": {"summary": "10/16", "percent": 62}}}));
    after.status.as_mut().unwrap().shards[1].epoch = 4;
    assert_eq!(
        news(Some(&before), &after, now()),
        [
            "progress: [============>       ] 62%, 10/16 batches, 9.00 MiB read, 4.50 MiB written, done in about \
             4m30s (2026-01-01T01:04:30Z)",
            "shard 1: epoch 4 goes on after batch 1",
        ]
    );
    assert_eq!(
        news(Some(&before), &failed(), now()),
        [
            "WorkFailed: in/a.gz is cut short",
            "shard 0, batch 1: StoreUnavailable: 503",
            "shard 1, batch 2: BadSource: in/a.gz is cut short",
        ]
    );
}

#[test]
fn where_a_screen_is_too_small_for_all_shards_those_at_work_are_shown_and_the_others_counted() {
    let mut job = job(json!({}));
    let shards = &mut job.status.as_mut().unwrap().shards;
    let (done, at_work) = (shards[0].clone(), shards[1].clone());
    let numbered = (0..).zip([&done, &at_work, &done, &at_work, &at_work]);
    *shards = numbered
        .map(|(index, shard)| ShardStatus {
            index,
            ..shard.clone()
        })
        .collect();
    let shown = |rows: usize, columns: usize| {
        let lines = lines_on(Screen { rows, columns }, &job, now());
        let rest = lines.iter().skip_while(|line| !line.starts_with("SHARD")).skip(1);
        rest.map(|line| line.split("  ").next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let more = |number: &str| format!("and {number}; all of them: kubectl compaction status logs");
    // Six facts, an empty line and the head are there besides.
    assert_eq!(shown(13, 200), ["0", "1", "2", "3", "4"]);
    assert_eq!(shown(12, 200), ["1", "3", "4", &more("2 more shards")]);
    assert_eq!(shown(11, 200), ["1", "3", &more("3 more shards")]);
    assert_eq!(shown(9, 200), [more("5 more shards")]);
    assert_eq!(shown(1, 200), [more("5 more shards")]);
    assert_eq!(shown(13, 100).len(), 2, "long lines take two rows each");
    assert_eq!(
        lines_on(
            Screen {
                rows: 13,
                columns: 200
            },
            &job,
            now()
        ),
        lines(&job, now())
    );
}
