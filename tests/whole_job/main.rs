//! Whole jobs by the program itself, over four servers: what was put in comes out, record by
//! record, and nothing else is there afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod site;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::Program;
use compaction_operator::api::CompactionJob;
use compaction_operator::engine::Manifest;
use crc_fast::CrcAlgorithm;
use serde_json::json;
use site::{Bucket, Site, end, succeeded};
use sources::{Codec, Sources, decoded};
use tokio::process::Child;

const MIB: u64 = 1 << 20;

fn uid(job: &CompactionJob) -> &str {
    job.metadata.uid.as_deref().unwrap()
}

async fn manifest(bucket: &Bucket, job: &CompactionJob) -> Manifest {
    let key = format!("out/_compaction/{}/manifest.json", uid(job));
    serde_json::from_slice(&bucket.get(&key).await).unwrap()
}

/// The outputs that the manifest names hold exactly these records, in this order.
async fn check_outputs(
    bucket: &Bucket,
    job: &CompactionJob,
    expected: &BTreeMap<String, Vec<u8>>,
) -> Manifest {
    let manifest = manifest(bucket, job).await;
    let mut outputs: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for output in &manifest.outputs {
        outputs.entry(&output.group).or_default().push(output);
    }
    assert!(outputs.keys().eq(expected.keys()), "{:?}", outputs.keys());
    let etags = bucket.etags().await;
    for (group, records) in expected {
        let mut of_group = outputs[group.as_str()].clone();
        of_group.sort_by(|a, b| a.key.cmp(&b.key));
        let mut rest = records.as_slice();
        for output in of_group {
            assert!(
                output.key.starts_with(&format!("out/{group}part-")),
                "{}",
                output.key
            );
            assert_eq!(etags[&output.key], output.etag, "{}", output.key);
            let stored = bucket.get(&output.key).await;
            let crc = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &stored);
            assert_eq!(
                (output.size, &output.crc64nvme),
                (stored.len() as u64, &format!("{crc:016x}"))
            );
            let raw = decoded(&output.key, &stored);
            let newlines = memchr::memchr_iter(b'\n', &raw).count() as u64;
            assert_eq!(output.records, newlines, "{}", output.key);
            same_records(&output.key, &raw, &rest[..raw.len().min(rest.len())]);
            rest = &rest[raw.len()..];
        }
        assert!(rest.is_empty(), "{} bytes of {group} are missing", rest.len());
    }
    manifest
}

fn same_records(key: &str, found: &[u8], expected: &[u8]) {
    if found == expected {
        return;
    }
    let mut pairs = found
        .split(|byte| *byte == b'\n')
        .zip(expected.split(|byte| *byte == b'\n'));
    let other = pairs.find(|(found, expected)| found != expected);
    let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
    panic!(
        "{key}: {:?}",
        other.map(|(found, expected)| (text(found), text(expected)))
    );
}

/// The bucket holds these objects and what the jobs have published; `consumed`: the job whose list is current.
async fn check_nothing_else(bucket: &Bucket, sources: &[String], jobs: &[&CompactionJob], consumed: &str) {
    let mut expected: BTreeSet<String> = sources.iter().cloned().collect();
    expected.insert(format!("out/_compaction/{consumed}/consumed.jsonl"));
    for job in jobs {
        let directory = format!("out/_compaction/{}/", uid(job));
        expected.insert(format!("{directory}manifest.json"));
        expected.insert(format!("{directory}_SUCCESS"));
        expected.extend(
            manifest(bucket, job)
                .await
                .outputs
                .into_iter()
                .map(|output| output.key),
        );
    }
    let found: BTreeSet<String> = bucket.etags().await.into_keys().collect();
    assert_eq!(
        found.difference(&expected).collect::<Vec<_>>(),
        [""; 0],
        "too many"
    );
    assert_eq!(
        expected.difference(&found).collect::<Vec<_>>(),
        [""; 0],
        "missing"
    );
    assert_eq!(bucket.open_uploads().await, [""; 0]);
}

