//! Only the latest record of each key, by workers in pods that are killed while they mark and while they write.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::site::{JOB, Site, condition, slow, sum, text_of};
use crate::sources::records;

const OBJECTS: usize = 240;
const UPDATES: usize = 20;
/// In each of the groups.
const KEYS: u32 = 400;
const GROUPS: usize = 3;

fn deduplicated() -> Value {
    let own = json!({
        "parallelism": 2,
        "deduplicate": {
            "key": ["/id"],
            "version": "/at",
            "tombstone": {"pointer": "/op", "equals": "delete", "retentionSeconds": 0},
        },
    });
    let mut spec = slow();
    json_patch::merge(&mut spec, &own);
    spec
}

#[test]
fn workers_killed_while_they_mark_and_while_they_write_leave_the_latest_record_of_each_key() {
    let site = Site::new("deduplicated");
    let latest = put_updates(&site);
    site.start(deduplicated());

    site.until_batches(JOB, 10);
    let job = site.get("compactionjob", JOB);
    assert_eq!(sum(&job, "/checkpoint/recordsKept"), 0, "still marking: {job:#}");
    kill_workers(&site);
    // What a shard keeps is told once that is settled, before any of it is written.
    site.until("what is kept", JOB, |job| {
        (sum(job, "/checkpoint/recordsKept") > 0).then_some(())
    });
    let job = site.get("compactionjob", JOB);
    assert_ne!(condition(&job, "Succeeded").0, "True", "still writing: {job:#}");
    kill_workers(&site);
    site.until_succeeded(JOB);

    let job = site.get("compactionjob", JOB);
    assert!(sum(&job, "/epoch") >= 5, "workers were replaced: {job:#}");
    let (all, kept) = ((OBJECTS * UPDATES) as i64, latest.len() as i64);
    assert_eq!(sum(&job, "/checkpoint/recordsKept"), kept, "{job:#}");
    assert_eq!(sum(&job, "/checkpoint/recordsDropped"), all - kept, "{job:#}");

    let mut outputs = site.bucket.keys("out/");
    outputs.retain(|key| !key.starts_with("out/_compaction/"));
    let mut found = records(&site.bucket, &outputs);
    for record in &latest {
        assert_eq!(found.remove(record), Some(1), "{record} is there once");
    }
    assert!(found.is_empty(), "not the latest: {found:?}");
    assert!(
        site.verify(deduplicated())
            .contains(&format!("{OBJECTS} sources"))
    );
}

/// Puts updates of few keys, in no order of their versions, of which some are equal. Returns the records that are to
/// stay, found without the program: the greatest version, then the last place, unless it is a tombstone.
fn put_updates(site: &Site) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut latest = HashMap::<(usize, u32), (u32, String)>::new();
    let mut objects = BTreeMap::new();
    for number in 0..OBJECTS {
        let group = number % GROUPS;
        let mut raw = String::new();
        for record in 0..UPDATES {
            let (key, version) = (rng.u32(..KEYS), rng.u32(..500));
            let op = if rng.u32(..10) == 0 { "delete" } else { "update" };
            let line =
                format!(r#"{{"id":"{group}-{key}","at":{version},"op":"{op}","from":"{number}-{record}"}}"#);
            writeln!(raw, "{line}").unwrap();
            let known = latest.entry((group, key)).or_insert((version, line.clone()));
            if version >= known.0 {
                *known = (version, line);
            }
        }
        objects.insert(format!("in/{group}/{number:06}.json"), raw.into_bytes());
    }
    site.bucket.put(&objects);
    let latest = latest.into_values().map(|(_, line)| line);
    latest.filter(|line| !line.contains(r#""op":"delete""#)).collect()
}

fn kill_workers(site: &Site) {
    let running: Vec<String> = site
        .workers()
        .iter()
        .map(|pod| text_of(&pod["metadata"]["name"]))
        .collect();
    assert!(!running.is_empty());
    for pod in running {
        site.kubectl(&[
            "delete",
            "pod",
            &pod,
            "--ignore-not-found",
            "--force",
            "--grace-period=0",
        ]);
    }
}
