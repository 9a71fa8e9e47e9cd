//! Jobs that keep the latest record of each key, beside a plain map, while everything goes wrong.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::scenario::{Expected, SOURCE, Scenario, encode};

/// Makes the sources of a scenario ones of JSON records with few keys, some of which come up again and again.
pub fn deduplicating(scenario: &mut Scenario, rng: &mut fastrand::Rng) {
    let versioned = rng.u32(..3) > 0;
    let mut rules = json!({"key": ["/user/id", "/region"], "onUnkeyedRecord": "Keep"});
    if versioned {
        rules["version"] = json!("/at");
        rules["tombstone"] = json!({"pointer": "/op", "equals": "delete", "retentionSeconds": 1_000});
    }
    scenario.job.spec.deduplicate = Some(serde_json::from_value(rules).unwrap());
    // With very few, nothing is kept of most sources, the first of a group among them.
    let keys = if rng.u32(..3) == 0 {
        rng.u64(1..4)
    } else {
        rng.u64(1..60)
    };
    for (key, bytes) in &mut scenario.sources {
        *bytes = source(rng, key, keys);
    }
}

/// More or other sources, as [`deduplicating`] makes them.
pub fn source(rng: &mut fastrand::Rng, key: &str, keys: u64) -> Vec<u8> {
    let label = &key[SOURCE.len()..];
    let records: Vec<String> = (0..rng.usize(0..14))
        .map(|line| record(rng, label, line, keys))
        .collect();
    let newline = rng.u32(..5) > 0;
    encode(&records, newline, rng.u32(..3), rng.u32(..25) == 0)
}

fn record(rng: &mut fastrand::Rng, label: &str, line: usize, keys: u64) -> String {
    if rng.u32(..30) == 0 {
        return format!("no JSON, {label} {line}");
    }
    // Around the time that the simulation has, of a job that keeps tombstones for a thousand seconds.
    let at = 1_800_000_000 - rng.i64(0..2_000);
    let time = jiff::Timestamp::from_second(at).unwrap().to_string();
    let at = if rng.bool() { json!(time) } else { json!(at) };
    let op = if rng.u32(..6) == 0 { "delete" } else { "put" };
    let record = json!({"at": at, "op": op, "user": {"id": rng.u64(..keys), "name": label}, "region": "eu", "line": line});
    record.to_string()
}

/// The number that orders versions, and whether it is a time.
fn version(record: &Value) -> (i64, bool) {
    match &record["at"] {
        Value::String(time) => (time.parse::<jiff::Timestamp>().unwrap().as_second(), true),
        number => (number.as_i64().unwrap(), false),
    }
}

/// Of what a job without rules would bring out, the latest of each key. `covered`: tombstones may go.
pub fn latest(scenario: &Scenario, expected: &Expected, covered: bool) -> BTreeMap<String, Vec<String>> {
    let versioned = scenario.job.spec.deduplicate.as_ref().unwrap().version.is_some();
    let mut kept = BTreeMap::new();
    for (group, records) in &expected.records {
        let mut latest: BTreeMap<String, (i64, usize)> = BTreeMap::new();
        for (at, record) in records.iter().enumerate() {
            let (key, order) = match serde_json::from_str::<Value>(record) {
                Ok(record) => (record["user"]["id"].to_string(), version(&record).0),
                Err(_) => (record.clone(), 0),
            };
            let order = if versioned { order } else { 0 };
            let known = latest.entry(key).or_insert((order, at));
            *known = (*known).max((order, at));
        }
        let mut places: Vec<usize> = latest.into_values().map(|(_, at)| at).collect();
        places.sort_unstable();
        let expired = |record: &&String| {
            let Ok(record) = serde_json::from_str::<Value>(record) else {
                return false;
            };
            let (at, is_time) = version(&record);
            covered && versioned && record["op"] == "delete" && is_time && at <= 1_800_000_000 - 1_000
        };
        let of_group: Vec<String> = places
            .into_iter()
            .map(|at| &records[at])
            .filter(|record| !expired(record))
            .cloned()
            .collect();
        if !of_group.is_empty() {
            kept.insert(group.clone(), of_group);
        }
    }
    kept
}