/// Six groups of which one is too small, enough for three shards and for outputs of several parts. `fewer`: so many
/// times fewer objects, each as many times larger.
fn sources(fewer: usize) -> Sources {
    let mut sources = Sources::default();
    sources.add_many(2, "", Codec::Plain, 1000);
    sources.add("alone/", Codec::Plain, 1000);
    sources.add_many(600 / fewer, "gzip/deep/", Codec::Gzip, 60_000 * fewer);
    for codec in [Codec::Gzip, Codec::Plain, Codec::Zstd]
        .into_iter()
        .cycle()
        .take(60)
    {
        sources.add("mixed/", codec, 20_000);
    }
    sources.add_many(600 / fewer, "plain/", Codec::Plain, 24_000 * fewer);
    sources.add("plain/", Codec::Plain, 0);
    sources.add("plain/", Codec::Plain, 6 * MIB as usize);
    sources.add_many(700 / fewer, "plain/", Codec::Plain, 24_000 * fewer);
    sources.add_many(400 / fewer, "zstd/", Codec::Zstd, 60_000 * fewer);
    sources
}

/// Kills the worker of a shard that is in the middle of its batches, and returns the shard.
async fn kill_a_worker(site: &Site, name: &str, run: &Child) -> i32 {
    let run = run.id().unwrap();
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let status = site.state(name).and_then(|job| job.status).unwrap_or_default();
        assert!(status.publish.is_none(), "the job was faster than its killer");
        let midway = status
            .shards
            .iter()
            .filter(|shard| (2..=shard.total_batches / 2).contains(&shard.checkpoint.batch));
        for shard in midway {
            if let Some(worker) = worker(run, shard.index) {
                let kill = std::process::Command::new("kill")
                    .args(["-9", &worker.to_string()])
                    .status();
                assert!(kill.unwrap().success());
                return shard.index;
            }
        }
    }
}

/// The process id of the run's worker for a shard.
fn worker(run: u32, shard: i32) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").unwrap();
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |id: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{run}"))
    };
    let does_shard = |id: &u32| {
        let line = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.contains(&format!("\0--shard\0{shard}\0"))
    };
    ids.into_iter().find(|id| is_child(id) && does_shard(id))
}

async fn three_jobs_in_a_row(site: &Site, kill: bool) {
    // It takes its time for each request.
    let mut sources = sources(if site.is_slow() { 10 } else { 1 });
    let first_keys: Vec<String> = sources.keys();
    site.visit(async |bucket| bucket.put_all(sources.stored.clone()).await)
        .await;

    let run = site.start("first", &json!({}), "json");
    let killed = if kill {
        Some(kill_a_worker(site, "first", &run).await)
    } else {
        None
    };
    let first = succeeded(run).await;
    let status = first.status.clone().unwrap();
    assert_eq!(status.shards.len(), 3);
    assert!(
        status.shards.iter().all(|shard| shard.checkpoint.batch > 5),
        "{:?}",
        status.shards
    );
    let lost: Vec<(i32, &str)> = status
        .failures
        .iter()
        .map(|f| (f.shard, f.reason.as_str()))
        .collect();
    assert_eq!(
        lost,
        killed
            .map(|shard| (shard, "WorkerLost"))
            .into_iter()
            .collect::<Vec<_>>()
    );

    let taken: Vec<&String> = first_keys
        .iter()
        .filter(|key| !key.starts_with("in/alone/"))
        .collect();
    site.visit(async |bucket| {
        let manifest = check_outputs(bucket, &first, &sources.records(taken.iter().copied())).await;
        assert_eq!(manifest.sources.objects, taken.len() as u64);
        let parts: Vec<usize> = manifest
            .outputs
            .iter()
            .filter_map(|output| output.etag.trim_matches('"').split_once('-')?.1.parse().ok())
            .collect();
        assert!(parts.iter().any(|count| *count >= 3), "{parts:?}");
        assert!(
            parts.len() < manifest.outputs.len(),
            "no output was stored in one request"
        );
        check_nothing_else(bucket, &first_keys, &[&first], uid(&first)).await;
    })
    .await;

    // New objects, and one that completes the group that was too small.
    let mut new = vec![sources.add("alone/", Codec::Gzip, 1000)];
    for _ in 0..3 {
        new.push(sources.add("plain/", Codec::Plain, 5000));
    }
    new.push(sources.add("new/", Codec::Zstd, 5000));
    new.push(sources.add("new/", Codec::Zstd, 5000));
    let fresh: Vec<_> = new
        .iter()
        .map(|key| (key.clone(), sources.stored[key].clone()))
        .collect();
    site.visit(async |bucket| bucket.put_all(fresh).await).await;
    new.extend(first_keys.into_iter().filter(|key| key.starts_with("in/alone/")));
    new.sort();

    let second = site.run("second", &json!({})).await;
    site.visit(async |bucket| {
        let manifest = check_outputs(bucket, &second, &sources.records(&new)).await;
        assert_eq!(manifest.sources.objects, new.len() as u64);
        check_nothing_else(bucket, &sources.keys(), &[&first, &second], uid(&second)).await;
    })
    .await;

    let third = site.run("third", &json!({})).await;
    let status = third.status.unwrap();
    assert!(status.publish.is_none());
    let reasons: Vec<&str> = status.conditions.iter().map(|c| c.reason.as_str()).collect();
    assert!(reasons.contains(&"NothingToCompact"), "{reasons:?}");
    site.visit(async |bucket| {
        check_nothing_else(bucket, &sources.keys(), &[&first, &second], uid(&second)).await;
    })
    .await;
}

#[tokio::test]
async fn jobs_over_minio_take_every_record_once_though_a_worker_is_killed() {
    Box::pin(three_jobs_in_a_row(&Site::of(Program::Minio).await, true)).await;
}

#[tokio::test]
async fn jobs_over_versitygw_take_every_record_once_though_a_worker_is_killed() {
    Box::pin(three_jobs_in_a_row(&Site::of(Program::Versitygw).await, true)).await;
}

#[tokio::test]
async fn jobs_over_moto_take_every_record_once_though_a_worker_is_killed() {
    Box::pin(three_jobs_in_a_row(&Site::of(Program::Moto).await, true)).await;
}

#[tokio::test]
async fn jobs_over_a_folder_take_every_record_once_though_a_worker_is_killed() {
    Box::pin(three_jobs_in_a_row(&Site::folder().await, true)).await;
}

/// A group of which outputs are finished before its last source turns out to be cut off.
async fn one_group_fails(site: &Site) {
    let mut sources = Sources::default();
    sources.add_many(40, "a/", Codec::Gzip, 5000);
    // An upload of the batch that is done again once the next group has failed.
    sources.add_many(300, "b/", Codec::Plain, 24_000);
    sources.add_many(700, "bad/", Codec::Plain, 24_000);
    let bad = sources.add("bad/", Codec::Gzip, 24_000);
    sources.add_many(40, "c/", Codec::Plain, 5000);
    let whole = sources.stored[&bad].clone();
    sources.stored.insert(bad.clone(), whole.slice(..whole.len() - 5));
    let (failing, good): (Vec<String>, Vec<String>) = sources
        .keys()
        .into_iter()
        .partition(|key| key.starts_with("in/bad/"));
    site.visit(async |bucket| bucket.put_all(sources.stored.clone()).await)
        .await;

    let first = site
        .run(
            "first",
            &json!({
                "maxFailedGroups": 1, "output": {"prefix": "out/", "targetObjectSize": "6Mi"},
            }),
        )
        .await;
    let written: i64 = first
        .status
        .as_ref()
        .unwrap()
        .shards
        .iter()
        .map(|s| s.checkpoint.bytes_written)
        .sum();
    assert!(
        written as u64 > 6 * MIB,
        "no output was finished of the group that failed"
    );
    site.visit(async |bucket| {
        let manifest = check_outputs(bucket, &first, &sources.records(&good)).await;
        let failed: Vec<_> = manifest
            .failed
            .iter()
            .map(|f| (f.group.as_str(), f.reason.as_str()))
            .collect();
        assert_eq!(failed, [("bad/", "BadSource")]);
        assert_eq!(manifest.sources.objects, good.len() as u64);
        check_nothing_else(bucket, &sources.keys(), &[&first], uid(&first)).await;
        bucket.put_all([(bad.clone(), whole.clone())]).await;
    })
    .await;

    let second = site.run("second", &json!({})).await;
    site.visit(async |bucket| {
        let manifest = check_outputs(bucket, &second, &sources.records(&failing)).await;
        assert_eq!(manifest.failed, []);
        check_nothing_else(bucket, &sources.keys(), &[&first, &second], uid(&second)).await;
    })
    .await;
}

#[tokio::test]
async fn over_minio_a_group_that_fails_leaves_nothing_and_is_the_next_jobs() {
    Box::pin(one_group_fails(&Site::of(Program::Minio).await)).await;
}

#[tokio::test]
async fn over_a_folder_a_group_that_fails_leaves_nothing_and_is_the_next_jobs() {
    Box::pin(one_group_fails(&Site::folder().await)).await;
}

async fn sources_are_deleted(site: &Site) {
    let mut sources = Sources::default();
    sources.add_many(20, "a/", Codec::Gzip, 5000);
    sources.add_many(20, "b/", Codec::Plain, 5000);
    let keys = sources.keys();
    let alone = sources.add("alone/", Codec::Plain, 1000);
    site.visit(async |bucket| bucket.put_all(sources.stored.clone()).await)
        .await;

    let mut spec = json!({"sourceDisposition": "Delete", "sourceRetentionSeconds": 0});
    if !site.honours_conditional_deletes() {
        let refused = end(site.start("job", &spec, "text")).await;
        let said = String::from_utf8(refused.stdout).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(
            said.contains(
                "the store does not honour conditional deletes; set allowUnconditionalDelete: true"
            ),
            "{said}"
        );
        site.visit(async |bucket| {
            let found: Vec<String> = bucket.etags().await.into_keys().collect();
            assert_eq!(found, sources.keys(), "something was done before the refusal");
            assert_eq!(bucket.open_uploads().await, [""; 0]);
        })
        .await;
        // What the messages say is done, and the same job goes on.
        spec["allowUnconditionalDelete"] = json!(true);
        spec["retryToken"] = json!("again");
    }
    let job = site.run("job", &spec).await;
    let dispose = job.status.clone().unwrap().dispose.unwrap();
    assert_eq!((dispose.done, dispose.changed), (40, 0), "{dispose:?}");
    site.visit(async |bucket| {
        check_outputs(bucket, &job, &sources.records(&keys)).await;
        check_nothing_else(bucket, &[alone], &[&job], uid(&job)).await;
    })
    .await;
}

#[tokio::test]
async fn minio_does_not_honour_conditional_deletes_and_sources_are_deleted_only_when_told_so() {
    sources_are_deleted(&Site::of(Program::Minio).await).await;
}

#[tokio::test]
async fn sources_in_versitygw_are_deleted_as_asked() {
    sources_are_deleted(&Site::of(Program::Versitygw).await).await;
}

#[tokio::test]
async fn sources_in_moto_are_deleted_as_asked() {
    sources_are_deleted(&Site::of(Program::Moto).await).await;
}

#[tokio::test]
async fn sources_in_a_folder_are_deleted_as_asked() {
    sources_are_deleted(&Site::folder().await).await;
}

#[tokio::test]
async fn the_plan_notes_the_days_after_which_the_buckets_own_rule_aborts_uploads() {
    let site = Site::of(Program::Moto).await;
    let mut sources = Sources::default();
    sources.add_many(3, "a/", Codec::Plain, 1000);
    let days = async |name| site.run(name, &json!({"mode": "PlanOnly"})).await.status.unwrap();
    site.visit(async |bucket| bucket.put_all(sources.stored.clone()).await)
        .await;
    assert_eq!(days("without").await.plan.unwrap().upload_days, None);
    site.visit(async |bucket| bucket.abort_uploads_after(1).await)
        .await;
    assert_eq!(days("with").await.plan.unwrap().upload_days, Some(1));
}
